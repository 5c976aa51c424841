//! What real dockerds have answered (`netd/tests/docker`), and what they might.

use std::{fs, net::IpAddr, path::Path};

use bollard::models::{ContainerInspectResponse, NetworkInspect};
use serde::de::DeserializeOwned;

use super::{ReadError, container, network};
use crate::{
    docker::view::{Binding, Container, Network},
    model::Proto,
};

const VERSIONS: [&str; 4] = ["20.10.24", "26.1.5", "28.5.2", "29.7.2"];

fn captured<T: DeserializeOwned>(version: &str, name: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker");
    let text = fs::read_to_string(folder.join(version).join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn captured_network(version: &str, name: &str) -> Network {
    network(captured(version, name)).unwrap().unwrap().0
}

fn captured_container(version: &str, name: &str) -> Container {
    container(captured(version, name)).unwrap().running.unwrap()
}

#[test]
fn networks_of_every_docker_are_read() {
    for version in VERSIONS {
        let bridge = captured_network(version, "network-bridge");
        assert_eq!((bridge.name.as_str(), bridge.is_default), ("bridge", true), "{version}");
        assert_eq!(bridge.pools[0].subnet, "172.17.0.0/16".parse().unwrap(), "{version}");
        assert_eq!(bridge.pools[0].gateway, "172.17.0.1".parse().ok(), "{version}");
        let both = captured_network(version, "network-capnet");
        let subnets: Vec<String> = both.pools.iter().map(|pool| pool.subnet.to_string()).collect();
        assert_eq!(subnets, ["172.30.0.0/24", "fd30::/64"], "{version}");
        assert_eq!(both.options["com.docker.network.bridge.name"], "br-cap", "{version}");
        assert!(both.created > 1_700_000_000, "{version}");
        assert!(captured_network(version, "network-capint").internal, "{version}");
        let host = network(captured::<NetworkInspect>(version, "network-host"));
        assert_eq!(host, Ok(None), "{version}");
    }
}

#[test]
fn a_network_tells_of_containers_that_start() {
    for version in VERSIONS {
        let (network, attached) = network(captured(version, "network-capnet")).unwrap().unwrap();
        let container = attached.values().next().unwrap();
        assert_eq!((container.name.as_str(), &container.ports), ("c-un", &None), "{version}");
        let attachment = &container.attachments[&network.id];
        assert_eq!(attachment.ipv4, "172.30.0.77/24".parse().ok(), "{version}");
        assert_eq!(attachment.ipv6, "fd30::77/64".parse().ok(), "{version}");
        let own = &captured_container(version, "container-c-un").attachments[&network.id];
        assert_eq!((&own.endpoint_id, own.mac), (&attachment.endpoint_id, attachment.mac));
    }
}

#[test]
fn containers_of_every_docker_are_read() {
    for version in VERSIONS {
        let container = captured_container(version, "container-c-un");
        assert_eq!(container.name, "c-un", "{version}");
        assert_eq!(container.attachments.len(), 2, "{version}");
        let sandbox = container.sandbox.unwrap();
        assert!(sandbox.path.starts_with("/run/docker/netns/") && sandbox.pid > 1, "{version}");
        let ports = container.ports.unwrap();
        let on = |host_ip: &str, host_port, port| Binding {
            proto: Proto::Tcp,
            host_ip: host_ip.parse::<IpAddr>().unwrap(),
            host_port,
            port,
        };
        for binding in [
            on("127.0.0.1", 18443, 443),
            on("10.99.0.1", 18444, 443),
            on("::1", 18445, 443),
            on("fd99::1", 18446, 443),
            on("0.0.0.0", 18080, 80),
            on("::", 18080, 80),
            on("0.0.0.0", 19001, 9001),
            on("0.0.0.0", 32770, 80),
        ] {
            assert!(ports.bindings.contains(&binding), "{version}: {binding:?}");
        }
        assert!(ports.everywhere.contains(&(Proto::Udp, 7001)), "{version}");
        assert!(!ports.everywhere.contains(&(Proto::Tcp, 443)), "{version}");
    }
}

#[test]
fn who_has_no_network_of_his_own_publishes_nothing() {
    for version in VERSIONS {
        let shared = captured_container(version, "container-c-shared");
        assert!(shared.attachments.is_empty(), "{version}");
        assert_eq!(shared.ports.unwrap().bindings, [], "{version}");
        let stopped = captured::<ContainerInspectResponse>(version, "container-docker0-stopped");
        let stopped = container(stopped).unwrap();
        assert_eq!(stopped.running, None, "{version}");
        let planned = stopped.planned.ports.bindings;
        assert!(planned.iter().any(|it| (it.host_port, it.port) == (8080, 80)), "{planned:?}");
    }
}

#[track_caller]
fn check_nonsense(change: impl FnOnce(&mut serde_json::Value), expected: ReadError) {
    let mut answer: serde_json::Value = captured("28.5.2", "container-c-un");
    change(&mut answer);
    assert_eq!(container(serde_json::from_value(answer).unwrap()), Err(expected));
}

#[test]
fn nonsense_is_an_error_that_names_it() {
    let wrong = |field, value: &str| ReadError::Wrong { field, value: value.to_owned() };
    check_nonsense(
        |it| it["NetworkSettings"]["Ports"]["443/tcp"][0]["HostPort"] = "70000".into(),
        wrong("HostPort", "70000"),
    );
    check_nonsense(
        |it| it["NetworkSettings"]["Ports"]["443/tcp"][0]["HostIp"] = "here".into(),
        wrong("HostIp", "here"),
    );
    check_nonsense(
        |it| it["NetworkSettings"]["Ports"]["443/quic"] = serde_json::json!([]),
        wrong("port", "443/quic"),
    );
    check_nonsense(
        |it| it["NetworkSettings"]["Networks"]["capnet"]["IPAddress"] = "172.30.0.777".into(),
        wrong("IPAddress", "172.30.0.777/24"),
    );
    check_nonsense(
        |it| it["NetworkSettings"]["Networks"]["capnet"]["MacAddress"] = "02".into(),
        wrong("MacAddress", "02"),
    );
    check_nonsense(
        |it| it["NetworkSettings"]["Networks"]["capnet"]["NetworkID"] = "../etc".into(),
        wrong("NetworkID", "../etc"),
    );
    check_nonsense(|it| it["Name"] = "".into(), ReadError::Missing { field: "Name" });
}

#[test]
fn links_and_exposed_ports_are_read() {
    let answer = serde_json::json!({
        "Name": "/client",
        "State": { "Running": true, "Pid": 7 },
        "HostConfig": { "Links": ["/db:/client/cache", "/web:/client/web"] },
        "Config": { "ExposedPorts": { "80/tcp": {}, "53/udp": {} } },
    });
    let read = container(serde_json::from_value(answer).unwrap()).unwrap();
    let running = read.running.unwrap();
    assert_eq!(running.links, ["db", "web"]);
    assert_eq!(read.planned.links, running.links);
    assert_eq!(running.ports.unwrap().exposed, [(Proto::Tcp, 80), (Proto::Udp, 53)]);
}

#[test]
fn what_docker_may_not_bind_is_not_planned_as_if_it_did() {
    let named = serde_json::json!([{ "HostIp": "2001:db8::1", "HostPort": "8080" }]);
    let answer = serde_json::json!({ "HostConfig": { "PortBindings": { "80/tcp": named } } });
    let ports = container(serde_json::from_value(answer).unwrap()).unwrap().planned.ports;
    assert_eq!(ports.bindings, []);
    assert_eq!(ports.unbound.iter().map(|it| it.host_port).collect::<Vec<_>>(), [8080]);
}
