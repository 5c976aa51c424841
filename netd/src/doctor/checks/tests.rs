//! What each check says, from a healthy host on; one file as for the checks.

mod devices;
mod docker;
mod firewall;
mod machine;
mod networks;

use std::net::IpAddr;

use super::judge;
use crate::{
    config::Config,
    datapath::probe::{Direction, Foreign, Loaded},
    doctor::{
        Status,
        facts::{
            Bpffs, Cgroup2, Daemon, Docker, Facts, Hooks, Host, Listener, Managed, Manager,
            Programs, Sysctls, Unknown, Wanted, WantedNetwork, WantedPort, XdpProgram,
        },
    },
    firewall::{Chain, Policy, Rule, Target},
    model::{DatapathMode, HostIp, Proto, PublishedPort},
    netlink::{
        addr::{Address, Scope},
        classifier::Classifier,
        link::Link,
        route::Route,
    },
    uplinks::Uplink,
};

/// A host on which everything is well: one uplink, one network with a published port.
fn healthy() -> Facts {
    let host = Host {
        links: vec![link(2, "up0", 1500), link(3, "br-1", 1500)],
        addresses: vec![address(2, "192.0.2.1/24"), address(3, "10.77.1.1/24")],
        routes: vec![route(2, "0.0.0.0/0"), route(3, "10.77.1.0/24")],
        uplinks: vec![uplink(2, "up0")],
    };
    Facts {
        config_error: None,
        config: Config::default(),
        missing_capabilities: Ok(Vec::new()),
        release: Ok("6.1.0-13-amd64".to_owned()),
        missing_features: Ok(Vec::new()),
        programs: Ok(Programs::Loaded(Loaded::Compiled)),
        cgroup2: Ok(Cgroup2::At("/sys/fs/cgroup".into())),
        bpffs: Ok(bpffs()),
        state_error: Ok(None),
        daemon: Ok(Daemon::None),
        wanted: wanted(),
        host: Ok(host),
        hooks: Ok(Hooks::default()),
        chains: Ok(Vec::new()),
        sysctls: Sysctls {
            refused: Ok(Vec::new()),
            has_ipv6: true,
            not_forwarding: Vec::new(),
            strict_uplinks: Vec::new(),
            losing_routes: Vec::new(),
            bridge_filters: Vec::new(),
        },
        listeners: Ok(Vec::new()),
        docker: Ok(Docker::default()),
        managed: Vec::new(),
    }
}

fn bpffs() -> Bpffs {
    Bpffs {
        is_supported: true,
        is_mounted: true,
        is_daemons: false,
        outlives: Ok(true),
        namespace: None,
        owner_error: None,
    }
}

fn wanted() -> Wanted {
    let network = WantedNetwork {
        name: "front".to_owned(),
        bridge: "br-1".to_owned(),
        mtu: 1500,
        subnets: vec!["10.77.1.0/24".parse().unwrap(), "fd77:1::/64".parse().unwrap()],
        has_mss_clamp: false,
    };
    Wanted {
        exists: true,
        networks: vec![network],
        ports: vec![published("*")],
        ..Wanted::default()
    }
}

fn published(host_ip: &str) -> WantedPort {
    WantedPort {
        is_dockers: false,
        endpoint: "web".to_owned(),
        port: PublishedPort {
            slot: 1,
            proto: Proto::Tcp,
            host_ip: host_ip.parse::<HostIp>().unwrap(),
            host_port: 8080,
            host_port_end: 8089,
            port: 80,
            port_end: 89,
        },
    }
}

fn link(ifindex: u32, name: &str, mtu: u32) -> Link {
    Link { ifindex, name: name.to_owned(), mtu, ethernet: true, ..Link::default() }
}

fn uplink(ifindex: u32, name: &str) -> Uplink {
    Uplink { ifindex, name: name.to_owned(), ethernet: true }
}

fn address(ifindex: u32, net: &str) -> Address {
    Address {
        ifindex,
        net: net.parse().unwrap(),
        peer: None,
        scope: Scope::Universe,
        deprecated: false,
        temporary: false,
        tentative: false,
        secondary: false,
        ours: false,
    }
}

fn route(ifindex: u32, destination: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway: None,
        ifindex: Some(ifindex),
        source: None,
        metric: 0,
        unicast: true,
        from_router_advertisement: false,
    }
}

fn chain(table: &str, name: &str, forward: Option<Policy>) -> Chain {
    Chain { table: table.to_owned(), name: name.to_owned(), forward, rules: Vec::new() }
}

fn classifier(kind: &str, priority: u16, handle: u32) -> Hooks {
    let classifier = Classifier {
        ifindex: 2,
        is_egress: false,
        kind: kind.to_owned(),
        priority,
        protocol: 3,
        handle,
        program: None,
    };
    Hooks { classifiers: vec![("up0".to_owned(), classifier)], ..Hooks::default() }
}

/// Changes a healthy host and compares all that is not well then, as `STATUS CHECK: MESSAGE | FIX`.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
    let mut facts = healthy();
    change(&mut facts);
    let findings = judge(&facts).into_iter().filter(|finding| finding.status != Status::Ok);
    let lines: Vec<String> = findings
        .map(|finding| {
            let status = if finding.status == Status::Fatal { "fatal" } else { "finding" };
            let fix = finding.fix.unwrap_or_default();
            format!("{status} {}: {} | {fix}", finding.check, finding.message)
        })
        .collect();
    assert_eq!(lines, expected);
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().unwrap()
}

#[test]
fn a_healthy_host_has_no_findings() {
    check(|_| {}, &[]);
    assert!(judge(&healthy()).iter().all(|finding| finding.fix.is_none()));
}

#[test]
fn names_of_checks_are_stable_and_each_has_one() {
    let names: Vec<&str> = judge(&healthy()).iter().map(|finding| finding.check).collect();
    assert_eq!(
        names.join(" "),
        "configuration privileges kernel programs cgroup bpffs state daemon sysctls uplinks xdp classifiers \
         rp_filter accept_ra managers leftovers forward_policy br_netfilter data_path mtu subnets ports docker"
    );
}

#[test]
fn what_is_not_known_is_said_by_who_needs_it_and_stops_nobody_else() {
    check(
        |facts| facts.missing_features = Err(Unknown("only root can tell".to_owned())),
        &["finding kernel: could not be looked at: only root can tell | "],
    );
    check(
        |facts| {
            facts.listeners = Err(Unknown("no /proc".to_owned()));
            facts.missing_capabilities = Ok(vec!["CAP_BPF".to_owned(), "CAP_NET_ADMIN".to_owned()]);
        },
        &[
            "fatal privileges: without CAP_BPF, CAP_NET_ADMIN | sudo netd doctor",
            "finding ports: could not be looked at: no /proc | ",
        ],
    );
}

#[test]
fn an_error_of_the_configuration_stops_netd() {
    let error = "/etc/netd/netd.toml, line 3: unknown field; correct the line or remove it";
    check(
        |facts| facts.config_error = Some(error.to_owned()),
        &[
            "fatal configuration: /etc/netd/netd.toml, line 3: unknown field | correct the line or remove it",
        ],
    );
}
