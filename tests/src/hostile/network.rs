//! IP headers that say something else than what follows: options and extension headers, lifetimes,
//! lengths and versions that are wrong, and fragments of every kind.

mod fragments;

use std::net::IpAddr;

use super::{random::Random, scene::Scene};
use crate::{family::Family, packet::checksum};

/// Lengths of the headers without options.
const V4_LEN: usize = 20;
const V6_LEN: usize = 40;

/// What one packet has become, and the name of what was done to it.
pub type Tricked = (&'static str, Vec<Vec<u8>>);

/// Does something to a packet, or nothing.
pub fn trick(family: Family, whole: Vec<u8>, scene: &Scene, random: &mut Random) -> Tricked {
    match random.below(8) {
        0..=2 => ("plain", vec![whole]),
        3 => fragments::trick(family, &whole, random),
        4 => lifetime(family, whole, random),
        5 => wrong(family, whole, random),
        _ if family == Family::V4 => v4_options(&whole, scene, random),
        _ => v6_extensions(&whole, scene, random),
    }
}

fn lifetime(family: Family, mut bytes: Vec<u8>, random: &mut Random) -> Tricked {
    let (name, ttl) = random.pick(&[("ttl 0", 0), ("ttl 1", 1), ("ttl 2", 2), ("ttl 255", 255)]);
    bytes[family.pick(8, 7)] = ttl;
    (name, vec![sealed(family, bytes)])
}

/// Fields that do not fit what follows.
fn wrong(family: Family, mut bytes: Vec<u8>, random: &mut Random) -> Tricked {
    let kind = random.below(6);
    let name = match (kind, family) {
        (0, _) => {
            bytes[0] = bytes[0] & 0xf | random.byte() << 4;
            "wrong version"
        }
        (1, Family::V4) => {
            bytes[0] = 0x40 | random.byte() & 0xf;
            "wrong header length"
        }
        (0..=3, _) => {
            let length =
                random.pick(&[0, 1, 8, 19, 20, 21, 28, 40, 1500, 0xffff]).to_be_bytes_u16();
            let at = family.pick(2, 4);
            bytes[at..at + 2].copy_from_slice(&length);
            "wrong length"
        }
        (4, _) => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
            return ("cut off", vec![bytes]);
        }
        _ => {
            bytes.extend([0; 64]);
            "trailing bytes"
        }
    };
    if family == Family::V4 && random.one_in(4) {
        bytes[10] ^= 0xff;
        return ("wrong header checksum", vec![bytes]);
    }
    (name, vec![sealed(family, bytes)])
}

/// Network order of a number that stands for a length.
trait ToNetworkOrder {
    fn to_be_bytes_u16(self) -> [u8; 2];
}

impl ToNetworkOrder for usize {
    fn to_be_bytes_u16(self) -> [u8; 2] {
        (self as u16).to_be_bytes()
    }
}

/// IPv4 options (RFC 791 section 3.1); source routes lead through the host to a container.
fn v4_options(whole: &[u8], scene: &Scene, random: &mut Random) -> Tricked {
    let hop = |random: &mut Random| match random.pick(&scene.stations_and_world(Family::V4)) {
        IpAddr::V4(hop) => hop.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    let route = |kind: u8, random: &mut Random| {
        [&[kind, 11, 4][..], &hop(random), &hop(random), &[0]].concat()
    };
    let (name, options) = match random.below(7) {
        0 => ("loose source route", route(131, random)),
        1 => ("strict source route", route(137, random)),
        2 => ("record route", route(7, random)),
        3 => ("router alert", vec![148, 4, 0, 0]),
        4 => ("timestamp", vec![68, 8, 5, 0, 0, 0, 0, 0]),
        // The host complains, along the route.
        5 => ("source route and nonsense", {
            let kind = random.pick(&[131, 137]);
            [&[kind, 7, 8][..], &hop(random), &[7, 40, 4, 0, 0]].concat()
        }),
        _ => ("broken options", random.bytes::<40>().into()),
    };
    let mut bytes = [&whole[..V4_LEN], &options, &whole[V4_LEN..]].concat();
    bytes[0] = 0x40 | (V4_LEN + options.len()).div_ceil(4) as u8;
    set_length(Family::V4, &mut bytes);
    (name, vec![sealed(Family::V4, bytes)])
}

/// IPv6 extension headers (RFC 8200 section 4), one or several.
fn v6_extensions(whole: &[u8], scene: &Scene, random: &mut Random) -> Tricked {
    let mut bytes = whole.to_vec();
    let (name, count) = if random.one_in(3) { ("nested", 2 + random.below(8)) } else { ("", 1) };
    let mut last = "";
    for _ in 0..count {
        let (kind, header_name, mut header) = extension(scene, random);
        header[0] = bytes[6];
        bytes[6] = kind;
        bytes.splice(V6_LEN..V6_LEN, header);
        last = header_name;
    }
    set_length(Family::V6, &mut bytes);
    (if name.is_empty() { last } else { name }, vec![bytes])
}

/// An extension header whose first byte, the next header, is still to be set.
fn extension(scene: &Scene, random: &mut Random) -> (u8, &'static str, Vec<u8>) {
    let pad = [0, 0, 1, 4, 0, 0, 0, 0];
    match random.below(6) {
        0 => (0, "hop-by-hop", pad.into()),
        1 => (0, "hop-by-hop router alert", vec![0, 0, 5, 2, 0, 0, 1, 0]),
        2 => {
            let hop = match random.pick(&scene.stations_and_world(Family::V6)) {
                IpAddr::V6(hop) => hop.octets(),
                IpAddr::V4(_) => [0; 16],
            };
            (43, "routing header 0", [&[0, 2, 0, 1, 0, 0, 0, 0][..], &hop].concat())
        }
        3 => (60, "destination options", pad.into()),
        4 => (
            51,
            "authentication",
            vec![0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        _ => (44, "atomic fragment", [&[0, 0, 0, 0][..], &random.bytes::<4>()].concat()),
    }
}

/// Makes the header's length that of the packet.
fn set_length(family: Family, bytes: &mut [u8]) {
    let len = family.pick(bytes.len(), bytes.len().saturating_sub(V6_LEN)).to_be_bytes_u16();
    let at = family.pick(2, 4);
    bytes[at..at + 2].copy_from_slice(&len);
}

/// With the header checksum that IPv4 asks for, over as much of the header as there is.
fn sealed(family: Family, mut bytes: Vec<u8>) -> Vec<u8> {
    if family == Family::V4 {
        let len = (usize::from(bytes[0] & 0xf) * 4).clamp(V4_LEN, bytes.len());
        bytes[10..12].fill(0);
        let sum = checksum(&[&bytes[..len]]).to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
    }
    bytes
}
