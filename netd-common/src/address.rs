//! IP addresses and ports as the maps hold them: network order inside, typed values outside.
//!
//! The engine is written once, generic over [`Address`]; [`V4`] and [`V6`] are its two families.

use core::{
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bytemuck::Pod;

use crate::{
    counters::{FamilyCounts, FlowCount},
    header::IpHeader,
    network::{Network, NetworkFamily},
    pod::map_type,
};

/// An address family, as far as policy differs between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IP address of one family.
pub trait Address: IpHeader + Pod + Eq + Ord + Hash + Debug + Into<IpAddr> {
    /// The family.
    const FAMILY: Family;
    /// Length in bits.
    const BITS: u32;
    /// The unspecified address; as a published port's host address it means "any local address".
    const UNSPECIFIED: Self;
    /// Where the flows of the family are counted.
    const FLOW_COUNTS: FamilyCounts;

    /// [`Self::UNSPECIFIED`], in a way that the BPF compiler does not turn into a call of memset.
    fn unspecified() -> Self;
    /// The host's own address on lo.
    fn loopback() -> Self;
    /// The address of this family in `address`, if it has this family.
    fn from_ip(address: IpAddr) -> Option<Self>;
    /// Inside 127.0.0.0/8, or ::1.
    fn is_loopback(self) -> bool;
    /// Multicast, or IPv4's limited broadcast: what is never translated.
    fn is_multicast(self) -> bool;
    /// fe80::/10. IPv4 has no such class here: 169.254.0.0/16 is routed and translated like any other.
    fn is_link_local(self) -> bool;
    /// Whether all bits under `mask` agree.
    fn same_prefix(self, other: Self, mask: Self) -> bool;
    /// The 16-bit ones' complement partial sum of the address, for checksum deltas (RFC 1624).
    fn partial_sum(self) -> u32;
    /// The address as words, for hashing.
    fn words(self) -> [u64; 2];
    /// The address as four words in network order, as kernel structures hold either family's.
    fn to_wire_words(self) -> [u32; 4];
    /// This family's side of a network.
    fn side(network: &Network) -> &NetworkFamily<Self>;
    /// A container's address as the world sees it, where the network's prefix is translated; `None` of one
    /// that cannot be seen. IPv4 has no such translation.
    fn to_outside(self, network: &Network) -> Option<Self>;
    /// A container's address, given as the world sees it.
    fn to_inside(self, network: &Network) -> Option<Self>;
}

/// An IPv4 address. Layout: 4 bytes, network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4 {
    be: u32,
}

/// An IPv6 address. Layout: 16 bytes, network order, aligned to 4.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6 {
    be: [u32; 4],
}

/// A TCP or UDP port, or an ICMP identifier. Layout: 2 bytes, network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    be: u16,
}

map_type! {
    V4 = 4;
    V6 = 16;
    Port = 2;
}

impl Port {
    /// No port: what a protocol without ports has.
    pub const ZERO: Self = Self { be: 0 };

    /// The port with this number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self { be: number.to_be() }
    }

    /// The port's number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.be)
    }

    /// The port in network order, as it stands in a header or a socket address.
    #[inline(always)]
    pub const fn to_wire(self) -> u16 {
        self.be
    }

    /// The port that stands in a header or a socket address as `be`.
    #[inline(always)]
    pub const fn from_wire(be: u16) -> Self {
        Self { be }
    }
}

impl Debug for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl V4 {
    /// The address.
    pub const fn new(address: Ipv4Addr) -> Self {
        Self { be: u32::from_be_bytes(address.octets()).to_be() }
    }

    /// The address whose word in network order is `be`, as socket addresses carry it.
    #[inline(always)]
    pub const fn from_wire(be: u32) -> Self {
        Self { be }
    }

    /// The word in network order.
    #[inline(always)]
    pub const fn to_wire(self) -> u32 {
        self.be
    }

