//! Between containers, whatever lies between them.

use std::{
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use netd_tests::{
    clients::{
        Connection, NoConnection, Transport, answers_by, answers_udp, any_address, ask_by, ask_udp,
        bind_udp, fetch, fetch_big, iperf3, pings, pings_at_once, try_fetch, udp_socket,
        udp_socket_from,
    },
    condition::{eventually, eventually_some},
    family::Family,
    servers::{self, Server},
    topology::{Container, World, at, gateway},
};

/// A source port for more than one connection.
const SOURCE: u16 = 40_000;

/// Has the host drop what its stack forwards, as a strict firewall does. It lets neighbours find each
/// other: where br_netfilter is loaded, a bridge asks it about IPv6's discovery, though not about ARP.
fn forward_nothing(world: &World) {
    world.host.run("nft add table inet strict").ok();
    let chain = "{ type filter hook forward priority 0 ; policy drop ; }";
    world.host.run(&format!("nft add chain inet strict forward {chain}")).ok();
    let rule = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
    world.host.run(&format!("nft add rule inet strict forward {rule}")).ok();
}

#[test]
fn containers_reach_each_other_past_a_firewall_that_forwards_nothing() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.network("side", 3, "");
    world.netd("network allow front side").ok();
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let app = world.container("app", "front", "");
    let far = world.container("far", "back", "");
    let friend = world.container("friend", "side", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _iperf3 = servers::iperf3(&web.namespace, 5201);
    forward_nothing(&world);
    for family in Family::BOTH {
        let to = world.address("web", family);
        for from in [&app, &friend] {
            let own = world.address(&from.name, family);
            assert_eq!(fetch(&from.namespace, at(to, 80)).client, own);
            assert_eq!(ask_udp(&from.namespace, at(to, 9000), "hello").client, own);
            assert!(pings(&from.namespace, to) && pings(&web.namespace, own));
            let bytes = iperf3(&from.namespace, at(to, 5201), Transport::Tcp, "--bytes 30M");
            // What the server has counted by the time the client has sent all: on a busy machine less.
            assert!(bytes > 8 << 20, "{bytes}");
        }
        for from in [&app, &web, &far, &friend] {
            let host = family.host();
            assert_eq!(fetch(&from.namespace, at(host, 8080)).server, web.namespace.name());
            ask_udp(&from.namespace, at(host, 9000), "hello");
        }
        assert!(!pings_at_once(&far.namespace, to));
    }
}

#[test]
fn with_icc_off_no_trick_of_the_link_layer_reaches_a_neighbour() {
    let world = World::new();
    world.network("quiet", 1, "--icc=false");
    let web = world.container("web", "quiet", "");
    let app = world.container("app", "quiet", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let mac = |name: &str| world.endpoint(name)["mac"].as_str().unwrap().to_owned();
        let know = |at: &Container, address: &str, of: &str| {
            let lladdr = mac(of);
            let line = format!("neigh replace {address} lladdr {lladdr} dev eth0 nud permanent");
            at.namespace.ip(&[&line]);
        };
        // Neighbours that need not ask for each other, and the neighbour's frames with another address.
        let foreign = family.pick("198.51.100.99", "2001:db8:2::99");
        web.namespace.add_address("lo", foreign.parse().unwrap(), family.host_prefix());
        app.namespace.ip(&[&format!("route add {foreign}/{} dev eth0", family.host_prefix())]);
        let (own, to) = (world.address("app", family), world.address("web", family));
        know(&web, &own.to_string(), "app");
        for address in [&to.to_string(), foreign] {
            know(&app, address, "web");
            let address = address.parse().unwrap();
            assert!(try_fetch(&app.namespace, at(address, 80)).is_err(), "{address}");
            assert!(!answers_udp(&app.namespace, at(address, 9000)), "{address}");
            assert!(!pings_at_once(&app.namespace, address), "{address}");
        }
        // Nor by the gateway's frames.
        app.namespace.ip(&[&format!("neigh del {to} dev eth0")]);
        let bits = family.host_prefix();
        app.namespace.ip(&[&format!("route add {to}/{bits} via {}", gateway(family, 1))]);
        assert!(try_fetch(&app.namespace, at(to, 80)).is_err());
        assert!(!pings_at_once(&app.namespace, to));
    }
}

#[test]
fn with_icc_on_the_same_tricks_work() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let to = world.address("web", family);
        let mac = world.endpoint("web")["mac"].as_str().unwrap().to_owned();
        let line = format!("neigh replace {to} lladdr {mac} dev eth0 nud permanent");
        app.namespace.ip(&[&line]);
        assert_eq!(fetch(&app.namespace, at(to, 80)).client, world.address("app", family));
        app.namespace.ip(&[&format!("neigh del {to} dev eth0")]);
        let bits = family.host_prefix();
        app.namespace.ip(&[&format!("route add {to}/{bits} via {}", gateway(family, 1))]);
        assert_eq!(fetch(&app.namespace, at(to, 80)).client, world.address("app", family));
    }
}

