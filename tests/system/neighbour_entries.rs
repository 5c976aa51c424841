//! Host and bridge know where a container is, without asking or learning.

use netd_tests::{
    clients::{fetch, pings},
    condition::eventually,
    family::Family,
    servers,
    topology::{Container, World, at},
};

fn bridge(world: &World, network: &str) -> String {
    let network = world.netd(&format!("network inspect {network} --json")).json();
    network[0]["bridge"].as_str().unwrap().to_owned()
}

/// What host and bridge know for good about a container: its entries, of both families and of the bridge.
fn entries(world: &World, bridge: &str, container: &Container) -> [bool; 3] {
    let endpoint = world.endpoint(&container.name);
    let (mac, port) =
        (endpoint["mac"].as_str().unwrap(), endpoint["host_ifname"].as_str().unwrap());
    let has = |line: &str, entry: &str| world.host.run(line).ok().contains(entry);
    let [v4, v6] = Family::BOTH.map(|family| {
        let address = world.address(&container.name, family);
        let line = format!("ip neigh show dev {bridge} nud permanent");
        has(&line, &format!("{address} lladdr {mac}"))
    });
    let forwarding = format!("{mac} dev {port} sticky master {bridge} static");
    [v4, v6, has(&format!("bridge fdb show br {bridge}"), &forwarding)]
}

#[test]
fn entries_come_and_go_with_an_endpoint() {
    let world = World::new();
    world.network("front", 1, "");
    let bridge = bridge(&world, "front");
    let web = world.container("web", "front", "");
    assert_eq!(entries(&world, &bridge, &web), [true; 3]);
    let sandbox = web.namespace.name().to_owned();
    world.netd(&format!("network disconnect front {sandbox}")).ok();
    let line = format!("ip neigh show dev {bridge} nud permanent");
    assert_eq!(world.host.run(&line).ok(), "");

    // A sandbox that vanishes takes its entries along too.
    let app = world.container("app", "front", "");
    world.host.run(&format!("ip netns del {}", app.namespace.name())).ok();
    eventually("nothing is left of it", || world.host.run(&line).ok().is_empty());
}

#[test]
fn entries_that_somebody_removes_are_put_back() {
    let mut world = World::new();
    world.network("front", 1, "");
    let bridge = bridge(&world, "front");
    let web = world.container("web", "front", "");
    let endpoint = world.endpoint("web");
    let (mac, port) =
        (endpoint["mac"].as_str().unwrap(), endpoint["host_ifname"].as_str().unwrap());
    let [v4, v6] = Family::BOTH.map(|family| world.address("web", family));
    for line in [
        format!("ip neigh del {v4} dev {bridge}"),
        format!("ip neigh del {v6} dev {bridge}"),
        format!("bridge fdb del {mac} dev {port} master"),
        format!("ip link set {bridge} down"),
        format!("ip link set {bridge} address 02:00:5e:10:00:01"),
        format!("ip link set {port} nomaster"),
    ] {
        world.host.run(&line).ok();
        eventually(&format!("all is as before `{line}`"), || {
            entries(&world, &bridge, &web) == [true; 3]
        });
    }
    world.daemon.kill();
    world.host.run(&format!("ip neigh flush dev {bridge} nud permanent")).ok();
    assert_eq!(entries_by_kernel(&world, &bridge), 0);
    world.daemon.start();
    assert_eq!(entries(&world, &bridge, &web), [true; 3]);
}

fn entries_by_kernel(world: &World, bridge: &str) -> usize {
    let line = format!("ip neigh show dev {bridge} nud permanent");
    world.host.run(&line).ok().lines().count()
}

#[test]
fn a_container_that_answers_no_question_is_reached_all_the_same() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    // It tells nobody its MAC address.
    web.namespace.set_sysctl("ipv4/conf/eth0/arp_ignore", "8");
    let chain = "{ type filter hook input priority 0 ; }";
    web.namespace.run("nft add table ip6 mute").ok();
    web.namespace.run(&format!("nft add chain ip6 mute input {chain}")).ok();
    web.namespace.run("nft add rule ip6 mute input icmpv6 type nd-neighbor-solicit drop").ok();
    for family in Family::BOTH {
        assert!(pings(&world.host, world.address("web", family)));
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).port, 80);
    }
}

#[test]
fn a_container_cannot_take_a_neighbours_frames_by_its_mac_address() {
    let world = World::new();
    world.network("front", 1, "");
    let bridge = bridge(&world, "front");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let mac = world.endpoint("web")["mac"].as_str().unwrap().to_owned();
    app.namespace.ip(&[&format!("link set eth0 address {mac}")]);
    let gateway = "ping -n -q -c 2 -i 0.2 -W 0.5 10.77.1.1";
    app.namespace.run(gateway);
    assert_eq!(entries(&world, &bridge, &web), [true; 3]);
    for family in Family::BOTH {
        assert!(pings(&world.host, world.address("web", family)));
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).port, 80);
    }
}
