//! Ethernet: who a frame claims to be from and for, and which tags it wears.

use super::{random::Random, scene::Scene};

/// A MAC address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// All spanning tree bridges (IEEE 802.1D).
const STP: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];
/// 224.0.0.1 and ff02::1.
const MULTICASTS: [Mac; 2] = [[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];

/// What was used before 802.1ad.
const OLD_TAG: u16 = 0x9100;

/// 802.1Q, 802.1ad and what was used before it.
const TAGS: [u16; 3] = [0x8100, 0x88a8, OLD_TAG];

/// A frame without what it carries.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where it is to go.
    pub dst: Mac,
    /// What is claimed.
    pub src: Mac,
    /// Tags: ethertype and control information, from the outside in.
    pub tags: Vec<(u16, u16)>,
    /// What was chosen: destination, source, tags.
    pub names: [&'static str; 3],
}

impl Link {
    /// A frame as an honest station sends it.
    pub fn honest(scene: &Scene, attacker: usize) -> Self {
        let station = &scene.stations[attacker];
        let (dst, src) = (scene.host_mac(station), station.mac);
        Self { dst, src, tags: Vec::new(), names: ["gateway", "own", "untagged"] }
    }

    /// Any frame.
    pub fn random(scene: &Scene, attacker: usize, random: &mut Random) -> Self {
        let mut link = Self::honest(scene, attacker);
        if random.one_in(2) {
            (link.names[0], link.dst) = destination(scene, attacker, random);
        }
        if random.one_in(3) {
            (link.names[1], link.src) = source(scene, attacker, random);
        }
        if random.one_in(5) {
            (link.names[2], link.tags) = tags(random);
        }
        link
    }

    /// The frame. Of what the tags name, only the innermost ethertype is the payload's.
    pub fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [&self.dst[..], &self.src].concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Whether a tag names a VLAN; one that only sets a priority does not. What Linux does not take for a
    /// tag is the ethertype of everything behind it.
    pub fn names_a_vlan(&self) -> bool {
        let tags = self.tags.iter().take_while(|(kind, _)| *kind != OLD_TAG);
        tags.into_iter().any(|(_, control)| control & 0xfff != 0)
    }
}

fn destination(scene: &Scene, attacker: usize, random: &mut Random) -> (&'static str, Mac) {
    match random.below(8) {
        0 => ("uplink", scene.uplink_mac),
        1 => ("broadcast", BROADCAST),
        2 => ("multicast", random.pick(&MULTICASTS)),
        3 => ("stp", STP),
        4 => ("own", scene.stations[attacker].mac),
        5 => ("random", with_bits(random.bytes(), 0)),
        6 => ("another bridge", random.pick(&scene.bridges).1),
        _ => station(scene, attacker, random),
    }
}

fn source(scene: &Scene, attacker: usize, random: &mut Random) -> (&'static str, Mac) {
    match random.below(6) {
        0 => ("bridge", random.pick(&scene.bridges).1),
        1 => ("uplink", scene.uplink_mac),
        2 => ("multicast", with_bits(random.bytes(), 1)),
        3 => ("random", with_bits(random.bytes(), 0)),
        4 => ("zero", [0; 6]),
        _ => station(scene, attacker, random),
    }
}

/// Somebody else's, on the same network or another.
fn station(scene: &Scene, attacker: usize, random: &mut Random) -> (&'static str, Mac) {
    let others: Vec<usize> = (0..scene.stations.len()).filter(|at| *at != attacker).collect();
    let other = &scene.stations[random.pick(&others)];
    let is_near = other.place == scene.stations[attacker].place;
    (if is_near { "neighbour" } else { "station elsewhere" }, other.mac)
}

/// A locally administered address with the group bit as asked for.
fn with_bits(mut mac: Mac, group: u8) -> Mac {
    mac[0] = mac[0] & 0xfc | 2 | group;
    mac
}

fn tags(random: &mut Random) -> (&'static str, Vec<(u16, u16)>) {
    let mut tag = |vlan: u16| (random.pick(&TAGS), u16::from(random.byte()) << 13 | vlan);
    let (priority, other_priority, vlan, last_vlan) = (tag(0), tag(0), tag(7), tag(4095));
    match random.below(6) {
        0 => ("priority", vec![priority]),
        1 => ("vlan", vec![vlan]),
        2 => ("priority, vlan", vec![priority, vlan]),
        3 => ("vlan, priority", vec![vlan, priority]),
        4 => ("two priorities", vec![priority, other_priority]),
        _ => ("two vlans", vec![vlan, last_vlan]),
    }
}
