//! Firewalls that are flushed and loaded again, which is nothing to netd.

use netd_tests::process::run_in;

use super::*;

const IPTABLES: [&str; 4] =
    ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];

/// The rules of a firewall that knows connections. Source: `nftables.py` of firewalld 2.
const RULES: &str = "\
add table inet firewalld
add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }
add rule inet firewalld filter_FORWARD ct state established,related accept
add rule inet firewalld filter_FORWARD ct state invalid drop
add rule inet firewalld filter_FORWARD accept
";

/// What stands in place of the rules while they are loaded: nothing new comes in.
const ONLY_ESTABLISHED: &str = "\
add table inet firewalld_policy_drop
add chain inet firewalld_policy_drop filter_FORWARD { type filter hook forward priority 9; policy drop; }
add rule inet firewalld_policy_drop filter_FORWARD ct state established,related accept
";

#[track_caller]
fn nft(scene: &Scene, script: &str) {
    run_in(scene.world.host.path(), "nft", &["-f", "-"], script).ok();
}

/// Checks that everything is reached as before.
#[track_caller]
fn check(scene: &Scene, streams: Vec<Stream>) {
    for family in Family::BOTH {
        scene.check(family, family.host());
    }
    streams.into_iter().for_each(Stream::finish);
}

#[test]
fn everything_goes_on_when_nftables_is_flushed() {
    let scene = Scene::new();
    let streams = scene.everything();
    for _ in 0..3 {
        nft(&scene, RULES);
        streams.iter().for_each(Stream::goes_on);
        scene.world.host.run("nft flush ruleset").ok();
        streams.iter().for_each(Stream::goes_on);
    }
    check(&scene, streams);
}

#[test]
fn everything_goes_on_when_iptables_is_flushed_and_filled_again() {
    let scene = Scene::new();
    let streams = scene.everything();
    for _ in 0..2 {
        for iptables in IPTABLES {
            for line in [
                "-F",
                "-t nat -F",
                "-t raw -F",
                "-P FORWARD ACCEPT",
                "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
                "-A FORWARD -p tcp --dport 25 -j DROP",
                "-t nat -A POSTROUTING -o docker0 -j MASQUERADE",
            ] {
                scene.world.host.run(&format!("{iptables} {line}")).ok();
            }
            streams.iter().for_each(Stream::goes_on);
        }
    }
    check(&scene, streams);
}

#[test]
fn everything_goes_on_when_firewalld_loads_its_rules_again() {
    let scene = Scene::new();
    nft(&scene, RULES);
    let streams = scene.everything();
    for _ in 0..3 {
        nft(&scene, ONLY_ESTABLISHED);
        scene.world.host.run("nft delete table inet firewalld").ok();
        streams.iter().for_each(Stream::goes_on);
        nft(&scene, RULES);
        scene.world.host.run("nft delete table inet firewalld_policy_drop").ok();
        streams.iter().for_each(Stream::goes_on);
    }
    check(&scene, streams);
}
