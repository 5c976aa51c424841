//! IP headers: what is read of them, and what a translation writes.

use crate::{
    address::{V4, V6},
    checksum::Delta,
    header::{IpHeader, Ipv4Header, Ipv6Header, ethertype, proto},
    packet::{Headers, Packet},
    reason::Reason,
};

/// What an IP header says.
#[derive(Clone, Copy, Debug)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload.
    pub proto: u8,
    /// How many more hops it may take: time to live, or hop limit.
    pub ttl: u8,
    /// Whether this is any fragment of a larger packet.
    pub is_fragment: bool,
    /// Whether an IPv4 header carries options, which the host's stack is to see to.
    pub has_options: bool,
    /// Whether one of them says which way the packet is to go.
    pub has_source_route: bool,
    /// The header's checksum as it stands; 0 for IPv6.
    pub checksum: u16,
    /// Where the header begins.
    pub offset: u32,
    /// Where the payload begins.
    pub payload_offset: u32,
    /// Length of the payload. Units: bytes.
    pub payload_len: u32,
}

/// The shortest IPv4 header, in 32-bit words (RFC 791 section 3.1).
const MIN_IPV4_WORDS: u8 = 5;

/// The longest.
const MAX_IPV4_WORDS: u8 = 15;

/// The first byte of an IPv4 header without options: the version, and the length in words.
const PLAIN_IPV4: u8 = 4 << 4 | MIN_IPV4_WORDS;

/// The ICMP messages that are common (RFC 792).
const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_ECHO: u8 = 8;

/// The highest type of an ICMPv6 error that is in use (RFC 4443 section 2.1).
const ICMPV6_LAST_ERROR: u8 = 4;

impl IpHeader for V4 {
    const ETHERTYPE: u16 = ethertype::IPV4;
    const SOURCE_OFFSET: u32 = 12;

    #[inline(always)]
    fn parse<P: Headers>(packet: &P, offset: u32) -> Result<Ip<Self>, Reason> {
        let header: Ipv4Header = packet.load(offset).ok_or(Reason::Malformed)?;
        let words = header.version_and_len & 0xf;
        if header.version_and_len >> 4 != 4 || words < MIN_IPV4_WORDS {
            return Err(Reason::Malformed);
        }
        let header_len = u32::from(words) * 4;
        let available = packet.len_bytes().saturating_sub(offset);
        let total_len = match u32::from(header.total_len.get()) {
            // BIG TCP: a merged packet too large for the field carries zero (Linux 6.3).
            0 if available > u32::from(u16::MAX) => available,
            total_len => total_len,
        };
        if total_len < header_len || total_len > available {
            return Err(Reason::Malformed);
        }
        // More fragments follow, or this is not the first (RFC 791 section 3.1).
        let is_fragment = header.fragment.get() & 0x3fff != 0;
        Ok(Ip {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            ttl: header.ttl,
            is_fragment,
            has_options: words != MIN_IPV4_WORDS,
            has_source_route: false,
            checksum: header.checksum,
            offset,
            payload_offset: offset + header_len,
            payload_len: total_len - header_len,
        })
    }

    #[inline(always)]
    fn is_rare<P: Headers>(packet: &P, offset: u32) -> bool {
        let (Some(first), Some([flags, fragment, _, proto])) =
            (packet.load::<u8>(offset), packet.load::<[u8; 4]>(offset + 6))
        else {
            return false;
        };
        // Options, or a part of a packet: more fragments follow, or this is not the first.
        if first != PLAIN_IPV4 || flags & 0x3f != 0 || fragment != 0 {
            return true;
        }
        match proto {
            proto::TCP | proto::UDP => false,
            proto::ICMP => {
                let kind = packet.load::<u8>(offset + size_of::<Ipv4Header>() as u32);
                kind.is_some_and(|kind| !matches!(kind, ICMP_ECHO_REPLY | ICMP_ECHO))
            }
            _ => true,
        }
    }

    /// Any byte that looks like the option is taken for it: walked from option to option, the list takes
    /// the verifier more than a million instructions.
    #[inline(always)]
    fn has_source_route<P: Headers>(packet: &P, ip: &Ip<Self>) -> bool {
        for word in MIN_IPV4_WORDS..MAX_IPV4_WORDS {
            let at = ip.offset + u32::from(word) * 4;
            if at >= ip.payload_offset {
                return false;
            }
            let Some(options) = packet.load::<u32>(at) else { return false };
            let options: [u8; 4] = bytemuck::cast(options);
            if options.iter().any(|option| matches!(*option, LSRR | SSRR)) {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self, ttl: u8) {
        let delta = Delta::of_address(ip.src, src)
            .and(Delta::of_address(ip.dst, dst))
            .and(Delta::of_bytes([ip.ttl, ip.proto], [ttl, ip.proto]));
        let checksum = delta.apply(ip.checksum);
        packet.store(ip.offset + 8, &Ipv4Rewrite { ttl, proto: ip.proto, checksum, src, dst });
    }
}

/// Loose source route (RFC 791 section 3.1).
const LSRR: u8 = 131;
/// Strict source route.
const SSRR: u8 = 137;

/// What a translation changes and what lies between, in one store.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Ipv4Rewrite {
    ttl: u8,
    proto: u8,
    checksum: u16,
    src: V4,
    dst: V4,
}

impl IpHeader for V6 {
    const ETHERTYPE: u16 = ethertype::IPV6;
    const SOURCE_OFFSET: u32 = 8;

    #[inline(always)]
    fn parse<P: Headers>(packet: &P, offset: u32) -> Result<Ip<Self>, Reason> {
        let header: Ipv6Header = packet.load(offset).ok_or(Reason::Malformed)?;
        if header.version_and_class >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        let payload_offset = offset + size_of::<Ipv6Header>() as u32;
        let payload_len = u32::from(header.payload_len.get());
        if payload_len > packet.len_bytes().saturating_sub(payload_offset) {
            return Err(Reason::Malformed);
        }
        Ok(Ip {
            src: header.src,
            dst: header.dst,
            proto: header.next_header,
            ttl: header.hop_limit,
            is_fragment: header.next_header == proto::IPV6_FRAGMENT,
            has_options: false,
            has_source_route: false,
            checksum: 0,
            offset,
            payload_offset,
            payload_len,
        })
    }

    #[inline(always)]
    fn is_rare<P: Headers>(packet: &P, offset: u32) -> bool {
        match packet.load(offset + 6) {
            Some(proto::TCP | proto::UDP) | None => false,
            Some(proto::ICMPV6) => {
                let kind = packet.load::<u8>(offset + size_of::<Ipv6Header>() as u32);
                kind.is_some_and(|kind| kind <= ICMPV6_LAST_ERROR)
            }
            Some(_) => true,
        }
    }

    /// The kernel refuses the routing header that was IPv6's (RFC 5095).
    #[inline(always)]
    fn has_source_route<P: Headers>(_: &P, _: &Ip<Self>) -> bool {
        false
    }

    #[inline(always)]
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self, ttl: u8) {
        if ttl != ip.ttl {
            packet.store_unsummed(ip.offset + 6, &[ip.proto, ttl]);
        }
        packet.store_unsummed(ip.offset + 8, &[src, dst]);
    }
}
