//! From a container to the outside, which is not to see the container's address.

use std::net::IpAddr;

use netd_tests::{
    clients::{
        NoConnection, Transport, ask_udp, dig, fetch, fetch_big, iperf3, pings, pings_at_once,
        try_fetch,
    },
    condition::eventually,
    family::Family,
    servers::{self, DNS_NAME},
    topology::{UPLINK, World, at},
};

fn fixed(family: Family) -> IpAddr {
    family.pick("192.0.2.20", "2001:db8:1::20").parse().unwrap()
}

#[test]
fn the_outside_sees_the_uplinks_address() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    for family in Family::BOTH {
        for server in [family.client(), family.remote()] {
            assert_eq!(fetch(&app.namespace, at(server, 80)).client, family.host());
            let echo = ask_udp(&app.namespace, at(family.client(), 9000), "hello");
            assert_eq!(echo.client, family.host());
            assert!(pings(&app.namespace, server), "{server}");
        }
        fetch_big(&app.namespace, at(family.remote(), 80));
    }
}

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
fn two_containers_with_the_same_source_port_are_told_apart() {
    let world = World::new();
    world.network("front", 1, "");
    let containers = ["one", "two"].map(|name| world.container(name, "front", ""));
    let _nginx = servers::nginx(&world.client, &[80]);
    for (family, port) in [(Family::V4, 40_004), (Family::V6, 40_006)] {
        let to = at(family.remote(), 80);
        for container in &containers {
            let line = format!("curl -sS --max-time 10 --local-port {port} http://{to}/");
            let text = container.namespace.run(&line).ok();
            assert!(text.contains(&family.host().to_string()), "{text}");
        }
        let line = format!("conntrack ls -p tcp --sport {port} --json");
        let flows = world.netd(&line).json();
        let ports: Vec<_> =
            flows.as_array().unwrap().iter().map(|f| &f["reply"]["dport"]).collect();
        assert_eq!(ports.len(), 2, "{flows}");
        assert_ne!(ports[0], ports[1]);
    }
}

#[test]
fn a_fixed_source_is_used_in_place_of_the_uplinks() {
    let world = World::new();
    for family in Family::BOTH {
        // Deprecated, or it would be the newest and so the first choice for masquerading.
        let lifetime = family.pick("", "nodad preferred_lft 0");
        let (address, len) = (fixed(family), family.host_prefix());
        world.host.ip(&[&format!("address add {address}/{len} dev {UPLINK} {lifetime}")]);
    }
    world.network("front", 1, "--snat-address 192.0.2.20 --snat-address 2001:db8:1::20");
    world.network("back", 2, "");
    let app = world.container("app", "front", "");
    let other = world.container("other", "back", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        for server in [family.client(), family.remote()] {
            assert_eq!(fetch(&app.namespace, at(server, 80)).client, fixed(family));
            assert!(pings(&app.namespace, server));
            assert_eq!(fetch(&other.namespace, at(server, 80)).client, family.host());
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

#[test]
fn a_protocol_that_cannot_be_translated_does_not_leave() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        // SCTP's number on packets without any header of it.
        let to = family.pick("IP4-SENDTO:198.51.100.7:132", "IP6-SENDTO:[2001:db8:2::7]:132");
        app.namespace.run(&format!("socat -u /proc/version {to}")).ok();
        eventually(&format!("the {family} packet is counted"), || {
            world.packets("unsupported_protocol") >= family.pick(1, 2)
        });
    }
}
