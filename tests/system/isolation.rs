//! What is not to get through, and is counted.

use std::net::IpAddr;

use netd_tests::{
    clients::{NoConnection, answers_udp, ask_udp, fetch, pings, pings_at_once, try_fetch},
    condition::eventually,
    family::Family,
    hostile::wire::Wire,
    packet::{Kind, Packet, checksum},
    servers,
    topology::{Container, World, at, gateway},
};

#[test]
fn nobody_outside_passes_for_a_container() {
    let world = World::new();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 8080:80");
    for family in Family::BOTH {
        let forged = family.pick("10.77.1.200", "fd77:1::200");
        world.client.add_address("eth0", forged.parse().unwrap(), family.host_prefix());
        let before = world.packets("spoofed_source");
        let line = format!("ping -n -q -c 1 -W 0.5 -I {forged} {}", family.host());
        // The first may wait for the host's MAC address until ping gives up.
        eventually("a forged packet is counted", || {
            assert!(!world.client.run(&line).is_ok());
            world.packets("spoofed_source") > before
        });
    }
}

#[test]
fn nobody_outside_passes_for_a_container_by_writing_to_everybody() {
    let world = World::new();
    world.network("inner", 1, "--internal");
    let vault = world.container("vault", "inner", "");
    let (client, sniffer) =
        (Wire::sender(&world.client).unwrap(), Wire::sniffer(&vault.namespace).unwrap());
    let ifindex = client.ifindex("eth0").unwrap();
    for family in Family::BOTH {
        let forged = at(world.address("vault", family), 1);
        let lie = Packet::new(Kind::EchoRequest, forged, at(family.host(), 0));
        for mac in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]] {
            let before = world.packets("spoofed_source");
            let frame = [&mac[..], &lie.frame()[6..]].concat();
            client.send(ifindex, &frame).unwrap();
            eventually("the lie is dropped", || world.packets("spoofed_source") > before);
        }
        let mut buffer = [0; 2048];
        while let Some(frame) = sniffer.receive(&mut buffer).unwrap() {
            let is_answer = frame.windows(lie.payload.len()).any(|bytes| bytes == lie.payload);
            assert!(!is_answer, "{family}: the host has answered to the container");
        }
    }
}

#[test]
fn the_hosts_errors_follow_no_source_route_to_another_network() {
    let world = World::new();
    world.network("inner", 1, "--internal");
    world.network("back", 2, "");
    let vault = world.container("vault", "inner", "");
    let db = world.container("db", "back", "");
    let sniffers = [&db.namespace, &world.client].map(|at| Wire::sniffer(at).unwrap());
    let wire = Wire::sender(&vault.namespace).unwrap();
    let bridge = world.netd("network inspect inner --json").json()[0]["bridge"].clone();
    let mac = world.host.run(&format!("ip -json link show {}", bridge.as_str().unwrap())).json();
    let mac = mac[0]["address"].as_str().unwrap().split(':');
    let mac: Vec<u8> = mac.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let own = at(world.address("vault", Family::V4), 1);
    let packet = Packet::new(Kind::Udp, own, at(gateway(Family::V4, 1).parse().unwrap(), 2));
    for (way, sniffer) in
        [world.address("db", Family::V4), Family::V4.client()].into_iter().zip(&sniffers)
    {
        let IpAddr::V4(way) = way else { unreachable!("an address of IPv4") };
        // A source route that ends there, and an option that is broken: the host complains to its end.
        let options = [&[137, 7, 8][..], &way.octets(), &[7, 40, 4, 0, 0]].concat();
        let mut datagram = packet.datagram();
        datagram.splice(20..20, options);
        datagram[0] = 0x48;
        datagram[3] += 12;
        datagram[10..12].fill(0);
        let sum = checksum(&[&datagram[..32]]).to_be_bytes();
        datagram[10..12].copy_from_slice(&sum);
        let frame = [&mac[..], &[2, 0, 0, 0, 0, 9, 8, 0], &datagram].concat();
        let before = world.packets("source_route");
        wire.send(wire.ifindex("eth0").unwrap(), &frame).unwrap();
        eventually("the packet is dropped", || world.packets("source_route") > before);
        let mut buffer = [0; 2048];
        while let Some(frame) = sniffer.receive(&mut buffer).unwrap() {
            let has_crossed = frame.windows(7).any(|bytes| bytes == packet.payload);
            assert!(!has_crossed, "the host's error has crossed networks: {frame:02x?}");
        }
    }
}

#[test]
fn networks_are_apart_until_they_are_allowed() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.network("other", 3, "");
    let app = world.container("app", "front", "");
    let db = world.container("db", "back", "");
    let other = world.container("other", "other", "");
    let _nginx = servers::nginx(&db.namespace, &[80]);
    let _echo = servers::udp_echo(&db.namespace, 9000);
    let check_apart = |from: &Container| {
        for family in Family::BOTH {
            let to = world.address("db", family);
            let before = world.packets("networks_apart");
            assert_eq!(try_fetch(&from.namespace, at(to, 80)), Err(NoConnection::TimedOut));
            assert!(!pings_at_once(&from.namespace, to));
            assert!(!answers_udp(&from.namespace, at(to, 9000)));
            assert!(world.packets("networks_apart") >= before + 3);
        }
    };
    check_apart(&app);

    world.netd("network allow front back").ok();
    for family in Family::BOTH {
        let (from, to) = (world.address("app", family), world.address("db", family));
        assert_eq!(fetch(&app.namespace, at(to, 80)).port, 80);
        ask_udp(&app.namespace, at(to, 9000), "hello");
        assert!(pings(&app.namespace, to));
        assert!(pings(&db.namespace, from));
    }
    check_apart(&other);

    world.netd("network disallow back front").ok();
    check_apart(&app);
    let error = world.refused("network disallow front back");
    assert!(error.contains("front") && error.contains("back"), "{error}");
}