#[test]
fn what_is_sent_by_way_of_a_neighbour_goes_to_the_neighbour() {
    let world = World::new();
    world.network("front", 1, "");
    let router = world.container("router", "front", "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let (way, bits) = (world.address("router", family), family.host_prefix());
        router.namespace.add_address("lo", family.remote(), bits);
        let [here, there] = [&router.namespace, &world.client].map(|namespace| {
            let socket = namespace.inside(|| bind_udp(at(family.remote(), 9000))).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket
        });
        let old = udp_socket(&app.namespace, at(family.remote(), 9000)).unwrap();
        eventually("the world is reached", || {
            old.send(b"hello").unwrap();
            there.recv(&mut [0; 64]).is_ok()
        });
        app.namespace.ip(&[&format!("route add {}/{bits} via {way}", family.remote())]);
        let new = udp_socket(&app.namespace, at(family.remote(), 9000)).unwrap();
        for socket in [&new, &old, &new] {
            // The first one may be lost while the neighbour is looked for.
            let (_, seen) = eventually_some("the neighbour is reached", || {
                socket.send(b"hello").unwrap();
                here.recv_from(&mut [0; 64]).ok()
            });
            assert_eq!(seen.ip(), world.address("app", family));
        }
        assert!(there.recv(&mut [0; 64]).is_err());
    }
}

#[test]
fn allowed_networks_exchange_packets_as_by_a_router_until_they_are_disallowed() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let app = world.container("app", "front", "");
    let db = world.container("db", "back", "");
    let _nginx = [&app, &db].map(|container| servers::nginx(&container.namespace, &[80]));
    let _echo = [&app, &db].map(|container| servers::udp_echo(&container.namespace, 9000));
    world.netd("network allow front back").ok();
    let ways = [(&app, &db), (&db, &app)];
    let mut sockets = Vec::new();
    for family in Family::BOTH {
        for (from, to) in ways {
            let (own, to) = (world.address(&from.name, family), world.address(&to.name, family));
            assert_eq!(fetch(&from.namespace, at(to, 80)).client, own);
            fetch_big(&from.namespace, at(to, 80));
            let ping = |ttl: u8| from.namespace.run(&format!("ping -n -c 1 -W 5 -t {ttl} {to}"));
            let expired = ping(1);
            assert!(!expired.is_ok() && expired.stdout.contains("exceeded"), "{expired}");
            ping(2).ok();
            let socket = udp_socket(&from.namespace, at(to, 9000)).unwrap();
            assert_eq!(ask_by(&socket, "hello").client, own);
            sockets.push(socket);
        }
    }
    world.netd("network disallow front back").ok();
    assert!(!sockets.iter().any(answers_by));
    for family in Family::BOTH {
        for (from, to) in ways {
            let to = world.address(&to.name, family);
            assert_eq!(try_fetch(&from.namespace, at(to, 80)), Err(NoConnection::TimedOut));
            assert!(!pings_at_once(&from.namespace, to));
        }
    }
}

/// A container whose neighbour publishes a port of TCP and one of UDP.
struct Neighbours {
    _servers: [Server; 2],
    web: Container,
    app: Container,
    world: World,
}

