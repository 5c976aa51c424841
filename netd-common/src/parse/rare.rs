//! Transport headers that few packets have: SCTP, ICMP queries but echo, and every protocol of whose header
//! nothing is read.

use super::{
    Fields, Ip, NoTransport, Transport,
    extensions::is_extension,
    transport::{load, with_ports},
};
use crate::{
    address::{Address, Port},
    conntrack::Seen,
    header::{DccpHeader, IcmpHeader, SctpHeader, UdpHeader, ethertype, proto},
    packet::Headers,
};

/// Chunks that may begin an association (RFC 9260 section 3.2), or another way of one that is set up.
const INIT: u8 = 1;
const HEARTBEAT: u8 = 4;

/// Reads what the reader of common packets does not know.
///
/// # Errors
/// Why the packet can't be matched to a flow by its own header.
#[inline(always)]
pub(super) fn transport<A: Address, P: Headers>(
    packet: &P,
    ip: &Ip<A>,
) -> Result<Transport, NoTransport> {
    match (ip.proto, A::ETHERTYPE) {
        (proto::SCTP, _) => sctp(packet, ip),
        (proto::DCCP, _) => load::<A, P, DccpHeader>(packet, ip)
            .map(|header| with_ports(ip, header.sport, header.dport, size_of::<DccpHeader>())),
        (proto::UDP_LITE, _) => load::<A, P, UdpHeader>(packet, ip)
            .map(|header| with_ports(ip, header.sport, header.dport, size_of::<UdpHeader>())),
        (proto::ICMP, ethertype::IPV4) => icmp_query(packet, ip),
        (proto::ICMPV6 | proto::IPV6_AUTHENTICATION, ethertype::IPV6) => {
            Err(NoTransport::Unsupported)
        }
        // One that has not been looked through.
        (header, ethertype::IPV6) if is_extension(header) => Err(NoTransport::Unsupported),
        _ => Ok(without_ports(ip)),
    }
}

#[inline(always)]
fn sctp<A, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let header: SctpHeader = load(packet, ip)?;
    let begins = header.chunk == INIT || header.chunk == HEARTBEAT;
    Ok(Transport {
        seen: Seen::of_chunk(header.chunk),
        fields: if begins { Fields::Ports } else { Fields::PortsWithin },
        ..with_ports(ip, header.sport, header.dport, size_of::<SctpHeader>())
    })
}

#[inline(always)]
fn icmp_query<A, P: Headers>(packet: &P, ip: &Ip<A>) -> Result<Transport, NoTransport> {
    let header: IcmpHeader = load(packet, ip)?;
    let (sport, dport, fields) = query(header.kind, header.id).ok_or(NoTransport::Unsupported)?;
    Ok(Transport { fields, ..with_ports(ip, sport, dport, size_of::<IcmpHeader>()) })
}

/// What stands for the ports of an ICMP query: in place of the other one stands the type of the request, where
/// echo has zero. So a question for the time and an echo with the same identifier are two flows, as with Linux.
#[inline(always)]
pub(super) fn query(kind: u8, id: Port) -> Option<(Port, Port, Fields)> {
    match kind {
        // Timestamp, information and address mask (RFC 792, RFC 950).
        13 | 15 | 17 => Some((id, Port::new(u16::from(kind)), Fields::EchoRequest)),
        14 | 16 | 18 => Some((Port::new(u16::from(kind - 1)), id, Fields::EchoReply)),
        _ => None,
    }
}

/// A protocol without ports, or without any that a translation could keep apart: one flow between two
/// addresses, of which the addresses alone are translated.
#[inline(always)]
fn without_ports<A>(ip: &Ip<A>) -> Transport {
    Transport { fields: Fields::Ports, ..with_ports(ip, Port::ZERO, Port::ZERO, 0) }
}
