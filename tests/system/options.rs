//! Options of networks that make them stricter or more open.

use netd_tests::{
    clients::{NoConnection, fetch, pings, pings_at_once, try_fetch},
    condition::eventually,
    family::Family,
    servers,
    topology::{UPLINK, World, at, gateway},
};
use nix::sys::signal::Signal;

/// An option holds whichever way packets take.
const PATHS: [&str; 2] = ["--datapath fast", "--datapath stack"];

const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";

#[test]
fn with_strict_sources_a_container_uses_no_address_but_its_own() {
    for path in PATHS {
        let world = World::new();
        world.network("loose", 1, "");
        world.network("tight", 2, &format!("-o strict_src=true {path}"));
        let loose = world.container("loose", "loose", "");
        let tight = world.container("tight", "tight", "");
        for family in Family::BOTH {
            for (container, number, is_let_out) in [(&loose, 1, true), (&tight, 2, false)] {
                let other = family.pick(format!("10.77.{number}.99"), format!("fd77:{number}::99"));
                container.namespace.add_address(
                    "eth0",
                    other.parse().unwrap(),
                    family.pick(24, 64),
                );
                let before = world.packets("forged_source");
                let (to, own) = (gateway(family, number), container.name.as_str());
                let ping = format!("ping -n -q -c 1 -W 1 -I {other} {to}");
                assert_eq!(container.namespace.run(&ping).is_ok(), is_let_out, "{family} {own}");
                assert_eq!(world.packets("forged_source") > before, !is_let_out);
                let own = world.address(own, family);
                let ping = format!("ping -n -q -c 1 -W 5 -I {own} {}", family.remote());
                container.namespace.run(&ping).ok();
            }
        }
    }
}

#[test]
fn with_icc_off_published_ports_of_neighbours_are_open_unless_told_otherwise() {
    let world = World::new();
    world.network("open", 1, "--icc=false");
    world.network("shut", 2, "--icc=false -o icc_published=false");
    for (network, port, is_open) in [("open", 8080, true), ("shut", 8081, false)] {
        let web = world.container(&format!("web-{network}"), network, &format!("-p {port}:80"));
        let app = world.container(&format!("app-{network}"), network, "");
        let _nginx = servers::nginx(&web.namespace, &[80]);
        for family in Family::BOTH {
            let to = at(family.host(), port);
            assert_eq!(try_fetch(&app.namespace, to).is_ok(), is_open, "{family} {network}");
            assert_eq!(fetch(&web.namespace, to).port, 80, "itself it may reach");
            assert_eq!(fetch(&world.client, to).port, 80);
        }
    }
    let error = world.refused("network create x -o icc_published=false");
    assert!(error.contains("--icc=false"), "{error}");
}

#[test]
fn a_trusted_device_reaches_published_ports_at_the_containers_address() {
    for path in PATHS {
        let world = World::new();
        world.network("front", 1, &format!("-o {TRUSTED}={UPLINK}:side0 {path}"));
        world.route_client_to_containers(1);
        let web = world.container("web", "front", "-p 8080:80 -p 127.0.0.1:8081:81");
        let _nginx = servers::nginx(&web.namespace, &[80, 81]);
        for family in Family::BOTH {
            let own = world.address("web", family);
            assert_eq!(fetch(&world.client, at(own, 80)).client, family.client());
            let loopback = try_fetch(&world.client, at(own, 81));
            assert_eq!(loopback, Err(NoConnection::TimedOut), "published for the host alone");
            assert!(!pings_at_once(&world.client, own));
            assert_eq!(fetch(&world.client, at(family.host(), 8080)).port, 80);
        }
    }
}

#[test]
fn a_trusted_device_is_trusted_from_the_moment_it_comes() {
    let world = World::new();
    world.network("front", 1, &format!("-o {TRUSTED}=side0"));
    let web = world.container("web", "front", "-p 80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    world.add_link("side0", "eth9");
    for family in Family::BOTH {
        let (host, client) =
            family.pick(("203.0.113.1", "203.0.113.2"), ("2001:db8:9::1", "2001:db8:9::2"));
        let len = family.pick(24, 64);
        world.host.add_address("side0", host.parse().unwrap(), len);
        world.client.add_address("eth9", client.parse().unwrap(), len);
        let own = world.address("web", family);
        let route = |via: &str, dev: &str| {
            let prefix = family.host_prefix();
            let line = format!("route replace {own}/{prefix} via {via} dev {dev} src {client}");
            world.client.ip(&[&line]);
        };
        route(host, "eth9");
        eventually(&format!("{own} is reached from side0"), || {
            try_fetch(&world.client, at(own, 80)).is_ok()
        });
        // Every other device stays outside.
        route(&family.host().to_string(), "eth0");
        let before = world.packets("direct_routing");
        assert!(try_fetch(&world.client, at(own, 80)).is_err());
        assert!(world.packets("direct_routing") > before);
    }
}

#[test]
fn direct_routing_is_allowed_for_all_networks_by_the_configuration() {
    let mut world = World::new();
    world.network("front", 1, "");
    world.route_client_to_containers(1);
    let web = world.container("web", "front", "-p 8080:80 -p 127.0.0.1:8081:81");
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    let own = Family::BOTH.map(|family| world.address("web", family));
    assert!(own.iter().all(|own| try_fetch(&world.client, at(*own, 80)).is_err()));
    world.daemon.configure("[datapath]\nmax_flows = 8192\nallow_direct_routing = true\n");
    world.daemon.signal(Signal::SIGHUP);
    for own in own {
        eventually(&format!("{own} is reached"), || try_fetch(&world.client, at(own, 80)).is_ok());
        assert_eq!(try_fetch(&world.client, at(own, 81)), Err(NoConnection::TimedOut));
    }
    world.daemon.configure("");
    world.daemon.signal(Signal::SIGHUP);
    for own in own {
        eventually(&format!("{own} is closed again"), || {
            try_fetch(&world.client, at(own, 80)).is_err()
        });
    }
}

#[test]
fn an_inhibited_bridge_has_no_ipv4_address() {
    let world = World::new();
    world.network("front", 1, "-o com.docker.network.bridge.inhibit_ipv4=true");
    let network = world.netd("network inspect front --json").json();
    let bridge = network[0]["bridge"].as_str().unwrap().to_owned();
    let addresses = world.host.run(&format!("ip address show dev {bridge}")).ok();
    assert!(!addresses.contains("inet "), "{addresses}");
    assert!(addresses.contains("fd77:1::1/64"), "{addresses}");
    // Somebody else on the bridge has the gateway's address.
    assert_eq!(network[0]["subnets"][0]["gateway"], "10.77.1.1");
    let router = world.container("router", "front", "");
    router.namespace.ip(&["address add 10.77.1.1/24 dev eth0"]);
    let app = world.container("app", "front", "");
    assert!(pings(&app.namespace, "10.77.1.1".parse().unwrap()));
    assert!(pings(&app.namespace, "fd77:1::1".parse().unwrap()));
}
