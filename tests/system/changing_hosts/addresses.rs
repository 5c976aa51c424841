//! Addresses of uplinks that come and go, as by DHCP.

use super::*;

fn next(family: Family) -> IpAddr {
    family.pick("192.0.2.33", "2001:db8:1::33").parse().unwrap()
}

/// Gives the first uplink another address in place of the one it has.
#[track_caller]
fn renumber(scene: &Scene, family: Family, from: IpAddr, to: IpAddr) {
    let len = family.pick(24, 64);
    let nodad = family.pick("", "nodad");
    scene.world.host.ip(&[
        &format!("address del {from}/{len} dev {UPLINK}"),
        &format!("address add {to}/{len} dev {UPLINK} {nodad}"),
        &format!("route replace default via {} dev {UPLINK}", family.client()),
    ]);
}

#[test]
fn flows_begin_anew_from_the_address_that_takes_the_place_of_theirs() {
    let scene = Scene::new();
    for family in Family::BOTH {
        let socket = scene.socket(family);
        let (mut old, mut new) = (family.host(), next(family));
        assert_eq!(ask_by(&socket, "first").client, old);
        for _ in 0..3 {
            renumber(&scene, family, old, new);
            assert_eq!(next_source(&socket, old), new);
            scene.wait_for_end(old);
            scene.check(family, new);
            (old, new) = (new, old);
        }
    }
}

#[test]
fn flows_begin_anew_from_an_address_that_came_while_no_daemon_ran() {
    let mut scene = Scene::new();
    let sockets = Family::BOTH.map(|family| scene.socket(family));
    for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
        assert_eq!(ask_by(socket, "first").client, family.host());
    }
    scene.world.daemon.kill();
    for family in Family::BOTH {
        renumber(&scene, family, family.host(), next(family));
    }
    scene.world.daemon.start();
    for (family, socket) in Family::BOTH.into_iter().zip(&sockets) {
        assert_eq!(ask_by(socket, "next").client, next(family));
        scene.check(family, next(family));
    }
}

#[test]
fn flows_of_other_addresses_go_on_when_one_goes() {
    let scene = Scene::with_two_uplinks();
    for family in Family::BOTH {
        let [other, other_client] = others(family);
        let streams: Vec<Stream> =
            scene.inbound(other).into_iter().chain(scene.outbound(other_client)).collect();
        let socket = scene.socket(family);
        assert_eq!(ask_by(&socket, "first").client, family.host());
        renumber(&scene, family, family.host(), next(family));
        assert_eq!(next_source(&socket, family.host()), next(family));
        scene.check(family, next(family));
        streams.into_iter().for_each(Stream::finish);
    }
}

#[test]
fn flows_go_on_when_their_uplink_gets_one_address_more() {
    let scene = Scene::new();
    let streams = scene.everything();
    for family in Family::BOTH {
        scene.world.add_uplink_address(UPLINK, next(family));
        eventually("the published port is open there", || {
            netd_tests::clients::try_fetch(&scene.world.client, at(next(family), 8080)).is_ok()
        });
        let len = family.pick(24, 64);
        scene.world.host.ip(&[&format!("address del {}/{len} dev {UPLINK}", next(family))]);
    }
    streams.into_iter().for_each(Stream::finish);
}

/// As `--ip-masq` with a fixed source does: it need not be an address of the host.
#[test]
fn flows_with_a_source_that_was_chosen_for_them_go_on_without_it() {
    let scene = Scene::with_two_uplinks();
    let fixed =
        |family: Family| family.pick("192.0.2.77", "2001:db8:1::77").parse::<IpAddr>().unwrap();
    let [v4, v6] = Family::BOTH.map(fixed);
    for family in Family::BOTH {
        scene.world.add_uplink_address(UPLINK, fixed(family));
        let route = format!(
            "route add {}/{} via {} dev eth0",
            fixed(family),
            family.host_prefix(),
            family.host()
        );
        scene.world.client.ip(&[&route]);
    }
    scene.world.network("fixed", 2, &format!("--snat-address {v4} --snat-address {v6}"));
    let app = scene.world.container("chosen", "fixed", "");
    for family in Family::BOTH {
        let to = at(family.remote(), TCP_ECHO);
        let stream = Stream::begin(&app.namespace, Transport::Tcp, to);
        scene.world.host.ip(&[&format!(
            "address del {}/{} dev {UPLINK}",
            fixed(family),
            family.pick(24, 64)
        )]);
        // What comes later shows that the daemon has seen it.
        renumber(&scene, family, family.host(), next(family));
        scene.check(family, next(family));
        scene.world.client.ip(&[&format!(
            "route replace {}/{} via {} dev eth0",
            fixed(family),
            family.host_prefix(),
            next(family)
        )]);
        stream.finish();
    }
}
