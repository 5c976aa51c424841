use super::*;
use crate::{
    hostile::scene::{Published, gateway_address},
    packet::{Kind as Carries, Packet},
    topology::at,
};

/// The numbers of the stations below.
const CLIENT: usize = 0;
const MALLORY: usize = 1;
const NEIGHBOUR: usize = 2;
const DB: usize = 3;
const VAULT: usize = 4;

const HOST_PORT: u16 = 8080;

fn scene() -> Scene {
    let station = |name, place, number: u8, last: u8, published| Station {
        name,
        place,
        mac: [2, 0, 0, 0, number, last],
        addresses: [
            IpAddr::from([10, 77, number, last]),
            IpAddr::from([0xfd77, u16::from(number), 0, 0, 0, 0, 0, u16::from(last)]),
        ],
        published,
    };
    let published = Some(Published { host_port: HOST_PORT, port: 80 });
    let mut client = station("client", Place::Outside, 0, 0, None);
    client.addresses = Family::BOTH.map(Family::client);
    let quiet = Place::Network(1, Kind::Apart);
    Scene {
        stations: vec![
            client,
            station("mallory", quiet, 1, 10, None),
            station("neighbour", quiet, 1, 11, None),
            station("db", Place::Network(3, Kind::Open), 3, 10, published),
            station("vault", Place::Network(4, Kind::Internal), 4, 10, None),
        ],
        attackers: vec![CLIENT, MALLORY, VAULT],
        bridges: vec![(1, [2; 6]), (3, [4; 6]), (4, [6; 6])],
        uplink_mac: [8; 6],
        link_local: Vec::new(),
    }
}

fn sent(attacker: usize, packet: &Packet) -> Sent {
    Sent {
        attacker,
        frames: vec![packet.frame()],
        names: Vec::new(),
        names_a_vlan: false,
        addresses: Some((packet.src.ip(), packet.dst.ip())),
        ports: Some((packet.proto(), packet.src.port(), packet.dst.port())),
        quotes: None,
    }
}

/// A packet that arrives as it was sent, or as `arrived`.
#[track_caller]
fn check(from: usize, to: usize, packet: &Packet, arrived: &Packet, expected: Option<Way>) {
    let arrival = Arrival::read(&arrived.frame());
    let found = way(&scene(), &Begun::new(), &sent(from, packet), to, arrival);
    assert_eq!(found, expected, "{packet:?} as {arrived:?}");
}

#[test]
fn a_published_port_is_all_that_another_network_has() {
    let scene = scene();
    for family in Family::BOTH {
        let (own, db) =
            (scene.stations[MALLORY].address(family), scene.stations[DB].address(family));
        let direct = Packet::new(Carries::Udp, at(own, 5), at(db, 80));
        check(MALLORY, DB, &direct, &direct, None);
        for host in [family.host(), gateway_address(family, 3)] {
            let asked = direct.to(at(host, HOST_PORT));
            check(MALLORY, DB, &asked, &direct, Some(Way::Published));
            check(VAULT, DB, &asked, &direct, None);
            check(CLIENT, DB, &asked, &direct, Some(Way::Published));
            check(MALLORY, DB, &asked.to(at(host, 81)), &direct, None);
            check(MALLORY, DB, &asked, &direct.to(at(db, 81)), None);
            check(MALLORY, VAULT, &asked, &direct, None);
        }
    }
}

#[test]
fn outside_only_translated_packets_are_seen() {
    let scene = scene();
    for family in Family::BOTH {
        let own = scene.stations[MALLORY].address(family);
        let packet = Packet::new(Carries::Udp, at(own, 5), at(family.remote(), 53));
        check(MALLORY, CLIENT, &packet, &packet, None);
        let translated = packet.from(at(family.host(), 5));
        check(MALLORY, CLIENT, &packet, &translated, Some(Way::Translated));
        check(VAULT, CLIENT, &packet, &translated, None);
        check(MALLORY, CLIENT, &packet, &translated.to(at(family.client(), 53)), None);
        let from_gateway = packet.from(at(gateway_address(family, 1), 5));
        check(MALLORY, CLIENT, &packet, &from_gateway, None);
    }
}

