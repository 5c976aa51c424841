//! Published ports, P1 to P9 and P16 to P20: where they are open, and to whom.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use netd_tests::{
    clients::{
        Connection, Echo, NoConnection, answers_udp, ask_by, ask_udp, fetch, fetch_big, fetch_url,
        try_fetch, udp_socket_from,
    },
    condition::eventually,
    family::Family,
    servers,
    topology::{UPLINK, World, at, gateway, subnet},
};

/// Another address for the host's uplink.
fn another(family: Family) -> IpAddr {
    family.pick("192.0.2.10", "2001:db8:1::10").parse().unwrap()
}

#[test]
fn p1_a_published_port_reaches_the_container_which_sees_the_client() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let page = fetch(&world.client, at(family.host(), 8080));
        assert_eq!(page.server, web.namespace.name());
        assert_eq!(page.client, family.client());
        fetch_big(&world.client, at(family.host(), 8080));
        let echo = ask_udp(&world.client, at(family.host(), 9000), "hello");
        assert_eq!(echo, Echo { client: family.client(), text: "hello".to_owned() });
    }
}

#[test]
fn p1_an_address_that_comes_later_leads_to_the_published_ports_until_it_goes() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p %up0:8081:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let address = another(family);
        world.add_uplink_address(UPLINK, address);
        for port in [8080, 8081] {
            eventually(&format!("port {port} of {address} is published"), || {
                try_fetch(&world.client, at(address, port)).is_ok()
            });
        }
        let prefix = family.pick(24, 64);
        world.host.ip(&[&format!("address del {address}/{prefix} dev {UPLINK}")]);
        eventually(&format!("{address} leads nowhere"), || {
            try_fetch(&world.client, at(address, 8080)).is_err()
        });
        fetch(&world.client, at(family.host(), 8080));
    }
}

#[test]
fn p3_a_container_without_ipv6_is_reached_by_ipv6_from_the_host_alone() {
    let world = World::new();
    world.netd(&format!("network create front --subnet {}", subnet(Family::V4, 1))).ok();
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for host in ["localhost", "127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8:1::1]"] {
        let page = fetch_url(&world.host, &format!("http://{host}:8080/"));
        assert_eq!(page.server, web.namespace.name(), "{host}");
        assert!(page.client.is_ipv4(), "{host}");
    }
    let refused = try_fetch(&world.client, at(Family::V6.host(), 8080));
    assert_eq!(refused, Err(NoConnection::Refused));
}

#[test]
fn p4_a_port_published_on_one_address_is_closed_on_the_others() {
    let world = World::new();
    for family in Family::BOTH {
        world.add_uplink_address(UPLINK, another(family));
    }
    world.network("front", 1, "");
    let ports = "-p 192.0.2.10:8080:80 -p [2001:db8:1::10]:8080:80 -p 192.0.2.1:8080:81";
    let web = world.container("web", "front", ports);
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    for family in Family::BOTH {
        assert_eq!(fetch(&world.client, at(another(family), 8080)).port, 80);
    }
    assert_eq!(fetch(&world.client, at(Family::V4.host(), 8080)).port, 81);
    let refused = try_fetch(&world.client, at(Family::V6.host(), 8080));
    assert_eq!(refused, Err(NoConnection::Refused));
}

#[test]
fn p6_a_range_leads_to_the_same_number_of_ports_and_is_one_row() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 9000-9003:8000-8003 -p 9100-9109:80");
    let _nginx = servers::nginx(&web.namespace, &[80, 8000, 8001, 8002, 8003, 8004]);
    let rows = world.netd("port ls web --json").json();
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(host_and_container_ports).collect();
    // A container port for which there is a choice of host ports takes the first one.
    assert_eq!(rows, [[9000, 9003, 8000, 8003], [9100, 9100, 80, 80]]);
    for family in Family::BOTH {
        for number in 0..4 {
            let page = fetch(&world.client, at(family.host(), 9000 + number));
            assert_eq!((page.port, page.client), (8000 + number, family.client()));
        }
        assert_eq!(fetch(&world.client, at(family.host(), 9100)).port, 80);
        for closed in [8999, 9004, 9101] {
            let refused = try_fetch(&world.client, at(family.host(), closed));
            assert_eq!(refused, Err(NoConnection::Refused), "{family} {closed}");
        }
    }
}

fn host_and_container_ports(row: &serde_json::Value) -> [u64; 4] {
    ["host_port", "host_port_end", "port", "port_end"].map(|field| row[field].as_u64().unwrap())
}

