//! The attack: from the seed and a number, one packet and all that is known of it.

use std::net::IpAddr;

use super::{
    address,
    arrival::{Ip, Ports},
    discovery,
    link::Link,
    mark::{Mark, Marks},
    network,
    random::Random,
    scene::Scene,
    transport::{self, Quote},
};
use crate::family::Family;

/// What a packet of the attack was when it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The station that has sent it.
    pub attacker: usize,
    /// The frames: one, or several fragments.
    pub frames: Vec<Vec<u8>>,
    /// What was chosen, and in which respect.
    pub names: Vec<(&'static str, &'static str)>,
    /// Whether a tag names a VLAN.
    pub names_a_vlan: bool,
    /// The addresses, where it is IP.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// What [`super::arrival::Ip::ports`] would say of the whole packet.
    pub ports: Option<Ports>,
    /// Of an ICMP error, what it quotes.
    pub quotes: Option<Quote>,
}

/// An attack on a scene.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Who is where.
    pub scene: Scene,
    /// What the packets are known by.
    pub marks: Marks,
    seed: u64,
}

impl Attack {
    /// The attack that `seed` stands for.
    pub fn new(scene: Scene, seed: u64) -> Self {
        Self { scene, marks: Marks::new(seed), seed }
    }

    /// A packet of it; the same for the same number.
    pub fn packet(&self, number: u32) -> Sent {
        let mut random = Random::of_packet(self.seed, number);
        let attacker = random.pick(&self.scene.attackers);
        let link = Link::random(&self.scene, attacker, &mut random);
        let mut sent = Sent {
            attacker,
            frames: Vec::new(),
            names: ["to mac", "from mac", "tags"].into_iter().zip(link.names).collect(),
            names_a_vlan: link.names_a_vlan(),
            addresses: None,
            ports: None,
            quotes: None,
        };
        let marks = self.marks.bytes(Mark::Attack(number));
        let (ethertype, packets) = match random.below(20) {
            0..=15 => self.ip(&mut sent, &marks, &mut random),
            16 => self.arp(&mut sent, &marks, &mut random),
            17 | 18 => self.nd(&mut sent, &marks, &mut random),
            _ => other(&mut sent, &marks, &mut random),
        };
        sent.frames = packets.iter().map(|packet| link.frame(ethertype, packet)).collect();
        sent
    }

    fn ip(&self, sent: &mut Sent, marks: &[u8], random: &mut Random) -> (u16, Vec<Vec<u8>>) {
        let family = random.pick(&Family::BOTH);
        let (src_name, src) = address::source(&self.scene, sent.attacker, family, random);
        let (dst_name, dst) = address::destination(&self.scene, sent.attacker, family, random);
        let payload = marks.repeat(if random.one_in(16) { 150 } else { 3 + random.below(6) });
        let datagram = transport::random(&self.scene, (src, dst), &payload, random);
        sent.addresses = Some((src, dst));
        sent.quotes = datagram.quotes;
        sent.ports = Ip::read(&datagram.bytes).and_then(|ip| ip.ports);
        let (trick, packets) = network::trick(family, datagram.bytes, &self.scene, random);
        sent.names.extend([
            ("from address", src_name),
            ("to address", dst_name),
            ("carries", datagram.name),
            ("header", trick),
        ]);
        (family.pick(0x0800, 0x86dd), packets)
    }

    fn arp(&self, sent: &mut Sent, marks: &[u8], random: &mut Random) -> (u16, Vec<Vec<u8>>) {
        let (name, ethertype, packet) =
            discovery::arp(&self.scene, sent.attacker, &marks.repeat(2), random);
        sent.names.push(("carries", name));
        (ethertype, vec![packet])
    }

    fn nd(&self, sent: &mut Sent, marks: &[u8], random: &mut Random) -> (u16, Vec<Vec<u8>>) {
        let ((name, ethertype, packet), src, dst) =
            discovery::nd(&self.scene, sent.attacker, &marks.repeat(2), random);
        sent.addresses = Some((src, dst));
        sent.names.push(("carries", name));
        (ethertype, vec![packet])
    }
}

/// Neither IP nor ARP, or less than a header of them.
fn other(sent: &mut Sent, marks: &[u8], random: &mut Random) -> (u16, Vec<Vec<u8>>) {
    // LLC of a spanning tree's BPDU, behind a length (IEEE 802.1D).
    let bpdu = [&[0x42, 0x42, 3, 0, 0, 0, 0, 0][..], &marks.repeat(4)].concat();
    // LLC and SNAP of an IPv4 packet (RFC 1042), without the packet.
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &marks.repeat(4)].concat();
    let (name, ethertype, packet) = match random.below(8) {
        0 => ("stp", bpdu.len() as u16, bpdu),
        1 => ("llc", snap.len() as u16, snap),
        2 => ("runt ipv4", 0x0800, marks.into()),
        3 => ("runt ipv6", 0x86dd, marks.into()),
        4 => ("empty", random.pick(&[0x0800, 0x0806, 0x86dd, 0x8100, 0]), Vec::new()),
        5 => ("pppoe", 0x8864, [&[0x11, 0, 0, 1, 0, 66, 0, 0x21][..], &marks.repeat(8)].concat()),
        6 => ("mpls", 0x8847, [&[0, 0, 1, 0x40][..], &marks.repeat(8)].concat()),
        _ => ("unknown ethertype", u16::from_be_bytes(random.bytes()), marks.repeat(6)),
    };
    sent.names.push(("carries", name));
    (ethertype, vec![packet])
}
