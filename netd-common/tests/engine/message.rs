//! Messages as values, their frames, and the way back. `etherparse` writes and reads the frames, so an
//! expected frame owes nothing to the engine.

use std::{net::IpAddr, ops::Range};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetHeaders, PacketBuilder, PacketHeaders,
    TcpHeader, TransportHeader,
};

use crate::{
    checksums,
    family::Family,
    place::{HOST_MAC, OUTSIDE_MAC},
};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// IPv4 options that ask for nothing (RFC 791 section 3.1).
pub(crate) const NO_OPERATION: [u8; 4] = [1, 1, 1, 0];

const SCTP: u8 = 132;
/// Length of an SCTP header with that of its first chunk.
const SCTP_LEN: usize = 16;
/// SCTP's chunks.
pub(crate) const DATA: u8 = 0;
pub(crate) const INIT: u8 = 1;
pub(crate) const INIT_ACK: u8 = 2;
pub(crate) const HEARTBEAT: u8 = 4;
pub(crate) const ABORT: u8 = 6;

/// The fragment header of IPv6.
const IPV6_FRAGMENT: u8 = 44;

/// An address and a port; the port of a protocol without ports is zero.
pub(crate) type End<A> = (A, u16);

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// TCP with these flags.
    Tcp(u8),
    Udp,
    UdpWithoutChecksum,
    /// The identifier is the source's port.
    EchoRequest,
    /// The identifier is the destination's port.
    EchoReply,
    /// A question for the time, of IPv4 only; the identifier is the source's port.
    TimestampRequest,
    /// The identifier is the destination's port.
    TimestampReply,
    /// SCTP with this chunk.
    Sctp(u8),
    /// Another ICMP type.
    Icmp(u8),
    /// Another IP protocol.
    Other(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message<A> {
    pub(crate) kind: Kind,
    pub(crate) src: End<A>,
    pub(crate) dst: End<A>,
    pub(crate) payload: Vec<u8>,
}

impl<A: Family> Message<A> {
    pub(crate) fn new(kind: Kind, src: End<A>, dst: End<A>) -> Self {
        Self { kind, src, dst, payload: b"payload".to_vec() }
    }

    pub(crate) fn from(&self, src: End<A>) -> Self {
        Self { src, ..self.clone() }
    }

    pub(crate) fn to(&self, dst: End<A>) -> Self {
        Self { dst, ..self.clone() }
    }

    pub(crate) fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// What the receiver answers.
    pub(crate) fn reply(&self) -> Self {
        let kind = if self.kind == Kind::Tcp(SYN) {
            Kind::Tcp(SYN | ACK)
        } else if self.kind == Kind::EchoRequest {
            Kind::EchoReply
        } else if self.kind == Kind::TimestampRequest {
            Kind::TimestampReply
        } else if self.kind == Kind::Sctp(INIT) {
            Kind::Sctp(INIT_ACK)
        } else {
            self.kind
        };
        Self { kind, src: self.dst, dst: self.src, payload: b"an answer".to_vec() }
    }

    /// The protocol number.
    pub(crate) fn proto(&self) -> u8 {
        match self.kind {
            Kind::Tcp(_) => 6,
            Kind::Udp | Kind::UdpWithoutChecksum => 17,
            Kind::EchoRequest
            | Kind::EchoReply
            | Kind::TimestampRequest
            | Kind::TimestampReply
            | Kind::Icmp(_) => A::ICMP,
            Kind::Sctp(_) => SCTP,
            Kind::Other(proto) => proto,
        }
    }

    /// The Ethernet frame, with every checksum.
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.frame_with(64)
    }

    /// The frame with this many hops to go.
    pub(crate) fn frame_with(&self, ttl: u8) -> Vec<u8> {
        let step = PacketBuilder::ethernet2(OUTSIDE_MAC, HOST_MAC)
            .ip(ip_headers(self.src.0, self.dst.0, ttl));
        let mut frame = Vec::new();
        let (payload, is_v4) = (&self.payload[..], A::ICMP == 1);
        match (self.kind, is_v4) {
            (Kind::Tcp(flags), _) => {
                let header = tcp_header(self.src.1, self.dst.1, flags);
                step.tcp_header(header).write(&mut frame, payload)
            }
            (Kind::Udp | Kind::UdpWithoutChecksum, _) => {
                step.udp(self.src.1, self.dst.1).write(&mut frame, payload)
            }
            (Kind::EchoRequest, true) => {
                step.icmpv4_echo_request(self.src.1, 1).write(&mut frame, payload)
            }
            (Kind::EchoReply, true) => {
                step.icmpv4_echo_reply(self.dst.1, 1).write(&mut frame, payload)
            }
            (Kind::EchoRequest, false) => {
                step.icmpv6_echo_request(self.src.1, 1).write(&mut frame, payload)
            }
            (Kind::EchoReply, false) => {
                step.icmpv6_echo_reply(self.dst.1, 1).write(&mut frame, payload)
            }
            (Kind::TimestampRequest, _) => {
                let [high, low] = self.src.1.to_be_bytes();
                step.icmpv4_raw(13, 0, [high, low, 0, 1]).write(&mut frame, payload)
            }
            (Kind::TimestampReply, _) => {
                let [high, low] = self.dst.1.to_be_bytes();
                step.icmpv4_raw(14, 0, [high, low, 0, 1]).write(&mut frame, payload)
            }
            (Kind::Sctp(chunk), _) => {
                let packet = sctp(self.src.1, self.dst.1, chunk, payload);
                step.write(&mut frame, IpNumber(SCTP), &packet)
            }
            (Kind::Icmp(kind), true) => step.icmpv4_raw(kind, 0, [0; 4]).write(&mut frame, payload),
            (Kind::Icmp(kind), false) => {
                step.icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, payload)
            }
            (Kind::Other(proto), _) => step.write(&mut frame, IpNumber(proto), payload),
        }
        .unwrap();
        if self.kind == Kind::UdpWithoutChecksum {
            let checksum = frame.len() - payload.len() - 2;
            frame[checksum..checksum + 2].fill(0);
        }
        frame
    }

    /// The frame of a fragment of this message that is not the first.
    pub(crate) fn fragment(&self) -> Vec<u8> {
        self.part(0x1234, 0..8, 1480, false)
    }

    /// The frame of a part of this message, of these bytes of what follows the IP header: a fragment that
    /// begins at `offset`.
    pub(crate) fn part(&self, id: u32, bytes: Range<usize>, offset: usize, more: bool) -> Vec<u8> {
        let frame = self.frame();
        if A::ICMP == 58 {
            let (mut header, payload) = Ipv6Header::from_slice(&frame[14..]).unwrap();
            let part = &payload[bytes];
            let field = (offset as u16 | u16::from(more)).to_be_bytes();
            let extension = [&[header.next_header.0, 0], &field[..], &id.to_be_bytes()].concat();
            header.next_header = IpNumber(IPV6_FRAGMENT);
            header.payload_length = (extension.len() + part.len()) as u16;
            return [&frame[..14], &header.to_bytes(), &extension, part].concat();
        }
        let (mut header, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        let part = &payload[bytes];
        header.identification = id as u16;
        header.dont_fragment = false;
        header.more_fragments = more;
        header.fragment_offset = ((offset / 8) as u16).try_into().unwrap();
        header.total_len = (header.header_len() + part.len()) as u16;
        header.header_checksum = header.calc_header_checksum();
        [&frame[..14], &header.to_bytes(), part].concat()
    }

    /// The frame with IPv4 options, a multiple of four bytes.
    pub(crate) fn with_ipv4_options(&self, options: &[u8]) -> Vec<u8> {
        let frame = self.frame();
        let (mut header, rest) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        header.options = options.try_into().unwrap();
        header.total_len += options.len() as u16;
        header.header_checksum = header.calc_header_checksum();
        [&frame[..14], &header.to_bytes(), rest].concat()
    }

    /// The frame of a TCP message with these options, filled up with zeros.
    pub(crate) fn with_tcp_options(&self, options: &[u8]) -> Vec<u8> {
        let Kind::Tcp(flags) = self.kind else { panic!("not TCP: {self:?}") };
        let mut header = tcp_header(self.src.1, self.dst.1, flags);
        header.set_options_raw(options).unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(OUTSIDE_MAC, HOST_MAC)
            .ip(ip_headers(self.src.0, self.dst.0, 64))
            .tcp_header(header)
            .write(&mut frame, &self.payload)
            .unwrap();
        frame
    }

    /// Reads a frame back.
    pub(crate) fn read(frame: &[u8]) -> Self {
        let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let (src, dst): (IpAddr, IpAddr) = match &headers.net {
            Some(NetHeaders::Ipv4(ip, _)) => (ip.source.into(), ip.destination.into()),
            Some(NetHeaders::Ipv6(ip, _)) => (ip.source.into(), ip.destination.into()),
            Some(NetHeaders::Arp(_)) | None => panic!("not IP: {frame:02x?}"),
        };
        let (kind, sport, dport) = transport(&headers);
        let mut payload = headers.payload.slice();
        let times;
        match (kind, &headers.transport) {
            (Kind::Sctp(_), _) => payload = &payload[SCTP_LEN..],
            // Read as part of the header.
            (
                Kind::TimestampRequest | Kind::TimestampReply,
                Some(TransportHeader::Icmpv4(header)),
            ) => {
                times = header.to_bytes();
                payload = &times[8..];
            }
            _ => {}
        }
        Self {
            kind,
            src: (A::from_ip(src).unwrap(), sport),
            dst: (A::from_ip(dst).unwrap(), dport),
            payload: payload.to_vec(),
        }
    }
}

