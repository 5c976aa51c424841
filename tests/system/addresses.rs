//! Subnets, addresses and devices: chosen by users or by netd.

use std::collections::BTreeSet;

use netd_tests::{
    clients::{fetch, fetch_at_once, pings, try_fetch},
    family::Family,
    servers,
    topology::{Container, World, at, gateway},
};

#[test]
fn chosen_addresses_are_used_to_the_letter() {
    let world = World::new();
    world.network("front", 1, "--gateway 10.77.1.254 --mtu 1400 --bridge br-front");
    let options = "--ip 10.77.1.40 --ip6 fd77:1::40 --mac 02:00:5e:10:00:01 --ifname net7";
    let web = world.container("web", "front", options);
    let addresses = web.namespace.run("ip -oneline address show dev net7").ok();
    assert!(
        addresses.contains("10.77.1.40/24") && addresses.contains("fd77:1::40/64"),
        "{addresses}"
    );
    let link = web.namespace.run("ip -oneline link show dev net7").ok();
    assert!(link.contains("02:00:5e:10:00:01") && link.contains("mtu 1400"), "{link}");
    let route = web.namespace.run("ip route show default").ok();
    assert!(route.starts_with("default via 10.77.1.254 dev net7"), "{route}");
    let bridge = world.host.run("ip -oneline address show dev br-front").ok();
    assert!(bridge.contains("10.77.1.254/24") && bridge.contains("fd77:1::1/64"), "{bridge}");
    for family in Family::BOTH {
        assert!(pings(&world.host, world.address("web", family)));
        assert!(pings(&web.namespace, family.remote()));
    }
}

#[test]
fn addresses_nobody_chose_are_free_ones_of_the_range() {
    let world = World::new();
    let options = "--ip-range 10.77.1.64/29 --aux-address router=10.77.1.66";
    world.network("front", 1, options);
    let containers: Vec<_> =
        (0..6).map(|n| world.container(&format!("c{n}"), "front", "")).collect();
    let ipv4: BTreeSet<_> =
        containers.iter().map(|c| world.address(&c.name, Family::V4).to_string()).collect();
    assert_eq!(ipv4.len(), 6);
    assert!(!ipv4.contains("10.77.1.66"));
    assert!(
        ipv4.iter()
            .all(|address| address.starts_with("10.77.1.6") || address.starts_with("10.77.1.7"))
    );
    let macs: BTreeSet<_> =
        containers.iter().map(|c| world.endpoint(&c.name)["mac"].to_string()).collect();
    assert_eq!(macs.len(), 6);
    for _ in 0..2 {
        let last = world.sandbox("last");
        if world.connect(&last, "front", "").status == Some(1) {
            let error = world.refused(&format!("network connect front {}", last.namespace.name()));
            assert!(
                error.contains("no free address") && error.contains("10.77.1.64/29"),
                "{error}"
            );
            return;
        }
        drop(world.netd(&format!("network disconnect front {}", last.namespace.name())).ok());
    }
    panic!("a /29 without an auxiliary address has room for seven at most");
}

#[test]
fn networks_without_a_subnet_get_one_that_nobody_has() {
    let world = World::new();
    world.host.ip(&["address add 172.17.0.1/16 dev lo", "route add 172.18.0.0/16 via 192.0.2.2"]);
    for name in ["one", "two", "three"] {
        assert_eq!(world.netd(&format!("network create {name} --ipv6")).ok(), format!("{name}\n"));
    }
    let networks = world.netd("network ls --json").json();
    let subnets: Vec<&str> = networks
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|network| network["subnets"].as_array().unwrap())
        .map(|subnet| subnet["subnet"].as_str().unwrap())
        .collect();
    assert_eq!(subnets.iter().collect::<BTreeSet<_>>().len(), 6, "{subnets:?}");
    assert!(
        !subnets.contains(&"172.17.0.0/16") && !subnets.contains(&"172.18.0.0/16"),
        "{subnets:?}"
    );
    assert_eq!(subnets.iter().filter(|subnet| subnet.starts_with("fd")).count(), 3, "{subnets:?}");
    let containers =
        ["one", "two"].map(|network| world.container(&format!("in-{network}"), network, ""));
    for container in &containers {
        for family in Family::BOTH {
            assert!(pings(&container.namespace, family.remote()));
        }
    }
    assert_eq!(world.netd("network prune").ok(), "three\n");
}

