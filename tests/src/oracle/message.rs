//! Packets of a case, each with its number.

use std::net::{IpAddr, SocketAddr};

use super::{
    arrival::Arrival,
    datagram::{Datagram, SCTP, TCP, UDP, transport_checksum},
    mark,
};
use crate::packet::{ACK, SYN};

/// More data is to be handed over at once.
pub const PSH: u8 = 8;

/// The source port of a case: its own, so that no two cases share a flow.
pub fn own_port(number: u16) -> u16 {
    10_000 + number % 40_000
}

/// A payload of marks. Units: bytes.
pub fn payload(number: u16, len: usize) -> Vec<u8> {
    mark::bytes(number).into_iter().cycle().take(len).collect()
}

fn sealed(
    number: u16,
    (src, dst): (IpAddr, IpAddr),
    proto: u8,
    mut body: Vec<u8>,
    at: usize,
) -> Datagram {
    let sum = match transport_checksum(src, dst, proto, &body) {
        0 if proto == UDP => 0xffff,
        sum => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Datagram::new(number, src, dst, proto, body)
}

fn ports(src: SocketAddr, dst: SocketAddr) -> Vec<u8> {
    [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat()
}

/// TCP; data follows where it is pushed.
pub fn tcp(
    number: u16,
    src: SocketAddr,
    dst: SocketAddr,
    flags: u8,
    seq: u32,
    ack: u32,
) -> Datagram {
    let data = if flags & PSH == 0 { Vec::new() } else { payload(number, 16) };
    let rest = [0x50, flags, 0x20, 0, 0, 0, 0, 0];
    let body =
        [&ports(src, dst)[..], &seq.to_be_bytes(), &ack.to_be_bytes(), &rest, &data].concat();
    sealed(number, (src.ip(), dst.ip()), TCP, body, 16)
}

/// The first packet of a connection.
pub fn syn(number: u16, src: SocketAddr, dst: SocketAddr) -> Datagram {
    tcp(number, src, dst, SYN, mark::seq(number, 0), 0)
}

/// Data in the middle of a connection.
pub fn data(number: u16, src: SocketAddr, dst: SocketAddr) -> Datagram {
    tcp(number, src, dst, ACK | PSH, mark::seq(number, 1), mark::seq(number, 129))
}

/// UDP.
pub fn udp(number: u16, src: SocketAddr, dst: SocketAddr) -> Datagram {
    udp_of(number, src, dst, 24)
}

/// UDP with this much payload. Units: bytes.
pub fn udp_of(number: u16, src: SocketAddr, dst: SocketAddr, len: usize) -> Datagram {
    let data = payload(number, len);
    let total = (8 + data.len() as u16).to_be_bytes();
    let body = [&ports(src, dst)[..], &total, &[0, 0], &data].concat();
    sealed(number, (src.ip(), dst.ip()), UDP, body, 6)
}

/// UDP whose sender has computed no checksum.
pub fn udp_unsummed(number: u16, src: SocketAddr, dst: SocketAddr) -> Datagram {
    let mut packet = udp(number, src, dst);
    packet.body[6..8].fill(0);
    packet
}

/// An echo request with the source's port for an identifier.
pub fn echo(number: u16, src: SocketAddr, dst: IpAddr) -> Datagram {
    icmp(number, (src.ip(), dst), (if dst.is_ipv4() { 8 } else { 128 }, 0), src.port())
}

/// Any message of ICMP that has an identifier.
pub fn icmp(number: u16, ends: (IpAddr, IpAddr), (kind, code): (u8, u8), id: u16) -> Datagram {
    let head = [&[kind, code, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat();
    let proto = if ends.0.is_ipv4() { 1 } else { 58 };
    sealed(number, ends, proto, [head, payload(number, 24)].concat(), 2)
}

/// The start of an association. Its checksum is not looked at by routers.
pub fn sctp(number: u16, src: SocketAddr, dst: SocketAddr) -> Datagram {
    let init = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let mut body = [&ports(src, dst)[..], &[0; 8], &init].concat();
    let sum = crc32c(&body).to_le_bytes();
    body[8..12].copy_from_slice(&sum);
    Datagram::new(number, src.ip(), dst.ip(), SCTP, body)
}

/// CRC32c bit by bit (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, byte)
}

/// Another protocol, which only carries marks.
pub fn other(number: u16, src: IpAddr, dst: IpAddr, proto: u8) -> Datagram {
    // GRE without options, carrying IPv4; the same bytes are as good an ESP.
    let body = [&[0, 0, 8, 0, 0, 0, 0, 1][..], &payload(number, 24)].concat();
    Datagram::new(number, src, dst, proto, body)
}

/// An ICMP error about a packet that has arrived, with its first `quoted` bytes. For IPv6 the same kinds
/// are meant by their numbers of IPv4.
pub fn error_about(
    about: &Arrival,
    number: u16,
    from: IpAddr,
    of: (u8, u8),
    quoted: usize,
) -> Datagram {
    let quote = &about.bytes[..about.bytes.len().min(quoted)];
    let (to, _) = about.parts().addresses;
    error(number, (from, to), of, quote)
}

/// An ICMP error that quotes some bytes.
pub fn error(
    number: u16,
    (from, to): (IpAddr, IpAddr),
    (kind, code): (u8, u8),
    quote: &[u8],
) -> Datagram {
    let is_v4 = from.is_ipv4();
    let (kind, code) = match (kind, code) {
        _ if is_v4 => (kind, code),
        (3, 4) => (2, 0),
        (3, 3) => (1, 4),
        (3, _) => (1, 1),
        (11, code) => (3, code),
        (_, code) => (4, code),
    };
    // The MTU of a next hop, where there is one.
    let rest = match (is_v4, kind, code) {
        (true, 3, 4) => [0, 0, 0x05, 0x14],
        (false, 2, _) => [0, 0, 0x05, 0x78],
        _ => [0; 4],
    };
    let body = [&[kind, code, 0, 0][..], &rest, quote].concat();
    sealed(number, (from, to), if is_v4 { 1 } else { 58 }, body, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_that_of_rfc_3720_appendix_b_4() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
