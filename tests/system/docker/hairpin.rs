//! Published ports, P11 to P15: asked for by the host and by its containers.

use std::net::IpAddr;

use netd_tests::{
    clients::{
        Connection, NoConnection, Transport, ask_by, ask_udp, bind_udp, connect_between, fetch,
        fetch_big, fetch_url, iperf3, try_fetch, udp_socket_from,
    },
    condition::eventually_some,
    family::Family,
    netns::Namespace,
    servers::{self, Server},
    topology::{Container, World, at, gateway},
};

/// What each of the servers publishes: pages, an echo and bulk data.
const PORTS: &str = "-p 8080:80 -p 9000:9000/udp -p 5201:5201";

/// The source port of clients that are to be told apart by something else.
const SAME_PORT: u16 = 40_000;

fn serve(container: &Container) -> [Server; 3] {
    let namespace = &container.namespace;
    [
        servers::nginx(namespace, &[80]),
        servers::udp_echo(namespace, 9000),
        servers::iperf3(namespace, 5201),
    ]
}

fn gateway_address(family: Family, number: u8) -> IpAddr {
    gateway(family, number).parse().unwrap()
}

/// Checks that everything a server publishes on an address is reached, and which client it sees.
#[track_caller]
fn check(from: &Namespace, to: IpAddr, server: &Container, seen: IpAddr) {
    let page = fetch(from, at(to, 8080));
    let asked = format!("{} asks {to}", from.name());
    assert_eq!((page.server.as_str(), page.client), (server.namespace.name(), seen), "{asked}");
    fetch_big(from, at(to, 8080));
    assert_eq!(ask_udp(from, at(to, 9000), "hello").client, seen, "{asked}");
    // The server may not have counted the last of it yet.
    let bytes = iperf3(from, at(to, 5201), Transport::Tcp, "--bytes 30M");
    assert!(bytes > 15 << 20, "{asked}: {bytes} bytes came");
    for text in ["one", "two", "three"] {
        let mut connection = Connection::open_from(from, SAME_PORT, at(to, 8080));
        assert_eq!(connection.fetch().client, seen, "{asked} {text}");
        connection.close();
        let socket = udp_socket_from(from, SAME_PORT, at(to, 9000)).unwrap();
        assert_eq!(ask_by(&socket, text).text, text, "{asked}");
    }
}

/// Checks that all of the clients reach the server at once, each from [`SAME_PORT`].
#[track_caller]
fn check_at_once(clients: &[(&Container, IpAddr)], server: &Container) {
    let open = |(from, to): &(&Container, IpAddr)| {
        let connection = Connection::open_from(&from.namespace, SAME_PORT, at(*to, 8080));
        let socket = udp_socket_from(&from.namespace, SAME_PORT, at(*to, 9000)).unwrap();
        (connection, socket)
    };
    let mut ends: Vec<_> = clients.iter().map(open).collect();
    for round in ["one", "two"] {
        for (client, (connection, socket)) in ends.iter_mut().enumerate() {
            assert_eq!(connection.fetch().server, server.namespace.name());
            let text = format!("{round}-{client}");
            assert_eq!(ask_by(socket, &text).text, text);
        }
    }
    ends.into_iter().for_each(|(connection, _)| connection.close());
}

#[test]
fn p11_nothing_makes_loopback_addresses_routable() {
    let world = World::new();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 127.0.0.1:8080:80 -p 8081:80");
    let links = world.host.run("ip -json link").json();
    for link in links.as_array().unwrap() {
        let ifname = link["ifname"].as_str().unwrap();
        let path = format!("ipv4/conf/{ifname}/route_localnet");
        assert_eq!(world.host.sysctl(&path), "0", "{ifname}");
    }
    assert_eq!(world.host.sysctl("ipv4/conf/all/route_localnet"), "0");
}

