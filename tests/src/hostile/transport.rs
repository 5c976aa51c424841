//! What IP packets carry: every transport, whole, and the ICMP errors that others would believe.

use std::net::{IpAddr, SocketAddr};

use super::{arrival::Ip, mark, random::Random, scene::Scene};
use crate::{
    family::Family,
    packet::{ACK, Kind, Packet, SYN, checksum},
};

/// The port that the controls ask the world for, whose flows the attack tries to take over.
pub const WORLD_PORT: u16 = 9000;
/// The source port of the controls.
pub const CONTROL_PORT: u16 = 40_000;

/// The ports that the attack sends from.
pub(super) const SOURCE_PORTS: [u16; 8] =
    [CONTROL_PORT, CONTROL_PORT + 1, 40_002, WORLD_PORT, 80, 8080, 53, 0];
/// Those that it sends to where nobody publishes them.
pub(super) const PORTS: [u16; 8] = [WORLD_PORT, CONTROL_PORT, 53, 67, 547, 1, 0, 65_535];

/// ICMP types of errors.
const ERRORS: [(u8, u8); 5] = [(3, 1), (11, 3), (12, 4), (5, 2), (4, 1)];
/// Others that mean something, but for echo and discovery.
const OTHERS: [(u8, u8); 5] = [(9, 130), (10, 131), (15, 132), (17, 143), (42, 139)];

/// An IP packet, and what was chosen for it.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Its name.
    pub name: &'static str,
    /// The packet.
    pub packet: Packet,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Of an ICMP error, what it quotes.
    pub quotes: Option<Quote>,
}

/// What an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Whose flow it is.
    pub whose: Whose,
    /// The packet of it, as the receiver of the error would read it.
    pub packet: Ip,
}

/// Whose flow an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the station with this number.
    Of(usize),
    /// One that has the host's address, so that of anybody behind it.
    Translated,
    /// One that the error's own addresses make plausible.
    Own,
}

/// Any transport between two addresses. `payload` is made of marks.
pub fn random(
    scene: &Scene,
    (src, dst): (IpAddr, IpAddr),
    payload: &[u8],
    random: &mut Random,
) -> Datagram {
    let sport = random.pick(&SOURCE_PORTS);
    let dport = port(scene, random);
    let (src, dst) = (SocketAddr::new(src, sport), SocketAddr::new(dst, dport));
    let (name, kind) = kind(Family::of(src.ip()), random);
    let mut packet = Packet { payload: payload.to_vec(), ..Packet::new(kind, src, dst) };
    let mut quotes = None;
    match kind {
        Kind::Icmp(_) if name == "icmp error" => {
            let (whose, quoted) = quoted(scene, &packet, random);
            quotes = Ip::read(&quoted).map(|packet| Quote { whose, packet });
            packet.payload = [quoted, payload.to_vec()].concat();
        }
        Kind::Other(proto) => packet.payload = opaque(proto, &packet, payload, scene, random),
        Kind::Tcp(_)
        | Kind::TcpWithMss(..)
        | Kind::Sctp(_)
        | Kind::Udp
        | Kind::UdpWithoutChecksum
        | Kind::EchoRequest
        | Kind::EchoReply
        | Kind::Icmp(_) => {}
    }
    let mut bytes = packet.datagram();
    let transport = packet.transport_offset() - 14;
    if let Kind::Tcp(_) = kind {
        // Both numbers are a mark, so that one is in the smallest of first fragments.
        replace(&mut bytes, transport + 4, &payload[..mark::LEN], transport + 16);
    }
    if let Kind::Icmp(kind) = kind {
        replace(&mut bytes, transport, &[kind, random.pick(&[0, 1, 3, 4, 13])], transport + 2);
    }
    Datagram { name, packet, bytes, quotes }
}

/// A port that somebody publishes, listens on or answers from.
fn port(scene: &Scene, random: &mut Random) -> u16 {
    let published: Vec<_> = scene.stations.iter().filter_map(|station| station.published).collect();
    match random.below(6) {
        0..=2 => random.pick(&published).host_port,
        3 => random.pick(&published).port,
        _ => random.pick(&PORTS),
    }
}

