//! A plain frame of TCP, UDP or an echo, taken apart by its bytes alone.

use std::{net::IpAddr, ops::Range};

use netd_tests::{
    family::Family,
    packet::{Kind, Packet, checksum},
};

use crate::host::end;

pub(crate) const ETHERNET: usize = 14;

/// Where the header of `family` has its hops, source, destination, protocol and end.
const fn layout(family: Family) -> (usize, Range<usize>, Range<usize>, usize, usize) {
    match family {
        Family::V4 => (22, 26..30, 30..34, 23, 34),
        Family::V6 => (21, 22..38, 38..54, 20, 54),
    }
}

/// How many more hops it may take.
pub(crate) fn hops(family: Family, frame: &[u8]) -> u8 {
    frame[layout(family).0]
}

/// The addresses that it comes from and goes to.
pub(crate) fn ends(family: Family, frame: &[u8]) -> (IpAddr, IpAddr) {
    let (_, src, dst, ..) = layout(family);
    let addr = |range: Range<usize>| match family {
        Family::V4 => IpAddr::from(*frame[range].first_chunk::<4>().expect("four bytes")),
        Family::V6 => IpAddr::from(*frame[range].first_chunk::<16>().expect("sixteen bytes")),
    };
    (addr(src), addr(dst))
}

/// What a packet has become.
pub(crate) fn read(packet: &Packet, frame: &[u8]) -> Packet {
    let (src, dst) = ends(Family::of(packet.src.ip()), frame);
    let at = packet.transport_offset();
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let is_echo = packet.kind == Kind::EchoRequest;
    let (sport, dport) = if is_echo { (word(at + 4), 0) } else { (word(at), word(at + 2)) };
    packet.from(end(src, sport)).to(end(dst, dport))
}

/// Whether both checksums hold; a UDP checksum of zero says that there is none.
pub(crate) fn are_checksums_right(family: Family, frame: &[u8]) -> bool {
    let (_, src, dst, proto, at) = layout(family);
    let (proto, segment) = (frame[proto], &frame[at..]);
    if family == Family::V4 && checksum(&[&frame[ETHERNET..at]]) != 0 {
        return false;
    }
    let addresses = &frame[src.start..dst.end];
    let pseudo = [addresses, &(segment.len() as u32).to_be_bytes(), &[0, 0, 0, proto]].concat();
    match proto {
        1 => checksum(&[segment]) == 0,
        17 if segment[6..8] == [0, 0] => true,
        _ => checksum(&[&pseudo, segment]) == 0,
    }
}

/// The frame with zeros where a translation writes.
pub(crate) fn without_what_nat_writes(family: Family, frame: &[u8]) -> Vec<u8> {
    let (hops, src, dst, proto, at) = layout(family);
    let mut rest = frame.to_vec();
    // Link layer; hops, the header's checksum and addresses.
    rest[..12].fill(0);
    rest[hops] = 0;
    if family == Family::V4 {
        rest[24..26].fill(0);
    }
    rest[src.start..dst.end].fill(0);
    let (ports, checksum) = match frame[proto] {
        6 => (0..4, 16),
        17 => (0..4, 6),
        // An echo has an identifier.
        _ => (4..6, 2),
    };
    rest[at..][ports].fill(0);
    rest[at + checksum..][..2].fill(0);
    rest
}
