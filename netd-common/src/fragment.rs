//! What is remembered of fragments: whose they are, the ports that only the first of them carries, and those
//! that came before it.

use crate::{
    address::{Address, Port, V4, V6},
    parse::Ip,
    pod::map_type,
    siphash::siphash13,
};

/// How many datagrams' ports are remembered, by family: under pressure the oldest go.
pub const DATAGRAMS: u32 = 65_536;

/// How long they are (`net.ipv4.ipfrag_time`). Units: seconds.
pub const LIFE_SECS: u32 = 30;

/// How many fragments are held that came before the first one. A sender's go to one of [`HELD_SHARES`]
/// shares, so that none can take the others' places; in a share, the oldest makes room.
pub const HELD: u32 = HELD_SHARES * HELD_IN_SHARE;
/// How many shares there are.
pub const HELD_SHARES: u32 = 32;
/// How many fragments a share holds: those of the largest datagram, at the usual MTU.
pub const HELD_IN_SHARE: u32 = 64;
/// The longest frame that is held. Units: bytes.
pub const HELD_LEN: u32 = 2048;
/// How long a fragment is held. Units: seconds.
pub const HELD_SECS: u32 = 2;

/// The datagram that a fragment is a part of, at one hook: two paths may use the same identifications
/// (RFC 7857 section 11). Layout: 24 bytes for IPv4, 48 for IPv6; addresses in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// What all its fragments share, as it stands in the header.
    pub id: u32,
    /// The device whose hook it is at.
    pub ifindex: u32,
    /// The device that it came in on.
    pub ingress_ifindex: u32,
    /// Protocol of the payload for IPv4, and 0 for IPv6. Of this size nothing is left to be zero.
    pub proto: u32,
}

/// What the first fragment says of the others. Layout: 12 bytes, ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstFragment {
    /// Source port, or an echo request's identifier.
    pub sport: Port,
    /// Destination port, or an echo reply's identifier.
    pub dport: Port,
    /// When it was seen. Units: seconds of the monotonic clock.
    pub seen_secs: u32,
    /// Protocol of the payload: in IPv6, the others name what follows the fragment header.
    pub proto: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

/// A fragment that is held, without its bytes. Layout: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// A [`Datagram::token`], or one of the two values that no token has.
    pub owner: u64,
    /// When it came. Units: seconds of the monotonic clock.
    pub since_secs: u32,
    /// The frame's length. Units: bytes.
    pub len: u32,
}

impl Held {
    /// The place is free.
    pub const FREE: u64 = 0;
    /// Somebody is writing or reading the frame.
    pub const BUSY: u64 = 1;
}

map_type! {
    FragmentKey<V4> = 24;
    FragmentKey<V6> = 48;
    FirstFragment = 12;
    Held = 16;
}

/// Where the fragments of one datagram are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// A keyed hash of its [`FragmentKey`], so that nobody can make one collide with another.
    pub token: u64,
    /// The share that its sender's fragments are held in.
    pub share: u32,
}

impl<A: Address> FragmentKey<A> {
    /// The key of a packet at the hook of `ifindex` that came in on `ingress_ifindex`.
    #[inline(always)]
    pub fn new(ip: &Ip<A>, ifindex: u32, ingress_ifindex: u32) -> Self {
        Self {
            src: ip.src,
            dst: ip.dst,
            id: ip.fragment.id,
            ifindex,
            ingress_ifindex,
            proto: u32::from(ip.fragment.proto),
        }
    }

    /// Where the datagram's fragments are held, by a key of the hash and what its sender is known by.
    #[inline(always)]
    pub fn datagram(&self, secret: [u64; 2], sender: u64) -> Datagram {
        let [a, b] = self.src.words();
        let [c, d] = self.dst.words();
        let rest = u64::from(self.id) << 32 | u64::from(self.ifindex) << 8 | u64::from(self.proto);
        let sender = siphash13(secret, [sender, u64::from(self.ifindex)]);
        Datagram {
            // Never one of the two values that mean something else.
            token: siphash13(secret, [a, b, c, d, rest]) | 2,
            share: sender as u32 % HELD_SHARES,
        }
    }
}
