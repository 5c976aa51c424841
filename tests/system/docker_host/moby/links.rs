//! Legacy links (`network/bridge/bridge_linux_test.go`): what one container of docker0 exposes to another.
//!
//! dockerd refuses `--icc=false` without iptables, so it is netd that is told.

use netd_tests::{
    clients::{pings_at_once, try_fetch},
    condition::eventually,
    docker::{DockerContainer, DockerHost, FOR_NETD, Release},
    servers,
    topology::at,
};

use super::{address, closed, reached};

/// A host without ICC, and a container on docker0 that exposes port 80 and serves more.
fn host() -> (DockerHost, DockerContainer, servers::Server) {
    let mut host = DockerHost::without_daemons(Release::New);
    host.configure_netd("icc = false");
    host.world.daemon.start();
    host.start_docker(FOR_NETD);
    let server = host.container("svr", "--expose 80");
    let nginx = servers::nginx(&server.namespace, &[80, 81]);
    host.known("svr");
    (host, server, nginx)
}

#[test]
fn test_legacy_link() {
    let (host, server, _nginx) = host();
    let to = address(&host, &server, "bridge", false);
    let plain = host.container("plain", "");
    host.known("plain");
    closed(&plain.namespace, at(to, 80));
    let _own = servers::nginx(&plain.namespace, &[80]);
    for (name, link) in [("byname", "svr"), ("byalias", "svr:thealias")] {
        let client = host.container(name, &format!("--link {link}"));
        let page = reached(&client.namespace, at(to, 80));
        assert_eq!(page.client, address(&host, &client, "bridge", false));
        // Nothing but what is exposed, nobody else, and not the other way round.
        closed(&client.namespace, at(to, 81));
        assert!(!pings_at_once(&client.namespace, to));
        closed(&client.namespace, at(address(&host, &plain, "bridge", false), 80));
        let _own = servers::nginx(&client.namespace, &[80]);
        closed(&server.namespace, at(address(&host, &client, "bridge", false), 80));
        let known = host.known(name);
        assert_eq!(known["links"], serde_json::json!(["svr:80/tcp"]));
    }
    closed(&plain.namespace, at(to, 80));
}

#[test]
fn test_remove_legacy_link() {
    let (host, server, _nginx) = host();
    let to = address(&host, &server, "bridge", false);
    let client = host.container("client", "--link svr:thealias");
    reached(&client.namespace, at(to, 80));
    // The server begins a new life, by another MAC address.
    host.docker("restart -t 0 svr").ok();
    let server = host.running("svr");
    let _nginx = servers::nginx(&server.namespace, &[80]);
    let to = address(&host, &server, "bridge", false);
    reached(&client.namespace, at(to, 80));
    host.docker("rm --link client/thealias").ok();
    eventually("the link is gone", || try_fetch(&client.namespace, at(to, 80)).is_err());
    host.running("svr");
    host.running("client");
}