impl Neighbours {
    fn new() -> Self {
        let world = World::new();
        world.network("front", 1, "");
        let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
        let app = world.container("app", "front", "");
        let nginx = servers::nginx(&web.namespace, &[80]);
        let echo = servers::udp_echo(&web.namespace, 9000);
        Self { _servers: [nginx, echo], web, app, world }
    }
}

#[test]
fn a_neighbour_is_reached_directly_and_by_its_published_port_from_one_source_port() {
    let neighbours = Neighbours::new();
    let Neighbours { world, web, app, .. } = &neighbours;
    for family in Family::BOTH {
        let own = world.address("web", family);
        let open = |to| Connection::open_from(&app.namespace, SOURCE, to);
        for _ in 0..2 {
            let mut published = open(at(family.host(), 8080));
            let mut direct = open(at(own, 80));
            assert_eq!(published.fetch().server, web.namespace.name());
            assert_eq!(direct.fetch().server, web.namespace.name());
            published.close();
            direct.close();
        }
        for to in [family.host(), own, family.host()] {
            let socket = udp_socket_from(&app.namespace, SOURCE, at(to, 9000)).unwrap();
            assert_eq!(ask_by(&socket, "hello").text, "hello", "{to}");
        }
    }
}

#[test]
fn a_switched_connection_outlives_one_to_the_neighbours_published_port_from_the_same_port() {
    let neighbours = Neighbours::new();
    let Neighbours { world, web, app, .. } = &neighbours;
    for family in Family::BOTH {
        let own = world.address("web", family);
        let open = |to| Connection::open_from(&app.namespace, SOURCE, to);
        let mut direct = open(at(own, 80));
        direct.fetch();
        let mut published = open(at(family.host(), 8080));
        for _ in 0..2 {
            assert_eq!(published.fetch().server, web.namespace.name());
            assert_eq!(direct.fetch().server, web.namespace.name());
        }
        let sockets = [own, family.host()]
            .map(|to| udp_socket_from(&app.namespace, SOURCE, at(to, 9000)).unwrap());
        for socket in sockets.iter().chain(&sockets) {
            assert_eq!(ask_by(socket, "hello").text, "hello");
        }
    }
}

#[test]
fn a_restarted_container_is_reached_at_once_from_the_same_source_ports() {
    const OPTIONS: &str = "--ip 10.77.1.9 --ip6 fd77:1::9 -p 8080:80 -p 9000:9000/udp";
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", OPTIONS);
    let app = world.container("app", "front", "");
    let far = world.container("far", "back", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let clients = [&world.client, &world.host, &app.namespace, &far.namespace];
    let mut sockets = Vec::new();
    for family in Family::BOTH {
        for from in [&world.client, &app.namespace, &far.namespace] {
            sockets.push(udp_socket_from(from, SOURCE, at(family.host(), 9000)).unwrap());
        }
        let direct = at(world.address("web", family), 9000);
        sockets.push(udp_socket_from(&app.namespace, SOURCE + 1, direct).unwrap());
    }
    for _ in 0..2 {
        for family in Family::BOTH {
            for from in clients {
                let mut connection = Connection::open_from(from, SOURCE, at(family.host(), 8080));
                assert_eq!(connection.fetch().server, web.namespace.name(), "{}", from.name());
                connection.close();
            }
            let direct = at(world.address("web", family), 80);
            let mut connection = Connection::open_from(&app.namespace, SOURCE + 1, direct);
            connection.fetch();
            connection.close();
        }
        for socket in &sockets {
            ask_by(socket, "hello");
        }
        world.netd(&format!("network disconnect front {}", web.namespace.name())).ok();
        assert!(!answers_by(&sockets[0]));
        world.connect(&web, "front", OPTIONS).ok();
    }
    for socket in &sockets {
        ask_by(socket, "hello");
    }
}

#[test]
fn flows_from_an_address_that_nobody_had_end_when_somebody_gets_it() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for (family, address) in Family::BOTH.into_iter().zip(["10.77.1.9", "fd77:1::9"]) {
        let address: IpAddr = address.parse().unwrap();
        let len = family.pick(24, 64);
        app.namespace.add_address("eth0", address, len);
        let outside = world.client.inside(|| bind_udp(any_address(at(address, 0), 9000))).unwrap();
        outside.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let forger = app.namespace.inside(|| bind_udp(at(address, SOURCE))).unwrap();
        forger.send_to(b"open", at(family.client(), 9000)).unwrap();
        let (_, hole) = outside.recv_from(&mut [0; 64]).unwrap();
        app.namespace.ip(&[&format!("address del {address}/{len} dev eth0")]);

        let owner = world.container(
            &format!("owner-{family}"),
            "front",
            &match family {
                Family::V4 => format!("--ip {address}"),
                Family::V6 => format!("--ip6 {address}"),
            },
        );
        let inside =
            owner.namespace.inside(|| bind_udp(any_address(at(address, 0), SOURCE))).unwrap();
        inside.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        outside.send_to(b"in", hole).unwrap();
        assert!(inside.recv_from(&mut [0; 64]).is_err(), "{family}");
        // One of its own is answered, so the other would have come.
        inside.send_to(b"hello", at(family.client(), 9000)).unwrap();
        let (_, peer) = outside.recv_from(&mut [0; 64]).unwrap();
        outside.send_to(b"answer", peer).unwrap();
        assert!(inside.recv_from(&mut [0; 64]).is_ok(), "{family}");
    }
}

