//! Outbound, M1 to M6.

use std::net::IpAddr;

use netd_tests::{
    clients::{
        Connection, NoConnection, ask_by, ask_udp, fetch, fetch_big, pings, try_fetch,
        udp_socket_from,
    },
    condition::eventually,
    family::Family,
    servers,
    topology::{UPLINK, World, at, gateway},
};

fn fixed(family: Family) -> IpAddr {
    family.pick("192.0.2.20", "2001:db8:1::20").parse().unwrap()
}

#[test]
fn m1_the_outside_sees_the_uplinks_address() {
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
fn m1_two_containers_with_the_same_source_port_are_told_apart() {
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
fn m2_a_fixed_source_is_used_in_place_of_the_uplinks() {
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
fn m6_forwarding_is_switched_on_again_after_another_manager() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let path = family.pick("ipv4/ip_forward", "ipv6/conf/all/forwarding");
        assert_eq!(world.host.sysctl(path), "1");
        world.host.run(&format!("sysctl -q -w net/{path}=0")).ok();
        eventually(&format!("{path} is on again"), || world.host.sysctl(path) == "1");
        assert!(pings(&app.namespace, family.remote()));
    }
    let log = world.daemon.log();
    assert!(log.contains("ip_forward") && log.contains("ipv6/conf/all/forwarding"), "{log}");
}

#[test]
fn m1_the_source_port_is_kept_and_may_be_used_again() {
    const SOURCE: u16 = 40_000;
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    for family in Family::BOTH {
        for server in [family.client(), family.remote()] {
            for _ in 0..3 {
                let mut connection = Connection::open_from(&app.namespace, SOURCE, at(server, 80));
                assert_eq!(connection.fetch().client, family.host());
                connection.close();
            }
        }
        let socket = udp_socket_from(&app.namespace, SOURCE, at(family.client(), 9000)).unwrap();
        assert_eq!(ask_by(&socket, "hello").client, family.host());
    }
    let flows = world.netd(&format!("conntrack ls --sport {SOURCE} --json")).json();
    let flows = flows.as_array().unwrap();
    assert_eq!(flows.len(), 6, "{flows:?}");
    for flow in flows {
        assert_eq!(flow["reply"]["dport"], SOURCE, "{flow}");
    }
}

#[test]
fn m2_another_network_sees_the_fixed_source_too() {
    let world = World::new();
    for family in Family::BOTH {
        world.add_uplink_address(UPLINK, fixed(family));
    }
    world.network("front", 1, "");
    world.network("back", 2, "--snat-address 192.0.2.20 --snat-address 2001:db8:1::20");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "back", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        for to in [family.host(), gateway(family, 1).parse().unwrap()] {
            assert_eq!(fetch(&app.namespace, at(to, 8080)).client, fixed(family));
            fetch_big(&app.namespace, at(to, 8080));
        }
    }
}

#[test]
fn m4_a_unique_local_ipv6_subnet_leaves_by_the_uplinks_address() {
    let world = World::new();
    world.netd("network create front --ipv6").ok();
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.client, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    let (to, seen) = (Family::V6.remote(), Family::V6.host());
    assert!(world.address("app", Family::V6).to_string().starts_with("fd"));
    assert_eq!(fetch(&app.namespace, at(to, 80)).client, seen);
    assert_eq!(ask_udp(&app.namespace, at(Family::V6.client(), 9000), "hello").client, seen);
    assert!(pings(&app.namespace, to));
    fetch_big(&app.namespace, at(to, 80));
}

#[test]
fn m5_a_port_of_the_hosts_own_sees_the_container_and_obeys_the_hosts_firewall() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&world.host, &[80, 81]);
    let _echo = servers::udp_echo(&world.host, 9000);
    world.host.run("nft add table inet own").ok();
    let chain = "{ type filter hook input priority 0 ; }";
    world.host.run(&format!("nft add chain inet own input {chain}")).ok();
    world.host.run("nft add rule inet own input tcp dport 81 drop").ok();
    for family in Family::BOTH {
        for to in [family.host(), gateway(family, 1).parse().unwrap()] {
            let own = world.address("app", family);
            assert_eq!(fetch(&app.namespace, at(to, 80)).client, own);
            assert!(pings(&app.namespace, to));
            let dropped = try_fetch(&app.namespace, at(to, 81));
            assert_eq!(dropped, Err(NoConnection::TimedOut));
        }
        // The host answers from the address that is next to the container.
        let bridge = gateway(family, 1).parse().unwrap();
        let echo = ask_udp(&app.namespace, at(bridge, 9000), "hello");
        assert_eq!(echo.client, world.address("app", family));
    }
}
