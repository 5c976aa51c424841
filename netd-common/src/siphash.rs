//! SipHash-1-3 over words: a keyed hash whose output cannot be predicted without the key.
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), with one compression and
//! three finalisation rounds as the Rust standard library's hasher has them.

/// Hashes `words` (taken as little-endian bytes) under `key`.
#[inline(always)]
pub fn siphash13<const N: usize>(key: [u64; 2], words: [u64; N]) -> u64 {
    let mut state = State::new(key);
    for word in words {
        state.absorb(word);
    }
    state.absorb((N as u64 * 8) << 56);
    state.finish()
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn new([k0, k1]: [u64; 2]) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::hash_map::DefaultHasher, hash::Hasher};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The standard library's default hasher is SipHash-1-3 with a zero key.
        #[test]
        fn it_agrees_with_the_standard_library(words: [u64; 5]) {
            let mut hasher = DefaultHasher::new();
            words.iter().for_each(|word| hasher.write(&word.to_le_bytes()));
            prop_assert_eq!(siphash13([0, 0], words), hasher.finish());
        }
    }
}
