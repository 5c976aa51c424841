//! The number of a case, in the packets that belong to it.
//!
//! It stands in the IPv4 identification or the IPv6 flow label, in TCP's sequence numbers and in the
//! payload, so that it is found in what hosts make of a packet as well: resets, echo replies, and ICMP
//! errors that quote no more than eight bytes.

/// What a mark in a payload begins with.
const MAGIC: [u8; 4] = *b"orcl";

/// The first byte of a sequence number.
const SEQ_MAGIC: u8 = 0x6f;

/// How long a mark is. Units: bytes; fragments are cut at multiples of it.
pub const LEN: usize = 8;

/// What a payload is made of: the magic, the number, its complement.
pub fn bytes(number: u16) -> [u8; LEN] {
    let ([a, b], [c, d]) = (number.to_be_bytes(), (!number).to_be_bytes());
    let [m, n, o, p] = MAGIC;
    [m, n, o, p, a, b, c, d]
}

/// The first mark in some bytes.
pub fn find(bytes: &[u8]) -> Option<u16> {
    bytes.windows(LEN).find_map(|window| {
        let number = u16::from_be_bytes([window[4], window[5]]);
        (*window == self::bytes(number)).then_some(number)
    })
}

/// A sequence number of a case; `offset` counts from the first one of its side.
pub fn seq(number: u16, offset: u8) -> u32 {
    let [high, low] = number.to_be_bytes();
    u32::from_be_bytes([SEQ_MAGIC, high, low, offset])
}

/// The case that a sequence number belongs to.
pub fn of_seq(seq: [u8; 4]) -> Option<u16> {
    (seq[0] == SEQ_MAGIC).then(|| u16::from_be_bytes([seq[1], seq[2]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_anywhere() {
        let text = [&[1, 2, 3][..], &bytes(0x1234), &bytes(7)].concat();
        assert_eq!(find(&text), Some(0x1234));
        assert_eq!(find(&text[4..]), Some(7));
        assert_eq!(find(b"orcl0123"), None);
    }

    #[test]
    fn a_sequence_number_names_its_case() {
        assert_eq!(of_seq(seq(0x1234, 9).to_be_bytes()), Some(0x1234));
        assert_eq!(of_seq([0, 1, 2, 3]), None);
    }
}
