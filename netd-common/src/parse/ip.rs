//! IP headers: what is read of them, and what a translation writes.

use super::{NoTransport, extensions};
use crate::{
    address::{Address, V4, V6},
    checksum::Delta,
    header::{IpHeader, Ipv4Header, Ipv6Header, ethertype, proto},
    packet::{Headers, Packet},
    reason::Reason,
};

/// What an IP header says. In this order what most need lies together.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ip<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload, behind any IPv6 extension headers that were read.
    pub proto: u8,
    /// How many more hops it may take: time to live, or hop limit.
    pub ttl: u8,
    /// Whether an IPv4 header carries options, which the host's stack is to see to.
    pub has_options: bool,
    /// Whether one of them, or a routing header of IPv6, says which way the packet is to go.
    pub has_source_route: bool,
    /// What stands in the header beside what a translation changes, and is stored with it: IPv4's checksum, IPv6's
    /// payload length. Layout: network order.
    pub checksum_or_len: u16,
    /// Where the header begins.
    pub offset: u32,
    /// Where the payload begins.
    pub payload_offset: u32,
    /// Length of the payload. Units: bytes.
    pub payload_len: u32,
    /// Which part of a larger packet this is.
    pub fragment: Fragment,
    /// What the header itself names: the payload's protocol, or IPv6's first extension header.
    pub next_header: u8,
}

impl<A: Address> Ip<A> {
    /// What stands where no header has been read.
    pub(crate) const NONE: Self = Self {
        src: A::UNSPECIFIED,
        dst: A::UNSPECIFIED,
        proto: 0,
        ttl: 0,
        has_options: false,
        has_source_route: false,
        checksum_or_len: 0,
        offset: 0,
        payload_offset: 0,
        payload_len: 0,
        fragment: Fragment::NONE,
        next_header: 0,
    };
}

/// Which part of a larger packet a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What all parts of one packet share, as it stands in the header.
    pub id: u32,
    /// Where the part begins in it. Units: 8 bytes.
    pub offset: u16,
    /// Whether more of it follows.
    pub more: bool,
    /// The protocol, where an identification is that of one protocol alone (RFC 791 section 3.2); 0 for IPv6.
    pub proto: u8,
}

impl Fragment {
    /// A packet in one piece.
    pub const NONE: Self = Self { id: 0, offset: 0, more: false, proto: 0 };

    /// Whether this is a part of a larger packet. IPv6's fragment in one piece is not (RFC 6946).
    #[inline(always)]
    pub const fn is_part(self) -> bool {
        self.more || self.offset != 0
    }

    /// Whether this is the part that carries the transport header.
    #[inline(always)]
    pub const fn is_first(self) -> bool {
        self.more && self.offset == 0
    }
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
    const HEADER_LEN: u16 = size_of::<Ipv4Header>() as u16;
    const PROTO_OFFSET: u32 = 9;

    #[inline(always)]
    fn parse<P: Headers>(packet: &P, offset: u32, ip: &mut Ip<Self>) -> Result<(), Reason> {
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
        let fragment = header.fragment.get();
        *ip = Ip {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            next_header: header.proto,
            ttl: header.ttl,
            // RFC 791 section 3.1.
            fragment: Fragment {
                id: u32::from(header.id.get()),
                offset: fragment & 0x1fff,
                more: fragment & 0x2000 != 0,
                proto: header.proto,
            },
            has_options: words != MIN_IPV4_WORDS,
            has_source_route: false,
            checksum_or_len: header.checksum,
            offset,
            payload_offset: offset + header_len,
            payload_len: total_len - header_len,
        };
        Ok(())
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

    /// IPv4 has none: its options are part of the header.
    #[inline(always)]
    fn has_extensions(_: &Ip<Self>) -> bool {
        false
    }

    #[inline(always)]
    fn read_extensions<P: Headers>(_: &P, _: &mut Ip<Self>) -> Result<(), NoTransport> {
        Ok(())
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
        let checksum = delta.apply(ip.checksum_or_len);
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
    const HEADER_LEN: u16 = size_of::<Ipv6Header>() as u16;
    const PROTO_OFFSET: u32 = 6;

    #[inline(always)]
    fn parse<P: Headers>(packet: &P, offset: u32, ip: &mut Ip<Self>) -> Result<(), Reason> {
        let header: Ipv6Header = packet.load(offset).ok_or(Reason::Malformed)?;
        if header.version_and_class >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        let payload_offset = offset + size_of::<Ipv6Header>() as u32;
        let payload_len = u32::from(header.payload_len.get());
        if payload_len > packet.len_bytes().saturating_sub(payload_offset) {
            return Err(Reason::Malformed);
        }
        *ip = Ip {
            src: header.src,
            dst: header.dst,
            proto: header.next_header,
            next_header: header.next_header,
            ttl: header.hop_limit,
            fragment: Fragment::NONE,
            has_options: false,
            has_source_route: false,
            checksum_or_len: (payload_len as u16).to_be(),
            offset,
            payload_offset,
            payload_len,
        };
        Ok(())
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

    #[inline(always)]
    fn has_extensions(ip: &Ip<Self>) -> bool {
        extensions::is_extension(ip.proto)
    }

    #[inline(always)]
    fn read_extensions<P: Headers>(packet: &P, ip: &mut Ip<Self>) -> Result<(), NoTransport> {
        extensions::read(packet, ip)
    }

    /// IPv6's has a header of its own, see [`Self::read_extensions`].
    #[inline(always)]
    fn has_source_route<P: Headers>(_: &P, _: &Ip<Self>) -> bool {
        false
    }

    #[inline(always)]
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self, ttl: u8) {
        // In one store, since each is a call; the payload's length stands in front of what changes, and what is
        // stored begins at a word.
        let rewrite = Ipv6Rewrite {
            payload_len: ip.checksum_or_len,
            next_header: ip.next_header,
            hop_limit: ttl,
            src,
            dst,
        };
        packet.store_unsummed(ip.offset + 4, &rewrite);
    }
}

/// What a translation changes and what lies between, in one store.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Ipv6Rewrite {
    payload_len: u16,
    next_header: u8,
    hop_limit: u8,
    src: V6,
    dst: V6,
}
