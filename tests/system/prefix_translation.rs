//! A network whose IPv6 prefix is translated to another (NPTv6, RFC 6296), with real sockets.

use std::net::{IpAddr, Ipv6Addr};

use netd_common::{address::V6, nptv6::OutsidePrefix};
use netd_tests::{
    clients::{ask_udp, fetch, fetch_big, pings, pings_at_once, try_fetch},
    family::Family,
    netns::Namespace,
    servers,
    topology::{Container, World, at, subnet},
};

const PREFIX: &str = "2001:db8:9:1::";

/// Creates a network whose prefix is translated, and has the client route that to the host.
fn network(world: &World, options: &str) {
    world.network("lab", 1, &format!("--nptv6 {PREFIX}/64 {options}"));
    route(world, &format!("{PREFIX}/64"));
}

fn route(world: &World, prefix: &str) {
    world.client.ip(&[&format!("route add {prefix} via {}", Family::V6.host())]);
}

/// A container with a web server and a UDP echo.
fn served(world: &World, name: &str) -> (Container, [servers::Server; 2]) {
    let container = world.container(name, "lab", "");
    let servers = [
        servers::nginx(&container.namespace, &[80]),
        servers::udp_echo(&container.namespace, 9000),
    ];
    (container, servers)
}

/// The address that the world sees a container by.
fn outside(world: &World, name: &str, inside: &str, prefix: &str, bits: u32) -> IpAddr {
    let v6 = |text: &str| V6::new(text.parse().unwrap());
    let IpAddr::V6(own) = world.address(name, Family::V6) else { unreachable!("asked for IPv6") };
    let mask = V6::new(Ipv6Addr::from(u128::MAX << (128 - bits)));
    OutsidePrefix::new(v6(inside), v6(prefix)).to_outside(mask, V6::new(own)).unwrap().into()
}

fn seen(world: &World, name: &str) -> IpAddr {
    outside(world, name, "fd77:1::", PREFIX, 64)
}

#[test]
fn containers_and_the_world_see_each_other_by_translated_prefixes() {
    let world = World::new();
    network(&world, "");
    let (web, _servers) = served(&world, "web");
    let (db, _others) = served(&world, "db");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    let addresses = [seen(&world, "web"), seen(&world, "db")];
    for ((container, other), own) in [(&web, 1), (&db, 0)].into_iter().zip(addresses) {
        for to in [Family::V6.client(), Family::V6.remote()] {
            assert_eq!(fetch(&container.namespace, at(to, 80)).client, own);
            assert!(pings(&container.namespace, to));
        }
        let to = at(Family::V6.client(), 9000);
        assert_eq!(ask_udp(&container.namespace, to, "hello").client, own);
        fetch_big(&container.namespace, at(Family::V6.client(), 80));
        // And the other way round.
        let page = fetch(&world.client, at(own, 80));
        assert_eq!(
            (page.server, page.client),
            (container.namespace.name().to_owned(), Family::V6.client())
        );
        assert_eq!(ask_udp(&world.client, at(own, 9000), "hello").client, Family::V6.client());
        assert!(pings(&world.client, own));
        fetch_big(&world.client, at(own, 80));
        // Neighbours, as the world would.
        let page = fetch(&container.namespace, at(addresses[other], 80));
        assert_eq!(page.client, own);
        assert!(pings(&container.namespace, addresses[other]) && pings(&container.namespace, own));
        // IPv4 is as ever.
        let page = fetch(&container.namespace, at(Family::V4.client(), 80));
        assert_eq!(page.client, Family::V4.host());
    }
    let flows = world.netd("conntrack ls --json").json();
    let sources =
        flows.as_array().unwrap().iter().map(|flow| flow["orig"]["src"].as_str().unwrap());
    assert!(
        sources.into_iter().all(|source| source.parse::<IpAddr>().unwrap().is_ipv4()),
        "{flows}"
    );
    world.route_client_to_containers(1);
    assert!(try_fetch(&world.client, at(world.address("web", Family::V6), 80)).is_err());
    assert!(world.packets("direct_routing") > 0);
}

