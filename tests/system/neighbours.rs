//! Between containers of one network.

use netd_tests::{
    clients::{
        NoConnection, Transport, answers_udp, ask_udp, fetch, iperf3, pings, pings_at_once,
        try_fetch,
    },
    family::Family,
    servers,
    topology::{World, at, gateway},
};

#[test]
fn containers_of_one_network_reach_each_other() {
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
fn with_icc_off_neighbours_are_apart_but_not_from_the_rest() {
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
