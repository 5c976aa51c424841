//! Isolation, I1 to I9.

use std::{io::ErrorKind, time::Duration};

use netd_tests::{
    clients::{
        NoConnection, Transport, answers_udp, ask_udp, bind_udp, fetch, fetch_big, iperf3, pings,
        pings_at_once, try_fetch,
    },
    condition::eventually_some,
    family::Family,
    servers,
    topology::{World, at, gateway},
};

#[test]
fn i1_containers_of_one_network_reach_each_other() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _iperf3 = servers::iperf3(&web.namespace, 5201);
    for family in Family::BOTH {
        let (to, from) = (world.address("web", family), world.address("app", family));
        assert_eq!(fetch(&app.namespace, at(to, 80)).client, from);
        assert_eq!(ask_udp(&app.namespace, at(to, 9000), "hello").client, from);
        assert!(pings(&app.namespace, to));
        assert!(pings(&web.namespace, from));
        assert!(iperf3(&app.namespace, at(to, 5201), Transport::Tcp, "--bytes 30M") > 0);
    }
}

#[test]
fn i2_with_icc_off_neighbours_are_apart_but_not_from_the_rest() {
    let world = World::new();
    world.network("front", 1, "--icc=false");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "front", "");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let to = world.address("web", family);
        let before = world.packets("icc_off");
        assert_eq!(try_fetch(&app.namespace, at(to, 80)), Err(NoConnection::TimedOut));
        assert!(!pings_at_once(&app.namespace, to));
        assert!(!answers_udp(&app.namespace, at(to, 9000)));
        assert!(world.packets("icc_off") >= before + 3);

        assert_eq!(fetch(&world.client, at(family.host(), 8080)).client, family.client());
        assert_eq!(fetch(&app.namespace, at(family.remote(), 80)).client, family.host());
        assert!(pings(&app.namespace, gateway(family, 1).parse().unwrap()));
        assert_eq!(fetch(&world.host, at(to, 80)).port, 80);
    }
}

#[test]
fn i5_ports_that_are_not_published_are_closed() {
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
fn i9_an_internal_network_talks_to_itself_and_the_host() {
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
fn i9_nothing_gets_out_of_or_into_an_internal_network() {
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

#[test]
fn i2_with_icc_off_published_ports_of_neighbours_are_reached() {
    let world = World::new();
    world.network("front", 1, "--icc=false");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    for family in Family::BOTH {
        let own = world.address("app", family);
        for to in [family.host(), gateway(family, 1).parse().unwrap()] {
            assert_eq!(fetch(&app.namespace, at(to, 8080)).client, own);
            fetch_big(&app.namespace, at(to, 8080));
            assert_eq!(ask_udp(&app.namespace, at(to, 9000), "hello").client, own);
            assert_eq!(fetch(&web.namespace, at(to, 8080)).server, web.namespace.name());
        }
        // It opens nothing else.
        let direct = try_fetch(&app.namespace, at(world.address("web", family), 80));
        assert_eq!(direct, Err(NoConnection::TimedOut));
    }
}

#[test]
fn i4_only_answers_of_a_known_flow_come_in() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let bind = |namespace: &netd_tests::netns::Namespace, port| {
            let any = family.pick("0.0.0.0", "::").parse().unwrap();
            let socket = namespace.inside(|| bind_udp(at(any, port))).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket
        };
        let inside = bind(&app.namespace, 5000);
        let [asked, stranger] = [9000, 9001].map(|port| bind(&world.client, port));
        let mut buffer = [0; 64];
        let (_, seen) = eventually_some("the question arrives", || {
            inside.send_to(b"question", at(family.client(), 9000)).unwrap();
            asked.recv_from(&mut buffer).ok()
        });
        assert_eq!(seen, at(family.host(), 5000));
        stranger.send_to(b"stranger", seen).unwrap();
        asked.send_to(b"answer", seen).unwrap();
        let len = inside.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"answer");
        let silence = inside.recv(&mut buffer).unwrap_err();
        assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    }
}
