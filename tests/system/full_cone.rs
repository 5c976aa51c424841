//! `nat = "eim"`: source ports that are given independently of destinations, with real sockets.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use netd_tests::{
    clients::{Connection, ask_by, bind_udp, fetch, udp_socket_from},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    stun::{Behaviour, Dependence, StunServer},
    topology::{World, at},
};
use nix::sys::signal::Signal;

const FULL_CONE: Behaviour = Behaviour {
    mapping: Dependence::EndpointIndependent,
    filtering: Dependence::EndpointIndependent,
    hairpins: true,
};

fn any(family: Family, port: u16) -> SocketAddr {
    at(family.pick(IpAddr::from([0; 4]), IpAddr::from([0; 16])), port)
}

/// A UDP socket of a container that is connected to nothing.
fn socket(namespace: &Namespace, family: Family, port: u16) -> UdpSocket {
    let socket = namespace.inside(|| bind_udp(any(family, port))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

fn stun(world: &World, family: Family) -> StunServer {
    StunServer::start(&world.client, [family.client(), family.remote()])
}

/// RFC 4787 REQ-1, REQ-8 and REQ-9.
#[test]
fn a_stun_client_finds_a_full_cone_that_hairpins() {
    let world = World::new();
    world.network("games", 1, "--nat eim");
    world.network("web", 2, "");
    let [one, two] = ["one", "two"].map(|name| world.container(name, "games", ""));
    let plain = world.container("plain", "web", "");
    for family in Family::BOTH {
        let stun = stun(&world, family);
        // Two containers with the same ports: those of the second cannot be kept.
        for container in [&one, &two] {
            let sockets = [5000, 5001].map(|port| socket(&container.namespace, family, port));
            let [first, second] = &sockets;
            assert_eq!(stun.discover(first, second), FULL_CONE, "{family} {}", container.name);
        }
        let sockets = [6000, 6001].map(|port| socket(&plain.namespace, family, port));
        let found = stun.discover(&sockets[0], &sockets[1]);
        // The port is kept, as Linux keeps it, and so the mapping looks independent.
        let filtering = Dependence::AddressAndPortDependent;
        assert_eq!(found, Behaviour { filtering, hairpins: false, ..FULL_CONE }, "{family}");
    }
    assert!(world.packets("source_ports_exhausted") == 0);
}

/// Peers that learn of each other by a rendezvous server, behind one host and not.
#[test]
fn containers_and_the_world_reach_each_other_by_outside_ports() {
    let world = World::new();
    world.network("games", 1, "--nat eim");
    world.network("others", 2, "-o nat=eim");
    let [one, two] = ["one", "two"].map(|name| world.container(name, "games", ""));
    let three = world.container("three", "others", "");
    for family in Family::BOTH {
        let stun = stun(&world, family);
        let peers = [&one, &two, &three].map(|peer| socket(&peer.namespace, family, 5000));
        let ends = peers.each_ref().map(|peer| stun.outside_end(peer));
        let outsider = socket(&world.client, family, 7000);
        let mut buffer = [0; 64];
        let mut says = |from: &UdpSocket, to: SocketAddr, hears: &UdpSocket, seen: SocketAddr| {
            from.send_to(b"hello", to).unwrap();
            let (len, from) = hears.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"hello"[..], seen), "{family}");
        };
        for (peer, end) in peers.iter().zip(ends) {
            let own = at(family.client(), 7000);
            says(&outsider, end, peer, own);
            says(peer, own, &outsider, end);
            for (other, other_end) in peers.iter().zip(ends).filter(|(_, other)| *other != end) {
                says(peer, other_end, other, end);
                says(other, end, peer, other_end);
            }
        }
    }
    let rows = world.netd("conntrack ls --state mapping -p udp --json").json();
    assert_eq!(rows.as_array().unwrap().len(), 6, "{rows}");
    assert_eq!(rows[0]["orig"]["sport"], 5000);
    assert_eq!(rows[0]["reply"]["sport"], 0);
    world.netd("conntrack flush --endpoint one").ok();
    let rows = world.netd("conntrack ls --state mapping --json").json();
    assert!(rows.as_array().unwrap().iter().all(|row| row["endpoint"] != "one"), "{rows}");
}