#[test]
fn p16_a_port_published_on_a_loopback_address_is_the_hosts_alone() {
    let world = World::new();
    world.network("front", 1, "");
    let ports = "-p 127.0.0.1:8080:80 -p [::1]:8080:80 -p 127.0.0.2:8080:81";
    let web = world.container("web", "front", ports);
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    for family in Family::BOTH {
        assert_eq!(fetch(&world.host, at(family.loopback(), 8080)).port, 80);
        for from in [&world.host, &world.client] {
            let refused = try_fetch(from, at(family.host(), 8080));
            assert_eq!(refused, Err(NoConnection::Refused), "{}", from.name());
        }
    }
    assert_eq!(fetch(&world.host, at("127.0.0.2".parse().unwrap(), 8080)).port, 81);
}

#[test]
fn p1_every_address_of_the_host_leads_to_a_published_port() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for number in [1, 2] {
        world.route_client_to_containers(number);
        for family in Family::BOTH {
            let to = gateway(family, number).parse().unwrap();
            assert_eq!(fetch(&world.client, at(to, 8080)).client, family.client());
            assert_eq!(ask_udp(&world.client, at(to, 9000), "hello").client, family.client());
        }
    }
}

#[test]
fn p2_tcp_is_meant_unless_udp_is_named_and_each_has_ports_of_its_own() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 9000:80 -p 9001:9001/udp");
    let dns = world.container("dns", "front", "-p 9000:9000/udp -p 9001:81/tcp");
    let _nginx = [(&web, 80), (&dns, 81)].map(|(c, port)| servers::nginx(&c.namespace, &[port]));
    let _echo = [(&dns, 9000), (&web, 9001)].map(|(c, port)| servers::udp_echo(&c.namespace, port));
    for family in Family::BOTH {
        for (port, server) in [(9000, &web), (9001, &dns)] {
            let to = at(family.host(), port);
            assert_eq!(fetch(&world.client, to).server, server.namespace.name());
            assert_eq!(ask_udp(&world.client, to, "hello").client, family.client());
        }
    }
}

#[test]
fn p4_an_ipv6_address_is_refused_for_a_container_without_ipv6() {
    let world = World::new();
    world.netd(&format!("network create front --subnet {}", subnet(Family::V4, 1))).ok();
    let web = world.container("web", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    // Docker takes the SPEC, says so in its log alone and publishes nothing.
    let error = world.refused("port add web [2001:db8:1::1]:8080:80");
    assert!(error.contains("2001:db8:1::1") && error.contains("no IPv6 address"), "{error}");
    for from in [&world.client, &world.host] {
        let refused = try_fetch(from, at(Family::V6.host(), 8080));
        assert_eq!(refused, Err(NoConnection::Refused));
    }
}

#[test]
fn p5_a_link_local_client_reaches_no_published_port() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let address = world.client.run("ip -oneline -6 address show dev eth0 scope link").ok();
    let source = address.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
    let ifindex = address.split(':').next().unwrap().parse().unwrap();
    let host = Family::V6.host();

    let line = format!("socat -u /dev/null TCP6:[{host}]:8080,bind=[{source}%eth0]");
    let outcome = world.client.run(&line);
    assert!(outcome.stderr.contains("Connection refused"), "{outcome}");
    let from = SocketAddrV6::new(source.parse().unwrap(), 0, 0, ifindex);
    let socket = world.client.inside(|| UdpSocket::bind(SocketAddr::from(from))).unwrap();
    socket.connect(at(host, 9000)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    socket.send(b"hello\n").unwrap();
    let refused = socket.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // From its other address the same client is served.
    assert_eq!(fetch(&world.client, at(host, 8080)).client, Family::V6.client());
}

#[test]
fn p7_a_host_port_that_nobody_named_is_of_the_hosts_range_and_one_for_both_families() {
    let world = World::without_daemon("");
    world.host.set_sysctl("ipv4/ip_local_port_range", "41000 41003");
    world.host.set_sysctl("ipv4/ip_local_reserved_ports", "41000-41001");
    let mut world = world;
    world.daemon.start();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 80 -p 81");
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    let rows = world.netd("port ls web --json").json();
    let mut picked: Vec<u64> =
        rows.as_array().unwrap().iter().map(|row| row["host_port"].as_u64().unwrap()).collect();
    for family in Family::BOTH {
        for row in rows.as_array().unwrap() {
            let port = |field: &str| u16::try_from(row[field].as_u64().unwrap()).unwrap();
            let page = fetch(&world.client, at(family.host(), port("host_port")));
            assert_eq!(page.port, port("port"));
        }
    }
    picked.sort_unstable();
    assert_eq!(picked, [41_002, 41_003]);
    let error = world.refused("port add web 82");
    assert!(error.contains("ip_local_port_range"), "{error}");
}

#[test]
fn p9_whoever_asks_for_a_published_port_is_let_in_to_its_container_port_alone() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80, 8080]);
    for family in Family::BOTH {
        // From the host's own link and from beyond.
        for source in [family.client(), family.remote()] {
            let to = at(family.host(), 8080);
            let line = format!("curl -sS --max-time 10 --interface {source} http://{to}/");
            let page = world.client.run(&line).ok();
            assert_eq!(page, format!("{} {source} 80", web.namespace.name()));
        }
        let refused = try_fetch(&world.client, at(family.host(), 80));
        assert_eq!(refused, Err(NoConnection::Refused));
    }
}