    /// The IPv6 words of ::ffff:A.B.C.D, in network order (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub const fn to_mapped_wire(self) -> [u32; 4] {
        [0, 0, 0xffff_u32.to_be(), self.be]
    }
}

impl V6 {
    /// The address.
    pub const fn new(address: Ipv6Addr) -> Self {
        let o = address.octets();
        Self {
            be: [
                u32::from_be_bytes([o[0], o[1], o[2], o[3]]).to_be(),
                u32::from_be_bytes([o[4], o[5], o[6], o[7]]).to_be(),
                u32::from_be_bytes([o[8], o[9], o[10], o[11]]).to_be(),
                u32::from_be_bytes([o[12], o[13], o[14], o[15]]).to_be(),
            ],
        }
    }

    /// The address whose words in network order are `be`, as socket addresses carry them.
    #[inline(always)]
    pub const fn from_wire(be: [u32; 4]) -> Self {
        Self { be }
    }

    /// The words in network order.
    #[inline(always)]
    pub const fn to_wire(self) -> [u32; 4] {
        self.be
    }

    /// The IPv4 address of ::ffff:A.B.C.D (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub const fn to_mapped_v4(self) -> Option<V4> {
        let [a, b, c, d] = self.be;
        if a == 0 && b == 0 && c == 0xffff_u32.to_be() { Some(V4 { be: d }) } else { None }
    }
}

impl Address for V4 {
    const FAMILY: Family = Family::V4;
    const BITS: u32 = 32;
    const UNSPECIFIED: Self = Self { be: 0 };
    const FLOW_COUNTS: FamilyCounts = FlowCount::V4;

    #[inline(always)]
    fn unspecified() -> Self {
        Self::UNSPECIFIED
    }

    #[inline(always)]
    fn loopback() -> Self {
        Self { be: 0x7f00_0001_u32.to_be() }
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(Self::new(v4)),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        u32::from_be(self.be) >> 24 == 127
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        u32::from_be(self.be) >> 28 == 0xe || self.be == u32::MAX
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        false
    }

    #[inline(always)]
    fn same_prefix(self, other: Self, mask: Self) -> bool {
        (self.be ^ other.be) & mask.be == 0
    }

    #[inline(always)]
    fn partial_sum(self) -> u32 {
        (self.be & 0xffff) + (self.be >> 16)
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [self.be as u64, 0]
    }

    #[inline(always)]
    fn to_wire_words(self) -> [u32; 4] {
        // See `unspecified` of IPv6.
        let zero = core::hint::black_box(0);
        [self.be, zero, zero, zero]
    }

    #[inline(always)]
    fn side(network: &Network) -> &NetworkFamily<Self> {
        &network.v4
    }

    #[inline(always)]
    fn to_outside(self, _: &Network) -> Option<Self> {
        None
    }

    #[inline(always)]
    fn to_inside(self, _: &Network) -> Option<Self> {
        None
    }
}

impl Address for V6 {
    const FAMILY: Family = Family::V6;
    const BITS: u32 = 128;
    const UNSPECIFIED: Self = Self { be: [0; 4] };
    const FLOW_COUNTS: FamilyCounts = FlowCount::V6;

    #[inline(always)]
    fn unspecified() -> Self {
        Self { be: [core::hint::black_box(0); 4] }
    }

