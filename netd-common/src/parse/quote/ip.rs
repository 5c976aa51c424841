//! The IP header that an ICMP error quotes. It says how long the packet was, not how much is quoted.

use super::extension;
use crate::{
    address::Address,
    checksum,
    header::{Ipv4Header, Ipv6Header, ethertype},
    packet::Packet,
};

/// The IP header of a quoted packet, and the extension headers behind it.
///
/// In this order: the compiler copies both addresses by calling memmove if they lie side by side.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QuotedIp<A> {
    /// Source address: who is told of the error.
    pub src: A,
    /// Where the header begins.
    pub offset: u32,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload.
    pub proto: u8,
    /// Whether the header's checksum is right; IPv6 has none.
    pub is_sound: bool,
    /// The checksum as it stands.
    pub checksum: u16,
    /// Where the transport header begins.
    pub payload_offset: u32,
}

/// Where an IPv4 header has its checksum (RFC 791 section 3.1).
pub(crate) const IPV4_CHECKSUM: u32 = 10;

/// The shortest IPv4 header and the longest, in 32-bit words.
const MIN_IPV4_WORDS: u8 = 5;
const MAX_IPV4_WORDS: u8 = 15;

/// The bits of a fragment's place in its packet.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the header at `offset`; `None` where no transport header follows it: it is cut off at `end`, or the
/// packet was not the first fragment.
#[inline(always)]
pub(super) fn ip<A: Address, P: Packet>(packet: &P, offset: u32, end: u32) -> Option<QuotedIp<A>> {
    let [src, dst] = packet.load_far(offset + A::SOURCE_OFFSET)?;
    if A::ETHERTYPE == ethertype::IPV6 {
        let header: Ipv6Header = packet.load_far(offset)?;
        let first = offset + size_of::<Ipv6Header>() as u32;
        let payload = extension::skip(packet, header.next_header, first, end)?;
        return (header.version_and_class >> 4 == 6).then_some(QuotedIp {
            src,
            dst,
            proto: payload.proto,
            is_sound: true,
            checksum: 0,
            offset,
            payload_offset: payload.offset,
        });
    }
    let header: Ipv4Header = packet.load_far(offset)?;
    let words = header.version_and_len & 0xf;
    let payload_offset = offset + u32::from(words) * 4;
    let is_readable = header.version_and_len >> 4 == 4
        && words >= MIN_IPV4_WORDS
        && payload_offset <= end
        && header.fragment.get() & FRAGMENT_OFFSET == 0;
    if !is_readable {
        return None;
    }
    Some(QuotedIp {
        src,
        dst,
        proto: header.proto,
        is_sound: sum(packet, offset, payload_offset)? == u16::MAX,
        checksum: header.checksum,
        offset,
        payload_offset,
    })
}

/// The ones' complement sum of an IPv4 header: all ones if its checksum is right (RFC 1071).
#[inline(always)]
fn sum<P: Packet>(packet: &P, offset: u32, end: u32) -> Option<u16> {
    let mut sum = 0;
    for word in 0..MAX_IPV4_WORDS {
        let at = offset + u32::from(word) * 4;
        if at >= end {
            break;
        }
        let word: u32 = packet.load_far(at)?;
        sum += (word & 0xffff) + (word >> 16);
    }
    Some(checksum::fold(sum))
}
