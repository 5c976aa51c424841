//! The maps of small desired states, and the promises about ranges and families.

use std::{collections::BTreeMap, net::IpAddr};

use netd_common::{address::V4, network::NetworkFlags};

use super::{HostFacts, Programmed};
use crate::{
    desired::Desired,
    model::{
        Endpoint, GatewayMode, HostIp, MacAddr, Network, Proto, PublishedPort, SandboxRef, Subnet,
    },
};

fn network(name: &str, number: u16, subnets: &[&str]) -> Network {
    let subnets = subnets.iter().map(|text| {
        let subnet: ipnet::IpNet = text.parse().unwrap();
        Subnet {
            subnet,
            gateway: subnet.hosts().next().unwrap(),
            ip_range: None,
            aux_addresses: BTreeMap::new(),
            user_configured: true,
        }
    });
    Network {
        name: name.to_owned(),
        id: "0".repeat(64),
        number,
        created: 0,
        bridge: format!("br-{name}"),
        subnets: subnets.collect(),
        internal: false,
        icc: true,
        masquerade: true,
        snat_addresses: Vec::new(),
        gateway_mode: GatewayMode::Nat,
        mtu: 1500,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn endpoint(name: &str, network: &str, slot: u32, ports: Vec<PublishedPort>) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        id: "0".repeat(64),
        slot,
        network: network.to_owned(),
        sandbox: SandboxRef { text: name.to_owned(), dev: 0, ino: 1 },
        ifname: "eth0".to_owned(),
        host_ifname: format!("veth-{name}"),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ipv4: Some("10.1.0.2/24".parse().unwrap()),
        ipv6: Some("fd00:1::2/64".parse().unwrap()),
        gateway: None,
        gateway6: None,
        aliases: Vec::new(),
        gw_priority: 0,
        ports,
    }
}

fn port(host_ip: &str, host: (u16, u16), first: u16) -> PublishedPort {
    PublishedPort {
        slot: 7,
        proto: Proto::Tcp,
        host_ip: host_ip.parse::<HostIp>().unwrap(),
        host_port: host.0,
        host_port_end: host.1,
        port: first,
        port_end: first + (host.1 - host.0),
    }
}

fn programmed(ports: Vec<PublishedPort>) -> Programmed {
    let mut desired = Desired::default();
    desired.insert_network(network("front", 3, &["10.1.0.0/24", "fd00:1::/64"]));
    desired.insert_network(network("back", 4, &["10.2.0.0/24"]));
    desired.insert_endpoint(endpoint("web", "front", 1, ports));
    let links = [("br-front", 10), ("br-back", 11), ("veth-web", 12), ("eth0", 2)];
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let host = HostFacts {
        ifindexes: links.map(|(name, ifindex)| (name.to_owned(), ifindex)).into(),
        addresses: [("eth0".to_owned(), vec![address("192.0.2.1"), address("2001:db8::1")])].into(),
        uplinks: [2].into(),
        masquerade_sources: Vec::new(),
    };
    Programmed::new(&desired, &host)
}

#[test]
fn a_range_of_any_size_costs_at_most_thirty_elements_a_family() {
    let programmed = programmed(vec![port("*", (1, 65_534), 1)]);
    assert!(programmed.has_ranges());
    assert_eq!(programmed.v4.published_ranges.len(), 30);
    assert_eq!(programmed.v6.published_ranges.len(), 30);
    assert!(programmed.v4.published_ports.is_empty());
}

#[track_caller]
fn check_addresses(host_ip: &str, v4: usize, v6: usize) {
    let programmed = programmed(vec![port(host_ip, (8080, 8080), 80)]);
    assert_eq!(programmed.v4.published_ports.len(), v4, "{host_ip}");
    assert_eq!(programmed.v6.published_ports.len(), v6, "{host_ip}");
}

#[test]
fn a_port_is_published_in_the_families_of_its_host_address() {
    check_addresses("*", 1, 1);
    check_addresses("192.0.2.1", 1, 0);
    check_addresses("2001:db8::1", 0, 1);
    check_addresses("0.0.0.0", 1, 0);
    check_addresses("%eth0", 1, 1);
    check_addresses("%eth9", 0, 0);
}

#[test]
fn networks_reach_only_themselves_unless_allowed() {
    let programmed = programmed(Vec::new());
    let pairs: Vec<_> = programmed.isolation_sets.keys().map(|key| (key.from, key.to)).collect();
    assert_eq!(pairs, [(3, 3), (4, 4)]);
}

#[test]
fn a_network_carries_its_subnets_and_flags() {
    let programmed = programmed(Vec::new());
    let back = programmed.networks.get(&4).unwrap();
    assert_eq!((back.v4.present, back.v6.present), (1, 0));
    assert!(back.v4.contains(V4::new([10, 2, 0, 9].into())));
    assert!(!back.v4.contains(V4::new([10, 1, 0, 9].into())));
    assert!(back.has(NetworkFlags::PRESENT | NetworkFlags::ICC | NetworkFlags::MASQUERADE));
    assert_eq!(programmed.bridge_ports.keys().collect::<Vec<_>>(), [&12]);
}