#[test]
fn one_container_on_two_networks_uses_both_and_one_way_out() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let app = world.container("app", "front", "-p 8080:80");
    world.connect(&app, "back", "--name app-back --gw-priority 5 -p 8081:80").ok();
    let db = world.container("db", "back", "");
    let web = world.container("web", "front", "");
    let servers = [&app, &db, &web].map(|c| servers::nginx(&c.namespace, &[80]));
    assert!(app.namespace.has_link("eth0") && app.namespace.has_link("eth1"));
    for family in Family::BOTH {
        let to = |name: &str| at(world.address(name, family), 80);
        assert_eq!(fetch(&app.namespace, to("db")).client, world.address("app-back", family));
        assert_eq!(fetch(&app.namespace, to("web")).client, world.address("app", family));
        assert!(try_fetch(&db.namespace, to("web")).is_err());
        assert_eq!(way_out(&app.namespace, family), gateway(family, 2));
        for port in [8080, 8081] {
            assert_eq!(fetch(&world.client, at(family.host(), port)).server, app.namespace.name());
        }
        assert!(pings(&app.namespace, family.remote()));
    }
    world.netd(&format!("network disconnect back {}", app.namespace.name())).ok();
    for family in Family::BOTH {
        assert_eq!(way_out(&app.namespace, family), gateway(family, 1));
        assert!(pings(&app.namespace, family.remote()));
        fetch(&world.client, at(family.host(), 8080));
    }
    assert!(!app.namespace.has_link("eth1"));
    drop(servers);
}

/// The gateway of the route to the world.
#[track_caller]
fn way_out(namespace: &netd_tests::netns::Namespace, family: Family) -> String {
    let route = namespace.run(&format!("ip route get {}", family.remote())).ok();
    let mut words = route.split_whitespace().skip_while(|word| *word != "via").skip(1);
    words.next().unwrap_or_else(|| panic!("no gateway: {route}")).to_owned()
}

#[test]
fn a_disconnected_container_gives_back_what_it_had() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.sandbox("web");
    // The kernel's view of a bridge is another one once it has had a port.
    world.connect(&web, "front", "").ok();
    world.netd(&format!("network disconnect front {}", web.namespace.name())).ok();
    let empty = world.settled_traces(&[]);
    let before = web.namespace.run("ip -oneline link").ok();
    let options = "--ip 10.77.1.9 --ip6 fd77:1::9 --mac 02:00:5e:10:00:01 -p 8080:80";
    for _ in 0..2 {
        world.connect(&web, "front", options).ok();
        let name = world.netd(&format!("network disconnect front {}", web.namespace.name())).ok();
        assert_eq!(name, "web\n");
        assert_eq!(web.namespace.run("ip -oneline link").ok(), before);
    }
    netd_tests::condition::eventually("the host is as it was", || world.traces(&[]) == empty);
    world.netd("network rm front").ok();
    assert!(!world.netd("network ls --json").ok().contains("front"));
}

#[test]
fn an_address_given_to_another_container_leads_there_at_once() {
    const OPTIONS: &str = "--ip 10.77.1.9 --ip6 fd77:1::9 -p 8080:80";
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let first = world.container("first", "front", OPTIONS);
    let second = world.sandbox("second");
    let addresses = Family::BOTH.map(|family| world.address("first", family));
    let _nginx = [&first, &second].map(|container| servers::nginx(&container.namespace, &[80]));
    let check = |server: &str| {
        for (family, address) in Family::BOTH.into_iter().zip(addresses) {
            for (from, to) in [
                (&app.namespace, at(address, 80)),
                (&world.host, at(address, 80)),
                (&world.client, at(family.host(), 8080)),
            ] {
                assert_eq!(fetch_at_once(from, to).server, server, "{} to {to}", from.name());
            }
        }
    };
    check(first.namespace.name());
    number_alike(&world, &first, &second);
    world.netd(&format!("network disconnect front {}", first.namespace.name())).ok();
    world.connect(&second, "front", OPTIONS).ok();
    check(second.namespace.name());
}

/// Has both ends of a container's next link get the same number: then the kernel takes its time with what follows
/// from their being up (`linkwatch_urgent_event`).
fn number_alike(world: &World, last: &Container, next: &Container) {
    let ifname = world.host_ifname(last).unwrap();
    let link = world.host.run(&format!("ip -oneline link show dev {ifname}")).ok();
    let number: usize = link.split(':').next().unwrap().parse().unwrap();
    // The loopback device has the first one; each of these takes another.
    next.namespace.ip(&["link add passing type bridge", "link del passing"].repeat(number - 1));
}
