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
    /// Source and destination port of TCP and UDP, where they are there. The identifier of an echo stands
    /// in the place of the requester's port.
    pub ports: Option<(u16, u16)>,
    /// The type, where it is ICMP of the family.
    pub icmp: Option<u8>,
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

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
}

fn ipv4(packet: &[u8]) -> Option<Ip> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let address = |at| IpAddr::from(Ipv4Addr::from_octets(std::array::from_fn(|i| header[at + i])));
    let rest = packet.get(usize::from(header[0] & 0xf) * 4..)?;
    let is_first = header[6] & 0x1f == 0 && header[7] == 0;
    let ip = Ip { src: address(12), dst: address(16), proto: header[9], ports: None, icmp: None };
    (header[0] >> 4 == 4).then(|| ip.with_transport(if is_first { rest } else { &[] }))
}

fn ipv6(packet: &[u8]) -> Option<Ip> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let address = |at| IpAddr::from(Ipv6Addr::from_octets(std::array::from_fn(|i| header[at + i])));
    let ip = Ip { src: address(8), dst: address(24), proto: header[6], ports: None, icmp: None };
    (header[0] >> 4 == 6).then(|| ip.with_transport(&packet[40..]))
}

impl Ip {
    fn with_transport(mut self, bytes: &[u8]) -> Self {
        let number = |at| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        match (self.proto, self.src.is_ipv4()) {
            (6 | 17, _) => self.ports = number(0).zip(number(2)),
            (ICMP, true) | (ICMPV6, false) => self.icmp = bytes.first().copied(),
            _ => {}
        }
        self.ports = match (self.icmp, self.src.is_ipv4()) {
            (Some(8), true) | (Some(128), false) => number(4).zip(Some(0)),
            (Some(0), true) | (Some(129), false) => Some(0).zip(number(4)),
            _ => self.ports,
        };
        self
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