/// RFC 5382 REQ-1, REQ-3 and REQ-8.
#[test]
fn a_tcp_port_that_a_container_connects_from_is_reached_by_all() {
    const PORT: u16 = 5000;
    let world = World::new();
    world.network("games", 1, "--nat eim");
    let [one, two] = ["one", "two"].map(|name| world.container(name, "games", ""));
    let _nginx = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        // Another one has the port, so that this one gets another.
        let _theirs = Connection::open_from(&two.namespace, PORT, at(family.client(), 80));
        let _ours = Connection::open_from(&one.namespace, PORT, at(family.remote(), 80));
        let line =
            format!("conntrack ls --state mapping -s {} --json", world.address("one", family));
        let rows = world.netd(&line).json();
        let port = rows[0]["reply"]["dport"].as_u64().and_then(|port| u16::try_from(port).ok());
        let outside = at(family.host(), port.unwrap());
        assert_ne!(outside.port(), PORT, "{rows}");
        let listener = one.namespace.inside(|| TcpListener::bind(any(family, PORT))).unwrap();
        for from in [&world.client, &two.namespace] {
            let mut client = from
                .inside(|| TcpStream::connect_timeout(&outside, Duration::from_secs(5)))
                .unwrap();
            let mut server = accept(&listener);
            client.write_all(b"hello").unwrap();
            let mut heard = [0; 5];
            server.read_exact(&mut heard).unwrap();
            server.write_all(&heard).unwrap();
            client.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
            assert_eq!(client.peer_addr().unwrap(), outside);
            let seen = server.peer_addr().unwrap().ip();
            assert_eq!(
                seen,
                if from.name() == two.namespace.name() { family.host() } else { family.client() }
            );
        }
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

#[test]
fn the_hosts_own_sockets_and_published_ports_come_first() {
    const PORT: u16 = 5000;
    let world = World::new();
    world.network("games", 1, "--nat eim");
    let one = world.container("one", "games", "");
    let two = world.container("two", "games", "");
    let _echo = servers::udp_echo(&world.client, 9000);
    let _service = servers::udp_echo(&two.namespace, 9000);
    for (number, family) in Family::BOTH.into_iter().enumerate() {
        let stun = stun(&world, family);
        // A service of the host's that is there.
        let service = socket(&world.host, family, PORT);
        let early = socket(&one.namespace, family, PORT);
        assert_ne!(stun.outside_end(&early).port(), PORT);
        drop((service, early));
        world.netd("conntrack flush").ok();
        // One that comes later, and goes.
        let peer = socket(&one.namespace, family, PORT);
        let outside = stun.outside_end(&peer);
        assert_eq!(outside, at(family.host(), PORT));
        let ours = udp_socket_from(&world.host, PORT, at(family.client(), 9000)).unwrap();
        assert_eq!(ask_by(&ours, "ours").client, family.host());
        assert_eq!(stun.outside_end(&peer), outside);
        assert_eq!(ask_by(&ours, "ours").text, "ours");
        drop(ours);
        // A published port takes what is new.
        let spec = format!("{}:{PORT}:9000/udp", family.pick("0.0.0.0", "[::]"));
        world.netd(&format!("port add two {spec}")).ok();
        let client = udp_socket_from(&world.client, 7000 + number as u16, outside).unwrap();
        assert_eq!(ask_by(&client, "hello").text, "hello");
        assert_ne!(stun.outside_end_for(&peer, (1, 1)), outside);
        world.netd(&format!("port rm two {spec}")).ok();
    }
}

/// RFC 6888 REQ-4: what outsiders send does not fill the table.
#[test]
fn outsiders_are_held_to_the_containers_limit() {
    let world = World::new();
    world.network("games", 1, "--nat eim");
    let one = world.container("one", "games", "--max-flows 50");
    let two = world.container("two", "games", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let stun = stun(&world, family);
        let outside = stun.outside_end(&socket(&one.namespace, family, 5000));
        for port in 10_000..10_200 {
            socket(&world.client, family, port).send_to(b"hello", outside).unwrap();
        }
        assert!(world.packets("endpoint_flow_limit") >= 100);
        assert!(world.flows() <= 60);
        assert_eq!(fetch(&two.namespace, at(family.client(), 80)).client, family.host());
        world.netd("conntrack flush").ok();
    }
}

#[test]
fn mappings_outlive_the_daemon_and_end_with_the_container() {
    let mut world = World::with_config("[datapath]\nmax_flows = 8192\nnat = \"eim\"\n");
    world.network("games", 1, "");
    world.network("plain", 2, "--nat edm");
    let shown = |network: &str| {
        world.netd(&format!("network inspect {network} --json")).json()[0]["nat"].take()
    };
    assert_eq!([shown("games"), shown("plain")], ["eim", "edm"]);
    assert!(world.netd("network inspect games").ok().contains("eim"));
    let one = world.container("one", "games", "");
    let stuns = Family::BOTH.map(|family| stun(&world, family));
    let sockets = Family::BOTH.map(|family| socket(&one.namespace, family, 5000));
    let ends = [0, 1].map(|i| stuns[i].outside_end(&sockets[i]));
    let reaches = |world: &World, i: usize, port: u16| {
        let client = udp_socket_from(&world.client, port, ends[i]).unwrap();
        client.send(b"hello").unwrap();
        sockets[i].recv(&mut [0; 16]).is_ok()
    };
    world.daemon.kill();
    assert!(reaches(&world, 0, 7000) && reaches(&world, 1, 7000));
    world.daemon.start();
    assert!(reaches(&world, 0, 7001) && reaches(&world, 1, 7001));
    assert_eq!([0, 1].map(|i| stuns[i].outside_end_for(&sockets[i], (1, 0))), ends);
    // What the configuration says can change.
    world.daemon.configure("[datapath]\nmax_flows = 8192\n");
    world.daemon.signal(Signal::SIGHUP);
    eventually("the default has changed", || {
        let network = world.netd("network inspect games --json").json();
        network[0]["nat"] == "edm"
    });
    assert!(!reaches(&world, 0, 7002));
    world.daemon.configure("[datapath]\nmax_flows = 8192\nnat = \"eim\"\n");
    world.daemon.signal(Signal::SIGHUP);
    eventually("and back", || reaches(&world, 0, 7003));
    let disconnect = format!("network disconnect games {}", one.namespace.name());
    world.netd(&disconnect).ok();
    eventually("nothing is left", || {
        let rows = world.netd("conntrack ls --state mapping --json").json();
        rows.as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_network_without_source_ports_to_give_is_refused() {
    let world = World::new();
    for options in [
        "--nat eim --masquerade false",
        "--nat eim --internal",
        "--nat eim --gateway-mode routed",
        "-o nat=eim -o com.docker.network.bridge.enable_ip_masquerade=false",
    ] {
        let error = world.refused(&format!("network create odd {options}"));
        assert!(error.contains("leave --nat eim out"), "{error}");
    }
    let error = world.refused("network create odd --nat edm -o nat=eim");
    assert!(error.contains("--nat and the option nat contradict"), "{error}");
    let error = world.refused("network create odd -o nat=cone");
    assert!(error.contains("edm or eim belongs there"), "{error}");
}
