//! Header layouts, naturally aligned so that a field is one load.
//!
//! The layouts are checked against the `network-types` crate in the tests below. That crate's own
//! structs hold byte arrays, which the BPF target reads byte by byte; these hold whole fields.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Port, V4, V6},
    packet::{Headers, Packet},
    parse::{Ip, NoTransport},
    pod::map_type,
    reason::Reason,
};

/// Length of an Ethernet header without tag.
pub const ETHERNET_LEN: u32 = 14;

/// Where an Ethernet header has the receiver.
pub const ETHERNET_DESTINATION: u32 = 0;
/// Where it has the sender.
pub const ETHERNET_SOURCE: u32 = 6;

/// Ethertypes (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const VLAN_SERVICE: u16 = 0x88a8;
}

/// IP protocol numbers (IANA).
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// The IPv6 header of options for every hop (RFC 8200 section 4).
    pub const IPV6_HOP_BY_HOP: u8 = 0;
    /// The IPv6 routing header.
    pub const IPV6_ROUTING: u8 = 43;
    /// The IPv6 fragment header.
    pub const IPV6_FRAGMENT: u8 = 44;
    /// The IPv6 authentication header, whose sum covers the addresses (RFC 4302).
    pub const IPV6_AUTHENTICATION: u8 = 51;
    /// The IPv6 header of options for the destination.
    pub const IPV6_DESTINATION: u8 = 60;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;

    /// Whether flows of a protocol are told apart by ports.
    #[inline(always)]
    pub const fn has_ports(proto: u8) -> bool {
        matches!(proto, TCP | UDP | DCCP | SCTP | UDP_LITE)
    }
}

/// Bits of [`TcpHeader::flags`].
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Begins a connection.
    pub const SYN: u8 = 1 << 1;
    /// Ends it at once.
    pub const RST: u8 = 1 << 2;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 1 << 4;
}

/// A 16-bit number in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Be16(u16);

impl Be16 {
    /// The number.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Header {
    /// Version in the high half, length in 32-bit words in the low one.
    pub version_and_len: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: Be16,
    /// Identification.
    pub id: Be16,
    /// Flags and fragment offset.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub proto: u8,
    /// Header checksum, as it stands.
    pub checksum: u16,
    /// Source address.
    pub src: V4,
    /// Destination address.
    pub dst: V4,
}

/// IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Header {
    /// Version in the high half of the first byte.
    pub version_and_class: u8,
    /// Rest of the traffic class, and the flow label.
    pub flow_label: [u8; 3],
    /// Length of the payload.
    pub payload_len: Be16,
    /// Protocol of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: V6,
    /// Destination address.
    pub dst: V6,
}

/// TCP header without options (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpHeader {
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Sequence number, as it stands.
    pub seq: u32,
    /// Acknowledgement number, as it stands.
    pub ack: u32,
    /// Header length in 32-bit words in the high half.
    pub data_offset: u8,
    /// Bits of [`tcp_flags`].
    pub flags: u8,
    /// Window.
    pub window: Be16,
    /// Checksum, as it stands.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: Be16,
}

/// UDP header (RFC 768).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UdpHeader {
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Length of header and payload.
    pub len: Be16,
    /// Checksum, as it stands; zero means none.
    pub checksum: u16,
}

/// SCTP header and the type of the first chunk (RFC 9260 section 3).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SctpHeader {
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Verification tag, as it stands.
    pub tag: u32,
    /// CRC32c over the whole packet, as it stands; zero where a device is to compute it.
    pub checksum: u32,
    /// What the packet carries first.
    pub chunk: u8,
    /// The chunk's flags.
    pub chunk_flags: u8,
    /// The chunk's length.
    pub chunk_len: Be16,
}

/// DCCP header with short sequence numbers (RFC 4340 section 5.1).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DccpHeader {
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Header length, and what the checksum covers.
    pub offset_and_coverage: Be16,
    /// Checksum, as it stands.
    pub checksum: u16,
    /// Type and sequence number, as they stand.
    pub rest: u32,
}

/// ICMP and ICMPv6 header of an echo message (RFC 792, RFC 4443 section 4).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum, as it stands.
    pub checksum: u16,
    /// Identifier.
    pub id: Port,
    /// Sequence number.
    pub sequence: Be16,
}

map_type! {
    Ipv4Header = 20;
    Ipv6Header = 40;
    TcpHeader = 20;
    UdpHeader = 8;
    IcmpHeader = 8;
    SctpHeader = 16;
    DccpHeader = 12;
}

/// Where a TCP header has its flags.
const TCP_FLAGS_OFFSET: u32 = 13;

