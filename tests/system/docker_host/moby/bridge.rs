//! `bridge_linux_test.go`.

use netd_tests::{
    clients::{pings, pings_at_once},
    condition::eventually,
    family::Family,
    servers,
    topology::{at, gateway},
};

use super::{address, closed, host, reached};
use crate::docker_host::create_network;

#[test]
fn test_bridge_icc() {
    let host = host();
    create_network(&host, "open", 1, "");
    create_network(&host, "quiet", 2, "-o com.docker.network.bridge.enable_icc=false");
    for (network, is_open) in [("open", true), ("quiet", false)] {
        let names = [format!("{network}-a"), format!("{network}-b")];
        let [a, b] = names.each_ref().map(|name| {
            let container = host.container(name, &format!("--network {network}"));
            host.known(name);
            container
        });
        let _nginx = servers::nginx(&b.namespace, &[80]);
        for family in Family::BOTH {
            let to = address(&host, &b, network, family == Family::V6);
            if is_open {
                assert!(pings(&a.namespace, to), "{network} {family}");
                reached(&a.namespace, at(to, 80));
            } else {
                assert!(!pings_at_once(&a.namespace, to), "{network} {family}");
                closed(&a.namespace, at(to, 80));
            }
        }
    }
    // docker0 too, whose containers have IPv4 here.
    let [a, b] = ["first", "second"].map(|name| {
        let container = host.container(name, "");
        host.known(name);
        container
    });
    assert!(pings(&a.namespace, address(&host, &b, "bridge", false)));
}

#[test]
fn test_bridge_inc() {
    let host = host();
    create_network(&host, "one", 1, "");
    create_network(&host, "two", 2, "");
    let one = host.container("one", "--network one");
    let two = host.container("two", "--network two -p 8080:81");
    for name in ["one", "two"] {
        host.known(name);
    }
    let _nginx = servers::nginx(&two.namespace, &[80, 81]);
    for family in Family::BOTH {
        let to = address(&host, &two, "two", family == Family::V6);
        assert!(!pings_at_once(&one.namespace, to), "{family}");
        closed(&one.namespace, at(to, 80));
        closed(&one.namespace, at(to, 81));
        reached(&one.namespace, at(family.host(), 8080));
    }
}

#[test]
fn test_bridge_inc_routed() {
    let host = host();
    let routed = [4, 6]
        .map(|family| format!("-o com.docker.network.bridge.gateway_mode_ipv{family}=routed"));
    create_network(&host, "plain", 1, "");
    create_network(&host, "routed", 2, &routed.join(" "));
    let plain = host.container("plain", "--network plain");
    let open = host.container("open", "--network routed -p 80");
    host.known("plain");
    host.published("open");
    let _servers = [&plain, &open].map(|it| servers::nginx(&it.namespace, &[80, 81]));
    for family in Family::BOTH {
        // From the other network: the published port of a routed one, and nothing else.
        let to = address(&host, &open, "routed", family == Family::V6);
        reached(&plain.namespace, at(to, 80));
        closed(&plain.namespace, at(to, 81));
        let to = address(&host, &plain, "plain", family == Family::V6);
        closed(&open.namespace, at(to, 80));
    }
}

#[test]
fn test_internal_nw_connectivity() {
    let host = host();
    let world = &host.world;
    create_network(&host, "inside", 1, "--internal");
    create_network(&host, "front", 2, "");
    let [a, b] = ["first", "second"].map(|name| {
        let container = host.container(name, "--network inside");
        host.known(name);
        container
    });
    let other = host.container("other", "--network front");
    host.known("other");
    let _servers = [&a, &b, &other].map(|container| servers::nginx(&container.namespace, &[80]));
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let to = address(&host, &b, "inside", family == Family::V6);
        // Neighbours, the host, the gateway.
        reached(&a.namespace, at(to, 80));
        reached(&world.host, at(to, 80));
        assert!(pings(&a.namespace, gateway(family, 1).parse().unwrap()));
        // And nobody else, also by a route of one's own.
        a.namespace.ip(&[&format!("route add default via {}", gateway(family, 1))]);
        closed(&a.namespace, at(family.client(), 80));
        closed(&a.namespace, at(address(&host, &other, "front", family == Family::V6), 80));
        closed(&other.namespace, at(to, 80));
        closed(&world.client, at(family.host(), 8080));
    }
}

#[test]
fn test_gateway_selection() {
    let host = host();
    let world = &host.world;
    // Each network has a source of its own, so that the outside sees which one was taken.
    for (number, name) in [(1, "alpha"), (2, "beta")] {
        let source = format!("192.0.2.{}", 100 + number);
        world.host.ip(&[&format!("address add {source}/24 dev up0")]);
        create_network(&host, name, number, &format!("-o com.docker.network.host_ipv4={source}"));
    }
    let _outside = servers::nginx(&world.client, &[80]);
    let web = host.container("web", "--network beta -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    let seen = |expected: &str| {
        eventually(&format!("packets come from {expected}"), || {
            netd_tests::clients::try_fetch(&web.namespace, at(Family::V4.client(), 80))
                .is_ok_and(|page| page.client.to_string() == expected)
        });
        reached(&world.client, at(Family::V4.host(), 8080));
    };
    seen("192.0.2.102");
    host.docker("network connect alpha web").ok();
    host.known("web.alpha");
    // By the order of names.
    seen("192.0.2.101");
    host.docker("network disconnect alpha web").ok();
    seen("192.0.2.102");
    host.docker("network connect --gw-priority -1 alpha web").ok();
    host.known("web.alpha");
    seen("192.0.2.102");
}

#[test]
fn test_advertise_addresses() {
    let host = host();
    create_network(&host, "front", 1, "");
    let client = host.container("client", "--network front");
    host.known("client");
    let options = "--network front --ip 10.77.1.99 --ip6 fd77:1::99";
    let first = host.container("first", options);
    let addresses = Family::BOTH.map(|it| address(&host, &first, "front", it == Family::V6));
    host.known("first");
    for address in addresses {
        assert!(pings(&client.namespace, address));
    }
    let known = client.namespace.run("ip neighbour show 10.77.1.99").ok();
    host.docker("rm -f first").ok();
    // Another MAC address, of which the neighbour is told.
    host.container("second", options);
    host.known("second");
    eventually("the neighbour has heard of it", || {
        client.namespace.run("ip neighbour show 10.77.1.99").ok() != known
    });
    for address in addresses {
        eventually(&format!("{address} answers"), || pings_at_once(&client.namespace, address));
    }
}
