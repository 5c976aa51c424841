//! The devices that lead out: found by themselves, and followed.

use std::net::IpAddr;

use netd_tests::{
    clients::{NoConnection, fetch, try_fetch},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    topology::{UPLINK, World, at, default_routes},
};

fn second(family: Family) -> IpAddr {
    family.pick("192.0.2.33", "2001:db8:1::33").parse().unwrap()
}

/// Waits until what a container sends is seen to come from an address.
#[track_caller]
fn wait_for_source(from: &Namespace, family: Family, source: IpAddr) {
    eventually(&format!("{source} is the source"), || {
        let page = try_fetch(from, at(family.remote(), 80));
        page.is_ok_and(|page| page.client == source)
    });
}

#[test]
fn an_uplink_that_comes_later_is_found_and_its_changes_are_followed() {
    let world = World::without_daemon("");
    world.host.ip(&[&format!("link del {UPLINK}")]);
    let mut world = world;
    world.daemon.start();
    world.network("front", 1, "");
    let app = world.container("app", "front", "-p 8080:80");
    let _inside = servers::nginx(&app.namespace, &[80]);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        assert!(try_fetch(&app.namespace, at(family.remote(), 80)).is_err());
    }

    // It comes, under a name of its own.
    world.add_link("wan", "eth1");
    for family in Family::BOTH {
        world.add_uplink_address("wan", family.host());
        world.client.add_address("eth1", family.client(), family.pick(24, 64));
    }
    world.host.ip(&default_routes("wan").each_ref().map(String::as_str));
    for family in Family::BOTH {
        wait_for_source(&app.namespace, family, family.host());
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).client, family.client());
    }

    // It changes its address.
    for family in Family::BOTH {
        world.add_uplink_address("wan", second(family));
        let old = format!("{}/{}", family.host(), family.pick(24, 64));
        // The default route goes with an IPv4 subnet's last address, and the second was secondary.
        world.host.set_sysctl("ipv4/conf/all/promote_secondaries", "1");
        world.host.ip(&[&format!("address del {old} dev wan")]);
        world.host.ip(&default_routes("wan").each_ref().map(String::as_str));
        wait_for_source(&app.namespace, family, second(family));
        assert_eq!(fetch(&world.client, at(second(family), 8080)).client, family.client());
    }

    // It goes, and another comes.
    world.host.ip(&["link del wan"]);
    for family in Family::BOTH {
        assert!(try_fetch(&app.namespace, at(family.remote(), 80)).is_err());
    }
    world.add_link("lan", "eth2");
    for family in Family::BOTH {
        world.add_uplink_address("lan", family.host());
        world.client.add_address("eth2", family.client(), family.pick(24, 64));
    }
    world.host.ip(&default_routes("lan").each_ref().map(String::as_str));
    for family in Family::BOTH {
        wait_for_source(&app.namespace, family, family.host());
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).client, family.client());
    }
}

#[test]
fn each_of_two_uplinks_gives_its_own_address() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "-p 8080:80");
    let _outside = servers::nginx(&world.client, &[80]);
    let _inside = servers::nginx(&app.namespace, &[80]);
    world.add_link("up1", "eth1");
    let beyond = |family: Family| -> [IpAddr; 2] {
        let (host, client) =
            family.pick(("198.51.100.129", "198.51.100.130"), ("2001:db8:3::1", "2001:db8:3::2"));
        [host.parse().unwrap(), client.parse().unwrap()]
    };
    for family in Family::BOTH {
        let [host, client] = beyond(family);
        let prefix_len = family.pick(25, 64);
        world.host.add_address("up1", host, prefix_len);
        world.client.add_address("eth1", client, prefix_len);
    }
    for family in Family::BOTH {
        let [host, client] = beyond(family);
        eventually(&format!("{host} is the source on the second uplink"), || {
            try_fetch(&app.namespace, at(client, 80)).is_ok_and(|page| page.client == host)
        });
        assert_eq!(fetch(&app.namespace, at(family.remote(), 80)).client, family.host());
        // The reply leaves by the uplink that the request came in on.
        assert_eq!(fetch(&world.client, at(host, 8080)).client, client);
    }
}

#[test]
fn only_named_uplinks_are_used_where_some_are_named() {
    let mut world = World::without_daemon("");
    world.add_link("other", "eth1");
    world.daemon.start_with(&["--uplink", "other"]);
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let refused = try_fetch(&world.client, at(family.host(), 8080));
        assert_eq!(refused, Err(NoConnection::Refused), "{UPLINK} is not named");
    }
    let filters = world.host.run(&format!("tc filter show dev {UPLINK} ingress")).ok();
    assert_eq!(filters, "");
    let filters = world.host.run("tc filter show dev other ingress").ok();
    assert_ne!(filters, "");
}

#[test]
fn bridges_of_other_managers_are_left_alone() {
    let mut world = World::without_daemon("");
    let bridges = ["docker0", "br-0123456789ab", "virbr0", "cni0", "podman1"];
    let lines = bridges.map(|bridge| format!("link add {bridge} type bridge"));
    world.host.ip(&lines.each_ref().map(String::as_str));
    world.daemon.start();
    for bridge in bridges {
        assert_eq!(
            world.host.run(&format!("tc qdisc show dev {bridge} clsact")).ok(),
            "",
            "{bridge}"
        );
    }
    assert_ne!(world.host.run(&format!("tc filter show dev {UPLINK} ingress")).ok(), "");
}

#[test]
fn programs_that_somebody_takes_off_are_put_back() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _servers = [servers::nginx(&web.namespace, &[80]), servers::nginx(&world.client, &[80])];
    let veth = world.host_ifname(&web).unwrap();
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let classifiers = |device: &str| {
        let on = |way| world.host.run(&format!("tc filter show dev {device} {way}")).ok();
        on("ingress") + &on("egress")
    };
    for device in [UPLINK, &veth, bridge.as_str().unwrap()] {
        let before = classifiers(device);
        for taken in [
            format!("qdisc del dev {device} clsact"),
            format!("filter del dev {device} egress"),
            format!("filter del dev {device} ingress"),
            format!(
                "filter replace dev {device} ingress prio 1 handle 0x6e64 matchall action pass"
            ),
        ] {
            // The last one is refused by some kernels: another kind of filter is there.
            world.host.run(&format!("tc {taken}"));
            eventually(&format!("all is back after `tc {taken}`"), || {
                classifiers(device) == before
            });
        }
        for family in Family::BOTH {
            assert_eq!(fetch(&world.client, at(family.host(), 8080)).port, 80);
            assert_eq!(fetch(&web.namespace, at(family.remote(), 80)).client, family.host());
        }
    }
}

#[test]
fn an_uplink_with_another_qdisc_in_the_place_of_ours_lets_nothing_out() {
    let world = World::without_daemon("");
    world.host.run(&format!("tc qdisc add dev {UPLINK} ingress")).ok();
    let mut world = world;
    world.daemon.start();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _server = servers::nginx(&world.client, &[80]);
    assert!(world.daemon.log().contains(&format!("tc qdisc del dev {UPLINK} ingress")));
    for family in Family::BOTH {
        assert!(try_fetch(&app.namespace, at(family.remote(), 80)).is_err());
    }
    world.host.run(&format!("tc qdisc del dev {UPLINK} ingress")).ok();
    for family in Family::BOTH {
        eventually("it is used now", || {
            try_fetch(&app.namespace, at(family.remote(), 80))
                .is_ok_and(|page| page.client == family.host())
        });
    }
}
