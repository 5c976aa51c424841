//! How containers are reached from outside: by gateway modes, for each family.

use std::net::IpAddr;

use netd_tests::{
    clients::{NoConnection, answers_udp, ask_udp, fetch, pings, pings_at_once, try_fetch},
    family::Family,
    servers,
    topology::{Container, World, at, gateway},
};

const MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";

/// A mode holds whichever way packets take.
const PATHS: [&str; 2] = ["--datapath fast", "--datapath stack"];

/// A world whose client knows the way to the containers of network 1.
fn routed_world(options: &str) -> World {
    let world = World::new();
    world.network("front", 1, options);
    world.route_client_to_containers(1);
    world
}

/// The address that packets of a network's containers have on the way to the client.
fn fetched_as(world: &World, container: &Container, family: Family) -> IpAddr {
    let _outside = servers::nginx(&world.client, &[80]);
    fetch(&container.namespace, at(family.remote(), 80)).client
}

#[test]
fn a_routed_network_is_reached_at_its_published_container_ports_only() {
    for path in PATHS {
        let world = routed_world(&format!("--gateway-mode routed {path}"));
        let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp -p 90-92:100-102");
        let _nginx = servers::nginx(&web.namespace, &[80, 81, 101]);
        let _echo = servers::udp_echo(&web.namespace, 9000);
        for family in Family::BOTH {
            let own = world.address("web", family);
            let page = fetch(&world.client, at(own, 80));
            assert_eq!((page.client, page.port), (family.client(), 80));
            assert_eq!(fetch(&world.client, at(own, 101)).port, 101);
            assert_eq!(ask_udp(&world.client, at(own, 9000), "hello").client, family.client());
            assert!(pings(&world.client, own));
            assert_eq!(try_fetch(&world.client, at(own, 81)), Err(NoConnection::TimedOut));
            for port in [80, 8080] {
                let host = try_fetch(&world.client, at(family.host(), port));
                assert_eq!(host, Err(NoConnection::Refused), "the host port is not heeded");
            }
            // Nothing is masqueraded (M3), and the replies come back.
            assert_eq!(fetched_as(&world, &web, family), own);
        }
        let ports = world.netd("port ls").ok();
        let row: Vec<&str> = ports.lines().nth(1).unwrap().split_whitespace().take(4).collect();
        assert_eq!(row, ["web", "tcp", "-", "80"]);
    }
}

