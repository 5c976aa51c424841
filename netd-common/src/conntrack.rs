//! The connection table's types: two self-sufficient entries a flow.
//!
//! ```text
//!   original half   { scope, proto, src, sport, dst, dport } -> what to rewrite in this direction
//!   reply half      the same of the packets that come back
//! ```
//! One look-up tells everything about a packet, whichever way it goes. Each half's key follows from
//! the other half ([`CtEntry::peer_key`]), so there are no pointers to lose. A half is written only by
//! packets of its own direction, but for [`CtEntry::peer_seen`]; who needs the state of the flow reads both
//! ([`FlowState::of`]).
//!
//! The **reply half is created first and with NOEXIST**: its insertion is the allocation of the source
//! port, and a flow with an original half always has a reply half.

mod pressure;
mod scratch;
mod seen;
mod state;

pub use pressure::Pressure;
pub use scratch::{Candidates, NewFlow, Scratch};
pub use seen::Seen;
pub use state::{FlowState, Lifetime};

use crate::{
    address::{Address, Port, V4, V6},
    network::Endpoint,
    pod::map_type,
};

/// Where a packet is seen. Part of every key, so that a packet that arrives on an uplink can never
/// hit an entry made for a container's packets, whatever addresses it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// On the uplink's side of the translation: the addresses that the world sees.
    Uplink = 1,
    /// On the containers' side.
    Endpoint = 2,
}

/// The flow that a packet belongs to.
///
/// Layout: 16 bytes for IPv4, 40 for IPv6; network order. For an ICMP echo the identifier stands in
/// `sport` of a request and in `dport` of a reply, the other one is zero; identifier 0 is never given
/// to a translated flow, so a request from outside cannot pass for a reply.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// IP protocol number.
    pub proto: u8,
    /// A [`Scope`].
    pub scope: u8,
    /// A [`Zone`].
    pub zone: u16,
}

/// What a key stands for: no packet's key has another zone than [`Zone::FLOWS`].
pub struct Zone;

impl Zone {
    /// A flow.
    pub const FLOWS: u16 = 0;
    /// A source port that is given independently of destinations: a flow whose remote end is nobody.
    pub const MAPPINGS: u16 = 1;
}

/// The [`CtEntry::last_seen_secs`] of a half that somebody is about to remove, and nobody else may use.
pub const CLAIMED: u32 = 0;

/// What is known of one direction of a flow.
///
/// Layout: 80 bytes for IPv4, 104 for IPv6. Addresses and ports in network order, the rest native. The
/// counters come last: with IPv4, all that every packet needs is in one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtEntry<A> {
    /// Moves the other fields, in a build for tests of upgrades.
    #[cfg(feature = "other-layout")]
    pub moved: u64,
    /// The source address after translation.
    pub new_src: A,
    /// The destination address after translation.
    pub new_dst: A,
    /// The source port after translation.
    pub new_sport: Port,
    /// The destination port after translation.
    pub new_dport: Port,
    /// Where packets of this direction are redirected to, if to a container.
    pub redirect: Redirect,
    /// When a packet of this direction was seen last, or [`CLAIMED`]. Units: seconds of the monotonic clock.
    pub last_seen_secs: u32,
    /// When the flow began. Units: seconds of the monotonic clock. Stands in one aligned word with the field
    /// before, see [`crate::tables::Flow::replace_last_seen`].
    pub created_secs: u32,
    /// Where the flow is counted: the slot of the published port, or of the endpoint.
    pub slot: u32,
    /// The slot of the container's endpoint.
    pub endpoint_slot: u32,
    /// The sum of the generations of `slot` and of [`owner`](crate::counters::owner) when the flow began; when one
    /// has moved on, the flow is dead.
    pub generation: u32,
    /// The number of the container's network.
    pub network: u16,
    /// Bits of [`CtFlags`].
    pub flags: u16,
    /// Bits of [`Seen`]: what packets of this direction have carried.
    pub seen: u8,
    /// The [`Scope`] of the other half's key.
    pub peer_scope: u8,
    /// The largest IP packet that may be redirected. Units: bytes.
    pub mtu: u16,
    /// Bits of [`Seen`]: `FIN` once the other direction has carried one. Written by the other direction.
    pub peer_seen: u8,
    /// Always zero.
    pub reserved: [u8; 3],
    /// Packets of this direction, counted when flow accounting is on.
    pub packets: u64,
    /// Bytes of this direction, from the IP header on.
    pub bytes: u64,
}

/// Where packets are redirected to. Layout: 20 bytes; all zero where they are not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The host's end of the container's veth pair; 0 where the packet goes elsewhere.
    pub ifindex: u32,
    /// The Ethernet destination and source, as they stand in the header.
    pub macs: [u32; 3],
    /// The slot of the endpoint that receives them.
    pub slot: u32,
}

