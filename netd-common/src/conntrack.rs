//! The connection table's types: two self-sufficient entries a flow.
//!
//! ```text
//!   original half   { scope, proto, src, sport, dst, dport } -> what to rewrite in this direction
//!   reply half      the same of the packets that come back
//! ```
//! One look-up tells everything about a packet, whichever way it goes. Each half's key follows from
//! the other half ([`CtEntry::peer_key`]), so there are no pointers to lose. A half is written only by
//! packets of its own direction; who needs the state of the flow reads both ([`FlowState::of`]).
//!
//! The **reply half is created first and with NOEXIST**: its insertion is the allocation of the source
//! port, and a flow with an original half always has a reply half.

use crate::{
    address::{Address, Port, V4, V6},
    config::Timeout,
    header::tcp_flags,
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
    /// Always zero; keeps the key free of padding.
    pub zone: u16,
}

/// What is known of one direction of a flow.
///
/// Layout: 72 bytes for IPv4, 96 for IPv6. Addresses and ports in network order, the rest native.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtEntry<A> {
    /// Packets of this direction, counted when flow accounting is on.
    pub packets: u64,
    /// Bytes of this direction, from the IP header on.
    pub bytes: u64,
    /// The source address after translation.
    pub new_src: A,
    /// The destination address after translation.
    pub new_dst: A,
    /// The source port after translation.
    pub new_sport: Port,
    /// The destination port after translation.
    pub new_dport: Port,
    /// The device that packets of this direction are redirected to; 0 on the stack path.
    pub redirect_ifindex: u32,
    /// The Ethernet destination and source of redirected packets, as they stand in the header.
    pub macs: [u32; 3],
    /// When a packet of this direction was seen last. Units: seconds of the monotonic clock.
    pub last_seen_secs: u32,
    /// When the flow began. Units: seconds of the monotonic clock.
    pub created_secs: u32,
    /// Where the flow is counted: the slot of the published port, or of the endpoint.
    pub slot: u32,
    /// The slot of the container's endpoint.
    pub endpoint_slot: u32,
    /// The sum of both slots' generations when the flow began; when one has moved on, the flow is dead.
    pub generation: u32,
    /// The number of the container's network.
    pub network: u16,
    /// Bits of [`CtFlags`].
    pub flags: u16,
    /// Bits of [`Seen`]: what packets of this direction have carried.
    pub seen: u8,
    /// The [`Scope`] of the other half's key.
    pub peer_scope: u8,
    /// Always zero.
    pub reserved: u16,
}

map_type! {
    CtKey<V4> = 16;
    CtKey<V6> = 40;
    CtEntry<V4> = 72;
    CtEntry<V6> = 96;
    NewFlow<V4> = 40;
    NewFlow<V6> = 88;
    Scratch<V4> = 128;
    Scratch<V6> = 224;
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
    /// The reply half may be found by any remote endpoint (endpoint-independent filtering).
    pub const ENDPOINT_INDEPENDENT: u16 = 1 << 4;
}

/// Bits of [`CtEntry::seen`]: TCP's own flags, where they stand in the header, and one more. So a header
/// is taken over by one mask, without a branch for each flag that the verifier would follow.
pub struct Seen;

impl Seen {
    /// A TCP FIN.
    pub const FIN: u8 = tcp_flags::FIN;
    /// A TCP SYN.
    pub const SYN: u8 = tcp_flags::SYN;
    /// A TCP RST.
    pub const RST: u8 = tcp_flags::RST;
    /// A TCP ACK.
    pub const ACK: u8 = tcp_flags::ACK;
    /// Any packet at all. (Where TCP has PSH, which says nothing of the connection's state.)
    pub const PACKET: u8 = 1 << 3;
    /// The flags that TCP's state follows from.
    pub const TCP: u8 = Self::FIN | Self::SYN | Self::RST | Self::ACK;
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
            zone: 0,
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
}

/// A flow to be: the original direction's key and what its packets become.
/// Layout: 40 bytes for IPv4, 88 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<A> {
    /// The key of the original half.
    pub key: CtKey<A>,
    /// The source address after translation.
    pub new_src: A,
    /// The destination address after translation.
    pub new_dst: A,
    /// Where the flow is counted: the slot of the published port, or of the endpoint.
    pub slot: u32,
    /// The slot of the container's endpoint.
    pub endpoint_slot: u32,
    /// The destination port after translation.
    pub new_dport: Port,
    /// The container's network.
    pub network: u16,
    /// What is translated, bits of [`CtFlags`].
    pub flags: u16,
    /// The [`Scope`] that the reply is seen in.
    pub reply_scope: u8,
    /// What the first packet carries, bits of [`Seen`].
    pub seen: u8,
}

/// Memory to build a flow's halves in: a program's stack is too small for them.
/// Layout: 128 bytes for IPv4, 224 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scratch<A> {
    /// The entry of the half that is being inserted.
    pub entry: CtEntry<A>,
    /// What is asked for.
    pub new: NewFlow<A>,
    /// The key of the reply half.
    pub reply_key: CtKey<A>,
}

