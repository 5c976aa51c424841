//! `integration/network/bridge/bridge_linux_test.go`: which subnets and addresses networks and containers have.

use netd_tests::{
    clients::{fetch, pings},
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    servers,
    topology::at,
};
use serde_json::{Value, json};

use super::{
    account::{agreed, agreed_network, faultless, own, subnets},
    address, closed, host, reached,
};
use crate::docker_host::create_network;

#[test]
fn test_create_with_multi_networks() {
    let host = host();
    create_network(&host, "one", 1, "");
    create_network(&host, "two", 2, "");
    let web = host.container("web", "--network one --network two -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let ways = ["one", "two"].map(|network| agreed(&host, "web", network));
    // Docker connects them in any order.
    let mut ifnames = ways.each_ref().map(|way| way["ifname"].as_str().unwrap_or_default());
    ifnames.sort_unstable();
    assert_eq!(ifnames, ["eth0", "eth1"]);
    let addresses = web.namespace.run("ip -oneline -4 address show").ok();
    assert_eq!(addresses.lines().count(), 3, "{addresses}");
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
        for way in &ways {
            reached(&host.world.host, at(own(way, family == Family::V6), 80));
        }
    }
}

/// A dockerd with these flags makes a network with these, to which it gives a subnet of its own for IPv6.
#[track_caller]
fn check_ula(flags: &str, options: &str) {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    host.start_docker(&format!("{FOR_NETD} {flags}"));
    host.docker(&format!("network create {options} ula")).ok();
    let is_ula = |subnet: &String| subnet.starts_with("fd");
    assert!(subnets(&agreed_network(&host, "ula")).iter().any(is_ula));
    let web = host.container("web", "--network ula -p 8080:80");
    agreed(&host, "web", "ula");
    let _servers = [&web.namespace, &host.world.client].map(|it| servers::nginx(it, &[80]));
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
        assert_eq!(fetch(&web.namespace, at(family.remote(), 80)).client, family.host());
    }
}

#[test]
fn test_create_with_ipv6_defaults_to_ula_prefix() {
    check_ula("", "--ipv6");
}

#[test]
fn test_create_with_ipv6_without_enable_ipv6_flag() {
    check_ula("--default-network-opt=bridge=com.docker.network.enable_ipv6=true", "");
}

#[test]
fn test_default_ipv_opt_override() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    let defaults = [(4, false), (6, true)].map(|(family, is_on)| {
        format!("--default-network-opt=bridge=com.docker.network.enable_ipv{family}={is_on}")
    });
    host.start_docker(&format!("{FOR_NETD} {}", defaults.join(" ")));
    for (name, flags) in
        [("neither", ""), ("four", "--ipv4"), ("six", "--ipv6"), ("both", "--ipv4 --ipv6")]
    {
        host.docker(&format!("network create {flags} {name}")).ok();
        let network = agreed_network(&host, name);
        let default = |family: u8, value: &str| {
            let is_said = flags.contains(&format!("ipv{family}"));
            if is_said { Value::Null } else { json!(value) }
        };
        // What somebody has asked for is not shown as the default that it is not.
        let option =
            |family: u8| &network["options"][format!("com.docker.network.enable_ipv{family}")];
        assert_eq!((option(4), option(6)), (&default(4, "false"), &default(6, "true")), "{name}");
        let families = 1 + usize::from(flags.contains("ipv4"));
        assert_eq!(subnets(&network).len(), families, "{network}");
    }
    faultless(&host);
    let web = host.container("web", "--network six -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    agreed(&host, "web", "six");
    reached(&host.world.client, at(Family::V6.host(), 8080));
}

#[test]
fn test_64_bit_ip_range() {
    let host = host();
    for subnet in ["fd2e:b68c:ce26::/64", "fd2e:b68c:ce26::/56"] {
        for range in ["", "--ip-range fd2e:b68c:ce26::/64"] {
            for gateway in ["", "--gateway fd2e:b68c:ce26::1"] {
                let options = format!("--ipv6 --subnet {subnet} {range} {gateway}");
                host.docker(&format!("network create {options} wide")).ok();
                agreed_network(&host, "wide");
                host.docker("network rm wide").ok();
            }
        }
    }
    host.docker(
        "network create --ipv6 --subnet fd2e:b68c:ce26::/56 --ip-range fd2e:b68c:ce26::/64 wide",
    )
    .ok();
    let container = host.container("web", "--network wide");
    let address = own(&agreed(&host, "web", "wide"), true);
    assert!(pings(&host.world.host, address));
    let _outside = servers::nginx(&host.world.client, &[80]);
    reached(&container.namespace, at(Family::V6.remote(), 80));
}

#[test]
fn test_ip_range_at_64_bit_limit() {
    let host = host();
    let _outside = servers::nginx(&host.world.client, &[80]);
    for (port, subnet, range) in [
        (8080, "fda9:8d04:1::/64", "fda9:8d04:1:0:ffff:ffff:ffff:ff0e/127"),
        (8081, "fda9:8d04:2::/64", "fda9:8d04:2:0:ffff:ffff:ffff:fffe/127"),
        (8082, "fda9:8d04:3::/56", "fda9:8d04:3:aa:ffff:ffff:ffff:fffe/127"),
    ] {
        let (network, name) = (format!("end{port}"), format!("web{port}"));
        host.docker(&format!(
            "network create --ipv6 --subnet {subnet} --ip-range {range} {network}"
        ))
        .ok();
        agreed_network(&host, &network);
        let web = host.container(&name, &format!("--network {network} -p {port}:80"));
        let _nginx = servers::nginx(&web.namespace, &[80]);
        agreed(&host, &name, &network);
        reached(&host.world.client, at(Family::V6.host(), port));
        reached(&web.namespace, at(Family::V6.remote(), 80));
    }
}

