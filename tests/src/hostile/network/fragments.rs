//! Fragments: in order and out of it, overlapping, tiny, alone, too far out.

use super::{Tricked, V4_LEN, V6_LEN, sealed, set_length};
use crate::{family::Family, hostile::random::Random};

/// The smallest piece. Units: bytes.
const UNIT: usize = 8;

/// A fragment: where it begins, the bytes, and whether more follow.
type Piece<'a> = (usize, &'a [u8], bool);

/// Takes a packet apart, or pretends to have.
pub(super) fn trick(family: Family, whole: &[u8], random: &mut Random) -> Tricked {
    let (header, payload) = whole.split_at(family.pick(V4_LEN, V6_LEN));
    let middle = (payload.len() / 2 / UNIT * UNIT).max(UNIT).min(payload.len());
    let (first, rest) = payload.split_at(middle);
    let tiny = payload.split_at(UNIT.min(payload.len()));
    let overlap = middle.saturating_sub(UNIT);
    let (name, pieces): (_, Vec<Piece<'_>>) = match random.below(8) {
        0 => ("first fragment", vec![(0, first, true)]),
        1 => ("later fragment", vec![(middle, rest, false)]),
        2 => ("fragments", vec![(0, first, true), (middle, rest, false)]),
        3 => ("fragments backwards", vec![(middle, rest, false), (0, first, true)]),
        4 => ("overlapping fragments", vec![(0, first, true), (overlap, payload, false)]),
        5 => ("tiny fragments", vec![(0, tiny.0, true), (UNIT, tiny.1, false)]),
        6 => ("fragment beyond the end", vec![(0xfff8, payload, false)]),
        _ => ("whole as a fragment", vec![(0, payload, random.one_in(2))]),
    };
    let mut number: [u8; 4] = random.bytes();
    // IPv4's has 16 bits, and among millions of packets some have the same: then a piece is of the datagram of an
    // earlier one. It is to be one for the same ports, so that it is judged as that would be: twelve of the bits are
    // made of them.
    let ports = payload.iter().take(4).fold(0, |ports: u32, byte| ports << 8 | u32::from(*byte));
    let [first, second] = number_of_ports(ports);
    number[0] = first;
    number[1] = second | number[1] & 0x0f;
    let fragment = |piece| match family {
        Family::V4 => v4(header, number, piece),
        Family::V6 => v6(header, number, piece),
    };
    (name, pieces.into_iter().map(fragment).collect())
}

/// Twelve bits, then four that are zero: others for each pair of ports that the attack uses.
fn number_of_ports(ports: u32) -> [u8; 2] {
    let [first, second, ..] = ports.wrapping_mul(0x9e37_79bb).to_be_bytes();
    [first, second & 0xf0]
}

/// RFC 791 section 3.1.
fn v4(header: &[u8], number: [u8; 4], (offset, payload, is_followed): Piece<'_>) -> Vec<u8> {
    let mut bytes = [header, payload].concat();
    bytes[4..6].copy_from_slice(&number[..2]);
    let field = (offset / UNIT) as u16 | if is_followed { 0x2000 } else { 0 };
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    set_length(Family::V4, &mut bytes);
    sealed(Family::V4, bytes)
}

/// RFC 8200 section 4.5.
fn v6(header: &[u8], number: [u8; 4], (offset, payload, is_followed): Piece<'_>) -> Vec<u8> {
    let field = (offset as u16 | u16::from(is_followed)).to_be_bytes();
    let mut bytes = [header, &[header[6], 0], &field, &number, payload].concat();
    bytes[6] = 44;
    set_length(Family::V6, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::number_of_ports;
    use crate::hostile::{
        stage::HOST_PORTS,
        transport::{PORTS, SOURCE_PORTS},
    };

    #[test]
    fn no_two_pairs_of_ports_have_one_number() {
        let destinations: BTreeSet<u16> = PORTS.into_iter().chain(HOST_PORTS).collect();
        let pair =
            |source| destinations.iter().map(move |to| u32::from(source) << 16 | u32::from(*to));
        let pairs: Vec<u32> = SOURCE_PORTS.into_iter().flat_map(pair).collect();
        let numbers: BTreeSet<[u8; 2]> = pairs.iter().copied().map(number_of_ports).collect();
        assert_eq!(numbers.len(), pairs.len());
    }
}