/// How far a build for tests of upgrades moves an entry's fields. Units: bytes.
const MOVED: usize = if cfg!(feature = "other-layout") { size_of::<u64>() } else { 0 };

map_type! {
    Redirect = 20;
    CtKey<V4> = 16;
    CtKey<V6> = 40;
    CtEntry<V4> = 80 + MOVED;
    CtEntry<V6> = 104 + MOVED;
}

/// Bits of [`CtEntry::flags`]; both halves of a flow carry the same ones except `REPLY`.
pub struct CtFlags;

impl CtFlags {
    /// This half belongs to the replies.
    pub const REPLY: u16 = 1;
    /// The original direction's destination is translated: the flow uses a published port.
    pub const DNAT: u16 = 1 << 1;
    /// The original direction's source is translated: the flow is masqueraded.
    pub const SNAT: u16 = 1 << 2;
    /// The flow takes the redirecting path in both directions.
    pub const FAST: u16 = 1 << 3;
    /// The source gets its mapping's port, whatever the destination; also on the mapping itself.
    pub const ENDPOINT_INDEPENDENT: u16 = 1 << 4;
    /// The original direction's destination was found by a mapping.
    pub const MAPPED: u16 = 1 << 5;
    /// The host itself has begun the flow, at a container.
    pub const OF_HOST: u16 = 1 << 6;
    /// The flow uses a mapping, or two.
    pub const USES_MAPPING: u16 = Self::ENDPOINT_INDEPENDENT | Self::MAPPED;
}

impl<A: Address> CtEntry<A> {
    /// The key of the flow's other half, given this half's key.
    #[inline(always)]
    pub fn peer_key(&self, key: &CtKey<A>) -> CtKey<A> {
        CtKey {
            src: self.new_dst,
            dst: self.new_src,
            sport: self.new_dport,
            dport: self.new_sport,
            proto: key.proto,
            scope: self.peer_scope,
            zone: key.zone,
        }
    }

    /// What packets of this half become.
    #[inline(always)]
    pub fn translation(&self) -> Translation<A> {
        Translation {
            src: self.new_src,
            dst: self.new_dst,
            sport: self.new_sport,
            dport: self.new_dport,
            slot: self.slot,
            flags: self.flags,
            mtu: self.mtu,
            redirect: self.redirect,
        }
    }

    /// Whether this is the half of the replies.
    #[inline(always)]
    pub fn is_reply(&self) -> bool {
        self.flags & CtFlags::REPLY != 0
    }
}

/// What packets of one direction of a flow become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A> {
    /// The source address.
    pub src: A,
    /// The destination address.
    pub dst: A,
    /// The source port.
    pub sport: Port,
    /// The destination port.
    pub dport: Port,
    /// Where the flow is counted.
    pub slot: u32,
    /// Bits of [`CtFlags`].
    pub flags: u16,
    /// The largest IP packet that may be redirected. Units: bytes.
    pub mtu: u16,
    /// Where the packet is redirected to, if to a container.
    pub redirect: Redirect,
}

impl Redirect {
    /// Nowhere.
    #[inline(always)]
    pub fn none() -> Self {
        // Constants side by side would be cleared by calling memset.
        let zero = core::hint::black_box(0);
        Self { ifindex: zero, macs: [zero; 3], slot: zero }
    }

    /// To a container, from the bridge that is its gateway.
    #[inline(always)]
    pub fn to_container(endpoint: &Endpoint, bridge_mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = endpoint.mac;
        let [g, h, i, j, k, l] = bridge_mac;
        let word = |bytes| u32::from_be_bytes(bytes).to_be();
        let macs = [word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l])];
        Self { ifindex: endpoint.ifindex, macs, slot: endpoint.slot }
    }

    /// Whether there is a container to redirect to.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        self.ifindex != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::proto::TCP;

    #[test]
    fn the_peer_of_the_peer_is_the_flow_itself() {
        let a = |n: u8| V4::new([192, 0, 2, n].into());
        let key = CtKey {
            src: a(1),
            dst: a(2),
            sport: Port::new(1),
            dport: Port::new(2),
            proto: TCP,
            scope: Scope::Uplink as u8,
            zone: 0,
        };
        let entry = CtEntry {
            new_src: a(1),
            new_dst: a(3),
            new_sport: Port::new(1),
            new_dport: Port::new(80),
            peer_scope: Scope::Endpoint as u8,
            ..bytemuck::Zeroable::zeroed()
        };
        let peer = CtEntry {
            new_src: key.dst,
            new_dst: key.src,
            new_sport: key.dport,
            new_dport: key.sport,
            peer_scope: key.scope,
            ..bytemuck::Zeroable::zeroed()
        };
        let peer_key = entry.peer_key(&key);
        assert_eq!((peer_key.src, peer_key.sport), (a(3), Port::new(80)));
        assert_eq!(peer.peer_key(&peer_key), key);
    }
}
