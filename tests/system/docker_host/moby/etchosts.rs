//! `etchosts_test.go`: what names a container finds in its file, beside netd's account of its addresses.

use netd_tests::{
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    servers,
    topology::at,
};
use serde_json::Value;

use super::{
    account::{agreed, faultless},
    fetched, host, reached,
};
use crate::docker_host::create_network;

/// The lines of a container's file, their words separated by one space.
#[track_caller]
fn hosts(host: &DockerHost, container: &str) -> Vec<String> {
    let text = host.exec(container, "cat /etc/hosts").ok();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

const LOCAL: [&str; 6] = [
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    "fe00:: ip6-localnet",
    "ff00:: ip6-mcastprefix",
    "ff02::1 ip6-allnodes",
    "ff02::2 ip6-allrouters",
];

#[test]
fn test_etc_hosts_ipv6() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    host.start_docker(&format!("{FOR_NETD} --ipv6 --fixed-cidr-v6=fdc8:ffe2:d8d7:1234::/64"));
    for (name, options, has_ipv6, port) in [
        ("with", "-p 8080:80", true, 8080),
        ("without", "-p 8081:80 --sysctl net.ipv6.conf.all.disable_ipv6=1", false, 8081),
    ] {
        let container = host.container(name, &format!("--hostname {name} {options}"));
        assert_eq!(host.exec(name, "ping -6 -c 1 -W 3 ::1").is_ok(), has_ipv6);
        let endpoint = agreed(&host, name, "bridge");
        let own = ["ipv4", "ipv6"].map(|key| endpoint[key].as_str().unwrap_or_default());
        let own = own.map(|net| format!("{} {name}", net.split('/').next().unwrap_or_default()));
        let count = if has_ipv6 { 2 } else { 1 };
        let local = LOCAL.iter().take(if has_ipv6 { LOCAL.len() } else { 1 });
        let expected: Vec<_> =
            local.map(|line| (*line).to_owned()).chain(own.into_iter().take(count)).collect();
        assert_eq!(hosts(&host, name), expected);
        let _nginx = servers::nginx(&container.namespace, &[80]);
        for family in Family::BOTH.into_iter().take(count) {
            reached(&host.world.client, at(family.host(), port));
        }
        // The host's own `::1` leads to both.
        assert_eq!(fetched(&host.world.host, "[::1]", port).server, container.namespace.name());
    }
    faultless(&host);
}

#[test]
fn test_etc_hosts_disconnect() {
    // The second network is macvlan (Docker's own test has ipvlan), of which netd is to take no notice.
    let host = host();
    create_network(&host, "front", 1, "");
    host.world.add_link("lan0", "lan1");
    create_network(&host, "mvl", 2, "-d macvlan -o parent=lan0");
    let extra =
        "--add-host otherhost.invalid:192.0.2.3 --add-host otherhost.invalid:2001:db8::1234";
    let options = format!("--hostname c1.invalid --network front -p 8080:80 {extra}");
    let container = host.container("c1", &options);
    let _nginx = servers::nginx(&container.namespace, &[80]);
    let others = ["192.0.2.3 otherhost.invalid", "2001:db8::1234 otherhost.invalid"];
    let own = |number: u8| {
        [format!("10.77.{number}.2 c1.invalid c1"), format!("fd77:{number}::2 c1.invalid c1")]
    };
    // The networks that it is on, in the order in which it came there.
    let check = |numbers: &[u8]| {
        let fixed = LOCAL.iter().chain(&others).map(|line| (*line).to_owned());
        let expected: Vec<_> = fixed.chain(numbers.iter().flat_map(|it| own(*it))).collect();
        assert_eq!(hosts(&host, "c1"), expected);
        if numbers.contains(&1) {
            agreed(&host, "c1", "front");
            for family in Family::BOTH {
                reached(&host.world.client, at(family.host(), 8080));
            }
        } else {
            host.forgotten("c1");
            assert_eq!(host.world.netd("endpoint ls --json").json(), Value::Array(Vec::new()));
        }
    };
    for (line, numbers) in [
        ("connect mvl", &[1, 2][..]),
        ("disconnect front", &[2]),
        ("connect front", &[2, 1]),
        ("disconnect front", &[2]),
        ("disconnect mvl", &[]),
    ] {
        host.docker(&format!("network {line} c1")).ok();
        check(numbers);
    }
    faultless(&host);
}