pub(crate) fn ip_headers<A: Family>(src: A, dst: A, ttl: u8) -> IpHeaders {
    match (src.into(), dst.into()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (source, destination) = (src.octets(), dst.octets());
            let header =
                Ipv4Header { source, destination, time_to_live: ttl, ..Default::default() };
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (source, destination) = (src.octets(), dst.octets());
            let header = Ipv6Header { source, destination, hop_limit: ttl, ..Default::default() };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => unreachable!("both addresses have one family"),
    }
}

fn tcp_header(sport: u16, dport: u16, flags: u8) -> TcpHeader {
    TcpHeader {
        fin: flags & FIN != 0,
        syn: flags & SYN != 0,
        rst: flags & RST != 0,
        psh: flags & PSH != 0,
        ack: flags & ACK != 0,
        acknowledgment_number: 0x0a0b_0c0d,
        ..TcpHeader::new(sport, dport, 0x0102_0304, 512)
    }
}

fn transport(headers: &PacketHeaders<'_>) -> (Kind, u16, u16) {
    match headers.transport.as_ref() {
        Some(TransportHeader::Tcp(tcp)) => {
            let set = [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack];
            let bits = [FIN, SYN, RST, PSH, ACK].iter().zip(set).filter(|bit| bit.1);
            let flags = bits.map(|bit| bit.0).sum();
            (Kind::Tcp(flags), tcp.source_port, tcp.destination_port)
        }
        Some(TransportHeader::Udp(udp)) => {
            let kind = if udp.checksum == 0 { Kind::UdpWithoutChecksum } else { Kind::Udp };
            (kind, udp.source_port, udp.destination_port)
        }
        Some(TransportHeader::Icmpv4(icmp)) => match icmp.to_bytes()[..] {
            [13, _, _, _, high, low, ..] => {
                (Kind::TimestampRequest, u16::from_be_bytes([high, low]), 0)
            }
            [14, _, _, _, high, low, ..] => {
                (Kind::TimestampReply, 0, u16::from_be_bytes([high, low]))
            }
            _ => icmp_kind(&icmp.to_bytes(), 8, 0),
        },
        Some(TransportHeader::Icmpv6(icmp)) => icmp_kind(&icmp.to_bytes(), 128, 129),
        _ => match &headers.net {
            Some(NetHeaders::Ipv4(ip, _)) => other_kind(ip.protocol.0, headers.payload.slice()),
            Some(NetHeaders::Ipv6(ip, _)) => other_kind(ip.next_header.0, headers.payload.slice()),
            Some(NetHeaders::Arp(_)) | None => unreachable!("the addresses were read"),
        },
    }
}

fn other_kind(proto: u8, packet: &[u8]) -> (Kind, u16, u16) {
    match *packet {
        [a, b, c, d, _, _, _, _, _, _, _, _, chunk, ..] if proto == SCTP => {
            (Kind::Sctp(chunk), u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        _ => (Kind::Other(proto), 0, 0),
    }
}

/// An SCTP packet with one chunk, and its checksum.
fn sctp(sport: u16, dport: u16, chunk: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16 + 4).to_be_bytes();
    let rest = [1, 2, 3, 4, 0, 0, 0, 0, chunk, 0, high, low];
    let mut packet = [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &rest, payload].concat();
    let checksum = checksums::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn icmp_kind(header: &[u8], request: u8, reply: u8) -> (Kind, u16, u16) {
    let id = u16::from_be_bytes([header[4], header[5]]);
    match header[0] {
        kind if kind == request => (Kind::EchoRequest, id, 0),
        kind if kind == reply => (Kind::EchoReply, 0, id),
        kind => (Kind::Icmp(kind), 0, 0),
    }
}
