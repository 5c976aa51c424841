//! Two ways out, and which of them is taken.

use super::*;

/// Checks that the container's flow to the world, one and the same, leaves with an address.
#[track_caller]
fn check_source(socket: &UdpSocket, before: IpAddr, after: IpAddr) {
    assert_eq!(next_source(socket, before), after);
}

#[test]
fn flows_begin_anew_by_the_uplink_that_the_default_route_moves_to() {
    let scene = Scene::with_two_uplinks();
    let sockets = Family::BOTH.map(|family| scene.socket(family));
    let stays: Vec<Stream> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            let [other, other_client] = others(family);
            let own =
                scene.inbound(family.host()).into_iter().chain(scene.outbound(family.client()));
            own.chain(scene.inbound(other)).chain(scene.outbound(other_client)).collect::<Vec<_>>()
        })
        .collect();
    for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
        assert_eq!(ask_by(socket, "first").client, family.host());
    }
    for _ in 0..2 {
        scene.set_default_routes(OTHER, other_client);
        for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
            check_source(socket, family.host(), others(family)[0]);
        }
        scene.set_default_routes(UPLINK, Family::client);
        for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
            check_source(socket, others(family)[0], family.host());
        }
    }
    stays.into_iter().for_each(Stream::finish);
}

#[test]
fn flows_begin_anew_by_the_second_best_route_when_the_best_one_goes() {
    let scene = Scene::with_two_uplinks();
    for family in Family::BOTH {
        let [other, other_client] = others(family);
        let socket = scene.socket(family);
        assert_eq!(ask_by(&socket, "first").client, family.host());
        scene
            .world
            .host
            .ip(&[&format!("route add default via {other_client} dev {OTHER} metric 5000")]);
        assert_eq!(ask_by(&socket, "second").client, family.host());
        // The kernel takes the routes of a device that is set down away, and says so of some only.
        scene.world.host.ip(&[&format!("link set {UPLINK} down")]);
        check_source(&socket, family.host(), other);
        scene.wait_for_end(family.host());
        scene.world.host.ip(&[&format!("link set {UPLINK} up")]);
        if family == Family::V6 {
            scene.world.add_uplink_address(UPLINK, family.host());
        }
        eventually("the first uplink is used again", || {
            let route = format!("route replace default via {} dev {UPLINK}", family.client());
            scene.world.host.run(&format!("ip {route}")).is_ok()
        });
        check_source(&socket, other, family.host());
        for family in Family::BOTH {
            // IPv6 addresses are lost with the device.
            if scene
                .world
                .host
                .run(&format!("ip address show to {}", family.host()))
                .ok()
                .is_empty()
            {
                scene.world.add_uplink_address(UPLINK, family.host());
            }
        }
        scene.set_default_routes(UPLINK, Family::client);
        scene.check(family, family.host());
    }
}

#[test]
fn flows_begin_anew_where_rules_send_them() {
    let scene = Scene::with_two_uplinks();
    for family in Family::BOTH {
        let flag = family.pick("-4", "-6");
        let [other, other_client] = others(family);
        let socket = scene.socket(family);
        assert_eq!(ask_by(&socket, "first").client, family.host());
        let ip = |line: &str| drop(scene.world.host.run(&format!("ip {flag} {line}")).ok());
        ip(&format!("route add default via {other_client} dev {OTHER} table 100"));
        assert_eq!(ask_by(&socket, "second").client, family.host());
        let subnet = netd_tests::topology::subnet(family, 1);
        ip(&format!("rule add from {subnet} lookup 100"));
        check_source(&socket, family.host(), other);
        ip(&format!("route replace default via {} dev {UPLINK} table 100", family.client()));
        check_source(&socket, other, family.host());
        ip(&format!("route replace default via {other_client} dev {OTHER} table 100"));
        check_source(&socket, family.host(), other);
        ip(&format!("rule del from {subnet} lookup 100"));
        check_source(&socket, other, family.host());
    }
}

#[test]
fn flows_go_on_by_one_of_two_next_hops() {
    let scene = Scene::with_two_uplinks();
    for family in Family::BOTH {
        let [other, other_client] = others(family);
        let client = family.client();
        let hops =
            format!("nexthop via {client} dev {UPLINK} nexthop via {other_client} dev {OTHER}");
        scene.world.host.ip(&[&format!("route replace default {hops}")]);
        let streams = scene.outbound(family.remote());
        let beyond = family.pick("203.0.113.0/24", "2001:db8:9::/64");
        scene.world.host.ip(&[&format!("route add {beyond} via {other_client} dev {OTHER}")]);
        // What comes later shows that the daemon has seen it.
        let later: IpAddr = family.pick("192.0.2.44", "2001:db8:1::44").parse().unwrap();
        scene.world.add_uplink_address(UPLINK, later);
        eventually("the published port is open there", || {
            netd_tests::clients::try_fetch(&scene.world.client, at(later, 8080)).is_ok()
        });
        scene
            .world
            .host
            .ip(&[&format!("address del {later}/{} dev {UPLINK}", family.pick(24, 64))]);
        streams.into_iter().for_each(Stream::finish);
        let socket = scene.socket(family);
        let source = ask_by(&socket, "first").client;
        let (left, next) =
            if source == other { (client, family.host()) } else { (other_client, other) };
        let device = if source == other { UPLINK } else { OTHER };
        scene.world.host.ip(&[&format!("route replace default via {left} dev {device}")]);
        check_source(&socket, source, next);
    }
}