#[test]
fn a_routed_port_closes_when_it_is_removed() {
    let world = routed_world("--gateway-mode routed");
    let web = world.container("web", "front", "-p 80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let own = Family::BOTH.map(|family| at(world.address("web", family), 80));
    own.iter().for_each(|to| drop(fetch(&world.client, *to)));
    world.netd("port rm web 80").ok();
    for to in own {
        assert_eq!(try_fetch(&world.client, to), Err(NoConnection::TimedOut));
    }
}

#[test]
fn an_unprotected_network_is_reached_at_every_port_and_translates_as_well() {
    for path in PATHS {
        let world = routed_world(&format!("--gateway-mode nat-unprotected {path}"));
        let web = world.container("web", "front", "-p 8080:80");
        let _nginx = servers::nginx(&web.namespace, &[80, 81]);
        let _echo = servers::udp_echo(&web.namespace, 9000);
        for family in Family::BOTH {
            let own = world.address("web", family);
            for port in [80, 81] {
                assert_eq!(fetch(&world.client, at(own, port)).client, family.client());
            }
            ask_udp(&world.client, at(own, 9000), "hello");
            assert!(pings(&world.client, own));
            assert_eq!(fetch(&world.client, at(family.host(), 8080)).port, 80);
            assert_eq!(fetched_as(&world, &web, family), family.host());
        }
    }
}

#[test]
fn each_family_goes_its_own_way() {
    for path in PATHS {
        let world = routed_world(&format!("-o {MODE_V4}=nat -o {MODE_V6}=routed {path}"));
        let web = world.container("web", "front", "-p 8080:80");
        let _nginx = servers::nginx(&web.namespace, &[80]);
        let [v4, v6] = Family::BOTH.map(|family| world.address("web", family));
        assert_eq!(fetch(&world.client, at(Family::V4.host(), 8080)).port, 80);
        assert_eq!(try_fetch(&world.client, at(v4, 80)), Err(NoConnection::TimedOut));
        assert_eq!(fetch(&world.client, at(v6, 80)).client, Family::V6.client());
        let host = try_fetch(&world.client, at(Family::V6.host(), 8080));
        assert_eq!(host, Err(NoConnection::Refused));
        assert_eq!(fetched_as(&world, &web, Family::V4), Family::V4.host());
        assert_eq!(fetched_as(&world, &web, Family::V6), v6);
        let network = world.netd("network inspect front --json").json();
        assert_eq!(network[0]["subnets"][0]["gateway_mode"], "nat");
        assert_eq!(network[0]["subnets"][1]["gateway_mode"], "routed");
    }
}

#[test]
fn other_networks_reach_a_routed_one_at_its_published_ports() {
    for path in PATHS {
        let world = World::new();
        world.network("front", 1, &format!("--gateway-mode routed {path}"));
        world.network("back", 2, "");
        let web = world.container("web", "front", "-p 80");
        let app = world.container("app", "back", "");
        let _web = servers::nginx(&web.namespace, &[80, 81]);
        let _app = servers::nginx(&app.namespace, &[80]);
        for family in Family::BOTH {
            let (to, back) = (world.address("web", family), world.address("app", family));
            assert_eq!(fetch(&app.namespace, at(to, 80)).port, 80);
            assert_eq!(try_fetch(&app.namespace, at(to, 81)), Err(NoConnection::TimedOut));
            assert_eq!(try_fetch(&web.namespace, at(back, 80)), Err(NoConnection::TimedOut));
        }
    }
}

#[test]
fn a_routed_network_stays_routed_over_a_restart() {
    let mut world = routed_world("--gateway-mode routed");
    let web = world.container("web", "front", "-p 80");
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    world.daemon.kill();
    world.daemon.start();
    for family in Family::BOTH {
        let own = world.address("web", family);
        fetch(&world.client, at(own, 80));
        assert_eq!(try_fetch(&world.client, at(own, 81)), Err(NoConnection::TimedOut));
    }
}

#[test]
fn an_isolated_network_has_no_gateway_but_neighbours() {
    let world = World::new();
    let error = world.refused("network create inner --gateway-mode isolated");
    assert!(error.contains("--internal"), "{error}");
    world.network("inner", 1, "--internal --gateway-mode isolated");
    let web = world.container("web", "inner", "");
    let app = world.container("app", "inner", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let bridge = world.netd("network inspect inner --json").json()[0]["bridge"].clone();
    let bridge = bridge.as_str().unwrap();
    let addresses = world.host.run(&format!("ip address show dev {bridge}")).ok();
    assert!(!addresses.contains("inet"), "{addresses}");
    for family in Family::BOTH {
        // The first address is a container's, since no gateway has it.
        assert_eq!(world.address("web", family).to_string(), gateway(family, 1));
        assert_eq!(fetch(&app.namespace, at(world.address("web", family), 80)).port, 80);
        let flag = family.pick("-4", "-6");
        let routes = app.namespace.run(&format!("ip {flag} route show default")).ok();
        assert_eq!(routes, "");
        assert!(!pings_at_once(&world.host, world.address("web", family)));
    }
    assert_eq!(world.host.sysctl(&format!("ipv6/conf/{bridge}/disable_ipv6")), "1");
}

#[test]
fn a_host_address_for_a_routed_port_is_refused() {
    let world = World::new();
    world.network("front", 1, "--gateway-mode routed");
    let _web = world.container("web", "front", "");
    for host_ip in ["127.0.0.1", "192.0.2.1", "[2001:db8:1::1]", "%up0"] {
        let error = world.refused(&format!("port add web {host_ip}:8080:80"));
        assert!(error.contains("is routed"), "{error}");
    }
    let error = world.refused(&format!("network create x --gateway-mode nat -o {MODE_V4}=routed"));
    assert!(error.contains("contradict"), "{error}");
}

#[test]
fn gateway_mode_nat_opens_no_way_round() {
    let world = routed_world("--gateway-mode nat");
    let web = world.container("web", "front", "-p 80:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let own = world.address("web", family);
        assert_eq!(try_fetch(&world.client, at(own, 80)), Err(NoConnection::TimedOut));
        assert!(!answers_udp(&world.client, at(own, 9000)));
    }
}