#[test]
fn test_point_to_point() {
    let host = host();
    for (number, option) in [
        (1, "com.docker.network.bridge.inhibit_ipv4=true"),
        (2, "com.docker.network.bridge.gateway_mode_ipv4=isolated"),
    ] {
        let (network, subnet) = (format!("pair{number}"), format!("192.168.{number}.0/31"));
        host.docker(&format!("network create --internal --subnet {subnet} -o {option} {network}"))
            .ok();
        // Both addresses are containers': nobody needs a gateway's.
        let names = ["a", "b"].map(|name| format!("{name}{number}"));
        let [a, b] = names.each_ref().map(|name| {
            let container = host.container(name, &format!("--network {network}"));
            agreed(&host, name, &network);
            container
        });
        let _nginx = servers::nginx(&b.namespace, &[80]);
        let address = address(&host, &b, &network, false);
        assert_eq!(address.to_string(), format!("192.168.{number}.1"));
        assert!(pings(&a.namespace, address));
        reached(&a.namespace, at(address, 80));
        host.exec(&names[0], &format!("ping -c 1 -W 3 {}", names[1])).ok();
    }
    faultless(&host);
}

#[test]
fn test_isolated() {
    let host = host();
    let modes = [4, 6]
        .map(|family| format!("-o com.docker.network.bridge.gateway_mode_ipv{family}=isolated"));
    let options = format!("--internal {} -o com.docker.network.bridge.name=iso0", modes.join(" "));
    create_network(&host, "isolated", 1, &options);
    let addresses = host.world.host.run("ip -oneline address show dev iso0").ok();
    assert_eq!(addresses, "");
    let [a, b] = ["first", "second"].map(|name| {
        let container = host.container(name, "--network isolated");
        let endpoint = agreed(&host, name, "isolated");
        assert_eq!((&endpoint["gateway"], &endpoint["gateway6"]), (&Value::Null, &Value::Null));
        container
    });
    let _nginx = servers::nginx(&b.namespace, &[80]);
    for family in Family::BOTH {
        let address = address(&host, &b, "isolated", family == Family::V6);
        assert!(pings(&a.namespace, address));
        reached(&a.namespace, at(address, 80));
        host.exec("first", &format!("ping {} -c 1 -W 3 second", family.pick("-4", "-6"))).ok();
        // The host has no address there, and so no way.
        closed(&host.world.host, at(address, 80));
    }
    faultless(&host);
}

#[test]
fn test_bridge_ipam_status() {
    // Docker counts addresses since API 1.52. What it counts is seen here by taking them.
    let host = host();
    let options = [
        "--subnet 192.168.0.0/24 --ip-range 192.168.0.64/31 --gateway 192.168.0.1",
        "--aux-address a=192.168.0.65 --aux-address b=192.168.0.128",
        "--ipv6 --subnet fd77:1::/64 --ip-range fd77:1::/120 --gateway fd77:1::1",
        "--aux-address c=fd77:1::2a --aux-address d=fd77:1::8000",
    ];
    host.docker(&format!("network create {} pool", options.join(" "))).ok();
    agreed_network(&host, "pool");
    // The only one of the range that is free.
    host.container("first", "--network pool");
    assert_eq!(own(&agreed(&host, "first", "pool"), false).to_string(), "192.168.0.64");
    let refused = host.docker("run -d --network pool probe /bin/busybox sleep 3600");
    assert!(refused.stderr.contains("no available IPv4 addresses"), "{refused}");
    // Those beyond it are for who names them.
    let web =
        host.container("web", "--network pool --ip 192.168.0.129 --ip6 fd77:1::9000 -p 8080:80");
    agreed(&host, "web", "pool");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
    }
    host.docker("rm -f first").ok();
    host.container("third", "--network pool");
    assert_eq!(own(&agreed(&host, "third", "pool"), false).to_string(), "192.168.0.64");
    faultless(&host);
}

#[test]
fn test_bridge_ipam_status_of_more_than_64_bits() {
    let host = host();
    host.docker("network create --ipv4=false --ipv6 --subnet fd77:2::/56 vast").ok();
    agreed_network(&host, "vast");
    let web = host.container("web", "--network vast -p 8080:80");
    agreed(&host, "web", "vast");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    reached(&host.world.client, at(Family::V6.host(), 8080));
}

#[test]
fn test_preferred_subnet_restore() {
    let mut host = host();
    // Docker's own choice. (A length alone, as `0.0.0.0/24`, is enough since Docker 29.)
    for (name, options) in [("four", ""), ("six", "--ipv4=false --ipv6"), ("both", "--ipv6")] {
        host.docker(&format!("network create {options} {name}")).ok();
    }
    let before = ["four", "six", "both"].map(|name| subnets(&agreed_network(&host, name)));
    assert_eq!(before.each_ref().map(Vec::len), [1, 1, 2]);
    host.kill_docker();
    host.start_docker(FOR_NETD);
    let after = ["four", "six", "both"].map(|name| subnets(&agreed_network(&host, name)));
    assert_eq!(after, before);
    let web = host.container("web", "--network both -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    agreed(&host, "web", "both");
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
    }
}
