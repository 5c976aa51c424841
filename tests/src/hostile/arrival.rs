//! What an observer sees, read without any of netd's code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame is, as far as a receiver can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// ARP.
    Arp,
    /// IP, whole or a fragment.
    Ip(Ip),
    /// IP with a header that cannot be read.
    BrokenIp,
    /// Still tagged.
    Tagged,
    /// Any other ethertype.
    Other(u16),
}

/// The fields of an IP packet that verdicts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Where it claims to come from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// The protocol that follows the header.
    pub proto: u8,
    /// What flows are told apart by: the protocol behind all headers, and the source and destination port,
    /// where they are there. The identifier of a query stands in the place of the requester's port; zeros
    /// stand for the ports of a protocol that has none.
    pub ports: Option<Ports>,
    /// The type, where it is ICMP of the family.
    pub icmp: Option<u8>,
    /// Whether it may be the first of a flow, as far as can be seen: no answer, and no reset.
    pub may_begin: bool,
}

/// A protocol, a source port and a destination port.
pub type Ports = (u8, u16, u16);

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// IPv6's extension headers, as far as somebody on the way reads them.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Another, which nobody on the way looks behind.
const AUTHENTICATION: u8 = 51;

impl Arrival {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        let Some((&[high, low], packet)) =
            frame.get(12..).and_then(|rest| rest.split_first_chunk::<2>())
        else {
            return Self::Other(0);
        };
        match u16::from_be_bytes([high, low]) {
            0x0806 => Self::Arp,
            0x8100 | 0x88a8 => Self::Tagged,
            0x0800 => ipv4(packet).map_or(Self::BrokenIp, Self::Ip),
            0x86dd => ipv6(packet).map_or(Self::BrokenIp, Self::Ip),
            other => Self::Other(other),
        }
    }

    /// See [`Ip::ports`].
    pub fn ports(self) -> Option<Ports> {
        match self {
            Self::Ip(ip) => ip.ports,
            Self::Arp | Self::BrokenIp | Self::Tagged | Self::Other(_) => None,
        }
    }
}

fn ipv4(packet: &[u8]) -> Option<Ip> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let address = |at| IpAddr::from(Ipv4Addr::from_octets(std::array::from_fn(|i| header[at + i])));
    let rest = packet.get(usize::from(header[0] & 0xf) * 4..)?;
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    let rest = if is_first { rest } else { &[] };
    let (src, dst, proto) = (address(12), address(16), header[9]);
    let icmp = rest.first().copied().filter(|_| proto == ICMP);
    let (ports, may_begin) = (ports(true, proto, rest), may_begin(true, proto, rest));
    (header[0] >> 4 == 4).then_some(Ip { src, dst, proto, ports, icmp, may_begin })
}

fn ipv6(packet: &[u8]) -> Option<Ip> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let address = |at| IpAddr::from(Ipv6Addr::from_octets(std::array::from_fn(|i| header[at + i])));
    let (src, dst, proto) = (address(8), address(24), header[6]);
    let icmp = packet.get(40).copied().filter(|_| proto == ICMPV6);
    let behind = behind_extensions(proto, &packet[40..]);
    let ports = behind.and_then(|(proto, rest)| ports(false, proto, rest));
    let may_begin = behind.is_some_and(|(proto, rest)| may_begin(false, proto, rest));
    (header[0] >> 4 == 6).then_some(Ip { src, dst, proto, ports, icmp, may_begin })
}

/// What follows the extension headers, nothing of it in a later fragment; `None` where they are broken.
fn behind_extensions(mut proto: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    while matches!(proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
        let (&[next, words, high, low], _) = rest.split_first_chunk()?;
        if proto == FRAGMENT {
            let is_first = u16::from_be_bytes([high, low]) >> 3 == 0;
            rest = if is_first { rest.get(8..)? } else { &[] };
            if !is_first {
                return Some((next, rest));
            }
        } else {
            rest = rest.get((usize::from(words) + 1) * 8..)?;
        }
        proto = next;
    }
    Some((proto, rest))
}

/// See [`Ip::ports`].
fn ports(is_v4: bool, proto: u8, bytes: &[u8]) -> Option<Ports> {
    let number = |at| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (sport, dport) = match (proto, is_v4) {
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        (6 | 17 | 33 | 132 | 136, _) => (number(0)?, number(2)?),
        (ICMP, true) => match *bytes.first()? {
            8 => (number(4)?, 0),
            0 => (0, number(4)?),
            // Timestamp, information, address mask: each is a flow of its own.
            kind @ (13 | 15 | 17) => (number(4)?, kind.into()),
            kind @ (14 | 16 | 18) => (u16::from(kind - 1), number(4)?),
            _ => return None,
        },
        (ICMPV6, false) => match *bytes.first()? {
            128 => (number(4)?, 0),
            129 => (0, number(4)?),
            _ => return None,
        },
        (AUTHENTICATION, false) => return None,
        _ => (0, 0),
    };
    Some((proto, sport, dport))
}

/// See [`Ip::may_begin`].
fn may_begin(is_v4: bool, proto: u8, bytes: &[u8]) -> bool {
    const RST: u8 = 4;
    match (proto, is_v4) {
        (6, _) => bytes.get(13).is_some_and(|flags| flags & RST == 0),
        (ICMP, true) => matches!(bytes.first(), Some(8 | 13 | 15 | 17)),
        (ICMPV6, false) => bytes.first() == Some(&128),
        _ => true,
    }
}

impl Ip {
    /// Reads a packet of either family.
    pub fn read(packet: &[u8]) -> Option<Self> {
        ipv4(packet).or_else(|| ipv6(packet))
    }

    /// Neighbour solicitation and advertisement.
    pub fn is_neighbour_discovery(&self) -> bool {
        self.proto == ICMPV6 && matches!(self.icmp, Some(135 | 136))
    }

    /// Router discovery and redirects.
    pub fn is_router_discovery(&self) -> bool {
        self.proto == ICMPV6 && matches!(self.icmp, Some(133 | 134 | 137))
    }

    /// Who listens to which group: IGMP, and MLD behind its router alert (RFC 3810 section 5).
    pub fn is_group_membership(&self) -> bool {
        matches!((self.proto, self.src.is_ipv4()), (2, true) | (0, false))
            && self.dst.is_multicast()
    }
}