/// Errors of the host's, of a router's and of a container's, each about a packet as its receiver knows it.
#[test]
fn errors_find_their_way_through_a_translated_prefix() {
    let world = World::new();
    network(&world, "--mtu 1400");
    let (web, _servers) = served(&world, "web");
    let own = seen(&world, "web");
    let says = |from: &Namespace, line: &str, expected: &str| {
        let text = from.run(line).stdout;
        assert!(text.contains(expected), "{line}: {text}");
    };
    says(
        &world.client,
        &format!("ping -n -c 1 -W 10 -s 1400 -M do {own}"),
        "Packet too big: mtu=1400",
    );
    says(&world.client, &format!("ping -n -c 1 -W 10 -t 1 {own}"), "Time exceeded");
    let remote = Family::V6.remote();
    says(&web.namespace, &format!("ping -n -c 1 -W 10 -t 2 {remote}"), "bytes from");
    world.client.ip(&["route add unreachable 2001:db8:dead::/48"]);
    says(&web.namespace, "ping -n -c 1 -W 10 2001:db8:dead::1", "Destination unreachable");
    // A port that nobody has.
    let refused = try_fetch(&world.client, at(own, 81));
    assert_eq!(refused, Err(netd_tests::clients::NoConnection::Refused));
    fetch_big(&world.client, at(own, 80));
}

#[test]
fn prefixes_of_other_lengths_are_translated_too() {
    for (bits, prefix) in [(48, "2001:db8:99::"), (56, "2001:db8:99:100::")] {
        let world = World::new();
        let subnet = format!("fd88::/{bits}");
        world.netd(&format!("network create lab --subnet {subnet} --nptv6 {prefix}/{bits}")).ok();
        route(&world, &format!("{prefix}/{bits}"));
        let (web, _servers) = served(&world, "web");
        let _nginx = servers::nginx(&world.client, &[80]);
        let own = outside(&world, "web", "fd88::", prefix, bits);
        assert_eq!(fetch(&web.namespace, at(Family::V6.client(), 80)).client, own);
        assert_eq!(fetch(&world.client, at(own, 80)).client, Family::V6.client());
    }
}

#[test]
fn a_translated_prefix_outlives_the_daemon() {
    let mut world = World::new();
    network(&world, "");
    let shown = world.netd("network inspect lab --json").json();
    assert_eq!(shown[0]["nptv6"], format!("{PREFIX}/64"));
    let (web, _servers) = served(&world, "web");
    let own = seen(&world, "web");
    world.daemon.kill();
    assert!(pings(&world.client, own));
    world.daemon.start();
    assert!(pings(&world.client, own) && pings(&web.namespace, Family::V6.client()));
    world.netd(&format!("network disconnect lab {}", web.namespace.name())).ok();
    assert!(!pings_at_once(&world.client, own));
}

#[test]
fn a_prefix_that_cannot_be_translated_is_refused() {
    let world = World::new();
    network(&world, "");
    let refused = |options: &str, expected: &str| {
        let error = world.refused(&format!("network create odd {options}"));
        assert!(error.contains(expected), "{error}");
    };
    let v6 = subnet(Family::V6, 2);
    refused("--nptv6 2001:db8:5::/64", "no IPv6 subnet");
    refused(&format!("--subnet {v6} --nptv6 2001:db8:5::/56"), "give a /64");
    refused(
        &format!("--subnet {v6} --nptv6 {PREFIX}/64"),
        "overlaps 2001:db8:9:1::/64 of network lab",
    );
    refused(&format!("--subnet {v6} --nptv6 fd77:1::/64"), "overlaps fd77:1::/64 of network lab");
    refused(&format!("--subnet {v6} --internal -o nptv6=2001:db8:5::/64"), "internal");
    refused(&format!("--subnet {PREFIX}/64"), "overlaps 2001:db8:9:1::/64 of network lab");
    let host = Family::V6.host();
    refused(
        &format!("--subnet {v6} --nptv6 2001:db8:1::/64"),
        &format!("the host's address {host}"),
    );
}
