//! `integration/network/bridge/bridge_linux_test.go`: bridges, their devices, and what a firewall has to do with them.

use netd_tests::{
    clients::{fetch, pings_at_once},
    condition::eventually,
    data_path::DataPath,
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    process::run_in,
    servers,
    topology::{at, gateway},
};
use serde_json::{Value, json};

use super::{account::agreed, address, closed, host, reached};
use crate::docker_host::create_network;

/// A dockerd with this flag and netd leave FORWARD as it is, and packets are forwarded.
#[track_caller]
fn check_forwarding(flag: &str) {
    let mut host = DockerHost::without_daemons(Release::New);
    let forwarding = |host: &DockerHost| {
        let paths = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
        paths.map(|path| host.world.host.sysctl(path))
    };
    assert_eq!(forwarding(&host), ["0", "0"]);
    host.world.daemon.start();
    host.start_docker(&format!("{FOR_NETD} {flag}"));
    host.known_network("bridge");
    // docker0 has IPv4 alone. netd switches on what its networks need, also where Docker may not.
    assert_eq!(forwarding(&host), ["1", "0"]);
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    assert_eq!(forwarding(&host), ["1", "1"]);
    assert_eq!(host.world.host.run("nft list ruleset").ok(), "");
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
    }
}

#[test]
fn test_filter_forward_policy() {
    check_forwarding("");
    check_forwarding("--ip-forward=false");
}

#[test]
fn test_filter_forward_policy_that_drops() {
    let host = host();
    create_network(&host, "front", 1, "");
    // Somebody else's, which redirected packets do not meet.
    for tool in ["iptables", "ip6tables"] {
        host.world.host.run(&format!("{tool} -P FORWARD DROP")).ok();
    }
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    for family in Family::BOTH {
        let to = at(family.host(), 8080);
        match DataPath::under_test() {
            DataPath::Fast => drop(reached(&host.world.client, to)),
            DataPath::Stack => closed(&host.world.client, to),
        }
    }
    let findings = host.world.netd(&format!("doctor {}", host.world.daemon.places()));
    assert!(findings.stdout.contains("policy DROP"), "{findings}");
    // Nobody has changed it.
    for tool in ["iptables", "ip6tables"] {
        let policy = host.world.host.run(&format!("{tool} -S FORWARD")).ok();
        assert_eq!(policy, "-P FORWARD DROP\n");
    }
}

#[test]
fn test_endpoint_with_custom_ifname() {
    let host = host();
    let network = "name=bridge,driver-opt=com.docker.network.endpoint.ifname=foobar";
    let web = host.container("web", &format!("--network {network} -p 8080:80"));
    let _nginx = servers::nginx(&web.namespace, &[80]);
    assert!(web.namespace.has_link("foobar"));
    assert_eq!(agreed(&host, "web", "bridge")["ifname"], "foobar");
    reached(&host.world.client, at(Family::V4.host(), 8080));
    let _outside = servers::nginx(&host.world.client, &[80]);
    fetch(&web.namespace, at(Family::V4.remote(), 80));
}

#[test]
fn test_no_such_external_bridge() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    let log = host.refused_docker(&format!("{FOR_NETD} --bridge nosuchbridge"));
    assert!(log.contains("nosuchbridge"), "{log}");
    // One that there is, is netd's work.
    host.world.host.ip(&["link add own0 type bridge", "address add 10.77.9.1/24 dev own0"]);
    host.world.host.ip(&["link set own0 up"]);
    host.start_docker(&format!("{FOR_NETD} --bridge own0"));
    let web = host.container("web", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    agreed(&host, "web", "bridge");
    let network = host.world.netd("network inspect bridge --json").json();
    assert_eq!(network[0]["bridge"], "own0");
    reached(&host.world.client, at(Family::V4.host(), 8080));
    // It was an uplink until Docker said whose it is, and has not been without programs in between.
    let log = host.world.daemon.log();
    assert!(log.contains("no uplink any more uplink=\"own0\""), "{log}");
    assert!(!log.contains("took netd's programs off"), "{log}");
}

/// How many lines of iptables name Docker.
#[track_caller]
fn dockers_rules(host: &DockerHost) -> usize {
    let saved = ["iptables-save", "ip6tables-save"].map(|it| host.world.host.run(it).ok());
    saved.concat().lines().filter(|line| line.contains("DOCKER")).count()
}

/// Types what `netd doctor` says of Docker's rules.
#[track_caller]
fn apply_fixes(host: &DockerHost) {
    let findings = host.world.netd(&format!("doctor {} --json", host.world.daemon.places()));
    let findings = findings.json();
    let is_meant = |it: &&Value| it["check"] == "leftovers" || it["check"] == "forward_policy";
    let fixes = findings.as_array().into_iter().flatten().filter(is_meant);
    for fix in fixes.filter_map(|it| it["fix"].as_str()) {
        run_in(host.world.host.path(), "sh", &["-c", fix], "").ok();
    }
}

#[test]
fn test_firewall_backend_switch() {
    // From Docker's rules to netd and back.
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    host.start_docker("--userland-proxy=false");
    create_network(&host, "front", 1, "");
    host.kill_docker();
    assert_ne!(dockers_rules(&host), 0);
    host.start_docker(FOR_NETD);
    host.known_network("front");
    // Docker leaves them behind.
    apply_fixes(&host);
    assert_eq!(dockers_rules(&host), 0);
    let web = host.container("web", "--network front -p 8080:80");
    let nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8080));
    }
    drop(nginx);
    host.docker("rm -f web").ok();
    host.kill_docker();
    host.start_docker("--userland-proxy=false");
    eventually("netd has given it up", || {
        host.world.netd("docker status --json").json()["state"] == "left_alone"
    });
    assert_ne!(dockers_rules(&host), 0);
}

#[test]
fn test_join_error() {
    let host = host();
    create_network(&host, "inside", 1, "--internal");
    create_network(&host, "outside", 2, "");
    let web = host.container("web", "--network inside");
    agreed(&host, "web", "inside");
    let _outside = servers::nginx(&host.world.client, &[80]);
    // With a default route of its own it cannot get another one.
    web.namespace.ip(&["route add default via 10.77.1.1"]);
    let refused = host.docker("network connect outside web");
    assert!(refused.stderr.contains("failed to set gateway"), "{refused}");
    let containers = host.docker("network inspect outside").json()[0]["Containers"].take();
    assert_eq!(containers, json!({}));
    // Once netd knows who came later it knows of this too. (Docker 28 leaves the link behind: it leads nowhere.)
    host.container("other", "--network outside");
    agreed(&host, "other", "outside");
    assert_eq!(host.world.netd("endpoint ls -q").ok(), "other\nweb\n");
    let nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        reached(&host.world.host, at(address(&host, &web, "inside", family == Family::V6), 80));
        closed(&web.namespace, at(family.remote(), 80));
        assert!(!pings_at_once(&web.namespace, gateway(family, 2).parse().unwrap()));
    }
    drop(nginx);
    // Without that route it can; Docker 28 does it with the next start, and until then refuses.
    web.namespace.ip(&["route del default via 10.77.1.1"]);
    host.docker("network connect outside web");
    host.docker("restart -t 0 web").ok();
    agreed(&host, "web", "inside");
    agreed(&host, "web", "outside");
    for family in Family::BOTH {
        let page = reached(&host.running("web").namespace, at(family.remote(), 80));
        assert_eq!(page.client, family.host());
    }
}