/// Ties an address family to its header: how to read it and how to rewrite its addresses.
pub trait IpHeader: Sized {
    /// The ethertype of the family.
    const ETHERTYPE: u16;
    /// Where the header has the source address.
    const SOURCE_OFFSET: u32;
    /// The length of the header without options. Units: bytes.
    const HEADER_LEN: u16;
    /// Where the header has the protocol of what follows.
    const PROTO_OFFSET: u32;

    /// Reads and checks the header at `offset` into `ip`.
    ///
    /// # Errors
    /// `Malformed` for a header that the kernel's own stack would refuse as well.
    fn parse<P: Headers>(packet: &P, offset: u32, ip: &mut Ip<Self>) -> Result<(), Reason>;

    /// Whether the packet at `offset` is for the program of rare ones ([`crate::parse::Kind`]).
    fn is_rare<P: Headers>(packet: &P, offset: u32) -> bool;

    /// Whether anything lies between the header and the payload.
    fn has_extensions(ip: &Ip<Self>) -> bool;

    /// Reads what lies between the header and the payload, and corrects in `ip` what that changes.
    ///
    /// # Errors
    /// Why the payload is not to be read.
    fn read_extensions<P: Headers>(packet: &P, ip: &mut Ip<Self>) -> Result<(), NoTransport>;

    /// Whether a packet without options at `offset` is a TCP SYN or SYN-ACK.
    #[inline(always)]
    fn is_syn<P: Headers>(packet: &P, offset: u32) -> bool {
        let flags = offset + u32::from(Self::HEADER_LEN) + TCP_FLAGS_OFFSET;
        let (Some(proto), Some(flags)) =
            (packet.load::<u8>(offset + Self::PROTO_OFFSET), packet.load::<u8>(flags))
        else {
            return false;
        };
        // One branch for the verifier to follow.
        (proto == proto::TCP) & (flags & tcp_flags::SYN != 0)
    }

    /// Whether an option says which way the packet is to go.
    fn has_source_route<P: Headers>(packet: &P, ip: &Ip<Self>) -> bool;

    /// Writes both addresses and the hops left, and the header's checksum where there is one. Cannot
    /// fail: the caller has made the header writable.
    fn rewrite<P: Packet>(packet: &mut P, ip: &Ip<Self>, src: Self, dst: Self, ttl: u8);
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use network_types::{icmp::Icmpv4Hdr, ip, tcp::TcpHdr, udp::UdpHdr};

    use super::*;

    #[test]
    fn layouts_agree_with_network_types() {
        assert_eq!(size_of::<Ipv4Header>(), ip::Ipv4Hdr::LEN);
        assert_eq!(offset_of!(Ipv4Header, total_len), offset_of!(ip::Ipv4Hdr, tot_len));
        assert_eq!(offset_of!(Ipv4Header, fragment), offset_of!(ip::Ipv4Hdr, frags));
        assert_eq!(offset_of!(Ipv4Header, proto), offset_of!(ip::Ipv4Hdr, proto));
        assert_eq!(offset_of!(Ipv4Header, checksum), offset_of!(ip::Ipv4Hdr, check));
        assert_eq!(offset_of!(Ipv4Header, src), offset_of!(ip::Ipv4Hdr, src_addr));
        assert_eq!(offset_of!(Ipv4Header, dst), offset_of!(ip::Ipv4Hdr, dst_addr));
        assert_eq!(size_of::<Ipv6Header>(), ip::Ipv6Hdr::LEN);
        assert_eq!(offset_of!(Ipv6Header, payload_len), offset_of!(ip::Ipv6Hdr, payload_len));
        assert_eq!(offset_of!(Ipv6Header, next_header), offset_of!(ip::Ipv6Hdr, next_hdr));
        assert_eq!(offset_of!(Ipv6Header, src), offset_of!(ip::Ipv6Hdr, src_addr));
        assert_eq!(size_of::<TcpHeader>(), TcpHdr::LEN);
        assert_eq!(offset_of!(TcpHeader, data_offset), offset_of!(TcpHdr, _bitfield_1));
        assert_eq!(offset_of!(TcpHeader, checksum), offset_of!(TcpHdr, check));
        assert_eq!(size_of::<UdpHeader>(), UdpHdr::LEN);
        assert_eq!(offset_of!(UdpHeader, checksum), offset_of!(UdpHdr, check));
        assert_eq!(size_of::<IcmpHeader>(), size_of::<Icmpv4Hdr>());
        assert_eq!(offset_of!(IcmpHeader, checksum), offset_of!(Icmpv4Hdr, check));
        assert_eq!(offset_of!(IcmpHeader, id), offset_of!(Icmpv4Hdr, data));
    }
}
