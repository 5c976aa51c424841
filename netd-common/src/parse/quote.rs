//! What an ICMP error quotes: the head of the packet that it is about (RFC 792, RFC 4443 section 3).
//!
//! A quote is cut anywhere, for IPv4 often after 64 bits of the transport header. It is read as far as it
//! goes and no further: what follows it may be padding or an extension (RFC 4884), and stays as it is
//! (RFC 5508 REQ-3d).

mod extension;
mod ip;

use core::mem::MaybeUninit;

pub(crate) use ip::IPV4_CHECKSUM;
pub use ip::QuotedIp;

use super::{Fields, Ip, extensions::is_extension, rare};
use crate::{
    address::{Address, Port},
    conntrack::{CtKey, Scope},
    header::{IcmpHeader, ethertype, proto},
    packet::Packet,
};

/// The head of a packet, as it stands in an ICMP error.
#[derive(Clone, Copy, Debug)]
pub struct Quote<A> {
    /// Its IP header.
    pub ip: QuotedIp<A>,
    /// Its transport header, as far as it is quoted.
    pub transport: QuotedTransport,
    /// Whether the error asks for another route, and reports nothing.
    pub is_redirect: bool,
}

/// The transport header of a quoted packet.
#[derive(Clone, Copy, Debug)]
pub struct QuotedTransport {
    /// Source port, or an echo request's identifier.
    pub sport: Port,
    /// Destination port, or an echo reply's identifier.
    pub dport: Port,
    /// Which fields are there to rewrite. A checksum that is not quoted, or that covers more than what is
    /// rewritten (SCTP), counts as none.
    pub fields: Fields,
    /// The checksum as it stands; 0 where there is none.
    pub checksum: u16,
}

/// A transport header is quoted with at least this much of it (RFC 792). Units: bytes.
const LEAST_TRANSPORT: u32 = 8;

/// Where TCP has its checksum.
const TCP_CHECKSUM: u32 = 16;

/// Reads what an ICMP error quotes into `memory`; `None` where that names no flow.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub fn quote<'a, A: Address, P: Packet>(
    packet: &P,
    error: &Ip<A>,
    memory: &'a mut MaybeUninit<Quote<A>>,
) -> Option<&'a mut Quote<A>> {
    let header: [u8; 8] = packet.load_far(error.payload_offset)?;
    let offset = error.payload_offset + size_of::<IcmpHeader>() as u32;
    let mut end = error.payload_offset + error.payload_len;
    let quoted_len = quoted_len::<A>(header);
    if quoted_len != 0 {
        end = end.min(offset + quoted_len);
    }
    let ip = ip::ip::<A, P>(packet, offset, end)?;
    let transport = transport::<A, P>(packet, &ip, end)?;
    let is_redirect = A::ETHERTYPE == ethertype::IPV4 && header[0] == REDIRECT;
    Some(memory.write(Quote { ip, transport, is_redirect }))
}

/// ICMP types: RFC 792, RFC 4443.
const UNREACHABLE: u8 = 3;
const REDIRECT: u8 = 5;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_TIME_EXCEEDED: u8 = 3;

/// How long the quote is where an extension follows it, else 0 (RFC 4884 sections 4 and 5). Units: bytes.
#[inline(always)]
fn quoted_len<A: Address>(header: [u8; 8]) -> u32 {
    match (A::ETHERTYPE, header[0]) {
        (ethertype::IPV4, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) => {
            u32::from(header[5]) * 4
        }
        (ethertype::IPV6, V6_UNREACHABLE | V6_TIME_EXCEEDED) => u32::from(header[4]) * 8,
        _ => 0,
    }
}

#[inline(always)]
fn transport<A: Address, P: Packet>(
    packet: &P,
    ip: &QuotedIp<A>,
    end: u32,
) -> Option<QuotedTransport> {
    if ip.payload_offset + LEAST_TRANSPORT > end {
        return None;
    }
    let words: [Port; 4] = packet.load_far(ip.payload_offset)?;
    let [first, second, _, fourth] = words;
    let ports =
        |fields, checksum| Some(QuotedTransport { sport: first, dport: second, fields, checksum });
    match (ip.proto, A::ETHERTYPE) {
        (proto::TCP, _) if ip.payload_offset + TCP_CHECKSUM + 2 <= end => {
            ports(Fields::Tcp, packet.load_far(ip.payload_offset + TCP_CHECKSUM)?)
        }
        (proto::UDP | proto::UDP_LITE | proto::DCCP, _) if fourth != Port::ZERO => {
            ports(Fields::Udp, fourth.to_wire())
        }
        (proto::TCP | proto::UDP | proto::UDP_LITE | proto::DCCP | proto::SCTP, _) => {
            ports(Fields::Ports, 0)
        }
        (proto::ICMP, ethertype::IPV4) | (proto::ICMPV6, ethertype::IPV6) => query::<A>(words),
        (header, ethertype::IPV6) if is_extension(header) => None,
        _ => {
            let (sport, dport, fields) = (Port::ZERO, Port::ZERO, Fields::None);
            Some(QuotedTransport { sport, dport, fields, checksum: 0 })
        }
    }
}

/// A query or its answer; an error is never about another error.
#[inline(always)]
fn query<A: Address>(words: [Port; 4]) -> Option<QuotedTransport> {
    let [kind_and_code, checksum, id, _] = words;
    let (request, reply) = if A::ETHERTYPE == ethertype::IPV4 { (8, 0) } else { (128, 129) };
    let kind = kind_and_code.number() >> 8;
    let (sport, dport, fields) = if kind == request {
        (id, Port::ZERO, Fields::EchoRequest)
    } else if kind == reply {
        (Port::ZERO, id, Fields::EchoReply)
    } else if A::ETHERTYPE == ethertype::IPV4 {
        rare::query(kind as u8, id)?
    } else {
        return None;
    };
    Some(QuotedTransport { sport, dport, fields, checksum: checksum.to_wire() })
}

impl<A: Address> Quote<A> {
    /// The key of the flow that the quoted packet belongs to, seen in `scope`.
    #[inline(always)]
    pub fn key(&self, scope: Scope) -> CtKey<A> {
        let Self { ip, transport, .. } = self;
        CtKey {
            src: ip.src,
            dst: ip.dst,
            sport: transport.sport,
            dport: transport.dport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }

    /// The key of the opposite direction, which is the error's own, seen in `scope`.
    #[inline(always)]
    pub fn reverse_key(&self, scope: Scope) -> CtKey<A> {
        let Self { ip, transport, .. } = self;
        CtKey {
            src: ip.dst,
            dst: ip.src,
            sport: transport.dport,
            dport: transport.sport,
            proto: ip.proto,
            scope: scope as u8,
            zone: 0,
        }
    }
}
