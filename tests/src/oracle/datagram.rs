//! IP packets, written byte by byte.

use std::net::IpAddr;

use crate::packet::checksum;

/// Protocol numbers.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// The stream control protocol.
pub const SCTP: u8 = 132;
/// Generic routing encapsulation.
pub const GRE: u8 = 47;
/// IPsec.
pub const ESP: u8 = 50;

/// The smallest piece of a fragmented packet. Units: bytes.
const UNIT: usize = 8;

/// A packet without its transport's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes to.
    pub dst: IpAddr,
    /// What it carries.
    pub proto: u8,
    /// How many more hops it may take.
    pub ttl: u8,
    /// The case: IPv4's identification, IPv6's flow label.
    pub number: u16,
    /// Whether routers may not fragment it; IPv4 only.
    pub is_whole: bool,
    /// IPv4 options, a multiple of four bytes; of IPv6, extension headers without their chain.
    pub options: Vec<u8>,
    /// The transport header and what follows.
    pub body: Vec<u8>,
}

impl Datagram {
    /// A packet with 64 hops to go that may be fragmented.
    pub fn new(number: u16, src: IpAddr, dst: IpAddr, proto: u8, body: Vec<u8>) -> Self {
        Self { src, dst, proto, ttl: 64, number, is_whole: false, options: Vec::new(), body }
    }

    /// The same packet with this many hops to go.
    #[must_use]
    pub fn with_ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The same packet with IPv4 options, or with an IPv6 extension header of this kind before the
    /// transport: eight bytes of padding.
    #[must_use]
    pub fn with_options(self, v4: &[u8], v6: u8) -> Self {
        let options = if self.src.is_ipv4() { v4.to_vec() } else { vec![v6, 0, 1, 4, 0, 0, 0, 0] };
        Self { options, ..self }
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        self.piece(&self.body, 0, false, false)
    }

    /// The packet in two pieces, the first of `first` bytes.
    pub fn fragments(&self, first: usize) -> Vec<Vec<u8>> {
        let (head, tail) = self.body.split_at(first / UNIT * UNIT);
        vec![self.piece(head, 0, true, true), self.piece(tail, head.len(), false, true)]
    }

    /// What IPv6 calls an atomic fragment; of IPv4, the packet.
    pub fn atomic(&self) -> Vec<u8> {
        self.piece(&self.body, 0, false, self.src.is_ipv6())
    }

    fn piece(&self, body: &[u8], offset: usize, is_followed: bool, is_piece: bool) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = self.v4_start(body.len(), offset, is_followed);
                header.extend(src.octets());
                header.extend(dst.octets());
                header.extend(&self.options);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                [&header[..], body].concat()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let chain = self.v6_chain(offset, is_followed, is_piece);
                let [high, low] = self.number.to_be_bytes();
                let [len_high, len_low] = ((chain.1.len() + body.len()) as u16).to_be_bytes();
                let start = [0x60, 0, high, low, len_high, len_low, chain.0, self.ttl];
                [&start[..], &src.octets(), &dst.octets(), &chain.1, body].concat()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("both ends have one family: {self:?}")
            }
        }
    }

    /// RFC 791 section 3.1, as far as the addresses.
    fn v4_start(&self, body_len: usize, offset: usize, is_followed: bool) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let [len_high, len_low] = ((header_len + body_len) as u16).to_be_bytes();
        let [id_high, id_low] = self.number.to_be_bytes();
        let flags = if self.is_whole { 0x4000 } else { 0 } | if is_followed { 0x2000 } else { 0 };
        let [flags_high, flags_low] = (flags | (offset / UNIT) as u16).to_be_bytes();
        let version = 0x40 | (header_len / 4) as u8;
        let rest = [flags_high, flags_low, self.ttl, self.proto, 0, 0];
        [&[version, 0, len_high, len_low, id_high, id_low][..], &rest].concat()
    }

    /// The first header's kind and the extension headers, RFC 8200 section 4.
    fn v6_chain(&self, offset: usize, is_followed: bool, is_piece: bool) -> (u8, Vec<u8>) {
        let (mut first, mut chain) = (self.proto, self.options.clone());
        if let Some(kind) = chain.first_mut() {
            first = std::mem::replace(kind, self.proto);
        }
        if is_piece {
            let [high, low] = (offset as u16 | u16::from(is_followed)).to_be_bytes();
            let [id_high, id_low] = self.number.to_be_bytes();
            let fragment = [first, 0, high, low, 0, 0, id_high, id_low];
            return (44, [&fragment[..], &chain].concat());
        }
        (first, chain)
    }
}

/// The Internet checksum of a transport over its pseudo header (RFC 9293 section 3.1, RFC 8200 section
/// 8.1); that of ICMP for IPv4 has none.
pub fn transport_checksum(src: IpAddr, dst: IpAddr, proto: u8, body: &[u8]) -> u16 {
    let tail = [&(body.len() as u32).to_be_bytes()[..], &[0, 0, 0, proto]].concat();
    match (src, dst) {
        (IpAddr::V4(_), _) if proto == 1 => checksum(&[body]),
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            checksum(&[&src.octets(), &dst.octets(), &tail, body])
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            checksum(&[&src.octets(), &dst.octets(), &tail, body])
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_make_up_the_whole() {
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            let whole = Datagram::new(7, src, dst, UDP, (0..40).collect());
            let pieces = whole.fragments(17);
            let len = pieces[0].len() - 16;
            assert_eq!([&pieces[0][len..], &pieces[1][len..]].concat(), whole.body);
        }
    }

    #[test]
    fn an_extension_header_stands_between_the_header_and_the_transport() {
        let (src, dst) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let bytes = Datagram::new(7, src, dst, UDP, vec![1]).with_options(&[], 60).bytes();
        assert_eq!((bytes[6], bytes[40], bytes.len()), (60, UDP, 49));
    }
}
