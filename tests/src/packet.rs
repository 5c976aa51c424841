//! Packets for the programs: written and read byte by byte, with checksums summed up in full. Nothing here
//! comes from netd, so what a test expects owes nothing to what it tests.

use std::net::{IpAddr, SocketAddr};

use crate::family::Family;

/// The address of every device of a test, and the one that frames are sent to.
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Another machine's.
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The prefixes of all strangers.
pub const STRANGERS: [&str; 2] = ["10.128.0.0/9", "2001:db8:f100::/64"];

/// An end that nobody has, a different one for each number below eight million.
pub fn stranger(family: Family, number: u32) -> SocketAddr {
    let [a, b, c, d] = number.to_be_bytes();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let address: IpAddr = match family {
        Family::V4 => [10, 128 | b, c, d].into(),
        Family::V6 => [0x2001, 0xdb8, 0xf100, 0, 0, 0, high, low].into(),
    };
    SocketAddr::new(address, 1024 + (number.wrapping_mul(7919) % 60_000) as u16)
}

/// TCP's flags.
pub const FIN: u8 = 1;
/// Begins a connection.
pub const SYN: u8 = 2;
/// Ends one at once.
pub const RST: u8 = 4;
/// The acknowledgement counts.
pub const ACK: u8 = 16;

const ETHERNET_LEN: usize = 14;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP with these flags.
    Tcp(u8),
    /// TCP with these flags and the option that tells this MSS.
    TcpWithMss(u8, u16),
    /// SCTP with this chunk.
    Sctp(u8),
    /// UDP.
    Udp,
    /// UDP whose sender has computed no checksum.
    UdpWithoutChecksum,
    /// The identifier is the source's port.
    EchoRequest,
    /// The identifier is the destination's port.
    EchoReply,
    /// Another type of ICMP.
    Icmp(u8),
    /// Another protocol.
    Other(u8),
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it carries.
    pub kind: Kind,
    /// Where it comes from.
    pub src: SocketAddr,
    /// Where it goes to.
    pub dst: SocketAddr,
    /// What follows the headers.
    pub payload: Vec<u8>,
    /// How many more hops it may take.
    pub ttl: u8,
}

impl Packet {
    /// A packet with a short payload.
    pub fn new(kind: Kind, src: SocketAddr, dst: SocketAddr) -> Self {
        Self { kind, src, dst, payload: b"payload".to_vec(), ttl: 64 }
    }

    /// The same packet from another end.
    #[must_use]
    pub fn from(&self, src: SocketAddr) -> Self {
        Self { src, ..self.clone() }
    }

    /// The same packet to another end.
    #[must_use]
    pub fn to(&self, dst: SocketAddr) -> Self {
        Self { dst, ..self.clone() }
    }

    /// The same packet, carrying something else.
    #[must_use]
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The same packet with this many hops to go.
    #[must_use]
    pub fn with_ttl(&self, ttl: u8) -> Self {
        Self { ttl, ..self.clone() }
    }

    /// The same packet with a payload of this length.
    #[must_use]
    pub fn with_payload_len(&self, len: usize) -> Self {
        Self { payload: vec![0x55; len], ..self.clone() }
    }

    /// What the receiver answers.
    #[must_use]
    pub fn reply(&self) -> Self {
        let kind = if self.kind == Kind::Tcp(SYN) {
            Kind::Tcp(SYN | ACK)
        } else if self.kind == Kind::EchoRequest {
            Kind::EchoReply
        } else if let Kind::TcpWithMss(SYN, mss) = self.kind {
            Kind::TcpWithMss(SYN | ACK, mss)
        } else if self.kind == Kind::Sctp(1) {
            Kind::Sctp(2)
        } else {
            self.kind
        };
        Self { payload: b"an answer".to_vec(), ..Self::new(kind, self.dst, self.src) }
    }

    /// The protocol number.
    pub fn proto(&self) -> u8 {
        match self.kind {
            Kind::Tcp(_) | Kind::TcpWithMss(..) => 6,
            Kind::Sctp(_) => 132,
            Kind::Udp | Kind::UdpWithoutChecksum => 17,
            Kind::EchoRequest | Kind::EchoReply | Kind::Icmp(_) => {
                if self.src.is_ipv4() {
                    1
                } else {
                    58
                }
            }
            Kind::Other(proto) => proto,
        }
    }