#[test]
fn p16_a_neighbour_of_the_host_does_not_reach_its_loopback_addresses() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 127.0.0.1:8080:80 -p 8081:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _own = servers::nginx(&world.host, &[81]);
    // Even where somebody has made them routable.
    for (namespace, ifname) in [(&world.client, "eth0"), (&world.host, UPLINK)] {
        namespace.set_sysctl(&format!("ipv4/conf/{ifname}/route_localnet"), "1");
    }
    let host = Family::V4.host();
    world.client.ip(&[
        &format!("route add 127.0.0.1 via {host} table 100"),
        "rule add pref 10 lookup local",
        "rule add pref 5 to 127.0.0.1 lookup 100",
        "rule del pref 0",
    ]);
    let before = world.packets("loopback_address");
    for port in [8080, 8081, 81] {
        let answer = try_fetch(&world.client, at(Family::V4.loopback(), port));
        assert_eq!(answer, Err(NoConnection::TimedOut), "{port}");
    }
    assert!(world.packets("loopback_address") >= before + 3);
}

#[test]
fn p18_an_internal_network_publishes_nothing() {
    let world = World::new();
    world.network("inner", 1, "--internal");
    let db = world.sandbox("db");
    let outcome = world.connect(&db, "inner", "-p 8080:80");
    assert!(outcome.stderr.contains("internal"), "{outcome}");
    world.connect(&db, "inner", "").ok();
    let error = world.refused("port add db 8080:80");
    assert!(error.contains("internal"), "{error}");
    let _nginx = servers::nginx(&db.namespace, &[80]);
    for family in Family::BOTH {
        for from in [&world.client, &world.host] {
            let refused = try_fetch(from, at(family.host(), 8080));
            assert_eq!(refused, Err(NoConnection::Refused));
        }
    }
}

#[test]
fn p19_a_container_on_two_networks_is_reached_by_the_ports_of_both_wherever_its_gateway_is() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let check = |ports: &[u16]| {
        for family in Family::BOTH {
            for port in ports {
                fetch_big(&world.client, at(family.host(), *port));
                assert_eq!(fetch(&world.client, at(family.host(), *port)).client, family.client());
            }
        }
    };
    check(&[8080]);
    world.connect(&web, "back", "--name web-back --gw-priority 5 -p 8081:80").ok();
    check(&[8080, 8081]);
    world.netd(&format!("network disconnect back {}", web.namespace.name())).ok();
    check(&[8080]);
    for family in Family::BOTH {
        let refused = try_fetch(&world.client, at(family.host(), 8081));
        assert_eq!(refused, Err(NoConnection::Refused));
    }
}

#[test]
fn p20_flows_follow_a_published_port_to_its_new_container_at_once() {
    const SOURCE: u16 = 40_000;
    let world = World::new();
    world.network("front", 1, "");
    let [first, second] = ["first", "second"].map(|name| world.container(name, "front", ""));
    let _nginx = [&first, &second].map(|c| servers::nginx(&c.namespace, &[80]));
    let _echo = servers::udp_echo(&second.namespace, 9000);
    let sockets = Family::BOTH
        .map(|family| udp_socket_from(&world.client, SOURCE, at(family.host(), 9000)).unwrap());
    for server in [&first, &second, &first, &second] {
        let name = &server.name;
        world.netd(&format!("port add {name} 8080:80 9000:9000/udp")).ok();
        for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
            let mut connection =
                Connection::open_from(&world.client, SOURCE, at(family.host(), 8080));
            assert_eq!(connection.fetch().server, server.namespace.name());
            connection.close();
            if name == "second" {
                ask_by(socket, "hello");
            } else {
                // Nobody listens there, which the client is told, and the flow of its socket is new all the same.
                drop(socket.send(b"hello\n"));
                eventually("it is refused", || socket.take_error().unwrap().is_some());
            }
        }
        world.netd(&format!("port rm {name} 8080:80 9000:9000/udp --kill")).ok();
        assert!(!answers_udp(&world.client, at(Family::V4.host(), 9000)));
    }
}
