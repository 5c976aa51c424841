//! IPv6 extension headers of a packet that an ICMP error quotes (RFC 8200 section 4).

use crate::{header::proto, packet::Packet};

/// Extension headers, by the number that announces them (IANA).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// No more of them are looked through: each may come once, and destination options twice.
const MOST: u32 = 5;

/// What comes behind the extension headers.
pub(super) struct Payload {
    /// Its protocol.
    pub(super) proto: u8,
    /// Where it begins.
    pub(super) offset: u32,
}

/// Skips the extension headers from `offset` on, the first of them of the kind `next`; `None` where they
/// are cut off at `end`, or belong to a fragment without transport header.
#[inline(always)]
pub(super) fn skip<P: Packet>(
    packet: &P,
    mut next: u8,
    mut offset: u32,
    end: u32,
) -> Option<Payload> {
    for _ in 0..MOST {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | proto::IPV6_FRAGMENT) {
            break;
        }
        let [following, len, place, place_and_more] = packet.load_far(offset)?;
        offset += if next == proto::IPV6_FRAGMENT {
            if place != 0 || place_and_more & PLACE_BITS != 0 {
                return None;
            }
            8
        } else {
            (u32::from(len) + 1) * 8
        };
        next = following;
    }
    (offset <= end).then_some(Payload { proto: next, offset })
}

/// The bits of a fragment's place in the lower of its two bytes.
const PLACE_BITS: u8 = 0xf8;
