//! Between the host and its containers.

use std::net::IpAddr;

use netd_tests::{
    clients::{NoConnection, ask_udp, fetch, fetch_url, pings, try_fetch},
    family::Family,
    servers,
    topology::{World, at, gateway, subnet},
};

#[test]
fn the_host_and_its_containers_reach_each_other() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _outside = servers::nginx(&world.host, &[81]);
    for family in Family::BOTH {
        let address = world.address("web", family);
        let bridge: IpAddr = gateway(family, 1).parse().unwrap();
        assert_eq!(fetch(&world.host, at(address, 80)).client, bridge);
        assert_eq!(ask_udp(&world.host, at(address, 9000), "hello").client, bridge);
        assert!(pings(&world.host, address));
        for host in [bridge, family.host()] {
            let page = fetch(&web.namespace, at(host, 81));
            assert_eq!((page.server.as_str(), page.client), (world.host.name(), address));
            assert!(pings(&web.namespace, host));
        }
    }
}

#[test]
fn the_host_reaches_published_ports_by_every_name_of_its_own() {
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
fn a_container_without_ipv6_is_reached_by_the_hosts_ipv6_addresses() {
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
fn a_port_published_on_a_loopback_address_is_the_hosts_alone() {
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
