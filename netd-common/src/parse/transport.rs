//! Transport headers: which packets can belong to a flow, and which fields a translation rewrites.

use super::Ip;
use crate::{
    address::{Address, Port},
    config::ConfigFlags,
    conntrack::Seen,
    header::{IcmpHeader, TcpHeader, UdpHeader, ethertype, proto},
    packet::{ChecksumKind, Headers},
    tables::Tables,
};

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
    /// The header's length, options included. Units: bytes.
    pub header_len: u32,
}

/// Which fields of a transport header a translation rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Both ports, and the checksum.
    Tcp,
    /// Both ports, and the checksum.
    Udp,
    /// Both ports, if there are any: the sender has computed no checksum, or one that is no sum.
    Ports,
    /// The same, of a packet that begins no flow.
    PortsWithin,
    /// The identifier, which stands in `sport`, and the checksum.
    EchoRequest,
    /// The identifier, which stands in `dport`, and the checksum.
    EchoReply,
    /// None: a later fragment, whose first one has the checksum of all; or a quoted protocol without ports.
    None,
}

/// Why a packet has no [`Transport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTransport {
    /// A fragment whose first one, with the transport header, has not been seen, or that is of no flow.
    Fragment,
    /// An ICMP error: it belongs to the flow that it quotes.
    IcmpError,
    /// Neighbour discovery.
    Discovery,
    /// A message that is not translated: an ICMP type that is neither query nor error, or an IPv6 extension
    /// header.
    Unsupported,
    /// A broken header.
    Malformed,
}

/// Reads the transport header of a packet that is whole.
///
/// # Errors
/// Why the packet can't be matched to a flow by its own header.
#[inline(always)]
pub(super) fn transport<A: Address, P: Headers>(
    packet: &P,
    ip: &Ip<A>,
) -> Result<Transport, NoTransport> {
    match (ip.proto, A::ETHERTYPE) {
        (proto::TCP, _) => tcp(packet, ip),
        (proto::UDP, _) => udp(packet, ip),
        (proto::ICMP, ethertype::IPV4) => icmp(packet, ip, icmp_v4_kind),
        (proto::ICMPV6, ethertype::IPV6) => icmp(packet, ip, icmp_v6_kind),
        _ => Err(NoTransport::Unsupported),
    }
}

#[inline(always)]
fn tcp<A, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
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
        header_len,
    })
}

#[inline(always)]
fn udp<A, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let header: UdpHeader = load(packet, ip)?;
    let len = u32::from(header.len.get());
    let is_cut = len > ip.payload_len && !ip.fragment.is_first();
    if len < size_of::<UdpHeader>() as u32 || is_cut {
        return Err(NoTransport::Malformed);
    }
    let fields = if header.checksum == 0 { Fields::Ports } else { Fields::Udp };
    Ok(Transport {
        sport: header.sport,
        dport: header.dport,
        seen: Seen::PACKET,
        fields,
        offset: ip.payload_offset,
        header_len: size_of::<UdpHeader>() as u32,
    })
}

/// What an ICMP type is to the engine.
enum IcmpKind {
    Request,
    Reply,
    Other(NoTransport),
}

#[inline(always)]
fn icmp<A, P: Headers>(
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
    Ok(Transport {
        sport,
        dport,
        seen: Seen::PACKET,
        fields,
        offset: ip.payload_offset,
        header_len: size_of::<IcmpHeader>() as u32,
    })
}

/// Whether an ICMP type is that of an echo request.
#[inline(always)]
pub fn is_echo_request<A: Address>(kind: u8) -> bool {
    matches!(icmp_kind::<A>(kind), IcmpKind::Request)
}

/// Whether an ICMP type is that of an error.
#[inline(always)]
pub fn is_icmp_error<A: Address>(kind: u8) -> bool {
    matches!(icmp_kind::<A>(kind), IcmpKind::Other(NoTransport::IcmpError))
}

#[inline(always)]
fn icmp_kind<A: Address>(kind: u8) -> IcmpKind {
    if A::ETHERTYPE == ethertype::IPV4 { icmp_v4_kind(kind) } else { icmp_v6_kind(kind) }
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

/// RFC 4443; 135 and 136 are what finds a neighbour. The other messages of RFC 4861 tell of routers and
/// routes, and no container is to tell another of those.
#[inline(always)]
fn icmp_v6_kind(kind: u8) -> IcmpKind {
    match kind {
        128 => IcmpKind::Request,
        129 => IcmpKind::Reply,
        1..=4 => IcmpKind::Other(NoTransport::IcmpError),
        135 | 136 => IcmpKind::Other(NoTransport::Discovery),
        _ => IcmpKind::Other(NoTransport::Unsupported),
    }
}

/// A header of `len` bytes with the ports in front, and the checksum where UDP has it: UDP-Lite (RFC 3828),
/// DCCP (RFC 4340).
#[inline(always)]
pub(super) fn with_ports<A>(ip: &Ip<A>, sport: Port, dport: Port, len: usize) -> Transport {
    Transport {
        sport,
        dport,
        seen: Seen::PACKET,
        fields: Fields::Udp,
        offset: ip.payload_offset,
        header_len: len as u32,
    }
}

/// Reads a transport header that lies inside the IP payload.
#[inline(always)]
pub(super) fn load<A, P: Headers, H: bytemuck::Pod>(
    packet: &P,
    ip: &Ip<A>,
) -> Result<H, NoTransport> {
    if size_of::<H>() as u32 > ip.payload_len {
        return Err(NoTransport::Malformed);
    }
    packet.load(ip.payload_offset).ok_or(NoTransport::Malformed)
}

impl Transport {
    /// What stands in place of a header that is missing.
    pub(crate) const NONE: Self = Self {
        sport: Port::ZERO,
        dport: Port::ZERO,
        seen: 0,
        fields: Fields::Udp,
        offset: 0,
        header_len: 0,
    };

    /// That of a fragment without transport header, whose payload begins at `offset`.
    #[inline(always)]
    pub(super) const fn of_later_fragment(sport: Port, dport: Port, offset: u32) -> Self {
        let (seen, fields) = (Seen::PACKET, Fields::None);
        Self { sport, dport, seen, fields, offset, header_len: 0 }
    }

    /// Whether the packet asks for a new TCP connection.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.seen & Seen::TCP == Seen::SYN
    }

    /// Whether the packet may begin a flow: for TCP a SYN, or a lone ACK of a connection that is
    /// picked up in the middle, as Linux does unless `nf_conntrack_tcp_loose` is off.
    #[inline(always)]
    pub fn may_begin_flow<T: Tables>(&self, tables: &T) -> bool {
        match self.fields {
            Fields::Tcp => {
                let flags = self.seen & Seen::TCP;
                flags == Seen::SYN
                    || flags == Seen::ACK && tables.is_configured(ConfigFlags::TCP_LOOSE)
            }
            Fields::Udp | Fields::Ports | Fields::EchoRequest => true,
            Fields::PortsWithin | Fields::EchoReply | Fields::None => false,
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
            Self::Ports | Self::PortsWithin | Self::None => None,
            Self::EchoRequest | Self::EchoReply => Some(2),
        }
    }

    /// The kinds of a change to the addresses and of one to the ports. Addresses do not count in
    /// IPv4's ICMP checksum, which has no pseudo-header.
    #[inline(always)]
    pub fn checksum_kinds<A: Address>(self) -> (Option<ChecksumKind>, ChecksumKind) {
        match self {
            Self::Tcp | Self::None => (Some(ChecksumKind::PseudoHeader), ChecksumKind::Header),
            Self::Udp | Self::Ports | Self::PortsWithin => {
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
