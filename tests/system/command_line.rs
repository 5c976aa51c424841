//! What can be typed wrong, and what is answered to scripts.

use netd_tests::{daemon::binary, process::run, topology::World};
use serde_json::Value;

#[test]
fn wrong_usage_is_status_2() {
    let world = World::without_daemon("");
    for line in [
        "",
        "fly",
        "network",
        "network create",
        "network create a b",
        "network create a --subnet 10.1.0.0/33",
        "network create a --subnet",
        "network create a --gateway x",
        "network create a --driver carrier-pigeon",
        "network create a --icc maybe",
        "network create a --mtu large",
        "network create a --label =x",
        "network create a -o mtu",
        "network inspect",
        "network rm",
        "network connect a",
        "network connect a b --ip 2001:db8::1",
        "network connect a b --ip6 192.0.2.1",
        "network connect a b --mac 02",
        "network connect a b -p",
        "network connect a b -p 0",
        "network connect a b -p 65536:80",
        "network connect a b -p 90-80:90-80",
        "network connect a b -p 80-82:80-81",
        "network connect a b -p 80/ip",
        "network connect a b -p 2001:db8::1:80:80",
        "network connect a b -p host:80:80",
        "network allow a",
        "network disallow a",
        "endpoint",
        "endpoint inspect",
        "port add web",
        "port rm web",
        "port ls a b",
        "conntrack",
        "conntrack ls -p gre",
        "conntrack ls --dport 65536",
        "conntrack ls --orig-src example.com",
        "stats --color blue",
        "stop now",
        "run --uplink",
        "run and run",
        "completions",
        "completions tcsh",
    ] {
        let outcome = world.netd(line);
        assert_eq!(outcome.status, Some(2), "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
        assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panicked"), "{outcome}");
    }
}

#[test]
fn a_refusal_is_one_line_that_names_the_object_and_what_to_do() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("inner", 2, "--internal");
    let web = world.container("web", "front", "--ip 10.77.1.9 --ip6 fd77:1::9 -p 8080:80");
    let free = world.sandbox("free");
    let (web, free) = (web.namespace.name(), free.namespace.name());
    let mut wrong = Vec::new();
    for (line, words) in [
        ("network create front", &["front", "exists"][..]),
        ("network create a/b", &["a/b", "name"]),
        ("network create a --subnet 10.77.1.0/25", &["10.77.1.0/25", "overlaps", "front"]),
        ("network create a --subnet fd77::/16", &["fd77::/16", "overlaps", "front"]),
        ("network create a --subnet 192.0.2.0/25", &["192.0.2.0/25", "overlaps", "host"]),
        ("network create a --subnet 2001:db8::/32", &["2001:db8::/32", "overlaps", "host"]),
        ("network create a --subnet 10.1.2.3/24", &["10.1.2.3/24", "10.1.2.0/24"]),
        ("network create a --subnet 10.1.0.0/24 --subnet 10.2.0.0/24", &["10.2.0.0/24", "IPv4"]),
        ("network create a --subnet 10.1.0.0/32", &["10.1.0.0/32", "small"]),
        ("network create a --subnet 224.0.0.0/24", &["224.0.0.0/24"]),
        ("network create a --subnet 127.1.0.0/16", &["127.1.0.0/16"]),
        ("network create a --subnet fe80::/64", &["fe80::/64"]),
        ("network create a --subnet 10.1.0.0/24 --gateway 10.2.0.1", &["--gateway", "10.2.0.1"]),
        ("network create a --subnet 10.1.0.0/24 --ip-range 10.2.0.0/25", &["--ip-range"]),
        ("network create a --subnet 10.1.0.0/24 --aux-address r=10.2.0.1", &["--aux-address"]),
        ("network create a --mtu 67", &["MTU", "67"]),
        ("network create a --bridge up0", &["up0", "exists"]),
        ("network create a --bridge a-name-that-is-too-long", &["a-name-that-is-too-long"]),
        ("network create a -o colour=red", &["colour"]),
        ("network create a --snat-address 127.0.0.1", &["127.0.0.1", "--snat-address"]),
        ("network inspect nowhere", &["nowhere", "network ls"]),
        ("network rm nowhere", &["nowhere", "network ls"]),
        ("network rm front", &["front", "web", "disconnect"]),
        ("network connect nowhere SANDBOX", &["nowhere", "network ls"]),
        ("network connect front nowhere", &["nowhere", "/run/netns"]),
        ("network connect front /proc/version", &["/proc/version", "network namespace"]),
        ("network connect front pid:999999999", &["999999999"]),
        ("network connect front ../x", &["../x"]),
        ("network connect front SANDBOX --name web", &["web", "exists", "--name"]),
        ("network connect front SANDBOX --name a/b", &["a/b", "--name"]),
        ("network connect front SANDBOX --ip 10.77.1.9", &["10.77.1.9", "in use"]),
        ("network connect front SANDBOX --ip6 fd77:1::9", &["fd77:1::9", "in use"]),
        ("network connect front SANDBOX --ip 10.77.1.1", &["10.77.1.1", "gateway"]),
        ("network connect front SANDBOX --ip 10.77.1.255", &["10.77.1.255", "broadcast"]),
        ("network connect front SANDBOX --ip 10.88.1.1", &["10.88.1.1", "outside"]),
        ("network connect front SANDBOX --mac 01:00:5e:00:00:01", &["01:00:5e:00:00:01", "group"]),
        ("network connect front SANDBOX --ifname lo", &["lo", "--ifname"]),
        ("network connect front SANDBOX --ifname a/b", &["a/b"]),
        ("network connect front SANDBOX -p 8080:81", &["8080", "web"]),
        ("network connect front SANDBOX -p %none:80:80", &["none", "ip link"]),
        ("network connect inner SANDBOX -p 80:80", &["inner", "internal"]),
        ("network connect front WEB", &["front", "web", "already connected"]),
        ("network disconnect front SANDBOX", &["front", "not connected"]),
        ("network disconnect inner WEB", &["inner", "not connected"]),
        ("network disconnect nowhere WEB", &["nowhere"]),
        ("network allow front front", &["front"]),
        ("network allow front nowhere", &["nowhere"]),
        ("network disallow front inner", &["front", "inner"]),
        ("endpoint inspect nobody", &["nobody", "endpoint ls"]),
        ("port add nobody 80", &["nobody", "endpoint ls"]),
        ("port add web 8080:81", &["8080", "web"]),
        ("port rm web 81:81", &["81", "web", "port ls"]),
        ("port ls nobody", &["nobody", "endpoint ls"]),
        ("conntrack ls --network nowhere", &["nowhere"]),
        ("conntrack flush --endpoint nobody", &["nobody"]),
        ("run --config /nonexistent/netd.toml", &["/nonexistent/netd.toml", "--config"]),
    ] {
        let outcome = world.netd(&line.replace("SANDBOX", free).replace("WEB", web));
        let error = outcome.stderr.strip_prefix("error: ").unwrap_or_default();
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{missing:?} is not said: {outcome}"));
        }
        if outcome.status != Some(1) || outcome.stderr.lines().count() != 1 {
            wrong.push(format!("not status 1 and one line: {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_daemon_the_status_is_3() {
    let world = World::without_daemon("");
    let socket = world.daemon.socket().to_string_lossy().into_owned();
    for line in ["network ls", "endpoint ls", "port ls", "conntrack count", "stats", "stop"] {
        let outcome = world.netd(line);
        assert_eq!(outcome.status, Some(3), "{outcome}");
        assert!(outcome.stderr.starts_with("error: "), "{outcome}");
        assert!(
            outcome.stderr.contains(&socket) && outcome.stderr.contains("netd run"),
            "{outcome}"
        );
    }
    assert!(world.netd("completions bash").ok().contains("netd"));
}

#[test]
fn the_socket_is_named_by_the_environment_or_before_or_after_the_command() {
    let world = World::new();
    world.network("front", 1, "");
    let socket = world.daemon.socket();
    let netd = |args: &[&str]| {
        let mut command = std::process::Command::new(binary());
        run(command.env("NETD_SOCKET", &socket).args(args), "")
    };
    assert_eq!(netd(&["-q", "network", "ls"]).ok(), "front\n");
    assert_eq!(netd(&["network", "ls", "-q"]).ok(), "front\n");
    assert_eq!(netd(&["--socket", "/nonexistent", "network", "ls"]).status, Some(3));
    assert_eq!(netd(&["network", "ls", "--socket", "/nonexistent"]).status, Some(3));
}

#[test]
fn json_has_the_fields_that_scripts_rely_on() {
    let world = World::new();
    world.network("front", 1, "--label tier=web --aux-address router=10.77.1.250");
    let _web = world.container("web", "front", "--alias www -p 8080:80");
    let ls = |what: &str| world.netd(&format!("{what} ls --json")).json();
    let inspect = |what: &str| world.netd(&format!("{what} --json")).json();

    let networks = ls("network");
    check_fields(
        &networks[0],
        "name id driver scope created bridge subnets internal icc masquerade gateway_mode mtu \
         endpoints options labels",
    );
    check_fields(&networks[0]["subnets"][0], "subnet gateway ip_range aux_addresses");
    assert_eq!(networks, inspect("network inspect front"));
    assert_eq!(networks[0]["labels"]["tier"], "web");
    assert_eq!(networks[0]["endpoints"][0], "web");
    assert_eq!(networks[0]["driver"], "bridge");
    assert_eq!(networks[0]["gateway_mode"], "nat");

    let endpoints = ls("endpoint");
    check_fields(
        &endpoints[0],
        "name id network network_id sandbox ifname host_ifname mac ipv4 ipv6 gateway gateway6 \
         aliases ports",
    );
    assert_eq!(endpoints, inspect("endpoint inspect web"));
    assert_eq!(endpoints[0]["ipv4"], "10.77.1.2/24");
    assert_eq!(endpoints[0]["ipv6"], "fd77:1::2/64");
    assert_eq!(endpoints[0]["network_id"], networks[0]["id"]);
    assert_eq!(endpoints[0]["ifname"], "eth0");
    assert_eq!(endpoints[0]["aliases"][0], "www");

    let ports = ls("port");
    check_fields(
        &ports[0],
        "endpoint proto host_ip host_port host_port_end port port_end packets bytes flows",
    );
    assert_eq!(ports[0], endpoints[0]["ports"][0]);
    assert_eq!((&ports[0]["host_ip"], &ports[0]["proto"]), (&"*".into(), &"tcp".into()));
    assert_eq!((&ports[0]["host_port"], &ports[0]["port"]), (&8080.into(), &80.into()));

    check_fields(&inspect("stats")[0], "reason verdict packets bytes");
    assert_eq!(ls("conntrack"), Value::Array(Vec::new()));
    check_fields(&inspect("conntrack count"), "count");
}

#[track_caller]
fn check_fields(object: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        assert!(object.get(field).is_some(), "{field} is missing in {object}");
    }
}
