//! Uplinks that are renamed, made again, or become part of something.

use nix::sys::signal::Signal;

use super::*;

#[track_caller]
fn ifindex(world: &World, ifname: &str) -> u32 {
    let link = world.host.run(&format!("ip -oneline link show dev {ifname}")).ok();
    link.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn everything_goes_on_when_an_uplink_gets_another_name() {
    let scene = Scene::new();
    let streams = scene.everything();
    for (from, to) in [(UPLINK, "wan0"), ("wan0", "wan1"), ("wan1", UPLINK)] {
        scene.world.host.ip(&[&format!("link set {from} name {to}")]);
        streams.iter().for_each(Stream::goes_on);
        for family in Family::BOTH {
            scene.check(family, family.host());
        }
    }
    streams.into_iter().for_each(Stream::finish);
}

/// Deletes the first uplink and makes another one of the same name, which is up.
#[track_caller]
fn make_again(world: &World, ifindex: u32) {
    let client = world.client.name();
    world.host.ip(&[
        &format!("link del {UPLINK}"),
        &format!("link add {UPLINK} index {ifindex} type veth peer name eth0 netns {client}"),
        &format!("link set {UPLINK} up"),
    ]);
    world.client.ip(&["link set eth0 up"]);
    give_addresses(world, UPLINK, "eth0");
}

#[test]
fn an_uplink_that_is_made_again_is_used_as_the_first_one() {
    let mut scene = Scene::new();
    let first = ifindex(&scene.world, UPLINK);
    // Another number, and the same one, seen step by step or all at once.
    for (ifindex, is_seen_late) in [(70, false), (71, true), (first, false), (first, true)] {
        if is_seen_late {
            scene.world.daemon.signal(Signal::SIGSTOP);
        }
        make_again(&scene.world, ifindex);
        assert_eq!(self::ifindex(&scene.world, UPLINK), ifindex);
        if is_seen_late {
            scene.world.daemon.signal(Signal::SIGCONT);
        }
        for family in Family::BOTH {
            scene.check(family, family.host());
        }
    }
}

#[test]
fn flows_through_another_uplink_go_on_when_one_is_deleted() {
    let scene = Scene::with_two_uplinks();
    for family in Family::BOTH {
        let [other, other_client] = others(family);
        let streams = scene.inbound(other).into_iter().chain(scene.outbound(other_client));
        let streams: Vec<Stream> = streams.collect();
        make_again(&scene.world, 70);
        scene.check(family, family.host());
        streams.into_iter().for_each(Stream::finish);
    }
}

#[test]
fn an_uplink_becomes_a_port_of_a_bridge_and_an_uplink_again() {
    let scene = Scene::new();
    let host = &scene.world.host;
    // Given for good, so that it does not follow its ports; the uplink's, so that neighbours know it.
    let link = host.run(&format!("ip -oneline link show dev {UPLINK}")).ok();
    let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    host.ip(&[&format!("link add br-lan address {mac} type bridge"), "link set br-lan up"]);
    for _ in 0..2 {
        take_addresses(&scene.world, UPLINK, "eth0");
        host.ip(&[&format!("link set {UPLINK} master br-lan")]);
        give_addresses(&scene.world, "br-lan", "eth0");
        for family in Family::BOTH {
            scene.check(family, family.host());
        }
        // Another port comes and goes.
        let streams = scene.everything();
        scene.world.add_link("up2", "eth2");
        host.ip(&["link set up2 master br-lan"]);
        streams.iter().for_each(Stream::goes_on);
        host.ip(&["link del up2"]);
        streams.into_iter().for_each(Stream::finish);

        take_addresses(&scene.world, "br-lan", "eth0");
        host.ip(&[&format!("link set {UPLINK} nomaster")]);
        give_addresses(&scene.world, UPLINK, "eth0");
        for family in Family::BOTH {
            scene.check(family, family.host());
        }
    }
}