fn kind(family: Family, random: &mut Random) -> (&'static str, Kind) {
    let icmp = |(v4, v6)| Kind::Icmp(family.pick(v4, v6));
    match random.below(20) {
        0..=2 => ("tcp", Kind::Tcp(random.byte())),
        3 => ("tcp", Kind::Tcp(random.pick(&[SYN, ACK]))),
        4..=7 => ("udp", Kind::Udp),
        8 => ("udp without checksum", Kind::UdpWithoutChecksum),
        9 => ("echo request", Kind::EchoRequest),
        10 => ("echo reply", Kind::EchoReply),
        11 | 12 => ("icmp error", icmp(random.pick(&ERRORS))),
        13 => ("other icmp", icmp(random.pick(&OTHERS))),
        14 => ("sctp", Kind::Other(132)),
        15 => ("esp", Kind::Other(50)),
        16 => ("gre", Kind::Other(47)),
        17 => ("ipip", Kind::Other(4)),
        18 => ("6in4", Kind::Other(41)),
        _ => ("unknown protocol", Kind::Other(random.byte())),
    }
}

/// The beginning of a packet of somebody's flow, as the error's receiver has sent it or could have.
fn quoted(scene: &Scene, error: &Packet, random: &mut Random) -> (Whose, Vec<u8>) {
    let family = Family::of(error.src.ip());
    let containers: Vec<usize> = (1..scene.stations.len()).collect();
    let owner = random.pick(&containers);
    let station = &scene.stations[owner];
    let kind = random.pick(&[Kind::Udp, Kind::Tcp(ACK), Kind::EchoRequest]);
    let (own, client) = (station.address(family), family.client());
    let outbound = |src| (at(src, CONTROL_PORT), at(family.remote(), WORLD_PORT));
    let reply = |src, port| (at(src, port), at(client, CONTROL_PORT));
    let published = station.published;
    let (whose, (src, dst)) = match (random.below(5), published) {
        (0, Some(published)) => (Whose::Of(owner), reply(family.host(), published.host_port)),
        (1, Some(published)) => (Whose::Of(owner), reply(own, published.port)),
        (2, _) => (Whose::Of(owner), outbound(own)),
        (3, _) => (Whose::Translated, outbound(family.host())),
        _ => (Whose::Own, (error.dst, error.src)),
    };
    let quote = Packet { payload: error.payload.clone(), ..Packet::new(kind, src, dst) }.datagram();
    (whose, quote)
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// What a protocol without ports carries: for tunnels, a packet to a container that is to be let out.
fn opaque(
    proto: u8,
    outer: &Packet,
    payload: &[u8],
    scene: &Scene,
    random: &mut Random,
) -> Vec<u8> {
    let inner = |family: Family, random: &mut Random| {
        let mut pick = || {
            let station = random.pick(&(0..scene.stations.len()).collect::<Vec<_>>());
            scene.stations[station].address(family)
        };
        let (src, dst) = (at(pick(), CONTROL_PORT), at(pick(), 80));
        Packet { payload: payload.to_vec(), ..Packet::new(Kind::Udp, src, dst) }.datagram()
    };
    let ports = [outer.src.port().to_be_bytes(), outer.dst.port().to_be_bytes()].concat();
    match proto {
        4 => inner(Family::V4, random),
        41 => inner(Family::V6, random),
        47 => [&[0, 0, 8, 0][..], &inner(Family::V4, random)].concat(),
        132 => [&ports, &[0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 20][..], payload].concat(),
        50 => [&[0, 0, 1, 0, 0, 0, 0, 1][..], payload].concat(),
        _ => [&ports, payload].concat(),
    }
}

/// Replaces bytes at an even offset of `segment` and keeps the checksum right that covers them
/// (RFC 1624 equation 3).
pub(super) fn replace(bytes: &mut [u8], at: usize, with: &[u8], checksum_at: usize) {
    let without = checksum(&[&bytes[at..at + with.len()]]).to_be_bytes();
    let inverted = [!bytes[checksum_at], !bytes[checksum_at + 1]];
    let sum = checksum(&[&inverted, &without, with]).to_be_bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum);
}
