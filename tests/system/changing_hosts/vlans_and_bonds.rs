//! Devices on top of uplinks, and made of them. Not every kernel has them: `cargo xtask vm` runs these tests in
//! kernels that do.

use super::*;

#[test]
#[ignore = "needs VLAN devices"]
fn a_vlan_device_becomes_the_uplink_and_goes() {
    let scene = Scene::new();
    let ends = [(&scene.world.host, UPLINK), (&scene.world.client, "eth0")];
    for _ in 0..2 {
        take_addresses(&scene.world, UPLINK, "eth0");
        for (end, ifname) in ends {
            let vlan = format!("link add link {ifname} name vlan5 type vlan id 5");
            end.ip(&[&vlan, "link set vlan5 up"]);
        }
        give_addresses(&scene.world, "vlan5", "vlan5");
        check(&scene);
        // Another one comes and goes.
        let streams = scene.everything();
        let other = format!("link add link {UPLINK} name vlan6 type vlan id 6");
        scene.world.host.ip(&[&other, "link set vlan6 up"]);
        streams.iter().for_each(Stream::goes_on);
        scene.world.host.ip(&["link del vlan6"]);
        streams.into_iter().for_each(Stream::finish);

        ends.iter().for_each(|(end, _)| end.ip(&["link del vlan5"]));
        give_addresses(&scene.world, UPLINK, "eth0");
        check(&scene);
    }
}

#[test]
#[ignore = "needs bonds"]
fn a_bond_is_made_changes_its_ports_and_goes() {
    let scene = Scene::new();
    let (host, client) = (&scene.world.host, &scene.world.client);
    scene.world.add_link("up2", "eth2");
    client.ip(&["link add br0 type bridge", "link set br0 up", "link set eth2 master br0"]);
    take_addresses(&scene.world, UPLINK, "eth0");
    client.ip(&["link set eth0 master br0"]);
    host.ip(&["link add bond0 type bond mode active-backup miimon 100"]);
    enslave(&scene, UPLINK);
    enslave(&scene, "up2");
    host.ip(&["link set bond0 up"]);
    give_addresses(&scene.world, "bond0", "br0");
    check(&scene);
    for port in [UPLINK, "up2", UPLINK] {
        host.ip(&[&format!("link set {port} nomaster")]);
        check(&scene);
        enslave(&scene, port);
        check(&scene);
    }

    take_addresses(&scene.world, "bond0", "br0");
    host.set_sysctl(&format!("ipv6/conf/{UPLINK}/disable_ipv6"), "0");
    host.ip(&["link del bond0", &format!("link set {UPLINK} up")]);
    client.ip(&["link del br0", "link set eth0 up"]);
    give_addresses(&scene.world, UPLINK, "eth0");
    check(&scene);
}

/// Makes a device a port of the bond, that has no IPv6 of its own: before Linux 6.2 a port that comes up reports
/// its multicast groups, with the bond's MAC address, and a switch sends to that port until the bond is heard
/// again.
#[track_caller]
fn enslave(scene: &Scene, ifname: &str) {
    scene.world.host.set_sysctl(&format!("ipv6/conf/{ifname}/disable_ipv6"), "1");
    scene.world.host.ip(&[
        &format!("link set {ifname} down"),
        &format!("link set {ifname} master bond0"),
        &format!("link set {ifname} up"),
    ]);
}

#[track_caller]
fn check(scene: &Scene) {
    for family in Family::BOTH {
        scene.check(family, family.host());
    }
}
