//! Published ports: host (address, protocol, port) to container (address, port).

use crate::{
    address::{Address, Port, V4, V6},
    config::{RESERVED_WORDS, reserved_port},
    header::proto,
    pod::map_type,
};

/// A single published port. Layout: 8 bytes for IPv4, 20 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPortKey<A> {
    /// The host address, or the unspecified one for every local address.
    pub addr: A,
    /// The host port.
    pub port: Port,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub reserved: u8,
}

/// A prefix of published ports, the data of a longest-prefix-match key: a range of any size is at most
/// 30 of them. Layout: 12 bytes for IPv4, 24 for IPv6; the port's bits come last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedRangeKey<A> {
    /// IP protocol number, always matched in full. (A whole word: the compiler clears smaller pieces by
    /// calling memset.)
    pub proto: u32,
    /// The host address, or the unspecified one for every local address.
    pub addr: A,
    /// The first port of the prefix, big endian.
    pub port: [u8; 2],
    /// Always zero, and never inside the prefix.
    pub tail: [u8; 2],
}

/// Where a published port leads. Layout: 20 bytes for IPv4, 32 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort<A> {
    /// The container's address.
    pub addr: A,
    /// The container port that `host_port` leads to; the others of a range follow in order.
    pub port: Port,
    /// The first host port of the range.
    pub host_port: Port,
    /// The number of the container's network.
    pub network: u16,
    /// Bits of [`PublishedFlags`].
    pub flags: u16,
    /// The published port's slot: counters and generation.
    pub slot: u32,
    /// The container's endpoint slot.
    pub endpoint_slot: u32,
}

/// Bits of [`PublishedPort::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedFlags;

impl PublishedFlags {
    /// Nobody else holds the port, so the host's programs are kept from binding it.
    pub const KEPT: u16 = 1;
    /// Only the host itself is led there: from an IPv6 address to a container that has IPv4 only, whose address is
    /// given as a mapped one. No packet can be translated so.
    pub const FOR_HOST: u16 = 1 << 1;
}

/// The elements of the map of kept ports: those of TCP, then those of UDP.
pub const KEPT_WORDS: u32 = 2 * RESERVED_WORDS;

/// Where the map of kept ports has a port: the element, and the bit in it. SCTP's are not there, whose sockets no
/// program sees.
#[inline(always)]
pub const fn kept_port(proto: u8, port: u16) -> Option<(u32, u64)> {
    let (word, bit) = reserved_port(port);
    match proto {
        proto::TCP => Some((word, bit)),
        proto::UDP => Some((RESERVED_WORDS + word, bit)),
        _ => None,
    }
}

map_type! {
    PublishedPortKey<V4> = 8;
    PublishedPortKey<V6> = 20;
    PublishedRangeKey<V4> = 12;
    PublishedRangeKey<V6> = 24;
    PublishedPort<V4> = 20;
    PublishedPort<V6> = 32;
}

impl<A: Address> PublishedRangeKey<A> {
    /// The bits of the key before the port.
    pub const HEAD_BITS: u32 = 32 + A::BITS;

    /// The key for `port`, in full; a shorter prefix length makes it a range.
    pub fn new(addr: A, proto: u8, port: u16) -> Self {
        Self { proto: u32::from(proto), addr, port: port.to_be_bytes(), tail: [0; 2] }
    }
}

impl<A: Address> PublishedPort<A> {
    /// The container port that a packet to host port `port` goes to.
    #[inline(always)]
    pub fn container_port(&self, port: Port) -> Port {
        let offset = port.number().wrapping_sub(self.host_port.number());
        Port::new(self.port.number().wrapping_add(offset))
    }
}

/// Splits the inclusive range `first..=last` into prefixes `(port, bits)`, in ascending order.
///
/// Each is the largest aligned block that starts there and fits, so there are at most 2 x 15.
pub fn port_prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u32)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    core::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let fits = (end - next).ilog2();
        let block = aligned.min(fits);
        let port = next as u16;
        next += 1 << block;
        Some((port, 16 - block))
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prefixes_cover_a_range_exactly_once(a: u16, b: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let prefixes: Vec<_> = port_prefixes(first, last).collect();
            prop_assert!(prefixes.len() <= 30);
            let ports: Vec<u32> = prefixes
                .iter()
                .flat_map(|&(port, bits)| u32::from(port)..u32::from(port) + (1 << (16 - bits)))
                .collect();
            prop_assert_eq!(ports, (u32::from(first)..=u32::from(last)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_whole_port_space_is_one_prefix() {
        assert_eq!(port_prefixes(0, u16::MAX).collect::<Vec<_>>(), [(0, 0)]);
    }
}