/// A socket of a container that waits for datagrams of whatever size.
fn listener(on: &Container, family: Family) -> UdpSocket {
    let any = family.pick("0.0.0.0", "::").parse().unwrap();
    let socket = on.namespace.inside(|| bind_udp(at(any, 9000))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Sends a datagram; an error may be about one that was sent before.
fn send(socket: &UdpSocket, bytes: &[u8]) {
    if socket.send(bytes).is_err() {
        drop(socket.send(bytes));
    }
}

#[test]
fn networks_of_different_mtus_meet() {
    const SIZES: [usize; 5] = [1000, 4000, 1400, 4000, 100];
    let world = World::new();
    world.network("jumbo", 1, "--mtu 9000");
    world.network("plain", 2, "--mtu 1500");
    world.netd("network allow jumbo plain").ok();
    let large = world.container("large", "jumbo", "-p 8081:80 -p 9001:9000/udp");
    let small = world.container("small", "plain", "-p 8082:80 -p 9002:9000/udp");
    let _nginx = [&large, &small].map(|container| servers::nginx(&container.namespace, &[80]));
    for family in Family::BOTH {
        let host = family.host();
        for (from, port) in [(&small, 8081), (&large, 8082), (&large, 8081), (&small, 8082)] {
            fetch_big(&from.namespace, at(host, port));
        }
        for port in [8081, 8082] {
            fetch_big(&world.client, at(host, port));
        }
        fetch_big(&large.namespace, at(world.address("small", family), 80));
        fetch_big(&small.namespace, at(world.address("large", family), 80));

        let inside = listener(&small, family);
        for to in [at(host, 9002), at(world.address("small", family), 9000)] {
            let socket = udp_socket(&large.namespace, to).unwrap();
            for size in SIZES {
                send(&socket, &vec![1; size]);
            }
            let mut arrived = Vec::new();
            while arrived.last() != SIZES.last() {
                arrived.push(inside.recv(&mut [0; 16_384]).unwrap());
            }
            // What is too large may arrive in fragments, but whole.
            assert!(arrived.iter().all(|size| SIZES.contains(size)), "{to}: {arrived:?}");
            arrived.retain(|&size| size <= 1400);
            assert_eq!(arrived, [1000, 1400, 100], "{to}");
        }
        // Within the network that takes them, large datagrams arrive whole.
        drop(inside);
        let inside = listener(&large, family);
        let socket = udp_socket(&large.namespace, at(host, 9001)).unwrap();
        socket.send(&[1; 8000]).unwrap();
        assert_eq!(inside.recv(&mut [0; 16_384]).unwrap(), 8000);
    }
}
