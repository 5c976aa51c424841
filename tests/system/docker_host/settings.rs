//! What `daemon.json` says of docker0: netd knows it, and packets go that way, from one start of dockerd to the next.

use std::{io, time::Duration};

use netd_tests::{
    clients::{Transport, ask_udp, fetch, fetch_big, udp_socket},
    condition::{deadline, eventually, eventually_some, within},
    docker::{DockerContainer, DockerHost, Release},
    family::Family,
    netns::Namespace,
    servers::{self, DNS_NAME, Server},
    streams::Stream,
    topology::at,
};
use serde_json::{Value, json};

use super::own_address;

/// How dockerd is told to leave packets to netd, and more, in the file alone.
fn file(more: &Value) -> String {
    let mut all =
        json!({ "iptables": false, "ip6tables": false, "userland-proxy": false, "ipv6": true });
    let objects = all.as_object_mut().zip(more.as_object());
    objects.into_iter().for_each(|(all, more)| all.extend(more.clone()));
    all.to_string()
}

/// Starts dockerd anew with these settings and waits until netd says that docker0 is what they make of it.
#[track_caller]
fn start(host: &mut DockerHost, settings: &Value, expected: &Value) {
    host.write_daemon_json(&file(settings));
    host.start_docker("");
    expect(host, expected);
}

#[track_caller]
fn expect(host: &DockerHost, expected: &Value) {
    let mut said = Value::Null;
    let found = within(deadline(), || {
        said = said_of_docker0(host);
        (said == *expected).then_some(())
    });
    assert!(found.is_some(), "netd says {said}, not {expected}");
}

/// What netd says of docker0: its MTU, and of each subnet the gateway and the range.
fn said_of_docker0(host: &DockerHost) -> Value {
    let inspected = host.world.netd("network inspect bridge --json");
    if !inspected.is_ok() {
        return Value::Null;
    }
    let mut network = inspected.json()[0].take();
    let subnets = network["subnets"].as_array().into_iter().flatten();
    // To newer ones the whole of a subnet is a range as well.
    let range = |it: &Value| Some(it["ip_range"].clone()).filter(|range| *range != it["subnet"]);
    let subnets: Vec<Value> =
        subnets.map(|it| json!([it["subnet"], it["gateway"], range(it)])).collect();
    json!([network["mtu"].take(), subnets])
}

/// A container on docker0, and what serves in it.
#[track_caller]
fn web(host: &DockerHost) -> (DockerContainer, [Server; 2]) {
    let web = host.container("web", "-p 8080:80 -p 5000:5000/udp");
    let servers = [servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000)];
    host.published("web");
    (web, servers)
}

/// In by published ports, and out by the host's address, in large packets too.
#[track_caller]
fn check_packets(host: &DockerHost, web: &DockerContainer) {
    let world = &host.world;
    for family in Family::BOTH {
        let page = fetch(&world.client, at(family.host(), 8080));
        assert_eq!((page.server.as_str(), page.client), (web.namespace.name(), family.client()));
        assert_eq!(
            ask_udp(&world.client, at(family.host(), 5000), "hello").client,
            family.client()
        );
        assert_eq!(fetch(&web.namespace, at(family.remote(), 80)).client, family.host());
        fetch_big(&world.client, at(family.host(), 8080));
        fetch_big(&web.namespace, at(family.remote(), 80));
        ask_much(&world.client, family);
    }
}

