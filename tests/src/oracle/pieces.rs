//! Fragments put together again: a router may cut a packet elsewhere, or not at all, and change nothing.

use super::arrival::{Arrival, Parts};
use crate::packet::checksum;

/// The same arrivals with every packet whole whose pieces are all there. What is incomplete stays.
pub fn reassembled(mut arrivals: Vec<Arrival>) -> Vec<Arrival> {
    let mut whole = Vec::new();
    while let Some(at) = arrivals.iter().position(|arrival| arrival.parts().is_piece) {
        let first = arrivals[at].clone();
        let (mut pieces, rest): (Vec<_>, Vec<_>) =
            arrivals.into_iter().partition(|arrival| identity(arrival) == identity(&first));
        arrivals = rest;
        pieces.sort_by_key(|piece| offset(piece).0);
        match joined(&pieces) {
            Some(joined) => whole.push(joined),
            None => whole.extend(pieces),
        }
    }
    whole.extend(arrivals);
    whole
}

/// What the pieces of one packet have in common; nothing where this is none.
fn identity(arrival: &Arrival) -> Option<impl PartialEq + use<>> {
    let parts = arrival.parts();
    let id = if parts.addresses.0.is_ipv4() {
        &arrival.bytes[4..6]
    } else {
        &arrival.bytes[parts.body - 4..parts.body]
    };
    parts.is_piece.then(|| (arrival.edge, parts.addresses, parts.proto, id.to_vec()))
}

/// Where a piece begins, and whether more follow. Units: bytes.
fn offset(piece: &Arrival) -> (usize, bool) {
    let parts = piece.parts();
    let word = |at: usize| u16::from_be_bytes([piece.bytes[at], piece.bytes[at + 1]]);
    if parts.addresses.0.is_ipv4() {
        return (usize::from(word(6) & 0x1fff) * 8, word(6) & 0x2000 != 0);
    }
    let field = word(parts.body - 6);
    (usize::from(field & !7), field & 1 != 0)
}

fn joined(pieces: &[Arrival]) -> Option<Arrival> {
    let mut body = Vec::new();
    for piece in pieces {
        if offset(piece).0 != body.len() {
            return None;
        }
        body.extend(piece.body());
    }
    let is_complete = pieces.last().is_some_and(|last| !offset(last).1);
    let first = pieces.first().filter(|_| is_complete)?;
    Some(Arrival { edge: first.edge, bytes: with_body(first, &first.parts(), &body) })
}

fn with_body(first: &Arrival, parts: &Parts, body: &[u8]) -> Vec<u8> {
    if parts.addresses.0.is_ipv4() {
        let mut header = first.bytes[..parts.body].to_vec();
        header[2..4].copy_from_slice(&((parts.body + body.len()) as u16).to_be_bytes());
        header[6..8].fill(0);
        header[10..12].fill(0);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        return [&header[..], body].concat();
    }
    // Only where the fragment header is the first one; others stay as they came.
    let mut header = first.bytes[..40].to_vec();
    header[6] = parts.proto;
    let middle = &first.bytes[40..parts.body];
    let middle = if first.bytes[6] == 44 { &middle[8..] } else { middle };
    header[4..6].copy_from_slice(&((middle.len() + body.len()) as u16).to_be_bytes());
    [&header[..], middle, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{arrival::Edge, message::udp_of};

    #[test]
    fn pieces_become_what_they_were_cut_from() {
        for (src, dst) in [("192.0.2.1:9", "192.0.2.2:9"), ("[2001:db8::1]:9", "[2001:db8::2]:9")] {
            let packet = udp_of(7, src.parse().unwrap(), dst.parse().unwrap(), 64);
            let arrival = |bytes| Arrival { edge: Edge::Web, bytes };
            let pieces: Vec<Arrival> = packet.fragments(32).into_iter().map(arrival).collect();
            let backwards: Vec<Arrival> = pieces.iter().rev().cloned().collect();
            let whole = vec![arrival(packet.bytes())];
            assert_eq!(reassembled(pieces.clone()), whole);
            assert_eq!(reassembled(backwards), whole);
            assert_eq!(reassembled(pieces[1..].to_vec()), pieces[1..]);
            assert_eq!(reassembled(whole.clone()), whole);
        }
    }
}
