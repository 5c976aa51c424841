//! What keeps the host's own traffic its own, and containers where they belong, when somebody does what
//! nobody is supposed to do.

use std::time::Duration;

use netd_tests::{
    clients::{Connection, ask_udp, bind_udp, fetch, pings_at_once, try_fetch},
    condition::{eventually, eventually_some},
    family::Family,
    servers,
    topology::{World, at, gateway},
};

#[test]
fn the_hosts_own_connection_goes_on_when_its_port_is_published() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let _outside = servers::nginx(&world.client, &[80]);
    let _inside = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        // Each family its own: a closed connection keeps its port for a minute.
        let port = family.pick(40_000, 40_001);
        let mut own = Connection::open_from(&world.host, port, at(family.remote(), 80));
        own.fetch();
        world.netd(&format!("port add web {port}:80 {port}:80/udp")).ok();
        own.fetch();
        // Others reach the container there, and no new connection of the host's begins there.
        fetch(&world.client, at(family.host(), port));
        let line = format!("curl --silent --local-port {port} http://{}/", at(family.remote(), 80));
        assert!(!world.host.run(&line).is_ok());
    }
}

#[test]
fn replies_to_the_hosts_unconnected_socket_at_a_published_number_are_its_own() {
    const PORT: u16 = 40_000;
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 40000:9000/udp");
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _outside = servers::udp_echo(&world.client, 9000);
    // Somebody who was there before netd.
    world.netd("stop --detach").ok();
    world.daemon.wait();
    let any = |family: Family| family.pick("0.0.0.0", "::").parse().unwrap();
    let bind = |family| world.host.inside(|| bind_udp(at(any(family), PORT))).unwrap();
    let sockets = Family::BOTH.map(|family| (family, bind(family)));
    world.daemon.start();
    for (family, socket) in sockets {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        for server in [family.client(), world.address("web", family)] {
            let from = eventually_some("the echo answers", || {
                socket.send_to(b"hello\n", at(server, 9000)).unwrap();
                socket.recv_from(&mut [0; 64]).ok()
            });
            assert_eq!(from.1, at(server, 9000));
        }
        // The published port is the container's all the same.
        let answer = ask_udp(&world.client, at(family.host(), PORT), "hello");
        assert_eq!(answer.client, family.client());
    }
}

#[test]
fn what_may_not_be_switched_may_not_be_routed_back_either() {
    let world = World::new();
    world.network("quiet", 1, "--icc false");
    let web = world.container("web", "quiet", "");
    let app = world.container("app", "quiet", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let (to, from) = (world.address("web", family), world.address("app", family));
        let (gateway, bits) = (gateway(family, 1), family.host_prefix());
        app.namespace.ip(&[&format!("route add {to}/{bits} via {gateway}")]);
        web.namespace.ip(&[&format!("route add {from}/{bits} via {gateway}")]);
        let before = world.packets("icc_off");
        assert!(try_fetch(&app.namespace, at(to, 80)).is_err());
        assert!(world.packets("icc_off") > before);
        fetch(&world.host, at(to, 80));
    }
}

#[test]
fn nothing_leaves_by_a_device_that_appears_while_the_daemon_is_dead() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    world.daemon.kill();
    world.add_link("up9", "eth9");
    for family in Family::BOTH {
        let (own, there) =
            family.pick(("198.51.100.1/24", "198.51.100.9"), ("2001:db8:9::1/64", "2001:db8:9::9"));
        world.host.ip(&[&format!("addr add {own} dev up9")]);
        eventually("the host has a route", || {
            world.host.run(&format!("ip route get {there}")).stdout.contains("up9")
        });
        assert!(!pings_at_once(&web.namespace, there.parse().unwrap()));
    }
    world.daemon.start();
    assert!(world.packets("not_an_uplink") >= 2);
}

#[test]
fn a_bridge_that_is_taken_away_is_put_back_with_its_ports() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].clone();
    let bridge = bridge.as_str().unwrap();
    let port = world.host_ifname(&web).unwrap();
    for harm in [
        format!("link del {bridge}"),
        format!("link set {port} nomaster"),
        format!("link set {port} down"),
        format!("link set {bridge} down"),
        format!("addr flush dev {bridge}"),
    ] {
        world.host.ip(&[&harm]);
        for family in Family::BOTH {
            eventually(&harm, || try_fetch(&world.client, at(family.host(), 8080)).is_ok());
        }
    }
}
