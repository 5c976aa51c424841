//! Incremental Internet checksums (RFC 1071, RFC 1624).
//!
//! A checksum is the ones' complement of a ones' complement sum of 16-bit words. Such a sum may be kept
//! unfolded in 32 bits, added in any order and byte-swapped as a whole, so headers are summed in network
//! order without swapping. [`Delta`] is the difference that a rewrite makes: what the kernel calls a
//! `__wsum` and takes as the last argument of `bpf_l4_csum_replace`.

use crate::address::{Address, Port};

/// The change that a rewrite makes to a ones' complement sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    sum: u32,
}

impl Delta {
    /// The change of replacing one address by another.
    #[inline(always)]
    pub fn of_address<A: Address>(old: A, new: A) -> Self {
        Self { sum: complement::<A>(old.partial_sum()) + new.partial_sum() }
    }

    /// The change of replacing one port by another.
    #[inline(always)]
    pub fn of_port(old: Port, new: Port) -> Self {
        Self::of_word(old.to_wire(), new.to_wire())
    }

    /// The change of replacing one word, as it stands at an even offset, by another.
    #[inline(always)]
    pub fn of_word(old: u16, new: u16) -> Self {
        Self { sum: u32::from(!old) + u32::from(new) }
    }

    /// The change of replacing one pair of bytes, at an even offset, by another.
    #[inline(always)]
    pub fn of_bytes(old: [u8; 2], new: [u8; 2]) -> Self {
        let word = |bytes| u16::from_be_bytes(bytes).to_be();
        Self { sum: u32::from(!word(old)) + u32::from(word(new)) }
    }

    /// Both changes.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { sum: self.sum + other.sum }
    }

    /// The change as the kernel's `__wsum`.
    #[inline(always)]
    pub fn to_wsum(self) -> u32 {
        self.sum
    }

    /// The checksum after the change (RFC 1624 equation 3: HC' = ~(~HC + ~m + m')).
    #[inline(always)]
    #[must_use]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(u32::from(!checksum) + u32::from(fold(self.sum)))
    }
}

/// The ones' complement of a sum of `A::BITS / 16` words, each complemented.
#[inline(always)]
fn complement<A: Address>(sum: u32) -> u32 {
    A::BITS / 16 * 0xffff - sum
}

/// Folds a 32-bit ones' complement sum to 16 bits.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{V4, V6};

    /// The independent check: RFC 1071's definition over the whole data.
    fn checksum(data: &[u8]) -> u16 {
        let sum: u32 = data
            .chunks(2)
            .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])))
            .sum();
        let mut sum = sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn a_delta_gives_what_a_full_sum_gives(
            old: [u8; 16], new: [u8; 16], ports: (u16, u16), rest in proptest::collection::vec(any::<u8>(), 2..64),
        ) {
            let bytes = |address: [u8; 16], port: u16| {
                [&address[..], &port.to_be_bytes(), &rest].concat()
            };
            prop_assume!(rest.iter().any(|&b| b != 0 && b != 0xff));
            let before = checksum(&bytes(old, ports.0));
            let after = checksum(&bytes(new, ports.1));
            let delta = Delta::of_address(V6::new(old.into()), V6::new(new.into()))
                .and(Delta::of_port(Port::new(ports.0), Port::new(ports.1)));
            prop_assert_eq!(delta.apply(before.to_be()), after.to_be());
        }

        #[test]
        fn a_v4_delta_gives_what_a_full_sum_gives(old: [u8; 4], new: [u8; 4], rest: [u8; 8]) {
            prop_assume!(rest.iter().any(|&b| b != 0 && b != 0xff));
            let before = checksum(&[&old[..], &rest].concat());
            let after = checksum(&[&new[..], &rest].concat());
            let delta = Delta::of_address(V4::new(old.into()), V4::new(new.into()));
            prop_assert_eq!(delta.apply(before.to_be()), after.to_be());
        }
    }

    #[test]
    fn the_example_of_rfc_1624_section_4_holds() {
        // HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives HC' = 0x0000.
        let delta = Delta::of_port(Port::from_wire(0x5555), Port::from_wire(0x3285));
        assert_eq!(delta.apply(0xdd2f), 0x0000);
    }
}