impl<A: Address> Scratch<A> {
    /// Fills in the reply half's entry, which needs no source port: its packets go back to `key`.
    ///
    /// Counters and redirection are not touched: the memory is made zeroed and nobody writes them here.
    /// (Clearing them would be a call of memset, see `lint`.)
    #[inline(always)]
    pub fn write_reply(&mut self, now: u32, generation: u32) {
        let Self { entry, new, .. } = self;
        entry.new_src = new.key.dst;
        entry.new_dst = new.key.src;
        entry.new_sport = new.key.dport;
        entry.new_dport = new.key.sport;
        entry.last_seen_secs = now;
        entry.created_secs = now;
        entry.slot = new.slot;
        entry.endpoint_slot = new.endpoint_slot;
        entry.generation = generation;
        entry.network = new.network;
        entry.flags = new.flags | CtFlags::REPLY;
        entry.seen = 0;
        entry.peer_scope = new.key.scope;
    }

    /// Turns the reply half's entry into the original half's.
    #[inline(always)]
    pub fn turn_into_original(&mut self, new_sport: Port) {
        let Self { entry, new, .. } = self;
        entry.new_src = new.new_src;
        entry.new_dst = new.new_dst;
        entry.new_sport = new_sport;
        entry.new_dport = new.new_dport;
        entry.flags = new.flags;
        entry.seen = new.seen;
        entry.peer_scope = new.reply_scope;
    }

    /// Fills in the key of the replies if the source port becomes `new_sport`.
    #[inline(always)]
    pub fn write_reply_key(&mut self, new_sport: Port) {
        let Self { reply_key, new, .. } = self;
        reply_key.src = new.new_dst;
        reply_key.dst = new.new_src;
        reply_key.sport = new.new_dport;
        reply_key.dport = new_sport;
        reply_key.proto = new.key.proto;
        reply_key.scope = new.reply_scope;
        reply_key.zone = 0;
    }
}

/// The state of a whole flow, in conntrack(8)'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// A SYN, unanswered.
    SynSent,
    /// A SYN and its SYN-ACK.
    SynRecv,
    /// Acknowledged in both directions.
    Established,
    /// Picked up in the middle and heard from one side only.
    Unacknowledged,
    /// One side has closed.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// One side has reset the connection.
    Close,
    /// Not TCP: no reply yet.
    Unreplied,
    /// Not TCP: packets in both directions.
    Replied,
}

impl FlowState {
    /// The state that follows from what both directions have carried.
    #[inline(always)]
    pub fn of(proto: u8, original: u8, reply: u8) -> Self {
        if proto != crate::header::proto::TCP {
            return if reply & Seen::PACKET != 0 { Self::Replied } else { Self::Unreplied };
        }
        let (both, either) = (original & reply, original | reply);
        if either & Seen::RST != 0 {
            Self::Close
        } else if both & Seen::FIN != 0 {
            Self::TimeWait
        } else if either & Seen::FIN != 0 {
            Self::FinWait
        } else if both & Seen::ACK != 0 {
            Self::Established
        } else if reply & Seen::SYN != 0 {
            Self::SynRecv
        } else if original & Seen::SYN != 0 {
            Self::SynSent
        } else {
            Self::Unacknowledged
        }
    }

    /// Whether a SYN on this flow begins a new connection.
    #[inline(always)]
    pub fn is_closing(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// The timer of this state.
    #[inline(always)]
    pub fn timeout(self, proto: u8) -> Timeout {
        match self {
            Self::SynSent => Timeout::TcpSynSent,
            Self::SynRecv => Timeout::TcpSynRecv,
            Self::Established => Timeout::TcpEstablished,
            Self::Unacknowledged => Timeout::TcpUnacknowledged,
            Self::FinWait => Timeout::TcpFinWait,
            Self::TimeWait => Timeout::TcpTimeWait,
            Self::Close => Timeout::TcpClose,
            Self::Unreplied | Self::Replied => match (proto, self) {
                (crate::header::proto::UDP, Self::Replied) => Timeout::UdpStream,
                (crate::header::proto::UDP, _) => Timeout::Udp,
                (crate::header::proto::ICMP | crate::header::proto::ICMPV6, _) => Timeout::Icmp,
                _ => Timeout::Generic,
            },
        }
    }

    /// The word of conntrack(8) for the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::Unacknowledged => "UNACKNOWLEDGED",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::proto::{ICMP, TCP, UDP};

    #[track_caller]
    fn check(proto: u8, original: u8, reply: u8, expected: FlowState) {
        assert_eq!(FlowState::of(proto, original, reply), expected);
    }

    #[test]
    fn tcp_states_follow_the_flags_of_both_directions() {
        const P: u8 = Seen::PACKET;
        const SA: u8 = P | Seen::SYN | Seen::ACK;
        check(TCP, P | Seen::SYN, 0, FlowState::SynSent);
        check(TCP, P | Seen::SYN, SA, FlowState::SynRecv);
        check(TCP, SA, SA, FlowState::Established);
        check(TCP, P | Seen::ACK, 0, FlowState::Unacknowledged);
        check(TCP, SA | Seen::FIN, SA, FlowState::FinWait);
        check(TCP, SA, SA | Seen::FIN, FlowState::FinWait);
        check(TCP, SA | Seen::FIN, SA | Seen::FIN, FlowState::TimeWait);
        check(TCP, SA | Seen::RST, SA, FlowState::Close);
        check(TCP, P | Seen::SYN, P | Seen::RST | Seen::ACK, FlowState::Close);
        check(UDP, P, 0, FlowState::Unreplied);
        check(UDP, P, P, FlowState::Replied);
        check(ICMP, P, P, FlowState::Replied);
    }

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
