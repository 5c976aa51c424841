//! From bytes to what the engine decides on.
//!
//! Two steps, because policy by address must hold for packets whose transport header nobody can read:
//! [`ip`] gives the addresses, [`transport`] the ports.

use crate::{
    address::{Address, Port, V4, V6},
    checksum::Delta,
    conntrack::{CtKey, Scope, Seen},
    header::{
        IcmpHeader, IpHeader, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, ethertype, proto,
    },
    packet::{ChecksumKind, Packet},
    reason::Reason,
};

/// What an IP header says.
#[derive(Clone, Copy, Debug)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload.
    pub proto: u8,
    /// Whether this is any fragment of a larger packet.
    pub is_fragment: bool,
    /// The header's checksum as it stands; 0 for IPv6.
    pub checksum: u16,
    /// Where the header begins.
    pub offset: u32,
    /// Where the payload begins.
    pub payload_offset: u32,
    /// Length of the payload. Units: bytes.
    pub payload_len: u32,
}

/// What a transport header says, of a packet that can belong to a flow.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Source port, or an echo request's identifier.
    pub sport: Port,
    /// Destination port, or an echo reply's identifier.
    pub dport: Port,
    /// Bits of [`Seen`].
    pub seen: u8,
    /// Where the fields to rewrite are.
    pub fields: Fields,
    /// Where the header begins.
    pub offset: u32,
}

/// Which fields of a transport header a translation rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Both ports, and the checksum.
    Tcp,
    /// Both ports, and the checksum.
    Udp,
    /// Both ports; the sender has computed no checksum.
    UdpWithoutChecksum,
    /// The identifier, which stands in `sport`, and the checksum.
    EchoRequest,
    /// The identifier, which stands in `dport`, and the checksum.
    EchoReply,
}

/// Why a packet has no [`Transport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTransport {
    /// A fragment.
    Fragment,
    /// An ICMP error: it belongs to the flow that it quotes.
    IcmpError,
    /// Neighbour and router discovery.
    Discovery,
    /// A protocol that is not translated.
    Unsupported,
    /// A broken header.
    Malformed,
}

/// The shortest IPv4 header, in 32-bit words (RFC 791 section 3.1).
const MIN_IPV4_WORDS: u8 = 5;

/// Reads the IP header.
///
/// # Errors
/// `Malformed`, see [`IpHeader::parse`].
#[inline(always)]
pub fn ip<A: Address, P: Packet>(packet: &P) -> Result<Ip<A>, Reason> {
    A::parse(packet, packet.network_offset())
}

impl IpHeader for V4 {
    const ETHERTYPE: u16 = ethertype::IPV4;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: u32) -> Result<Ip<Self>, Reason> {
        let header: Ipv4Header = packet.load(offset).ok_or(Reason::Malformed)?;
        let words = header.version_and_len & 0xf;
        if header.version_and_len >> 4 != 4 || words < MIN_IPV4_WORDS {
            return Err(Reason::Malformed);
        }
        let header_len = u32::from(words) * 4;
        let available = packet.len_bytes().saturating_sub(offset);
        let total_len = match u32::from(header.total_len.get()) {
            // BIG TCP: a merged packet too large for the field carries zero (Linux 6.3).
            0 if available > u32::from(u16::MAX) => available,
            total_len => total_len,
        };
        if total_len < header_len || total_len > available {
            return Err(Reason::Malformed);
        }
        // More fragments follow, or this is not the first (RFC 791 section 3.1).
        let is_fragment = header.fragment.get() & 0x3fff != 0;
        Ok(Ip {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            is_fragment,
            checksum: header.checksum,
            offset,
            payload_offset: offset + header_len,
            payload_len: total_len - header_len,
        })
    }

    #[inline(always)]
    fn store_addresses<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self) {
        let delta = Delta::of_address(ip.src, src).and(Delta::of_address(ip.dst, dst));
        packet.store(ip.offset + 10, &Ipv4Rewrite::new(delta.apply(ip.checksum), src, dst));
    }
}