/// Asks with a datagram that fills a packet of the client's link: where that is more than the container's takes, the
/// client is told, and sends less at a time.
#[track_caller]
fn ask_much(client: &Namespace, family: Family) {
    let much = vec![b'x'; family.pick(1472, 1452)];
    let socket = udp_socket(client, at(family.host(), 5000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 4096];
    let mut ask = || -> io::Result<usize> {
        socket.send(&much)?;
        socket.recv(&mut answer)
    };
    let len = eventually_some(&format!("{family}: a large datagram is answered"), || ask().ok());
    assert_eq!(len, much.len() + family.client().to_string().len() + 1);
}

/// The device of a container, as ip(8) has it.
fn link(container: &DockerContainer) -> Value {
    container.namespace.run("ip -json link show dev eth0").json()[0].take()
}

#[track_caller]
fn check_bridge(release: Release) {
    let mut host = DockerHost::without_daemons(release);
    host.world.daemon.start();
    let _outside = servers::nginx(&host.world.client, &[80]);
    start(
        &mut host,
        &json!({ "bip": "10.88.0.1/24", "fixed-cidr-v6": "fd88::/64", "mtu": 1400 }),
        &json!([1400, [["10.88.0.0/24", "10.88.0.1", null], ["fd88::/64", "fd88::1", null]]]),
    );
    let (container, servers) = web(&host);
    assert_eq!(link(&container)["mtu"], 1400);
    check_packets(&host, &container);
    drop(servers);
    host.docker("rm -f web").ok();
    // Another subnet, containers in a part of it, by another gateway.
    host.kill_docker();
    let settings = json!({
        "bip": "10.89.0.1/24", "fixed-cidr": "10.89.0.128/25", "default-gateway": "10.89.0.2",
        "fixed-cidr-v6": "fd89::/64", "default-gateway-v6": "fd89::2",
    });
    let v4 = json!(["10.89.0.0/24", "10.89.0.1", "10.89.0.128/25"]);
    start(&mut host, &settings, &json!([1500, [v4, ["fd89::/64", "fd89::1", null]]]));
    for gateway in ["10.89.0.2/24", "fd89::2/64 nodad"] {
        host.world.host.ip(&[&format!("address add {gateway} dev docker0")]);
    }
    let (container, _servers) = web(&host);
    let range: ipnet::IpNet = "10.89.0.128/25".parse().unwrap();
    assert!(range.contains(&own_address(&container.namespace, Family::V4)));
    for (flag, gateway) in [("-4", "10.89.0.2"), ("-6", "fd89::2")] {
        let routes = container.namespace.run(&format!("ip {flag} route show default")).ok();
        assert!(routes.starts_with(&format!("default via {gateway} ")), "{routes}");
    }
    check_packets(&host, &container);
}

#[track_caller]
fn check_reload(release: Release) {
    let mut host = DockerHost::without_daemons(release);
    host.world.daemon.start();
    let _outside = servers::nginx(&host.world.client, &[80]);
    let _dns = servers::dns(&host.world.client, "198.51.100.80", "2001:db8:2::80");
    let mut settings = json!({
        "bip": "10.88.0.1/24", "fixed-cidr-v6": "fd88::/64", "dns": [Family::V4.remote()],
        "default-address-pools": [{ "base": "10.99.0.0/16", "size": 26 }],
    });
    start(&mut host, &settings, &plain());
    let (container, _servers) = web(&host);
    check_names(&host, &container);
    check_pool(&host);
    let stream = Stream::begin(&host.world.client, Transport::Udp, at(Family::V4.host(), 5000));
    reload(&mut host, &mut settings);
    expect(&host, &plain());
    check_packets(&host, &container);
    stream.finish();
}

/// A docker0 of these tests.
fn plain() -> Value {
    json!([1500, [["10.88.0.0/24", "10.88.0.1", null], ["fd88::/64", "fd88::1", null]]])
}

/// dockerd takes a part of its file anew, and netd begins to follow it anew.
#[track_caller]
fn reload(host: &mut DockerHost, settings: &mut Value) {
    settings["debug"] = json!(true);
    settings["live-restore"] = json!(true);
    host.write_daemon_json(&file(settings));
    host.make_daemon_json_younger();
    host.reload_docker();
    eventually("netd has heard of it", || {
        host.world.daemon.log().contains("dockerd has read its configuration again")
    });
    host.container("later", "");
    host.known("later");
}

#[test]
fn what_is_not_masqueraded_stays_so_when_the_file_is_read_again() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    let _outside = servers::nginx(&host.world.client, &[80]);
    let mut settings =
        json!({ "bip": "10.88.0.1/24", "fixed-cidr-v6": "fd88::/64", "ip-masq": false });
    start(&mut host, &settings, &plain());
    for (subnet, family) in [("10.88.0.0/24", Family::V4), ("fd88::/64", Family::V6)] {
        host.world.client.ip(&[&format!("route add {subnet} via {}", family.host())]);
    }
    let (container, _servers) = web(&host);
    check_own_addresses(&host, &container);
    reload(&mut host, &mut settings);
    check_own_addresses(&host, &container);
}

/// In by published ports, and out by the container's own address.
#[track_caller]
fn check_own_addresses(host: &DockerHost, container: &DockerContainer) {
    for family in Family::BOTH {
        assert_eq!(fetch(&host.world.client, at(family.host(), 8080)).client, family.client());
        let seen = fetch(&container.namespace, at(family.remote(), 80)).client;
        assert_eq!(seen, own_address(&container.namespace, family));
    }
}

/// A container asks the name server that is named.
#[track_caller]
fn check_names(host: &DockerHost, container: &DockerContainer) {
    let server = Family::V4.remote();
    let resolv = host.docker(&format!("exec {} /bin/busybox cat /etc/resolv.conf", container.name));
    assert!(resolv.stdout.contains(&format!("nameserver {server}")), "{resolv}");
    let line = format!("dig +short +time=3 @{server} {DNS_NAME} A");
    assert_eq!(container.namespace.run(&line).ok(), "198.51.100.80\n");
}

/// Networks get their subnets from the pool.
#[track_caller]
fn check_pool(host: &DockerHost) {
    host.docker("network create pooled").ok();
    let pooled = host.container("pooled", "--network pooled -p 8081:80");
    let _server = servers::nginx(&pooled.namespace, &[80]);
    host.published("pooled");
    let network = host.world.netd("network inspect pooled --json").json();
    let subnet = network[0]["subnets"][0]["subnet"].as_str().unwrap_or_default().to_owned();
    assert!(subnet.starts_with("10.99.0.") && subnet.ends_with("/26"), "{subnet}");
    let page = fetch(&host.world.client, at(Family::V4.host(), 8081));
    assert_eq!((page.server.as_str(), page.client), (pooled.namespace.name(), Family::V4.client()));
    assert_eq!(fetch(&pooled.namespace, at(Family::V4.remote(), 80)).client, Family::V4.host());
}

#[test]
fn docker_20_10_makes_docker0_as_its_file_says() {
    check_bridge(Release::Old);
}

#[test]
fn docker_28_makes_docker0_as_its_file_says() {
    check_bridge(Release::New);
}

#[test]
fn docker_20_10_reads_its_file_again() {
    check_reload(Release::Old);
}

#[test]
fn docker_28_reads_its_file_again() {
    check_reload(Release::New);
}
