//! SCTP's checksum (RFC 9260 section 6.8), changed without a look at the payload.
//!
//! A CRC is linear: two packets of one length differ in their checksums by what the packet of their
//! differences has for one, with no initial value. A change of the first four bytes, the ports, in a packet
//! of `n` bytes is therefore their difference times x^(8n), modulo the polynomial: at most two
//! multiplications for each bit of the length.
//!
//! Polynomials are written as the CRC does: bit 31 is the coefficient of x^0.

use core::ops::ControlFlow;

/// Castagnoli's polynomial (RFC 9260 appendix A), without its highest power.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^8, one byte's worth of zeros.
const ONE_BYTE: u32 = 1 << (31 - 8);

/// A change of the ports on its way through the rest of the packet.
pub struct Change {
    /// What has become of it.
    product: u32,
    /// x^(8 * 2^k), where `k` is the number of steps taken.
    power: u32,
    /// The bits of the length that are left.
    len: u32,
}

impl Change {
    /// How many steps a change takes at most: one for each bit of a length.
    pub const STEPS: u32 = 16;

    /// The change of the ports from `old` to `new`, as they stand in a packet of `len` bytes.
    #[inline(always)]
    pub fn of_ports(old: u32, new: u32, len: u16) -> Self {
        Self { product: u32::from_le(old ^ new), power: ONE_BYTE, len: u32::from(len) }
    }

    /// Takes the next bit of the length. A step is what a loop of the data path calls.
    #[inline(always)]
    pub fn step(&mut self) -> ControlFlow<()> {
        if self.len == 0 {
            return ControlFlow::Break(());
        }
        if self.len & 1 != 0 {
            self.product = multiply_polynomials(self.product, self.power);
        }
        self.power = multiply_polynomials(self.power, self.power);
        self.len >>= 1;
        ControlFlow::Continue(())
    }

    /// The checksum, as it stands in the packet, after the change.
    #[inline(always)]
    pub fn apply(&self, checksum: u32) -> u32 {
        checksum ^ self.product.to_le()
    }
}

/// The product of two polynomials. Masks and shifts in place of branches: the verifier would follow each of
/// them, and both values of a mask that a constant is cut with.
///
/// A global function in the data path: the verifier checks it once, by itself, whatever path leads to it.
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[inline(never)]
extern "C" fn multiply_polynomials(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for _ in 0..u32::BITS {
        product ^= b & 0u32.wrapping_sub(a >> 31);
        let is_even = !b & 1;
        b = b >> 1 ^ (u64::from(POLYNOMIAL) >> (is_even * u32::BITS)) as u32;
        a <<= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The independent check: the definition, bit by bit over the whole data.
    fn crc32c(data: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in data {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 != 0 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    /// Bytes as they lie in memory.
    fn word(bytes: [u8; 4]) -> u32 {
        bytemuck::cast(bytes)
    }

    fn replace_ports(checksum: u32, old: u32, new: u32, len: u16) -> u32 {
        let mut change = Change::of_ports(old, new, len);
        let steps = (0..Change::STEPS).take_while(|_| change.step().is_continue()).count();
        assert_eq!(steps as u32, u16::BITS - len.leading_zeros());
        change.apply(checksum)
    }

    #[test]
    fn the_check_value_of_the_polynomial_holds() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_multiplication_by_one_changes_nothing() {
        assert_eq!(multiply_polynomials(0x1234_5678, 1 << 31), 0x1234_5678);
        assert_eq!(multiply_polynomials(1 << 31, 0x1234_5678), 0x1234_5678);
    }

    proptest! {
        #[test]
        fn a_change_of_the_ports_gives_what_a_full_crc_gives(
            old: [u8; 4], new: [u8; 4], rest in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let whole = |ports: [u8; 4]| [&ports[..], &rest].concat();
            let len = whole(old).len() as u16;
            let checksum = |ports| crc32c(&whole(ports)).to_le();
            prop_assert_eq!(replace_ports(checksum(old), word(old), word(new), len), checksum(new));
        }
    }

    #[test]
    fn every_bit_of_a_length_counts() {
        let (old, new) = ([1, 2, 3, 4], [0xff, 0, 0x80, 7]);
        for len in [4, 0x7fff, 0x8000, 0xaaaa, 0xffff_usize] {
            let whole = |ports: [u8; 4]| {
                ports.into_iter().chain(core::iter::repeat_n(0x5a, len - 4)).collect::<Vec<u8>>()
            };
            let got = replace_ports(crc32c(&whole(old)).to_le(), word(old), word(new), len as u16);
            assert_eq!(got, crc32c(&whole(new)).to_le());
        }
    }
}
