//! IPv6-to-IPv6 network prefix translation (RFC 6296): an address gets another prefix of the same length, and
//! one of its words an adjustment, so that the sum of its words, and with it every checksum, stays as it is.
//! So nothing but addresses changes, there is no state, and every protocol passes.
//!
//! Which word is adjusted follows from the address alone, and from the length of the prefix: with one of 48 bits
//! or less it is the subnet's (section 3.4), else the first of the interface identifier that is not 0xffff
//! (section 3.5).

use crate::{address::V6, pod::map_type};

/// The prefix that the world sees a network by. Layout: 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsidePrefix {
    /// The prefix, as long as that of the network's subnet.
    pub prefix: V6,
    /// What is added to a word on the way out, in ones' complement arithmetic.
    pub adjustment: u16,
    /// Always zero.
    pub reserved: u16,
}

map_type! {
    OutsidePrefix = 20;
}

/// The longest prefix that can be translated: the identifier behind it is what is adjusted. Units: bits.
pub const MAX_PREFIX_BITS: u8 = 64;

/// The second word of a mask of 48 bits.
const SUBNET_MASK: u32 = 0xffff_0000;

impl OutsidePrefix {
    /// None.
    pub const NONE: Self = Self { prefix: V6::from_wire([0; 4]), adjustment: 0, reserved: 0 };

    /// The translation of a subnet, given without host bits as the prefix is.
    pub fn new(subnet: V6, prefix: V6) -> Self {
        // Section 3.1: the difference of both sums.
        Self { prefix, adjustment: add(sum(subnet), !sum(prefix)), reserved: 0 }
    }

    /// A container's address as the world sees it; `None` of one that cannot be seen.
    #[inline(always)]
    pub fn to_outside(&self, mask: V6, addr: V6) -> Option<V6> {
        translate(addr, mask, self.prefix, self.adjustment)
    }

    /// A container's address, given as the world sees it; `None` of one that is nobody's.
    #[inline(always)]
    pub fn to_inside(&self, subnet: V6, mask: V6, addr: V6) -> Option<V6> {
        translate(addr, mask, subnet, !self.adjustment)
    }
}

#[inline(always)]
fn translate(addr: V6, mask: V6, prefix: V6, adjustment: u16) -> Option<V6> {
    let (from, mask, to) = (addr.to_wire(), mask.to_wire(), prefix.to_wire());
    let word = |word: u32, mask: u32, to: u32| u32::from_be(word & !mask | to);
    let (mut b, mut c, mut d) = (
        word(from[1], mask[1], to[1]),
        word(from[2], mask[2], to[2]),
        word(from[3], mask[3], to[3]),
    );
    if u32::from_be(mask[1]) <= SUBNET_MASK {
        b = adjust_low(b, adjustment)?;
    } else if c | d == 0 {
        // The identifier of routers, which is to be nobody's.
        return None;
    } else if c >> 16 != 0xffff {
        c = adjust_high(c, adjustment);
    } else if c & 0xffff != 0xffff {
        c = adjust_low(c, adjustment)?;
    } else if d >> 16 != 0xffff {
        d = adjust_high(d, adjustment);
    } else {
        d = adjust_low(d, adjustment)?;
    }
    let a = from[0] & !mask[0] | to[0];
    Some(V6::from_wire([a, b.to_be(), c.to_be(), d.to_be()]))
}

/// Adjusts the upper half of a word.
#[inline(always)]
fn adjust_high(word: u32, adjustment: u16) -> u32 {
    word & 0xffff | u32::from(adjusted((word >> 16) as u16, adjustment)) << 16
}

/// Adjusts the lower half of a word, unless it is one that nothing can be added to.
#[inline(always)]
fn adjust_low(word: u32, adjustment: u16) -> Option<u32> {
    let low = word as u16;
    (low != 0xffff).then(|| word & 0xffff_0000 | u32::from(adjusted(low, adjustment)))
}

/// Of the two zeros of ones' complement arithmetic the word has the one that can be adjusted back.
#[inline(always)]
fn adjusted(word: u16, adjustment: u16) -> u16 {
    match add(word, adjustment) {
        0xffff => 0,
        sum => sum,
    }
}

#[inline(always)]
fn add(a: u16, b: u16) -> u16 {
    let sum = u32::from(a) + u32::from(b);
    (sum + (sum >> 16)) as u16
}

fn sum(prefix: V6) -> u16 {
    let words = prefix.to_wire().map(u32::from_be);
    words.iter().fold(0, |sum, word| add(add(sum, (word >> 16) as u16), *word as u16))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;
    use std::string::ToString as _;

    use proptest::prelude::*;

    use super::*;

    fn v6(text: &str) -> V6 {
        V6::new(text.parse().unwrap())
    }

    fn mask(bits: u32) -> V6 {
        V6::new((u128::MAX << (128 - bits)).into())
    }

    #[track_caller]
    fn check(bits: u32, (subnet, prefix): (&str, &str), inside: &str, outside: Option<&str>) {
        let pair = OutsidePrefix::new(v6(subnet), v6(prefix));
        let seen = pair.to_outside(mask(bits), v6(inside));
        assert_eq!(seen, outside.map(v6), "{inside}");
        if let Some(seen) = seen {
            assert_eq!(pair.to_inside(v6(subnet), mask(bits), seen), Some(v6(inside)));
        }
    }

    /// Section 3.4 begins with this one.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let pair = ("fd01:203:405::", "2001:db8:1::");
        check(48, pair, "fd01:203:405:1::1234", Some("2001:db8:1:d550::1234"));
        check(48, pair, "fd01:203:405:ffff::1234", None);
    }

    #[test]
    fn the_first_word_of_the_identifier_that_can_be_is_adjusted() {
        let pair = ("fd01:203:405:1::", "2001:db8:1::");
        check(64, pair, "fd01:203:405:1::1234", Some("2001:db8:1:0:d550::1234"));
        check(64, pair, "fd01:203:405:1:ffff::1234", Some("2001:db8:1:0:ffff:d550:0:1234"));
        check(
            64,
            pair,
            "fd01:203:405:1:ffff:ffff:ffff:0",
            Some("2001:db8:1:0:ffff:ffff:ffff:d550"),
        );
        check(64, pair, "fd01:203:405:1:ffff:ffff:ffff:ffff", None);
        check(64, pair, "fd01:203:405:1::", None);
        check(
            56,
            ("fd01:203:405:100::", "2001:db8:1:ff00::"),
            "fd01:203:405:123::5",
            Some("2001:db8:1:ff23:d74e::5"),
        );
    }

    proptest! {
        #[test]
        fn every_address_that_can_be_seen_is_seen_as_another_with_the_same_sum(
            bits in 1..=64_u32,
            subnet: u128,
            prefix: u128,
            host: u128,
        ) {
            let mask_bits = u128::MAX << (128 - bits);
            let address = |bits: u128| V6::new(Ipv6Addr::from(bits));
            let (subnet, prefix) = (address(subnet & mask_bits), address(prefix & mask_bits));
            let inside = address(u128::from_be_bytes(bytemuck::cast(subnet)) | host & !mask_bits);
            let pair = OutsidePrefix::new(subnet, prefix);
            if let Some(outside) = pair.to_outside(mask(bits), inside) {
                prop_assert_eq!(sum(outside) % 0xffff, sum(inside) % 0xffff, "{}", bits.to_string());
                prop_assert_eq!(pair.to_inside(subnet, mask(bits), outside), Some(inside));
            }
        }
    }
}