/// Checksum and addresses, which lie side by side, in one store.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Ipv4Rewrite {
    checksum: u16,
    addresses: [u16; 4],
}

impl Ipv4Rewrite {
    #[inline(always)]
    fn new(checksum: u16, src: V4, dst: V4) -> Self {
        let [a, b]: [u16; 2] = bytemuck::cast(src.to_wire());
        let [c, d]: [u16; 2] = bytemuck::cast(dst.to_wire());
        Self { checksum, addresses: [a, b, c, d] }
    }
}

impl IpHeader for V6 {
    const ETHERTYPE: u16 = ethertype::IPV6;

    #[inline(always)]
    fn parse<P: Packet>(packet: &P, offset: u32) -> Result<Ip<Self>, Reason> {
        let header: Ipv6Header = packet.load(offset).ok_or(Reason::Malformed)?;
        if header.version_and_class >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        let payload_offset = offset + size_of::<Ipv6Header>() as u32;
        let payload_len = u32::from(header.payload_len.get());
        if payload_len > packet.len_bytes().saturating_sub(payload_offset) {
            return Err(Reason::Malformed);
        }
        Ok(Ip {
            src: header.src,
            dst: header.dst,
            proto: header.next_header,
            is_fragment: header.next_header == proto::IPV6_FRAGMENT,
            checksum: 0,
            offset,
            payload_offset,
            payload_len,
        })
    }

    #[inline(always)]
    fn store_addresses<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self) {
        packet.store_unsummed(ip.offset + 8, &[src, dst]);
    }
}

/// Reads the transport header.
///
/// # Errors
/// Why the packet can't be matched to a flow by its own header.
#[inline(always)]
pub fn transport<A: Address, P: Packet>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    if ip.is_fragment {
        return Err(NoTransport::Fragment);
    }
    match (ip.proto, A::ETHERTYPE) {
        (proto::TCP, _) => tcp(packet, ip),
        (proto::UDP, _) => udp(packet, ip),
        (proto::ICMP, ethertype::IPV4) => icmp(packet, ip, icmp_v4_kind),
        (proto::ICMPV6, ethertype::IPV6) => icmp(packet, ip, icmp_v6_kind),
        _ => Err(NoTransport::Unsupported),
    }
}

#[inline(always)]
fn tcp<A, P: Packet>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let header: TcpHeader = load(packet, ip)?;
    let header_len = u32::from(header.data_offset >> 4) * 4;
    if header_len < size_of::<TcpHeader>() as u32 || header_len > ip.payload_len {
        return Err(NoTransport::Malformed);
    }
    Ok(Transport {
        sport: header.sport,
        dport: header.dport,
        seen: header.flags & Seen::TCP | Seen::PACKET,
        fields: Fields::Tcp,
        offset: ip.payload_offset,
    })
}

#[inline(always)]
fn udp<A, P: Packet>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let header: UdpHeader = load(packet, ip)?;
    let len = u32::from(header.len.get());
    if len < size_of::<UdpHeader>() as u32 || len > ip.payload_len {
        return Err(NoTransport::Malformed);
    }
    let fields = if header.checksum == 0 { Fields::UdpWithoutChecksum } else { Fields::Udp };
    Ok(Transport {
        sport: header.sport,
        dport: header.dport,
        seen: Seen::PACKET,
        fields,
        offset: ip.payload_offset,
    })
}

/// What an ICMP type is to the engine.
enum IcmpKind {
    Request,
    Reply,
    Other(NoTransport),
}

#[inline(always)]
fn icmp<A, P: Packet>(
    packet: &P,
    ip: &Ip<A>,
    kind_of: fn(u8) -> IcmpKind,
) -> Result<Transport, NoTransport> {
    let header: IcmpHeader = load(packet, ip)?;
    let (sport, dport, fields) = match kind_of(header.kind) {
        IcmpKind::Request => (header.id, Port::ZERO, Fields::EchoRequest),
        IcmpKind::Reply => (Port::ZERO, header.id, Fields::EchoReply),
        IcmpKind::Other(reason) => return Err(reason),
    };
    Ok(Transport { sport, dport, seen: Seen::PACKET, fields, offset: ip.payload_offset })
}