    #[inline(always)]
    fn loopback() -> Self {
        let zero = core::hint::black_box(0);
        Self { be: [zero, zero, zero, 1_u32.to_be()] }
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(Self::new(v6)),
        }
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.be[0] == 0 && self.be[1] == 0 && self.be[2] == 0 && self.be[3] == 1u32.to_be()
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        u32::from_be(self.be[0]) >> 24 == 0xff
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        u32::from_be(self.be[0]) >> 22 == 0xfe80 >> 6
    }

    #[inline(always)]
    fn same_prefix(self, other: Self, mask: Self) -> bool {
        (self.be[0] ^ other.be[0]) & mask.be[0] == 0
            && (self.be[1] ^ other.be[1]) & mask.be[1] == 0
            && (self.be[2] ^ other.be[2]) & mask.be[2] == 0
            && (self.be[3] ^ other.be[3]) & mask.be[3] == 0
    }

    #[inline(always)]
    fn partial_sum(self) -> u32 {
        let [a, b, c, d] = self.be;
        (a & 0xffff)
            + (a >> 16)
            + (b & 0xffff)
            + (b >> 16)
            + (c & 0xffff)
            + (c >> 16)
            + (d & 0xffff)
            + (d >> 16)
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        let [a, b, c, d] = self.be;
        [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
    }

    #[inline(always)]
    fn to_wire_words(self) -> [u32; 4] {
        self.be
    }

    #[inline(always)]
    fn side(network: &Network) -> &NetworkFamily<Self> {
        &network.v6
    }

    #[inline(always)]
    fn to_outside(self, network: &Network) -> Option<Self> {
        network.outside.to_outside(network.v6.mask, self)
    }

    #[inline(always)]
    fn to_inside(self, network: &Network) -> Option<Self> {
        network.outside.to_inside(network.v6.subnet, network.v6.mask, self)
    }
}

impl From<V4> for IpAddr {
    fn from(address: V4) -> Self {
        Self::V4(Ipv4Addr::from(u32::from_be(address.be)))
    }
}

impl From<V6> for IpAddr {
    fn from(address: V6) -> Self {
        Self::V6(Ipv6Addr::from(bytemuck::cast::<[u32; 4], [u8; 16]>(address.be)))
    }
}

impl Debug for V4 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", IpAddr::from(*self))
    }
}

impl Debug for V6 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", IpAddr::from(*self))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_round_trip_through_wire_order(v4: [u8; 4], v6: [u8; 16], port: u16) {
            let (a, b) = (Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            prop_assert_eq!(bytemuck::cast::<V4, [u8; 4]>(V4::new(a)), v4);
            prop_assert_eq!(bytemuck::cast::<V6, [u8; 16]>(V6::new(b)), v6);
            prop_assert_eq!(IpAddr::from(V4::new(a)), IpAddr::V4(a));
            prop_assert_eq!(IpAddr::from(V6::new(b)), IpAddr::V6(b));
            prop_assert_eq!(bytemuck::cast::<Port, [u8; 2]>(Port::new(port)), port.to_be_bytes());
        }

        #[test]
        fn classes_agree_with_the_standard_library(v4: [u8; 4], v6: [u8; 16]) {
            let (a, b) = (Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            prop_assert_eq!(V4::new(a).is_loopback(), a.is_loopback());
            prop_assert_eq!(V4::new(a).is_multicast(), a.is_multicast() || a.is_broadcast());
            prop_assert_eq!(V6::new(b).is_loopback(), b.is_loopback());
            prop_assert_eq!(V6::new(b).is_multicast(), b.is_multicast());
            prop_assert_eq!(V6::new(b).is_link_local(), b.is_unicast_link_local());
        }
    }

    #[test]
    fn special_addresses_have_their_class() {
        let texts = ["127.0.0.1", "::1", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1"];
        let classes: Vec<(bool, bool, bool)> = texts
            .iter()
            .map(|text| match text.parse::<IpAddr>().unwrap() {
                IpAddr::V4(a) => class(V4::new(a)),
                IpAddr::V6(a) => class(V6::new(a)),
            })
            .collect();
        let (loopback, multicast, link_local) =
            ((true, false, false), (false, true, false), (false, false, true));
        assert_eq!(classes, [loopback, loopback, multicast, multicast, multicast, link_local]);
    }

    fn class<A: Address>(a: A) -> (bool, bool, bool) {
        (a.is_loopback(), a.is_multicast(), a.is_link_local())
    }
}
