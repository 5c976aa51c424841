//! Direct routing, D1 and D2.

use std::net::IpAddr;

use netd_tests::{
    clients::{
        NoConnection, answers_udp, ask_udp, fetch, fetch_big, pings, pings_at_once, try_fetch,
    },
    family::Family,
    servers,
    topology::{World, at, gateway},
};

#[test]
fn d1_nobody_outside_reaches_a_container_by_its_address() {
    let world = World::new();
    world.network("front", 1, "");
    world.route_client_to_containers(1);
    let web = world.container("web", "front", "-p 80:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let address = world.address("web", family);
        // A published port, once used, opens no other way.
        fetch(&world.client, at(family.host(), 80));
        let before = world.packets("direct_routing");
        assert_eq!(try_fetch(&world.client, at(address, 80)), Err(NoConnection::TimedOut));
        assert!(!answers_udp(&world.client, at(address, 9000)));
        assert!(!pings_at_once(&world.client, address));
        assert!(world.packets("direct_routing") >= before + 3);
    }
}

#[test]
fn d2_the_host_and_its_containers_reach_each_other() {
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
fn d1_a_container_of_another_network_does_not_reach_a_published_one_by_its_address() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 80:80 -p 9000:9000/udp");
    let app = world.container("app", "back", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let address = world.address("web", family);
        fetch(&app.namespace, at(family.host(), 80));
        let before = world.packets("networks_apart");
        assert_eq!(try_fetch(&app.namespace, at(address, 80)), Err(NoConnection::TimedOut));
        assert!(!answers_udp(&app.namespace, at(address, 9000)));
        assert!(!pings_at_once(&app.namespace, address));
        assert!(world.packets("networks_apart") >= before + 3);
    }
}

#[test]
fn d2_the_host_reaches_every_port_of_a_container_by_its_address() {
    let world = World::new();
    world.network("front", 1, "--icc=false");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    for family in Family::BOTH {
        let address = world.address("web", family);
        for port in [80, 81] {
            assert_eq!(fetch(&world.host, at(address, port)).port, port);
            fetch_big(&world.host, at(address, port));
        }
    }
}