    /// The frame that a device of the host receives.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_for(HOST_MAC, OTHER_MAC)
    }

    /// The frame from one MAC address to another.
    pub fn frame_for(&self, dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
        let ethertype: [u8; 2] = if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&dst[..], &src, &ethertype, &self.datagram()].concat()
    }

    /// The IP packet.
    pub fn datagram(&self) -> Vec<u8> {
        let segment = self.segment();
        [self.ip_header(segment.len() as u16), segment].concat()
    }

    /// Where the transport header begins in the frame.
    pub fn transport_offset(&self) -> usize {
        ETHERNET_LEN + if self.src.is_ipv4() { 20 } else { 40 }
    }

    fn ip_header(&self, payload_len: u16) -> Vec<u8> {
        let proto = self.proto();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let [high, low] = (payload_len + 20).to_be_bytes();
                let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, self.ttl, proto, 0, 0];
                header.extend(src.octets());
                header.extend(dst.octets());
                let checksum = checksum(&[&header]);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                header
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let [high, low] = payload_len.to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, high, low, proto, self.ttl];
                header.extend(src.octets());
                header.extend(dst.octets());
                header
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("both ends have one family: {self:?}")
            }
        }
    }

    /// The transport header and what follows it.
    fn segment(&self) -> Vec<u8> {
        let (sport, dport) = (self.src.port().to_be_bytes(), self.dst.port().to_be_bytes());
        let ports = [sport, dport].concat();
        let is_v4 = self.src.is_ipv4();
        let (mut segment, checksum_at) = match self.kind {
            Kind::Tcp(flags) => {
                let rest = [1, 2, 3, 4, 5, 6, 7, 8, 0x50, flags, 2, 0, 0, 0, 0, 0];
                ([&ports[..], &rest].concat(), Some(16))
            }
            Kind::TcpWithMss(flags, mss) => {
                let [high, low] = mss.to_be_bytes();
                let rest = [1, 2, 3, 4, 5, 6, 7, 8, 0x60, flags, 2, 0, 0, 0, 0, 0, 2, 4, high, low];
                ([&ports[..], &rest].concat(), Some(16))
            }
            Kind::Sctp(chunk) => {
                let [high, low] = (4 + self.payload.len() as u16).to_be_bytes();
                let rest = [1, 2, 3, 4, 0, 0, 0, 0, chunk, 0, high, low];
                ([&ports[..], &rest].concat(), None)
            }
            Kind::Udp | Kind::UdpWithoutChecksum => {
                let len = (8 + self.payload.len() as u16).to_be_bytes();
                let is_summed = self.kind == Kind::Udp;
                ([&ports[..], &len, &[0, 0]].concat(), is_summed.then_some(6))
            }
            Kind::EchoRequest => {
                let kind = if is_v4 { 8 } else { 128 };
                (vec![kind, 0, 0, 0, sport[0], sport[1], 0, 1], Some(2))
            }
            Kind::EchoReply => {
                let kind = if is_v4 { 0 } else { 129 };
                (vec![kind, 0, 0, 0, dport[0], dport[1], 0, 1], Some(2))
            }
            Kind::Icmp(kind) => (vec![kind, 0, 0, 0, 0, 0, 0, 0], Some(2)),
            Kind::Other(_) => (Vec::new(), None),
        };
        segment.extend(&self.payload);
        if let Kind::Sctp(_) = self.kind {
            let sum = crc32c(&segment);
            segment[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        if let Some(at) = checksum_at {
            let pseudo = self.pseudo_header(segment.len() as u32);
            let sum = match checksum(&[&pseudo, &segment]) {
                0 if self.kind == Kind::Udp => 0xffff,
                sum => sum,
            };
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    /// What the transport checksum covers besides the segment (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn pseudo_header(&self, len: u32) -> Vec<u8> {
        let tail = [&len.to_be_bytes()[..], &[0, 0, 0, self.proto()]].concat();
        match (self.src.ip(), self.dst.ip()) {
            // ICMP of IPv4 covers itself alone (RFC 792).
            (IpAddr::V4(_), IpAddr::V4(_)) if self.proto() == 1 => Vec::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                [&src.octets()[..], &dst.octets(), &tail].concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                [&src.octets()[..], &dst.octets(), &tail].concat()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }

    /// The same packet with the source port that stands in a frame made of it: where netd has chosen one.
    ///
    /// # Panics
    /// Where the frame is too short for one.
    #[must_use]
    pub fn with_source_port_of(&self, frame: &[u8]) -> Self {
        let at = self.transport_offset();
        let at = if self.kind == Kind::EchoRequest { at + 4 } else { at };
        let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
        self.from(SocketAddr::new(self.src.ip(), port))
    }
}

/// The Internet checksum by its definition (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let sum: u64 = bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// SCTP's checksum by its definition (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_has_its_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), !0xddf2);
    }
}
