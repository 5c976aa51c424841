//! ARP and neighbour discovery: asking and answering for others, and for the gateway.

use std::net::{IpAddr, SocketAddr};

use super::{address, link::Mac, random::Random, scene::Scene, transport::replace};
use crate::{
    family::Family,
    packet::{Kind, Packet},
};

/// What is said, the ethertype and the packet.
pub type Said = (&'static str, u16, Vec<u8>);

/// An ARP packet (RFC 826) about anybody's address; marks follow as padding.
pub fn arp(scene: &Scene, attacker: usize, marks: &[u8], random: &mut Random) -> Said {
    let (_, asked) = address::destination(scene, attacker, Family::V4, random);
    let (_, claimed) = address::source(scene, attacker, Family::V4, random);
    let (name, kind, sender, target) = match random.below(4) {
        0 => ("arp request", 1, claimed, asked),
        1 => ("arp reply", 2, asked, claimed),
        2 => ("gratuitous arp", 1, asked, asked),
        _ => ("gratuitous arp reply", 2, asked, asked),
    };
    let mac = mac(scene, attacker, random);
    let packet =
        [&[0, 1, 8, 0, 6, 4, 0, kind][..], &mac, &octets(sender), &[0; 6], &octets(target), marks];
    (name, 0x0806, packet.concat())
}

fn mac(scene: &Scene, attacker: usize, random: &mut Random) -> Mac {
    let other = random.pick(&(0..scene.stations.len()).collect::<Vec<_>>());
    if random.one_in(2) { scene.stations[attacker].mac } else { scene.stations[other].mac }
}

/// A message of RFC 4861, whatever becomes of it: the marks are in an option that nobody knows.
pub fn nd(
    scene: &Scene,
    attacker: usize,
    marks: &[u8],
    random: &mut Random,
) -> (Said, IpAddr, IpAddr) {
    let (_, target) = address::destination(scene, attacker, Family::V6, random);
    let (_, src) = address::source(scene, attacker, Family::V6, random);
    let (_, dst) = address::destination(scene, attacker, Family::V6, random);
    let mac = mac(scene, attacker, random);
    let link_layer = |kind: u8| [&[kind, 1][..], &mac].concat();
    // Prefix information: a network that leads through the attacker (RFC 4861 section 4.6.2).
    let prefix = [&[3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0][..], &octets(target)];
    let (name, kind, head, body) = match random.below(5) {
        0 => ("neighbour solicitation", 135, [0; 4], [octets(target), link_layer(1)].concat()),
        1 => (
            "neighbour advertisement",
            136,
            [0xe0, 0, 0, 0],
            [octets(target), link_layer(2)].concat(),
        ),
        2 => ("router solicitation", 133, [0; 4], link_layer(1)),
        3 => {
            let timers = vec![0; 8];
            let body = [timers, prefix.concat(), link_layer(1)].concat();
            ("router advertisement", 134, [64, 0, 7, 8], body)
        }
        _ => ("redirect", 137, [0; 4], [octets(target), octets(dst), link_layer(2)].concat()),
    };
    let unknown = [&[253, (marks.len() / 8 + 1) as u8, 0, 0, 0, 0, 0, 0][..], marks].concat();
    let payload = [body, unknown].concat();
    let (from, to) = (SocketAddr::new(src, 0), SocketAddr::new(dst, 0));
    let mut bytes = Packet { payload, ..Packet::new(Kind::Icmp(kind), from, to) }.datagram();
    replace(&mut bytes, 44, &head, 42);
    // What has crossed a router is ignored (RFC 4861 section 7.1).
    bytes[7] = random.pick(&[255, 255, 255, 64]);
    ((name, 0x86dd, bytes), src, dst)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
