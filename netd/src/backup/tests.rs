use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use serde_json::{Value, json};

use super::{Backup, ReadError};
use crate::{
    api::{Connect, NetworkCreate},
    desired::{Desired, HostView, SandboxView},
    ids::Counting,
    ipam::{Pools, ula_prefix},
    model::{DatapathMode, GatewayMode, SandboxRef},
};

const ULA: [u8; 5] = [1, 2, 3, 4, 5];

fn host() -> HostView {
    HostView {
        addresses: vec!["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()],
        routes: vec!["0.0.0.0/0".parse().unwrap(), "10.9.0.0/16".parse().unwrap()],
        link_names: ["lo".to_owned(), "eth0".to_owned()].into(),
        default_mtu: 1500,
        local_port_range: (40_000, 40_099),
        ..HostView::default()
    }
}

/// A desired state as requests make it, one at a time.
struct Made {
    desired: Desired,
    ids: Counting,
    host: HostView,
}

impl Made {
    fn network(&mut self, request: NetworkCreate, options: &[(&str, &str)]) {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = NetworkCreate { options: options.collect(), ..request };
        let pools = Pools::new(&[], ula_prefix(ULA));
        let mut network =
            self.desired.plan_network(&request, &host(), &pools, &mut self.ids).unwrap();
        network.created = 1_700_000_000;
        self.host.add_bridge(&network);
        self.desired.insert_network(network);
    }

    fn endpoint(&mut self, network: &str, name: &str, ino: u64, specs: &[&str]) {
        let sandbox = SandboxRef { text: name.to_owned(), dev: 4, ino };
        let others = self.desired.endpoints.values().filter(|it| it.sandbox.is_same(&sandbox));
        let link_names = others.map(|other| other.ifname.clone()).collect();
        let request = Connect {
            network: network.to_owned(),
            sandbox: name.to_owned(),
            aliases: vec!["db".to_owned()],
            ports: specs.iter().map(|spec| spec.parse().unwrap()).collect(),
            ..Connect::default()
        };
        let view = SandboxView { sandbox, link_names };
        let planned = self.desired.plan_endpoint(&request, &view, &self.host, &mut self.ids);
        self.desired.insert_endpoint(planned.unwrap());
    }
}

fn named(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() }
}

/// Something of everything that can be asked for.
fn made() -> Desired {
    let mut made = Made { desired: Desired::default(), ids: Counting::default(), host: host() };
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    made.network(
        NetworkCreate {
            subnets: vec![net("10.1.0.0/24"), net("fd77:1::/64")],
            gateways: vec![address("10.1.0.254")],
            ip_ranges: vec![net("10.1.0.128/25")],
            aux_addresses: [("DefaultGatewayIPv4".to_owned(), address("10.1.0.9"))].into(),
            snat_addresses: vec![address("192.0.2.1")],
            mtu: Some(1400),
            bridge: Some("br0".to_owned()),
            datapath: Some(DatapathMode::Stack),
            nptv6: Some("2001:db8:9:1::/64".parse::<Ipv6Net>().unwrap()),
            labels: [("who".to_owned(), "me".to_owned())].into(),
            ..named("front")
        },
        &[
            ("strict_src", "true"),
            ("max_flows", "500"),
            ("mss_clamp", "auto"),
            ("com.docker.network.bridge.trusted_host_interfaces", "eth0"),
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
        ],
    );
    made.network(NetworkCreate { ipv6: true, ..named("pooled") }, &[("nat", "eim")]);
    let routed = Some(GatewayMode::Routed);
    made.network(NetworkCreate { gateway_mode: routed, ipv6: true, ..named("routed") }, &[]);
    let ipv6_mode = "com.docker.network.bridge.gateway_mode_ipv6";
    made.network(
        NetworkCreate { ipv6: true, icc: Some(false), ..named("mixed") },
        &[(ipv6_mode, "routed"), ("icc_published", "false")],
    );
    let isolated = Some(GatewayMode::Isolated);
    made.network(NetworkCreate { internal: true, gateway_mode: isolated, ..named("cell") }, &[]);
    made.endpoint("front", "web", 7, &["8080:80", "5000-5010:6000-6010/udp", "[::1]:81:81/sctp"]);
    made.endpoint("pooled", "web", 7, &["9090:90", "%eth0:91:91", "92"]);
    made.endpoint("routed", "app", 8, &["80", "8081:81"]);
    made.endpoint("mixed", "app", 8, &["8082:80"]);
    made.endpoint("cell", "db", 9, &[]);
    made.endpoint("pooled", "zed", 10, &["[fd77:1::1]:25:25", "[fe80::1]:26:25", "%br0:27:25"]);
    let pair = made.desired.plan_allow("pooled", "front").unwrap();
    made.desired.allowed.insert(pair);
    made.desired
}

fn text() -> String {
    Backup::new(&made(), ula_prefix(ULA)).to_text().unwrap()
}

