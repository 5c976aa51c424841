//! The kernel settings that forwarding needs, which others like to reset.

use netd_tests::{clients::pings, condition::eventually, family::Family, topology::World};

#[test]
fn forwarding_is_switched_on_again_after_another_manager() {
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
fn a_host_without_ipv6_networks_keeps_its_ipv6_settings() {
    let world = World::new();
    world.netd("network create front --subnet 10.77.1.0/24").ok();
    assert_eq!(world.host.sysctl("ipv4/ip_forward"), "1");
    assert_eq!(world.host.sysctl("ipv6/conf/all/forwarding"), "0");
    world.network("back", 2, "");
    assert_eq!(world.host.sysctl("ipv6/conf/all/forwarding"), "1");
}

#[test]
fn nothing_makes_loopback_addresses_routable() {
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