/// RFC 792 and the registry of ICMP types.
#[inline(always)]
fn icmp_v4_kind(kind: u8) -> IcmpKind {
    match kind {
        8 => IcmpKind::Request,
        0 => IcmpKind::Reply,
        3 | 4 | 5 | 11 | 12 => IcmpKind::Other(NoTransport::IcmpError),
        _ => IcmpKind::Other(NoTransport::Unsupported),
    }
}

/// RFC 4443; 133 to 137 are neighbour discovery (RFC 4861).
#[inline(always)]
fn icmp_v6_kind(kind: u8) -> IcmpKind {
    match kind {
        128 => IcmpKind::Request,
        129 => IcmpKind::Reply,
        1..=4 => IcmpKind::Other(NoTransport::IcmpError),
        133..=137 => IcmpKind::Other(NoTransport::Discovery),
        _ => IcmpKind::Other(NoTransport::Unsupported),
    }
}

/// Reads a transport header that lies inside the IP payload.
#[inline(always)]
fn load<A, P: Packet, H: bytemuck::Pod>(packet: &P, ip: &Ip<A>) -> Result<H, NoTransport> {
    if size_of::<H>() as u32 > ip.payload_len {
        return Err(NoTransport::Malformed);
    }
    packet.load(ip.payload_offset).ok_or(NoTransport::Malformed)
}

impl Transport {
    /// The key of the flow that the packet belongs to, seen in `scope`.
    #[inline(always)]
    pub fn key<A: Address>(&self, ip: &Ip<A>, scope: Scope) -> CtKey<A> {
        CtKey {
            src: ip.src,
            dst: ip.dst,
            sport: self.sport,
            dport: self.dport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }

    /// The key of the opposite direction, not translated, seen in `scope`.
    #[inline(always)]
    pub fn reverse_key<A: Address>(&self, ip: &Ip<A>, scope: Scope) -> CtKey<A> {
        CtKey {
            src: ip.dst,
            dst: ip.src,
            sport: self.dport,
            dport: self.sport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }

    /// Whether the packet asks for a new TCP connection.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.seen & Seen::TCP == Seen::SYN
    }

    /// Whether the packet may begin a flow: for TCP a SYN, or a lone ACK of a connection that is
    /// picked up in the middle, as Linux does (`nf_conntrack_tcp_loose`).
    #[inline(always)]
    pub fn may_begin_flow(&self) -> bool {
        match self.fields {
            Fields::Tcp => {
                let flags = self.seen & Seen::TCP;
                flags == Seen::SYN || flags == Seen::ACK
            }
            Fields::Udp | Fields::UdpWithoutChecksum | Fields::EchoRequest => true,
            Fields::EchoReply => false,
        }
    }
}

impl Fields {
    /// Where the checksum is, relative to the header; `None` where there is none to keep.
    #[inline(always)]
    pub fn checksum_offset(self) -> Option<u32> {
        match self {
            Self::Tcp => Some(16),
            Self::Udp => Some(6),
            Self::UdpWithoutChecksum => None,
            Self::EchoRequest | Self::EchoReply => Some(2),
        }
    }

    /// The kinds of a change to the addresses and of one to the ports. Addresses do not count in
    /// IPv4's ICMP checksum, which has no pseudo-header.
    #[inline(always)]
    pub fn checksum_kinds<A: Address>(self) -> (Option<ChecksumKind>, ChecksumKind) {
        match self {
            Self::Tcp => (Some(ChecksumKind::PseudoHeader), ChecksumKind::Header),
            Self::Udp | Self::UdpWithoutChecksum => {
                (Some(ChecksumKind::UdpPseudoHeader), ChecksumKind::UdpHeader)
            }
            Self::EchoRequest | Self::EchoReply if A::ETHERTYPE == ethertype::IPV4 => {
                (None, ChecksumKind::Header)
            }
            Self::EchoRequest | Self::EchoReply => {
                (Some(ChecksumKind::PseudoHeader), ChecksumKind::Header)
            }
        }
    }
}