#[test]
fn whatever_can_be_asked_for_is_brought_about_again() {
    let text = text();
    let backup = Backup::parse(&text).unwrap();
    let (desired, ula) = backup.check(&host(), &mut Counting::default()).unwrap();
    assert_eq!(ula, ULA);
    let made = made();
    assert_eq!(desired.networks, made.networks);
    assert_eq!(desired.endpoints, made.endpoints);
    assert_eq!(desired.allowed, made.allowed);
    assert_eq!(Backup::new(&desired, ula_prefix(ula)).to_text().unwrap(), text);
}

#[test]
fn a_document_is_for_people_and_holds_no_secret() {
    let text = text();
    assert!(text.starts_with("{\n  \"netd_state\": 1,\n  \"version\": \"0."), "{text}");
    assert!(text.ends_with("}\n") && text.contains("\"ula_prefix\": \"fd01:203:405::/48\""));
    assert!(!text.contains("secret"));
}

/// Reads and checks the document after a change of it.
fn changed(change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut document: Value = serde_json::from_str(&text()).unwrap();
    change(&mut document);
    let backup = Backup::parse(&document.to_string()).map_err(|error| error.to_string())?;
    let checked = backup.check(&host(), &mut Counting::default());
    checked.map(drop).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(pointer: &str, value: Value, expected: &str) {
    let change = |document: &mut Value| {
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    };
    let error = changed(change).expect_err(pointer);
    assert!(error.contains(expected) && !error.contains('\n'), "{pointer}: {error}");
}

#[test]
fn what_is_no_document_is_refused() {
    assert!(matches!(Backup::parse(""), Err(ReadError::Malformed { .. })));
    assert!(matches!(Backup::parse("[]"), Err(ReadError::Malformed { .. })));
    assert!(matches!(Backup::parse(r#"{"netd_state":1}"#), Err(ReadError::Malformed { .. })));
    let twice = text() + "{}";
    assert!(matches!(Backup::parse(&twice), Err(ReadError::Malformed { .. })));
    let newer = Backup::parse(r#"{"netd_state":2,"version":"9.0.0","else":1}"#).unwrap_err();
    let expected = "the state is of format 2, this netd knows 1: use netd \"9.0.0\"";
    assert!(newer.to_string().starts_with(expected), "{newer}");
}

#[test]
fn a_field_that_is_not_known_is_refused_wherever_it_stands() {
    let add = |pointer: &'static str, expected: &str| {
        let insert = |document: &mut Value| {
            let object = document.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
            object.insert("colour".to_owned(), json!("red"));
        };
        let error = changed(insert).unwrap_err();
        assert!(error.contains(expected) && error.contains("does not know"), "{error}");
    };
    add("", "\"colour\"");
    add("/networks/0", "\"networks.0.colour\"");
    add("/networks/0/subnets/0", "\"networks.0.subnets.0.colour\"");
    add("/endpoints/0", "\"endpoints.0.colour\"");
    add("/endpoints/0/sandbox", "\"endpoints.0.sandbox.colour\"");
    add("/endpoints/0/ports/0", "\"endpoints.0.ports.0.colour\"");
}

// By name: the networks are cell, front, mixed, pooled, routed; the endpoints app, app.mixed, db, web,
// web.pooled.

#[test]
fn networks_that_cannot_be_are_refused() {
    check_refused("/networks/1/name", json!("cell"), "network cell already exists");
    check_refused("/networks/1/name", json!("a b"), "cannot name a network");
    check_refused("/networks/1/name", json!("a".repeat(129)), "128 characters at most");
    check_refused("/networks/1/number", json!(0), "network front: number 0 is not one from 1");
    check_refused("/networks/1/number", json!(4096), "is not one from 1 to 4095");
    let number = made().networks["cell"].number;
    check_refused("/networks/1/number", json!(number), "network front: number 5 is given twice");
    check_refused("/networks/1/id", json!("0123"), "not 64 hexadecimal digits");
    let id = &made().networks["cell"].id;
    check_refused("/networks/1/id", json!(id), "is given twice");
    check_refused(
        "/networks/1/bridge",
        json!("a/b"),
        "network front: \"a/b\" cannot name a device",
    );
    check_refused("/networks/1/bridge", json!("eth0"), "this host has a device eth0 already");
    let bridge = &made().networks["cell"].bridge;
    check_refused("/networks/1/bridge", json!(bridge), "is given twice");
    check_refused("/networks/1/mtu", json!(1000), "an MTU of 1000 is not possible");
    check_refused("/networks/1/nptv6", json!("2001:db8:9::/48"), "not as long as");
    check_refused("/networks/1/nptv6", json!("2001:db8::/64"), "overlaps the host's address");
    check_refused("/networks/1/snat_addresses/0", json!("127.0.0.1"), "is of no use");
    check_refused("/networks/1/strict_source", json!(false), "strict_source contradicts");
    check_refused("/networks/1/max_flows", json!(7), "contradict each other");
    check_refused("/networks/1/options/max_flows", json!("x"), "a number of flows belongs there");
    check_refused("/networks/1/options", json!({"colour": "red"}), "option colour is not known");
    check_refused("/networks/0/internal", json!(false), "isolated is for internal networks");
    check_refused("/networks/3/masquerade", json!(false), "no source ports to give");
}

#[test]
fn subnets_that_cannot_be_are_refused() {
    let subnet = "/networks/1/subnets/0/subnet";
    check_refused(subnet, json!("10.1.0.1/24"), "has host bits");
    check_refused(subnet, json!("0.1.0.0/24"), "is not for hosts");
    check_refused(
        "/networks/1/subnets/1/subnet",
        json!("::ffff:0:0/96"),
        "is not for hosts: choose a unicast prefix such as fd12:3456:789a::/64",
    );
    check_refused(subnet, json!("192.0.2.0/24"), "overlaps the host's address 192.0.2.1/24");
    check_refused(subnet, json!("10.9.1.0/24"), "overlaps the host's route to 10.9.0.0/16");
    check_refused(subnet, json!("10.2.0.0/24"), "is in none of the network's subnets");
    let other = made().networks["cell"].subnets[0].subnet;
    check_refused("/networks/2/subnets/0/subnet", json!(other), "of network cell");
    check_refused("/networks/2/subnets/0/gateway", json!(null), "subnets contradicts");
    check_refused("/networks/4/subnets/0/gateway_mode", json!("nat"), "subnets contradicts");
    check_refused("/networks/3/subnets", json!([]), "network pooled: subnets contradicts");
    check_refused("/ula_prefix", json!("2001:db8::/48"), "is no prefix of a host's own");
    check_refused("/ula_prefix", json!("fd00::/64"), "is no prefix of a host's own");
}

#[test]
fn endpoints_that_cannot_be_are_refused() {
    let web = "/endpoints/3";
    let check = |field: &str, value: Value, expected: &str| {
        check_refused(&format!("{web}/{field}"), value, expected);
    };
    check("network", json!("nowhere"), "web is on network nowhere, which the document does not");
    check("name", json!("app"), "endpoint app already exists");
    check("name", json!("a".repeat(129)), "128 characters at most");
    check("aliases/0", json!(""), "cannot be an alias");
    check("ipv4", json!("10.1.0.254/24"), "is the gateway of");
    check("ipv4", json!("10.7.0.1/24"), "is outside subnet");
    check("ipv4", json!("10.1.0.130/25"), "ipv4 contradicts");
    check("ipv4", json!(null), "ipv4 contradicts");
    check("gateway", json!("10.1.0.77"), "gateway contradicts");
    check("mac", json!("01:00:00:00:00:01"), "is a group address or zero");
    check("mac", json!("02"), "is not a MAC address");
    check("ifname", json!("a b"), "cannot name a device");
    check("host_ifname", json!("eth0"), "this host has a device eth0 already");
    check("host_ifname", json!("br0"), "endpoint web: the device br0 is given twice");
    check("slot", json!(0), "slot 0 is not one from 1 to 16383");
    check("slot", json!(made().endpoints["app"].slot), "is given twice");
    check("ports/0/slot", json!(made().endpoints["app"].slot), "is given twice");
    check("ports/0/host_port", json!(0), "is not a port");
    check("ports/0/host_port_end", json!(8079), "runs backwards");
    check("ports/0/host_port_end", json!(8090), "ports contradicts");
    check("ports/0/host_ip", json!("192.0.2.9"), "the host has no address 192.0.2.9");
    check("ports/1/host_ip", json!("%eth9"), "the host has no interface eth9");
    // The network publishes on 127.0.0.1 what names no address.
    check("ports/0/host_ip", json!("*"), "ports contradicts");
    check_refused("/endpoints/2/ports", made_port(), "is on the internal network cell");
    check_refused("/endpoints/4/ports/0/host_port", json!(91), "contradicts");
    check_refused("/endpoints/4/ifname", json!("eth0"), "already has a device eth0");
    check_refused("/endpoints/4/network", json!("front"), "is already connected to network front");
}

fn made_port() -> Value {
    json!([{"slot": 99, "proto": "tcp", "host_ip": "*", "host_port": 1, "host_port_end": 1,
        "port": 1, "port_end": 1}])
}

#[test]
fn published_ports_that_overlap_are_refused() {
    // What web.pooled publishes on 9090 is moved to what web has.
    let overlap = |document: &mut Value| {
        for key in ["host_port", "host_port_end"] {
            document["endpoints"][4]["ports"][0][key] = json!(8080);
        }
    };
    let error = changed(overlap).unwrap_err();
    assert!(error.contains("is already published by endpoint web"), "{error}");
}

#[test]
fn allowances_that_cannot_be_are_refused() {
    check_refused("/allowed/0", json!(["front", "nowhere"]), "network nowhere does not exist");
    check_refused("/allowed/0", json!(["front", "front"]), "always allowed to itself");
    check_refused("/allowed/0", json!(["cell", "front"]), "network cell is internal");
    check_refused("/allowed/0", json!(["front"]), "not a state of netd");
}