#[test]
fn neighbours_that_are_apart_find_each_other_and_no_more() {
    let scene = scene();
    for family in Family::BOTH {
        let [own, neighbour] = [MALLORY, NEIGHBOUR].map(|at| scene.stations[at].address(family));
        let packet = Packet::new(Carries::Udp, at(own, 5), at(neighbour, 53));
        check(MALLORY, NEIGHBOUR, &packet, &packet, None);
        for (kind, expected) in [
            (135, Some(Way::Discovery)),
            (136, Some(Way::Discovery)),
            (133, None),
            (134, None),
            (137, None),
        ] {
            let message = packet.with_kind(Carries::Icmp(kind));
            let expected = expected.filter(|_| family == Family::V6);
            check(MALLORY, NEIGHBOUR, &message, &message, expected);
            check(MALLORY, DB, &message, &message, None);
        }
        let answer = Packet::new(Carries::EchoReply, at(family.host(), 0), at(neighbour, 5));
        let asked = Packet::new(Carries::EchoRequest, at(neighbour, 5), at(family.host(), 0));
        check(MALLORY, NEIGHBOUR, &asked, &answer, Some(Way::HostAnswer));
        check(MALLORY, NEIGHBOUR, &answer, &answer, None);
        check(CLIENT, NEIGHBOUR, &asked, &answer, None);
    }
}

#[test]
fn a_reply_is_one_to_the_very_ports_of_a_flow() {
    let scene = scene();
    for family in Family::BOTH {
        let db = scene.stations[DB].address(family);
        let reply = Packet::new(Carries::Udp, at(family.remote(), 53), at(family.host(), 6));
        let arrival = Arrival::read(&reply.to(at(db, 5)).frame());
        let begun = Begun::from([(17, family.remote(), 53, 6)]);
        for (reply, expected) in [
            (reply.clone(), Some(Way::Reply)),
            (reply.from(at(family.remote(), 54)), None),
            (reply.from(at(family.client(), 53)), None),
            (reply.to(at(family.host(), 7)), None),
        ] {
            assert_eq!(way(&scene, &begun, &sent(CLIENT, &reply), DB, arrival), expected);
            assert_eq!(way(&scene, &begun, &sent(MALLORY, &reply), DB, arrival), None);
            assert_eq!(way(&scene, &begun, &sent(CLIENT, &reply), VAULT, arrival), None);
        }
    }
}

#[test]
fn tags_and_arp_end_at_the_network() {
    let scene = scene();
    let mut sent = sent(
        MALLORY,
        &Packet::new(Carries::Udp, at([10, 77, 1, 10].into(), 1), at([10, 77, 1, 11].into(), 1)),
    );
    let way = |sent: &Sent, at| way(&scene, &Begun::new(), sent, at, Arrival::Arp);
    assert_eq!(way(&sent, NEIGHBOUR), Some(Way::Arp));
    assert_eq!([DB, VAULT, CLIENT].map(|at| way(&sent, at)), [None; 3]);
    sent.names_a_vlan = true;
    assert_eq!(way(&sent, NEIGHBOUR), None);
}

#[test]
fn the_attack_is_the_same_for_the_same_seed() {
    let attack = |seed| super::super::attack::Attack::new(scene(), seed);
    for number in 0..2000 {
        assert_eq!(attack(7).packet(number).frames, attack(7).packet(number).frames);
    }
    assert_ne!(attack(7).packet(0).frames, attack(8).packet(0).frames);
}

#[test]
fn without_ports_the_protocol_makes_a_reply() {
    let scene = scene();
    for family in Family::BOTH {
        let db = scene.stations[DB].address(family);
        let begun = Begun::from([(50, family.remote(), 0, 0)]);
        for (proto, expected) in [(50, Some(Way::Reply)), (47, None)] {
            let reply =
                Packet::new(Carries::Other(proto), at(family.remote(), 0), at(family.host(), 0));
            let arrival = Arrival::read(&reply.to(at(db, 0)).frame());
            assert_eq!(way(&scene, &begun, &sent(CLIENT, &reply), DB, arrival), expected);
            assert_eq!(way(&scene, &begun, &sent(MALLORY, &reply), DB, arrival), None);
        }
    }
}

#[test]
fn an_error_is_for_who_has_begun_the_flow_that_it_quotes() {
    let scene = scene();
    let another = Whose::Of(MALLORY);
    for family in Family::BOTH {
        let db = scene.stations[DB].address(family);
        let quoted =
            Packet::new(Carries::EchoRequest, at(family.host(), 7), at(family.client(), 0));
        let error = Packet::new(Carries::Icmp(3), at(family.client(), 0), at(family.host(), 0));
        let arrival = Arrival::read(&error.to(at(db, 0)).frame());
        let packet = Ip::read(&quoted.datagram()).unwrap();
        let sent = Sent { quotes: Some(Quote { whose: another, packet }), ..sent(CLIENT, &error) };
        for (id, expected) in [(7, Some(Way::OwnError)), (8, None)] {
            let begun = Begun::from([(quoted.proto(), family.client(), 0, id)]);
            assert_eq!(way(&scene, &begun, &sent, DB, arrival), expected);
            assert_eq!(way(&scene, &begun, &sent, VAULT, arrival), None);
        }
    }
}