#[test]
fn p11_a_published_port_of_loopback_and_neighbours_has_no_listener_on_the_host() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let listeners = world.host.run("ss --no-header --listening --tcp --udp --numeric").ok();
    assert!(!listeners.contains(":8080 "), "{listeners}");
    for family in Family::BOTH {
        for (from, to) in [
            (&world.host, family.loopback()),
            (&app.namespace, family.host()),
            (&web.namespace, family.host()),
        ] {
            assert_eq!(fetch(from, at(to, 8080)).server, web.namespace.name());
        }
    }
}

#[test]
fn p12_a_container_reaches_itself_by_its_published_port_and_sees_the_gateway() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let _servers = serve(&web);
    for family in Family::BOTH {
        let seen = gateway_address(family, 1);
        for to in [family.host(), seen] {
            check(&web.namespace, to, &web, seen);
        }
    }
}

#[test]
fn p12_a_container_reaches_itself_from_a_port_that_the_host_reaches_it_from() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let _servers = serve(&web);
    for family in Family::BOTH {
        let taken = at(gateway_address(family, 1), SAME_PORT);
        let address = world.address("web", family);
        let _taken = world.host.inside(|| connect_between(taken, at(address, 80))).unwrap();
        let to = at(family.host(), 8080);
        web.namespace.inside(|| connect_between(at(address, SAME_PORT), to)).unwrap();

        let taken = udp_socket_from(&world.host, SAME_PORT, at(address, 9000)).unwrap();
        let socket = udp_socket_from(&web.namespace, SAME_PORT, at(family.host(), 9000)).unwrap();
        for (socket, text) in [(&taken, "host"), (&socket, "web"), (&taken, "host again")] {
            assert_eq!(ask_by(socket, text).text, text);
        }
    }
}

#[test]
fn p12_the_host_reaches_a_container_from_a_port_that_it_reaches_itself_from() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let _servers = serve(&web);
    for family in Family::BOTH {
        let address = world.address("web", family);
        let taken = at(gateway_address(family, 1), SAME_PORT);
        let mut own = Connection::open_from(&web.namespace, SAME_PORT, at(family.host(), 8080));
        assert_eq!(own.fetch().client, taken.ip());
        let mut hosts = Connection::open_from(&world.host, SAME_PORT, at(address, 80));
        for _ in 0..3 {
            assert_eq!(hosts.fetch().client, taken.ip());
            assert_eq!(own.fetch().client, taken.ip());
        }

        let own = udp_socket_from(&web.namespace, SAME_PORT, at(family.host(), 9000)).unwrap();
        assert_eq!(ask_by(&own, "web").text, "web");
        let hosts = udp_socket_from(&world.host, SAME_PORT, at(address, 9000)).unwrap();
        for (socket, text) in [(&hosts, "host"), (&own, "web again"), (&hosts, "host again")] {
            assert_eq!(ask_by(socket, text).text, text);
        }
    }
}

#[test]
fn p13_a_neighbour_reaches_a_published_port_and_is_seen_as_itself() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let app = world.container("app", "front", "");
    let _servers = serve(&web);
    for family in Family::BOTH {
        for to in [family.host(), gateway_address(family, 1)] {
            check(&app.namespace, to, &web, world.address("app", family));
        }
    }
}

#[test]
fn p13_neighbours_with_the_same_source_port_are_told_apart() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let [app, other] = ["app", "other"].map(|name| world.container(name, "front", ""));
    let _servers = serve(&web);
    for family in Family::BOTH {
        let to = family.host();
        check_at_once(&[(&app, to), (&other, to), (&web, to)], &web);
    }
}

