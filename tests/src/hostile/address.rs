//! IP addresses: who a packet claims to be from, and whom it is meant for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    random::Random,
    scene::{Place, Scene, gateway_address, parsed},
};
use crate::family::Family;

/// An address and what it is.
pub type Named = (&'static str, IpAddr);

/// Where a packet claims to come from: half of the time where it does.
pub fn source(scene: &Scene, attacker: usize, family: Family, random: &mut Random) -> Named {
    if random.one_in(2) {
        return ("own", scene.stations[attacker].address(family));
    }
    match random.below(3) {
        0 => station(scene, attacker, family, random),
        1 => host(scene, family, random),
        _ => random.pick(&specials(family)),
    }
}

/// Where a packet is to go.
pub fn destination(scene: &Scene, attacker: usize, family: Family, random: &mut Random) -> Named {
    match random.below(10) {
        0..=3 => station(scene, attacker, family, random),
        4..=6 => host(scene, family, random),
        7 => ("world", family.remote()),
        8 => disguised(scene, family, random),
        _ => random.pick(&specials(family)),
    }
}

fn station(scene: &Scene, attacker: usize, family: Family, random: &mut Random) -> Named {
    let station = random.pick(&(0..scene.stations.len()).collect::<Vec<_>>());
    let name = if station == attacker {
        "own"
    } else if scene.stations[station].place == scene.stations[attacker].place {
        "neighbour"
    } else if scene.stations[station].place == Place::Outside {
        "client"
    } else {
        "station elsewhere"
    };
    (name, scene.stations[station].address(family))
}

fn host(scene: &Scene, family: Family, random: &mut Random) -> Named {
    let gateway = gateway_address(family, random.pick(&scene.bridges).0);
    let local = scene.link_local.iter().copied().find(|ip| Family::of(*ip) == family);
    match random.below(4) {
        0 | 1 => ("host's uplink", family.host()),
        2 => ("gateway", gateway),
        _ => ("host's link-local", local.unwrap_or(gateway)),
    }
}

/// Addresses that mean a container to somebody who looks into them: IPv4 within IPv6, and the subnet's
/// own, unassigned and broadcast addresses.
fn disguised(scene: &Scene, family: Family, random: &mut Random) -> Named {
    let number = random.pick(&scene.bridges).0;
    let Family::V6 = family else {
        return random.pick(&[
            ("subnet broadcast", Ipv4Addr::new(10, 77, number, 255).into()),
            ("subnet", Ipv4Addr::new(10, 77, number, 0).into()),
            ("unassigned", Ipv4Addr::new(10, 77, number, 222).into()),
        ]);
    };
    let victim = random.pick(&(1..scene.stations.len()).collect::<Vec<_>>());
    let IpAddr::V4(inner) = scene.stations[victim].address(Family::V4) else {
        return ("unassigned", family.remote());
    };
    let [a, b, c, d] = inner.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    random.pick(&[
        ("v4-mapped", inner.to_ipv6_mapped().into()),
        ("v4-compatible", Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low).into()),
        ("6to4", Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()),
        ("nat64", Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()),
        ("subnet", Ipv6Addr::new(0xfd77, u16::from(number), 0, 0, 0, 0, 0, 0).into()),
        ("unassigned", Ipv6Addr::new(0xfd77, u16::from(number), 0, 0, 0, 0, 0, 0x222).into()),
    ])
}

/// What no honest packet has as a source, and few as a destination.
fn specials(family: Family) -> Vec<Named> {
    let v4 = [
        ("loopback", "127.0.0.1"),
        ("loopback", "127.77.3.2"),
        ("unspecified", "0.0.0.0"),
        ("broadcast", "255.255.255.255"),
        ("multicast", "224.0.0.1"),
        ("multicast", "224.0.0.22"),
        ("multicast", "239.1.2.3"),
        ("link-local", "169.254.1.1"),
        ("reserved", "240.0.0.1"),
        ("world", "198.51.100.7"),
    ];
    let v6 = [
        ("loopback", "::1"),
        ("unspecified", "::"),
        ("multicast", "ff02::1"),
        ("multicast", "ff02::2"),
        ("multicast", "ff02::16"),
        ("multicast", "ff01::1"),
        ("multicast", "ff05::2"),
        ("multicast", "ff0e::1"),
        ("link-local", "fe80::bad"),
        ("world", "2001:db8:2::7"),
    ];
    family.pick(v4, v6).map(|(name, text)| (name, parsed(text))).into()
}
