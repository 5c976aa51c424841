//! What is not to get through, and is counted.

use netd_tests::{
    clients::{NoConnection, answers_udp, ask_udp, fetch, pings, pings_at_once, try_fetch},
    family::Family,
    servers,
    topology::{Container, World, at, gateway},
};

#[test]
fn ports_that_are_not_published_are_closed() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80, 81, 8081]);
    let _echo = servers::udp_echo(&web.namespace, 9001);
    for family in Family::BOTH {
        for port in [80, 81, 8081, 9000] {
            let refused = try_fetch(&world.client, at(family.host(), port));
            assert_eq!(refused, Err(NoConnection::Refused), "{family} {port}");
        }
        assert!(!answers_udp(&world.client, at(family.host(), 9001)));
    }
}

#[test]
fn nobody_outside_reaches_a_container_by_its_address() {
    let world = World::new();
    world.network("front", 1, "");
    world.route_client_to_containers(1);
    let web = world.container("web", "front", "-p 80:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let address = world.address("web", family);
        // A published port, once used, opens no other way.
        fetch(&world.client, at(family.host(), 80));
        let before = world.packets("direct_routing");
        assert_eq!(try_fetch(&world.client, at(address, 80)), Err(NoConnection::TimedOut));
        assert!(!answers_udp(&world.client, at(address, 9000)));
        assert!(!pings_at_once(&world.client, address));
        assert!(world.packets("direct_routing") >= before + 3);
    }
}

#[test]
fn nobody_outside_passes_for_a_container() {
    let world = World::new();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 8080:80");
    for family in Family::BOTH {
        let forged = family.pick("10.77.1.200", "fd77:1::200");
        world.client.add_address("eth0", forged.parse().unwrap(), family.host_prefix());
        let before = world.packets("spoofed_source");
        let line = format!("ping -n -q -c 1 -W 0.5 -I {forged} {}", family.host());
        assert!(!world.client.run(&line).is_ok());
        assert!(world.packets("spoofed_source") > before);
    }
}

#[test]
fn networks_are_apart_until_they_are_allowed() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.network("other", 3, "");
    let app = world.container("app", "front", "");
    let db = world.container("db", "back", "");
    let other = world.container("other", "other", "");
    let _nginx = servers::nginx(&db.namespace, &[80]);
    let _echo = servers::udp_echo(&db.namespace, 9000);
    let check_apart = |from: &Container| {
        for family in Family::BOTH {
            let to = world.address("db", family);
            let before = world.packets("networks_apart");
            assert_eq!(try_fetch(&from.namespace, at(to, 80)), Err(NoConnection::TimedOut));
            assert!(!pings_at_once(&from.namespace, to));
            assert!(!answers_udp(&from.namespace, at(to, 9000)));
            assert!(world.packets("networks_apart") >= before + 3);
        }
    };
    check_apart(&app);

    world.netd("network allow front back").ok();
    for family in Family::BOTH {
        let (from, to) = (world.address("app", family), world.address("db", family));
        assert_eq!(fetch(&app.namespace, at(to, 80)).port, 80);
        ask_udp(&app.namespace, at(to, 9000), "hello");
        assert!(pings(&app.namespace, to));
        assert!(pings(&db.namespace, from));
    }
    check_apart(&other);

    world.netd("network disallow back front").ok();
    check_apart(&app);
    let error = world.refused("network disallow front back");
    assert!(error.contains("front") && error.contains("back"), "{error}");
}

#[test]
fn an_internal_network_talks_to_itself_and_the_host() {
    let world = World::new();
    world.network("inner", 1, "--internal");
    let db = world.container("db", "inner", "");
    let app = world.container("app", "inner", "");
    let _nginx = servers::nginx(&db.namespace, &[80]);
    for family in Family::BOTH {
        let to = world.address("db", family);
        let bridge = gateway(family, 1).parse().unwrap();
        assert_eq!(fetch(&app.namespace, at(to, 80)).client, world.address("app", family));
        assert_eq!(fetch(&world.host, at(to, 80)).client, bridge);
        assert!(pings(&app.namespace, bridge));
        let flag = family.pick("-4", "-6");
        assert_eq!(app.namespace.run(&format!("ip {flag} route show default")).ok(), "");
    }
    let error = world.refused("port add db 8080:80");
    assert!(error.contains("inner") && error.contains("internal"), "{error}");
}

#[test]
fn nothing_gets_out_of_or_into_an_internal_network() {
    let world = World::new();
    world.network("inner", 1, "--internal");
    world.network("front", 2, "");
    world.route_client_to_containers(1);
    let app = world.container("app", "inner", "");
    let web = world.container("web", "front", "");
    let _inside = servers::nginx(&app.namespace, &[80]);
    let _front = servers::nginx(&web.namespace, &[80]);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        // A container that makes itself a route gets no further.
        app.namespace.ip(&[&format!("route add default via {}", gateway(family, 1))]);
        let own = at(world.address("app", family), 80);
        for (from, to) in [
            (&app.namespace, at(family.remote(), 80)),
            (&app.namespace, at(world.address("web", family), 80)),
            (&web.namespace, own),
            (&world.client, own),
        ] {
            let refused = try_fetch(from, to);
            assert_eq!(refused, Err(NoConnection::TimedOut), "{} to {to}", from.name());
        }
        let before = world.packets("internal_network");
        assert!(!pings_at_once(&app.namespace, family.remote()));
        assert!(world.packets("internal_network") > before);
    }
}
