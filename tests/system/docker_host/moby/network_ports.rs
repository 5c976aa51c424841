//! `integration/network/bridge/bridge_linux_test.go`: which ports are published, and what stays of that.

use std::fs;

use netd_tests::{
    condition::eventually,
    docker::{DockerHost, FOR_NETD, IMAGE},
    family::Family,
    servers,
    topology::at,
};
use serde_json::{Value, json};

use super::{account::agreed, closed, host, host_port, reached};
use crate::docker_host::create_network;

/// What netd publishes for an endpoint: the host's address and port, and the container's port.
#[track_caller]
fn rows(host: &DockerHost, endpoint: &str) -> Value {
    let ports = host.published(endpoint);
    let rows = ports.as_array().into_iter().flatten();
    rows.map(|row| json!([row["host_ip"], row["host_port"], row["port"]])).collect()
}

/// Asserts that a container's port 80 is reached from outside at the port that Docker says.
#[track_caller]
fn reached_by_dockers_port(host: &DockerHost, name: &str) {
    let container = host.running(name);
    let _nginx = servers::nginx(&container.namespace, &[80]);
    let port = host_port(host, name, "80/tcp");
    assert_eq!(rows(host, name), json!([["*", port, 80]]));
    let has_ipv6 = container.namespace.run("ip -6 address show dev eth0 scope global").ok() != "";
    for family in Family::BOTH.into_iter().take(1 + usize::from(has_ipv6)) {
        let page = reached(&host.world.client, at(family.host(), port));
        assert_eq!(page.server, container.namespace.name());
    }
}

#[test]
fn test_published_port_already_in_use() {
    let host = host();
    let first = host.container("first", "-p 8000:80");
    let nginx = servers::nginx(&first.namespace, &[80]);
    host.published("first");
    let options = "--name second --restart always -p 8000:80";
    host.docker(&format!("create {options} {IMAGE} /bin/busybox sleep 3600")).ok();
    let refused = host.docker("start second");
    assert!(refused.stderr.contains("failed to set up container networking"), "{refused}");
    // Docker does not try again and again, and the port stays the first one's.
    assert_eq!(host.inspect("second")["State"]["Status"], "created");
    host.forgotten("second");
    let page = reached(&host.world.client, at(Family::V4.host(), 8000));
    assert_eq!(page.server, first.namespace.name());
    drop(nginx);
    host.docker("rm -f first").ok();
    host.docker("start second").ok();
    reached_by_dockers_port(&host, "second");
}

#[test]
fn test_all_port_mappings_are_returned() {
    let host = host();
    host.docker("network create --subnet 10.77.1.0/24 four").ok();
    host.docker("network create --ipv4=false --ipv6 --subnet fd77:2::/64 six").ok();
    let web = host.container("web", "--network four --network six -p 8000:80 --expose 81");
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    let ports = host.inspect("web")["NetworkSettings"]["Ports"].take();
    let bound = ["0.0.0.0", "::"].map(|ip| json!({ "HostIp": ip, "HostPort": "8000" }));
    assert_eq!(ports, json!({ "80/tcp": bound, "81/tcp": null }));
    // Each family is another endpoint's.
    for (family, network, any) in [(Family::V4, "four", "0.0.0.0"), (Family::V6, "six", "::")] {
        let endpoint = agreed(&host, "web", network)["name"].as_str().unwrap().to_owned();
        assert_eq!(rows(&host, &endpoint), json!([[any, 8000, 80]]));
        reached(&host.world.client, at(family.host(), 8000));
        closed(&host.world.client, at(family.host(), 81));
    }
}

#[test]
fn test_port_mapping_restore() {
    let mut host = host();
    create_network(&host, "front", 1, "");
    host.container("web", "--network front -p 80 --restart unless-stopped");
    let check = |host: &DockerHost| {
        reached_by_dockers_port(host, "web");
        let _nginx = servers::nginx(&host.running("web").namespace, &[80]);
        // A container of another network, by the address that Docker names the host by.
        let other = host.container("other", "--add-host thehost:host-gateway");
        let hosts = host.exec("other", "grep thehost /etc/hosts").ok();
        let address = hosts.split_whitespace().next().unwrap().parse().unwrap();
        reached(&other.namespace, at(address, host_port(host, "web", "80/tcp")));
        host.docker("rm -f other").ok();
    };
    check(&host);
    // In order, so that Docker ends it and starts it again.
    host.stop_docker();
    host.start_docker(FOR_NETD);
    eventually("Docker has started it again", || {
        host.inspect("web")["State"]["Running"] == json!(true)
    });
    check(&host);
}

/// Makes a container whose port 80 has these bindings, by the API: `docker` has no empty ones.
#[track_caller]
fn create(host: &DockerHost, name: &str, bindings: &Value) {
    let body = json!({
        "Image": IMAGE,
        "Cmd": ["/bin/busybox", "sleep", "3600"],
        "StopSignal": "KILL",
        "ExposedPorts": { "80/tcp": {} },
        "HostConfig": { "PortBindings": { "80/tcp": bindings } },
    });
    let made = host.post(&format!("v1.41/containers/create?name={name}"), &body).ok();
    assert!(made["Warnings"].as_array().is_none_or(Vec::is_empty), "{made}");
}

/// Starts a container with an empty list of bindings. Docker takes it for a port of its choice, or for none, as the
/// library says that it was built with: netd does what Docker has done.
#[track_caller]
fn check_empty(host: &DockerHost, name: &str) {
    host.docker(&format!("start {name}")).ok();
    if host.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"].is_array() {
        reached_by_dockers_port(host, name);
    } else {
        assert_eq!(agreed(host, name, "bridge")["ports"], json!([]));
    }
}

#[test]
fn test_empty_port_bindings_bc() {
    let host = host();
    create(&host, "empty", &json!([]));
    check_empty(&host, "empty");
    create(&host, "given", &json!([{ "HostPort": "8080" }]));
    host.docker("start given").ok();
    reached_by_dockers_port(&host, "given");
    assert_eq!(host_port(&host, "given", "80/tcp"), 8080);
}

#[test]
fn test_port_binding_backfilling_for_older_containers() {
    let mut host = host();
    create(&host, "old", &json!([{ "HostPort": "8080" }]));
    let file = host.files_of("old").join("hostconfig.json");
    host.kill_docker();
    // As an older Docker has written it.
    let text = fs::read_to_string(&file).unwrap();
    let mut config: Value = text.parse().unwrap();
    assert_eq!(config["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
    config["PortBindings"] = json!({ "80/tcp": [] });
    fs::write(&file, config.to_string()).unwrap();
    host.start_docker(FOR_NETD);
    check_empty(&host, "old");
    closed(&host.world.client, at(Family::V4.host(), 8080));
}