#[test]
fn p13_two_published_addresses_of_one_server_are_told_apart_by_the_same_source_port() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", PORTS);
    let app = world.container("app", "front", "");
    let _servers = serve(&web);
    for family in Family::BOTH {
        for from in [&app, &web] {
            let addresses = [family.host(), gateway_address(family, 1)];
            let open = |to| Connection::open_from(&from.namespace, SAME_PORT, at(to, 8080));
            let mut connections = addresses.map(open);
            connections.iter_mut().for_each(|connection| drop(connection.fetch()));
            let any = family.pick("0.0.0.0", "::").parse().unwrap();
            let socket = from.namespace.inside(|| bind_udp(at(any, SAME_PORT))).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            for to in addresses.into_iter().chain(addresses) {
                let answered = eventually_some("the echo answers", || {
                    socket.send_to(b"hello\n", at(to, 9000)).unwrap();
                    socket.recv_from(&mut [0; 64]).ok()
                });
                assert_eq!(answered.1, at(to, 9000));
            }
            connections.iter_mut().for_each(|connection| drop(connection.fetch()));
            connections.into_iter().for_each(Connection::close);
        }
    }
}

#[test]
fn p14_the_host_reaches_published_ports_by_every_name_of_its_own() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for host in ["localhost", "127.0.0.1", "127.0.0.9", "[::1]", "192.0.2.1", "[2001:db8:1::1]"] {
        let page = fetch_url(&world.host, &format!("http://{host}:8080/"));
        assert_eq!(page.server, web.namespace.name(), "{host}");
    }
    for host in Family::BOTH.map(|family| gateway(family, 1).parse().unwrap()) {
        assert_eq!(fetch(&world.host, at(host, 8080)).server, web.namespace.name());
    }
    for family in Family::BOTH {
        for closed in [family.loopback(), family.host()] {
            let refused = try_fetch(&world.host, at(closed, 8081));
            assert_eq!(refused, Err(NoConnection::Refused), "{closed}");
        }
        // The loopback addresses of a container are its own.
        let refused = try_fetch(&web.namespace, at(family.loopback(), 8080));
        assert_eq!(refused, Err(NoConnection::Refused));
    }
}

#[test]
fn p14_the_host_is_seen_as_the_gateway() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let seen = gateway_address(family, 1);
        for to in [family.loopback(), family.host(), seen] {
            let to = at(to, 8080);
            assert_eq!(fetch(&world.host, to).client, seen, "{to}");
            fetch_big(&world.host, to);
            for _ in 0..3 {
                let mut connection = Connection::open_from(&world.host, SAME_PORT, to);
                assert_eq!(connection.fetch().client, seen, "{to}");
                connection.close();
            }
        }
    }
}

#[test]
fn p15_another_network_reaches_a_published_port_and_is_seen_as_the_servers_gateway() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", PORTS);
    let app = world.container("app", "back", "");
    let _servers = serve(&web);
    for family in Family::BOTH {
        let [front, back] = [1, 2].map(|number| gateway_address(family, number));
        for to in [front, family.host(), back] {
            check(&app.namespace, to, &web, front);
        }
        // The published port opens no other way.
        let direct = try_fetch(&app.namespace, at(world.address("web", family), 80));
        assert_eq!(direct, Err(NoConnection::TimedOut));
    }
}

#[test]
fn p15_clients_of_other_networks_with_the_same_source_port_are_told_apart() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.network("side", 3, "");
    let web = world.container("web", "front", PORTS);
    let [app, other] = ["app", "other"].map(|name| world.container(name, "back", ""));
    let third = world.container("third", "side", "");
    let _servers = serve(&web);
    for family in Family::BOTH {
        let (host, front) = (family.host(), gateway_address(family, 1));
        check_at_once(&[(&app, host), (&other, front), (&third, host), (&web, host)], &web);
    }
}

#[test]
fn p15_two_containers_reach_each_others_published_ports_at_once() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 8080:80");
    let api = world.container("api", "back", "-p 8081:80");
    let _servers = [&web, &api].map(|container| servers::nginx(&container.namespace, &[80]));
    for family in Family::BOTH {
        let open = |from: &Container, port| {
            Connection::open_from(&from.namespace, SAME_PORT, at(family.host(), port))
        };
        let (mut there, mut back) = (open(&web, 8081), open(&api, 8080));
        for _ in 0..2 {
            assert_eq!(there.fetch().server, api.namespace.name());
            assert_eq!(back.fetch().server, web.namespace.name());
        }
    }
}
