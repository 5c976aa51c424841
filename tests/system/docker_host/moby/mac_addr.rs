//! `mac_addr_test.go`: netd knows a container's link by its MAC address.

use netd_tests::{
    clients::pings,
    docker::{DockerHost, FOR_NETD, IMAGE},
    family::Family,
    servers,
    topology::at,
};
use serde_json::{Value, json};

use super::{
    account::{agreed, faultless},
    host, reached,
};
use crate::docker_host::create_network;

const MAC: &str = "02:42:ac:11:00:42";

/// Asserts that a container's port 80 is reached at port 8080 of the host, by both families.
#[track_caller]
fn is_reached(host: &DockerHost, name: &str) {
    let container = host.running(name);
    let _nginx = servers::nginx(&container.namespace, &[80]);
    for family in Family::BOTH {
        let page = reached(&host.world.client, at(family.host(), 8080));
        assert_eq!(page.server, container.namespace.name());
    }
}

/// Makes a container by an older API, where the MAC address is the container's and not a network's.
#[track_caller]
fn create_legacy(host: &DockerHost, version: &str, (name, mac): (&str, &str), more: &Value) {
    let mut body = json!({
        "Image": IMAGE,
        "Cmd": ["/bin/busybox", "sleep", "3600"],
        "StopSignal": "KILL",
        "MacAddress": mac,
    });
    let more = more.as_object().cloned().unwrap_or_default();
    body.as_object_mut().unwrap().extend(more);
    host.post(&format!("v{version}/containers/create?name={name}"), &body).ok();
}

#[test]
fn test_mac_addr_on_restart() {
    let host = host();
    create_network(&host, "front", 1, "");
    host.container("first", "--network front -p 8080:80");
    host.docker("stop -t 0 first").ok();
    // It may get the addresses that the first one had.
    host.container("second", "--network front");
    host.docker("start first").ok();
    let macs = ["first", "second"].map(|name| agreed(&host, name, "front")["mac"].clone());
    assert_ne!(macs[0], macs[1]);
    is_reached(&host, "first");
    faultless(&host);
}

#[test]
fn test_cfgd_mac_addr_on_restart() {
    let mut host = host();
    create_network(&host, "front", 1, "");
    host.container("web", &format!("--network front -p 8080:80 --mac-address {MAC}"));
    for restarts_docker in [false, true] {
        assert_eq!(agreed(&host, "web", "front")["mac"], MAC);
        is_reached(&host, "web");
        host.docker("stop -t 0 web").ok();
        if restarts_docker {
            host.kill_docker();
            host.start_docker(FOR_NETD);
        }
        host.docker("start web").ok();
    }
    assert_eq!(agreed(&host, "web", "front")["mac"], MAC);
    is_reached(&host, "web");
}

#[test]
fn test_inspect_cfgd_mac() {
    let host = host();
    create_network(&host, "front", 1, "");
    for (i, network, is_given, is_legacy) in [
        (0, "bridge", false, false),
        (1, "bridge", true, false),
        (2, "front", false, false),
        (3, "front", true, false),
        (4, "bridge", true, true),
    ] {
        let (name, mac) = (format!("c{i}"), format!("02:42:ac:11:00:4{i}"));
        let option = if is_given { format!("--mac-address {mac}") } else { String::new() };
        let options = format!("--name {name} --stop-signal KILL --network {network} {option}");
        if is_legacy {
            create_legacy(&host, "1.43", (&name, &mac), &json!({}));
        } else {
            host.docker(&format!("create {options} {IMAGE} /bin/busybox sleep 3600")).ok();
        }
        // What Docker chooses by itself is not among what was asked for.
        let asked = host.inspect(&name)["Config"]["MacAddress"].take();
        assert_eq!(asked.as_str(), is_given.then_some(mac.as_str()), "{name}");
        host.docker(&format!("start {name}")).ok();
        let own = agreed(&host, &name, network)["mac"].take();
        assert_eq!(own == json!(mac), is_given, "{own}");
        let inside = host.exec(&name, "cat /sys/class/net/eth0/address").ok();
        assert_eq!(own, json!(inside.trim()));
    }
    faultless(&host);
}

/// Makes a network with a single address to choose, which is no container's, and a container `c{number}` that names it
/// by its id in one place and by its name in another, with a MAC address beside both.
#[track_caller]
fn create_as_watchtower_does(host: &DockerHost, number: u8, driver: &str, network: &str) {
    let options =
        format!("--subnet 172.30.{number}.0/29 --ip-range 172.30.{number}.1/32 -d {driver}");
    let id = host.docker(&format!("network create {options} {network}")).ok();
    let address = format!("172.30.{number}.2");
    let more = json!({
        "HostConfig": {
            "NetworkMode": id.trim(),
            "PortBindings": { "80/tcp": [{ "HostPort": "8080" }] },
        },
        "ExposedPorts": { "80/tcp": {} },
        "NetworkingConfig": {
            "EndpointsConfig": { network: { "IPAMConfig": { "IPv4Address": address } } },
        },
    });
    let name = format!("c{number}");
    create_legacy(host, "1.25", (&name, MAC), &more);
    host.docker(&format!("start {name}")).ok();
    let settings = host.inspect(&name)["NetworkSettings"]["Networks"][network].take();
    assert_eq!((&settings["IPAddress"], &settings["MacAddress"]), (&json!(address), &json!(MAC)));
}

#[test]
fn test_watchtower_create() {
    let host = host();
    host.world.add_link("lan0", "lan1");
    create_as_watchtower_does(&host, 0, "macvlan -o parent=lan0", "mvl");
    create_as_watchtower_does(&host, 1, "bridge --gateway 172.30.1.6", "front");
    agreed(&host, "c1", "front");
    let web = host.running("c1");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    reached(&host.world.client, at(Family::V4.host(), 8080));
    // macvlan is nobody's but Docker's: its frames go straight to the neighbours of the host.
    assert_eq!(host.world.netd("network ls -q").ok(), "bridge\nfront\n");
    assert_eq!(host.world.netd("endpoint ls -q").ok(), "c1\n");
    host.world.client.ip(&["address add 172.30.0.5/29 dev lan1"]);
    assert!(pings(&host.world.client, "172.30.0.2".parse().unwrap()));
    faultless(&host);
}

#[test]
fn test_network_connect_with_mac_address() {
    let host = host();
    for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
        create_network(&host, name, number, "");
    }
    let options = format!("-p 8080:80 --network one --network name=two,mac-address={MAC}");
    host.container("web", &options);
    // By the API; Docker before 29.2 takes no notice of the address, and then it is not netd's either.
    let other = "02:42:ac:11:00:43";
    let body = json!({ "Container": "web", "EndpointConfig": { "MacAddress": other } });
    host.post("v1.51/networks/three/connect", &body).ok();
    assert_eq!(agreed(&host, "web", "two")["mac"], MAC);
    for network in ["one", "two", "three"] {
        let endpoint = agreed(&host, "web", network);
        let ifname = endpoint["ifname"].as_str().unwrap();
        let inside = host.exec("web", &format!("cat /sys/class/net/{ifname}/address")).ok();
        assert_eq!(endpoint["mac"], inside.trim());
    }
    is_reached(&host, "web");
}
