//! `resolvconf_test.go`: Docker's resolver in a container, whose questions go out by the host's stack or by the
//! container's own networks, so by netd.

use netd_tests::{
    clients::try_fetch,
    condition::eventually,
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    netns::Namespace,
    servers::{self, DNS_NAME, Server},
    topology::at,
};

use super::{
    account::{agreed, faultless},
    address, host, reached,
};
use crate::docker_host::create_network;

/// A host whose file names this server.
#[track_caller]
fn host_with(server: &str) -> DockerHost {
    let mut host = DockerHost::without_daemons(Release::New);
    host.write_file("/etc/resolv.conf", &format!("nameserver {server}\n"));
    host.world.daemon.start();
    host.start_docker(FOR_NETD);
    host
}

/// Waits until a container's resolver says this of the name.
#[track_caller]
fn resolves(from: &Namespace, kind: &str, expected: &str) {
    let line = format!("dig +time=2 +tries=1 @127.0.0.11 {DNS_NAME} {kind}");
    eventually(&format!("{DNS_NAME} {kind} is answered with {expected}"), || {
        from.run(&line).stdout.contains(expected)
    });
}

/// The remote machine's addresses are those of the name.
#[track_caller]
fn name_server(namespace: &Namespace) -> Server {
    let [v4, v6] = Family::BOTH.map(|family| family.remote().to_string());
    servers::dns(namespace, &v4, &v6)
}

#[test]
fn test_resolv_conf_localhost_ipv6() {
    let host = host_with("127.0.0.53");
    let _dns = name_server(&host.world.host);
    create_network(&host, "front", 1, "");
    let container = host.container("web", "--network front");
    let text = host.exec("web", "cat /etc/resolv.conf").ok();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["", "nameserver 127.0.0.11", "options ndots:0", ""], "{text}");
    assert!(text.contains("ExtServers: [host(127.0.0.53)]"), "{text}");
    agreed(&host, "web", "front");
    let _outside = servers::nginx(&host.world.client, &[80]);
    for (family, kind) in [(Family::V4, "A"), (Family::V6, "AAAA")] {
        resolves(&container.namespace, kind, &family.remote().to_string());
        reached(&container.namespace, at(family.remote(), 80));
    }
}

#[test]
fn test_internal_network_dns() {
    let host = host_with("127.0.0.1");
    let _servers = (name_server(&host.world.host), servers::nginx(&host.world.client, &[80]));
    create_network(&host, "inside", 1, "--internal");
    create_network(&host, "outside", 2, "");
    let container = host.container("web", "--network outside");
    let check = |leads_out: bool| {
        let address = Family::V4.remote().to_string();
        resolves(&container.namespace, "A", if leads_out { &address } else { "SERVFAIL" });
        for family in Family::BOTH {
            let to = at(family.remote(), 80);
            if leads_out {
                reached(&container.namespace, to);
            } else {
                assert!(try_fetch(&container.namespace, to).is_err());
            }
        }
    };
    check(true);
    host.docker("network connect inside web").ok();
    agreed(&host, "web", "inside");
    check(true);
    host.docker("network disconnect outside web").ok();
    eventually("netd knows it on one network", || {
        host.world.netd("endpoint ls --json").json().as_array().map(Vec::len) == Some(1)
    });
    check(false);
    host.docker("network connect outside web").ok();
    agreed(&host, "web", "outside");
    check(true);
    faultless(&host);
}

#[test]
fn test_internal_network_local_dns() {
    let host = host();
    create_network(&host, "inside", 1, "--internal");
    let server = host.container("server", "--network inside");
    agreed(&host, "server", "inside");
    let _dns = name_server(&server.namespace);
    for (family, kind) in [(Family::V4, "A"), (Family::V6, "AAAA")] {
        let dns = address(&host, &server, "inside", family == Family::V6);
        let name = format!("asks-{kind}");
        let client = host.container(&name, &format!("--network inside --dns {dns}"));
        agreed(&host, &name, "inside");
        resolves(&client.namespace, kind, &family.remote().to_string());
    }
    faultless(&host);
}
