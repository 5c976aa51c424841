//! IPv6 extension headers (RFC 8200 section 4): walked up to the payload, within bounds.

use super::{Fragment, Ip, NoTransport};
use crate::{address::V6, header::proto, packet::Headers};

/// How many are walked; RFC 8200 section 4.1 has a use for six in one packet.
const MAX_HEADERS: u32 = 6;

/// The deepest place in the frame that a payload may begin at: what lies deeper can't be rewritten. Units:
/// bytes.
const DEEPEST_PAYLOAD: u32 = 120;

/// How much is made readable: a payload at the deepest place, with a TCP header.
const READABLE_LEN: u32 = DEEPEST_PAYLOAD + 20;

/// A routing header that lists the way (RFC 5095).
const ROUTING_TYPE_0: u8 = 0;

/// What a header of the chain says of the rest.
enum Step {
    /// It goes on.
    Next,
    /// The payload is reached, or what nobody here can read on from.
    Payload,
    /// No router is to look any further.
    Stop(NoTransport),
}

/// Walks to the payload and notes in `ip` what and where it is. `ip` is not on the stack, so that the verifier
/// takes what is noted there for any value, and walks what follows once.
#[inline(always)]
pub(super) fn read<P: Headers>(packet: &P, ip: &mut Ip<V6>) -> Result<(), NoTransport> {
    packet.make_readable(READABLE_LEN);
    let available = packet.len_bytes().saturating_sub(ip.payload_offset);
    let len = match ip.payload_len {
        // A jumbogram: Linux merges packets into ones that are too large for the field.
        0 if available > u32::from(u16::MAX) => available,
        len => len,
    };
    let end = ip.payload_offset + len;
    if let Some(missing) = walk(packet, ip) {
        return Err(missing);
    }
    ip.payload_len = end.saturating_sub(ip.payload_offset);
    if end < ip.payload_offset { Err(NoTransport::Malformed) } else { Ok(()) }
}

/// Whether the payload is behind this header.
#[inline(always)]
pub(super) const fn is_extension(header: u8) -> bool {
    matches!(
        header,
        proto::IPV6_HOP_BY_HOP
            | proto::IPV6_ROUTING
            | proto::IPV6_FRAGMENT
            | proto::IPV6_DESTINATION
    )
}

/// Walks the whole chain; says why the payload is not to be read, where that is so.
///
/// Not inlined: the verifier walks every path of the loop, and does so here alone.
#[inline(never)]
fn walk<P: Headers>(packet: &P, ip: &mut Ip<V6>) -> Option<NoTransport> {
    for position in 0..=MAX_HEADERS {
        match step(packet, ip, position) {
            Step::Next => {}
            Step::Payload => return None,
            Step::Stop(missing) => return Some(missing),
        }
    }
    Some(NoTransport::Malformed)
}

/// Looks at the header that comes next.
#[inline(always)]
fn step<P: Headers>(packet: &P, ip: &mut Ip<V6>, position: u32) -> Step {
    if !is_extension(ip.proto) {
        return Step::Payload;
    }
    let Some([next, words, third, fourth]) = packet.load::<[u8; 4]>(place(ip)) else {
        return Step::Stop(NoTransport::Malformed);
    };
    match ip.proto {
        proto::IPV6_FRAGMENT => fragment(packet, ip, next, u16::from_be_bytes([third, fourth])),
        proto::IPV6_ROUTING if fourth != 0 => {
            // Still on its way, so the destination is not the one that the checksum knows.
            ip.has_source_route = third == ROUTING_TYPE_0;
            Step::Stop(NoTransport::Unsupported)
        }
        proto::IPV6_HOP_BY_HOP if position != 0 => Step::Stop(NoTransport::Malformed),
        _ => advance(ip, next, (u32::from(words) + 1) * 8),
    }
}

/// Where the walk is: a byte, so that the verifier knows its bounds. No place is deeper than
/// [`DEEPEST_PAYLOAD`].
#[inline(always)]
fn place(ip: &Ip<V6>) -> u32 {
    u32::from(ip.payload_offset as u8)
}

/// Goes on behind a header of `len` bytes.
#[inline(always)]
fn advance(ip: &mut Ip<V6>, next: u8, len: u32) -> Step {
    let offset = place(ip) + len;
    if offset > DEEPEST_PAYLOAD {
        return Step::Stop(NoTransport::Malformed);
    }
    (ip.proto, ip.payload_offset) = (next, offset);
    Step::Next
}

/// Notes which part of a packet this is (RFC 8200 section 4.5); behind the header of a later one comes
/// what is left of the payload.
#[inline(always)]
fn fragment<P: Headers>(packet: &P, ip: &mut Ip<V6>, next: u8, field: u16) -> Step {
    let Some(id) = packet.load::<u32>(place(ip) + 4) else {
        return Step::Stop(NoTransport::Malformed);
    };
    if ip.fragment.is_part() {
        return Step::Stop(NoTransport::Malformed);
    }
    ip.fragment = Fragment { id, offset: field >> 3, more: field & 1 != 0, proto: 0 };
    let step = advance(ip, next, 8);
    let is_over = matches!(step, Step::Next) && ip.fragment.offset != 0;
    if is_over { Step::Payload } else { step }
}
