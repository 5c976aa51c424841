//! Source ports of containers beside those of the host itself, with real sockets; and what happens when
//! there are none left.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
};

use netd_tests::{
    clients::{Connection, ask_by, bind_udp, fetch, udp_socket_from},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    topology::{World, at, gateway},
};

/// Every port that may be chosen is one that a container's flow may have.
const EVERY_PORT: &str = "1024 65535";

#[test]
fn a_connection_of_the_host_works_beside_an_earlier_flow_from_its_port() {
    const PORT: u16 = 40_000;
    let world = World::new();
    world.host.set_sysctl("ipv4/ip_local_port_range", EVERY_PORT);
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    for family in Family::BOTH {
        let to = at(family.client(), 80);
        let mut theirs = Connection::open_from(&app.namespace, PORT, to);
        assert_eq!(theirs.fetch().client, family.host());
        let mut ours = Connection::open_from(&world.host, PORT, to);
        for _ in 0..3 {
            assert_eq!(ours.fetch().client, family.host());
            assert_eq!(theirs.fetch().client, family.host());
        }
        let to = at(family.client(), 9000);
        let theirs = udp_socket_from(&app.namespace, PORT, to).unwrap();
        assert_eq!(ask_by(&theirs, "theirs").text, "theirs");
        let ours = udp_socket_from(&world.host, PORT, to).unwrap();
        for _ in 0..3 {
            assert_eq!(ask_by(&ours, "ours").text, "ours");
            assert_eq!(ask_by(&theirs, "theirs").text, "theirs");
        }
    }
    let flows = world.netd(&format!("conntrack ls --sport {PORT} --json")).json();
    let replies: BTreeSet<String> = flows
        .as_array()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}", f["proto"], f["reply"]))
        .collect();
    assert_eq!(replies.len(), 8, "{flows}");
}

#[test]
fn a_flow_beside_an_earlier_connection_of_the_host_gets_another_port() {
    const PORT: u16 = 40_000;
    let world = World::new();
    world.host.set_sysctl("ipv4/ip_local_port_range", EVERY_PORT);
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let to = at(family.client(), 80);
        let mut ours = Connection::open_from(&world.host, PORT, to);
        assert_eq!(ours.fetch().client, family.host());
        let mut theirs = Connection::open_from(&app.namespace, PORT, to);
        for _ in 0..3 {
            assert_eq!(theirs.fetch().client, family.host());
            assert_eq!(ours.fetch().client, family.host());
        }
    }
    assert_eq!(world.flows(), 2, "the host's connections are not tracked");
}

#[test]
fn what_the_host_sends_from_a_bridges_address_is_masqueraded() {
    let world = World::new();
    world.network("front", 1, "");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    for family in Family::BOTH {
        let bridge = gateway(family, 1);
        for server in [family.client(), family.remote()] {
            let to = at(server, 80);
            let line = format!("curl -sS --max-time 10 --interface {bridge} http://{to}/");
            let text = world.host.run(&line).ok();
            assert!(text.contains(&family.host().to_string()), "{text}");
            let line = format!("ping -n -q -c 1 -W 10 -I {bridge} {server}");
            world.host.run(&line).ok();
        }
        let socket = world.host.inside(|| {
            let socket = bind_udp(at(bridge.parse().unwrap(), 0)).unwrap();
            socket.connect(at(family.client(), 9000)).unwrap();
            socket
        });
        assert_eq!(ask_by(&socket, "hello").client, family.host());
        // The host's other traffic is its own.
        assert_eq!(fetch(&world.host, at(family.client(), 80)).client, family.host());
    }
    assert_eq!(world.flows(), 10, "two connections, two pings and a datagram of each family");
}

/// Sends a datagram from each port of a range; the sockets hold the ports.
fn send_from(from: &Namespace, ports: std::ops::Range<u16>, to: SocketAddr) -> Vec<UdpSocket> {
    let send = |port| {
        let socket = udp_socket_from(from, port, to).unwrap();
        socket.send(b"hello").unwrap();
        socket
    };
    ports.map(send).collect()
}

/// The ports that the flows to a destination were given.
fn given_ports(world: &World, to: SocketAddr) -> Vec<u64> {
    let line = format!("conntrack ls -p udp --orig-dst {} --dport {} --json", to.ip(), to.port());
    let flows = world.netd(&line).json();
    let ports = flows.as_array().unwrap().iter().map(|flow| flow["reply"]["dport"].as_u64());
    ports.map(Option::unwrap).collect()
}

#[test]
fn without_a_free_port_packets_are_dropped_until_flows_end() {
    let world = World::new();
    // So that 536 are left.
    world.host.set_sysctl("ipv4/ip_local_reserved_ports", "1-64999");
    world.network("front", 1, "");
    let containers = ["one", "two"].map(|name| world.container(name, "front", ""));
    for (number, family) in Family::BOTH.into_iter().enumerate() {
        let to = at(family.remote(), 9000);
        let dropped = || world.packets("source_ports_exhausted");
        let before = dropped();
        let mut sockets = Vec::new();
        for (container, ports) in containers.iter().zip([20_000..20_500, 21_000..21_500]) {
            sockets.extend(send_from(&container.namespace, ports, to));
        }
        let ports = given_ports(&world, to);
        let distinct: BTreeSet<u64> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len(), "no two flows have the same replies");
        assert!(distinct.iter().all(|&port| port >= 65_000), "{distinct:?}");
        let missing = sockets.len() - ports.len();
        // Of so few among so many the search does not find the last ones.
        assert!((464..=600).contains(&missing), "{missing}");
        assert_eq!(dropped() - before, missing as u64);
        // Another destination has ports of its own.
        let elsewhere = at(family.client(), 9000);
        send_from(&containers[0].namespace, 22_000..22_010, elsewhere);
        assert!(given_ports(&world, elsewhere).len() > 1);
        // What ends is free at once.
        world.netd("conntrack flush -p udp").ok();
        send_from(&containers[1].namespace, 23_000..23_300, to);
        assert!(given_ports(&world, to).len() > 150);
        let said = || world.daemon.log().matches("no free source port").count();
        eventually("the daemon says so", || said() >= 1);
        assert!(said() <= number + 1, "but not for each packet");
    }
    // The kernel announces no change of these.
    world.host.set_sysctl("ipv4/ip_local_reserved_ports", "1");
    let to = at(Family::V4.remote(), 9001);
    let mut ports = 24_000..;
    eventually("ports are kept again", || {
        let port = ports.next().unwrap();
        send_from(&containers[0].namespace, port..port + 1, to);
        given_ports(&world, to).contains(&u64::from(port))
    });
}
