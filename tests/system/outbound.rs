//! From a container to the outside, which is not to see the container's address.

use netd_tests::{
    clients::{NoConnection, Transport, dig, fetch, iperf3, pings, pings_at_once, try_fetch},
    family::Family,
    servers::{self, DNS_NAME},
    topology::{World, at},
};

#[test]
fn names_are_looked_up_outside() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _dnsmasq = servers::dns(&world.client, "198.51.100.7", "2001:db8:2::7");
    for family in Family::BOTH {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answers = dig(&app.namespace, family.remote(), DNS_NAME, transport);
            assert_eq!(answers, [family.remote().to_string()], "{transport}");
        }
    }
}

#[test]
fn bulk_data_is_masqueraded_in_both_directions() {
    const BYTES: u64 = 30 << 20;
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _iperf3 = servers::iperf3(&world.client, 5201);
    for family in Family::BOTH {
        for (transport, direction) in
            [(Transport::Tcp, ""), (Transport::Tcp, "--reverse"), (Transport::Udp, "")]
        {
            let options = format!("--bytes 30M {direction}");
            let bytes = iperf3(&app.namespace, at(family.client(), 5201), transport, &options);
            assert!(bytes > BYTES / 2, "{family} {transport} {direction}: {bytes} bytes");
        }
    }
}

#[test]
fn without_masquerade_the_source_stays_and_only_replies_come_in() {
    let world = World::new();
    world.network("front", 1, "--masquerade=false");
    world.route_client_to_containers(1);
    let app = world.container("app", "front", "-p 8080:80");
    let _outside = servers::nginx(&world.client, &[80]);
    let _inside = servers::nginx(&app.namespace, &[80]);
    for family in Family::BOTH {
        let address = world.address("app", family);
        assert_eq!(fetch(&app.namespace, at(family.remote(), 80)).client, address);
        assert!(pings(&app.namespace, family.remote()));
        assert_eq!(try_fetch(&world.client, at(address, 80)), Err(NoConnection::TimedOut));
        assert!(!pings_at_once(&world.client, address));
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).client, family.client());
    }
}

#[test]
fn a_source_that_is_not_of_the_network_does_not_leave() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    // As a container can use that may change its addresses.
    for (family, foreign) in [(Family::V4, "10.99.0.9"), (Family::V6, "fd99::9")] {
        app.namespace.add_address("eth0", foreign.parse().unwrap(), family.host_prefix());
        let before = world.packets("source_not_in_subnet");
        let line = format!("ping -n -q -c 1 -W 0.5 -I {foreign} {}", family.remote());
        assert!(!app.namespace.run(&line).is_ok());
        assert!(world.packets("source_not_in_subnet") > before);
    }
}
