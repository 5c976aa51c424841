//! The maps of small desired states, and the promises about ranges and families.

use std::{collections::BTreeMap, net::IpAddr};

use netd_common::{
    address::{Address, Port, V4, V6},
    config::ConfigFlags,
    network::{
        self, AcceptedMark, FamilyFlags, HostAddressFlags, LinkKey, NetworkFlags, TrustedKey,
        UNKNOWN_NETNS,
    },
    published::{self, PublishedFlags, PublishedPortKey},
};

use super::{FamilyContents, HostFacts, Programmed, Targets};
use crate::{
    desired::Desired,
    model::{
        Endpoint, GatewayMode, HostIp, Link, MacAddr, Manager, NatMode, Network, Proto,
        PublishedPort, SandboxRef, Subnet,
    },
};

fn network(name: &str, number: u16, subnets: &[&str]) -> Network {
    let subnets = subnets.iter().map(|text| {
        let subnet: ipnet::IpNet = text.parse().unwrap();
        Subnet {
            subnet,
            gateway: subnet.hosts().next(),
            gateway_mode: GatewayMode::Nat,
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
        mtu: 1500,
        datapath: None,
        strict_source: false,
        icc_strict: false,
        max_flows: None,
        nat: None,
        nptv6: None,
        inhibit_ipv4: false,
        direct_routing: false,
        accept_mark: None,
        mss_clamp: None,
        trusted_interfaces: Vec::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        manager: Manager::Netd,
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
        links: Vec::new(),
        max_flows: None,
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
    programmed_on(network("front", 3, &["10.1.0.0/24", "fd00:1::/64"]), ports, false)
}

fn programmed_on(front: Network, ports: Vec<PublishedPort>, trusts: bool) -> Programmed {
    let mut desired = Desired::default();
    desired.insert_network(front);
    desired.insert_network(network("back", 4, &["10.2.0.0/24"]));
    desired.insert_endpoint(endpoint("web", "front", 1, ports));
    let links = [("br-front", 10), ("br-back", 11), ("veth-web", 12), ("eth0", 2)];
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let host = HostFacts {
        ifindexes: links.map(|(name, ifindex)| (name.to_owned(), ifindex)).into(),
        addresses: [
            ("eth0".to_owned(), vec![address("192.0.2.1"), address("2001:db8::1")]),
            ("br-front".to_owned(), vec![address("10.1.0.1"), address("fe80::1")]),
        ]
        .into(),
        reserved_ports: vec![(0, 1), (63, 64), (65_535, 65_535)],
        uplinks: [(2, true)].into(),
        trusts_every_uplink: trusts,
        fast_networks: ["front".to_owned()].into(),
        ..HostFacts::default()
    };
    Programmed::new(&desired, &host)
}

#[test]
fn a_range_of_any_size_costs_at_most_thirty_elements_a_family() {
    let programmed = programmed(vec![port("*", (1, 65_534), 1)]);
    assert_eq!(programmed.config_flags(), ConfigFlags::RANGES_PUBLISHED);
    assert_eq!(programmed.v4.published_ranges.len(), 30);
    assert_eq!(programmed.v6.published_ranges.len(), 30);
    assert!(programmed.v4.published_ports.is_empty());
}

#[test]
fn the_hosts_addresses_on_bridges_are_told_from_others() {
    let programmed = programmed(Vec::new());
    let (on_bridge, present) = (HostAddressFlags::ON_BRIDGE, HostAddressFlags::PRESENT);
    let v4: Vec<u32> = programmed.v4.host_addresses.into_values().collect();
    let v6: Vec<u32> = programmed.v6.host_addresses.into_values().collect();
    assert!(v4.contains(&(present | on_bridge)) && v4.contains(&present), "{v4:?}");
    assert_eq!(v6, [present; 2]);
}

#[test]
fn reserved_ports_are_bits() {
    let words = programmed(Vec::new()).reserved_ports;
    assert_eq!(words, [(0, 1 << 63 | 0b11), (1, 1), (1023, 1 << 63)].into());
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
    let (front, back) = (programmed.networks[&3], programmed.networks[&4]);
    assert!(front.v4.has(FamilyFlags::PRESENT | FamilyFlags::MASQUERADE));
    assert!(back.v4.has(FamilyFlags::PRESENT));
    assert_eq!(back.v6.flags, 0);
    assert_eq!(back.v4.bridge_addr, V4::from_ip("10.2.0.1".parse().unwrap()).unwrap());
    assert_eq!(back.bridge_ifindex, 11);
    assert!(front.has(NetworkFlags::PRESENT | NetworkFlags::ICC | NetworkFlags::FAST));
    assert!(!back.has(NetworkFlags::FAST));
    assert!(!back.has(NetworkFlags::INTERNAL));
}

/// The network `front` with a gateway mode for each family.
fn with_modes(v4: GatewayMode, v6: GatewayMode) -> Network {
    let mut network = network("front", 3, &["10.1.0.0/24", "fd00:1::/64"]);
    network.subnets[0].gateway_mode = v4;
    network.subnets[1].gateway_mode = v6;
    network
}

/// Where ports are published, as `ADDRESS:PORT>PORT`.
fn places<A: Address>(contents: &FamilyContents<A>) -> Vec<String> {
    let ports = contents.published_ports.iter();
    let place = |(key, value): (&PublishedPortKey<A>, &published::PublishedPort<A>)| {
        let ports = (value.host_port.number(), value.port.number());
        assert_eq!(ports.0, key.port.number());
        let addr: IpAddr = key.addr.into();
        format!("{addr} {}>{}", ports.0, ports.1)
    };
    ports.map(place).collect()
}

#[test]
fn a_routed_family_has_its_ports_at_the_containers_address() {
    let front = with_modes(GatewayMode::Nat, GatewayMode::Routed);
    let programmed = programmed_on(front, vec![port("*", (8080, 8080), 80)], false);
    assert_eq!(places(&programmed.v4), ["0.0.0.0 8080>80"]);
    // From the host's own addresses the host itself is led to the container's IPv4.
    assert_eq!(places(&programmed.v6), [":: 8080>80", "fd00:1::2 80>80"]);
    let for_host = |it: &&published::PublishedPort<V6>| it.flags & PublishedFlags::FOR_HOST != 0;
    assert_eq!(programmed.v6.published_ports.values().filter(for_host).count(), 1);
    let front = programmed.networks[&3];
    assert!(front.v6.has(FamilyFlags::ROUTED) && !front.v6.has(FamilyFlags::MASQUERADE));
    assert!(front.v4.has(FamilyFlags::MASQUERADE) && !front.v4.has(FamilyFlags::ROUTED));
}

#[test]
fn an_unprotected_family_publishes_and_masquerades_as_well() {
    let front = with_modes(GatewayMode::NatUnprotected, GatewayMode::Nat);
    let programmed = programmed_on(front, vec![port("*", (8080, 8080), 80)], false);
    assert_eq!(places(&programmed.v4), ["0.0.0.0 8080>80"]);
    assert!(programmed.networks[&3].v4.has(FamilyFlags::UNPROTECTED | FamilyFlags::MASQUERADE));
    assert!(!programmed.networks[&3].v6.has(FamilyFlags::UNPROTECTED));
}

#[test]
fn a_bridge_without_an_address_is_no_source() {
    let mut front = with_modes(GatewayMode::Nat, GatewayMode::Isolated);
    front.inhibit_ipv4 = true;
    front.subnets[1].gateway = None;
    let network = programmed_on(front, Vec::new(), false).networks[&3];
    assert_eq!(network.v4.bridge_addr, V4::UNSPECIFIED);
    assert_eq!(network.v6.bridge_addr, V6::UNSPECIFIED);
    assert!(network.v6.has(FamilyFlags::PRESENT));
}

#[test]
fn a_trusted_device_opens_the_containers_addresses_but_no_loopback_port() {
    let ports = || vec![port("*", (8080, 8080), 80), port("127.0.0.1", (9090, 9090), 90)];
    let mut front = with_modes(GatewayMode::Nat, GatewayMode::Nat);
    front.trusted_interfaces = vec!["eth0".to_owned(), "wg0".to_owned()];
    let named = programmed_on(front.clone(), ports(), false);
    assert_eq!(places(&named.v4), ["0.0.0.0 8080>80", "127.0.0.1 9090>90", "10.1.0.2 80>80"]);
    assert_eq!(places(&named.v6), [":: 8080>80", "fd00:1::2 80>80"]);
    let keys: Vec<_> = named.trusted_interfaces.keys().map(|k| (k.ifindex, k.network)).collect();
    assert_eq!(keys, [(2, 3)]);

    front.trusted_interfaces.clear();
    let every = programmed_on(front, ports(), true);
    assert_eq!(places(&every.v6), places(&named.v6));
    let keys: Vec<_> = every.trusted_interfaces.keys().map(|k| (k.ifindex, k.network)).collect();
    assert_eq!(keys, [(2, 3), (2, 4)]);
}

#[test]
fn source_ports_are_given_as_the_network_says_or_else_the_daemon() {
    let check = |of_network, of_daemon, expected: bool| {
        let mut front = with_modes(GatewayMode::Nat, GatewayMode::Nat);
        front.nat = of_network;
        let mut desired = Desired::default();
        desired.insert_network(front);
        let ifindexes = [("br-front".to_owned(), 10)].into();
        let host = HostFacts { ifindexes, default_nat: of_daemon, ..HostFacts::default() };
        let programmed = Programmed::new(&desired, &host);
        assert_eq!(programmed.networks[&3].has(NetworkFlags::ENDPOINT_INDEPENDENT), expected);
        assert_eq!(programmed.config_flags() & ConfigFlags::MAPPINGS != 0, expected);
    };
    check(None, NatMode::Edm, false);
    check(None, NatMode::Eim, true);
    check(Some(NatMode::Edm), NatMode::Eim, false);
    check(Some(NatMode::Eim), NatMode::Edm, true);
}

#[test]
fn strictness_among_neighbours_needs_icc_off() {
    let check = |icc: bool, icc_strict: bool, expected: bool| {
        let mut front = with_modes(GatewayMode::Nat, GatewayMode::Nat);
        (front.icc, front.icc_strict, front.strict_source) = (icc, icc_strict, icc_strict);
        let network = programmed_on(front, Vec::new(), false).networks[&3];
        assert_eq!(network.has(NetworkFlags::ICC_STRICT), expected);
        assert_eq!(network.has(NetworkFlags::STRICT_SOURCE), icc_strict);
    };
    check(false, true, true);
    check(false, false, false);
    check(true, true, false);
}

#[test]
fn an_mss_is_lowered_to_that_of_the_route_or_to_a_size() {
    let mut front = with_modes(GatewayMode::Nat, GatewayMode::Nat);
    for (text, expected) in [("auto", network::Network::MSS_OF_ROUTE), ("1220", 1220)] {
        front.mss_clamp = Some(text.parse().unwrap());
        let programmed = programmed_on(front.clone(), Vec::new(), false);
        assert_eq!(programmed.networks[&3].mss_clamp, expected);
        assert_eq!(programmed.config_flags(), ConfigFlags::MSS_CLAMPED);
    }
    front.mss_clamp = None;
    assert_eq!(programmed_on(front, Vec::new(), false).config_flags(), 0);
}

#[test]
fn a_sandbox_has_the_number_of_its_namespace_or_else_none_of_the_kernels() {
    let check = |known: &[(&str, u32)], expected: [u32; 2]| {
        let mut desired = Desired::default();
        desired.insert_network(network("front", 3, &["10.1.0.0/24"]));
        desired.insert_network(network("back", 4, &["10.2.0.0/24"]));
        let of = |name, network, slot, ino| {
            let mut endpoint = endpoint(name, network, slot, Vec::new());
            endpoint.sandbox.ino = ino;
            endpoint
        };
        desired.insert_endpoint(of("web", "front", 5, 1));
        desired.insert_endpoint(of("web-back", "back", 6, 1));
        desired.insert_endpoint(of("db", "back", 7, 2));
        let links = [("veth-web", 12), ("veth-web-back", 13), ("veth-db", 14)];
        let host = HostFacts {
            ifindexes: links.map(|(name, ifindex)| (name.to_owned(), ifindex)).into(),
            netns: known.iter().map(|&(name, netns)| (name.to_owned(), netns)).collect(),
            ..HostFacts::default()
        };
        let ports = Programmed::new(&desired, &host).bridge_ports;
        let [web, back, db] = [12, 13, 14].map(|ifindex| ports[&ifindex].sandbox);
        assert_eq!(web, back);
        assert_eq!([web, db], expected);
    };
    check(&[("veth-web", 0), ("veth-web-back", 0), ("veth-db", 3)], [0, 3]);
    check(&[("veth-web-back", 9)], [9, UNKNOWN_NETNS | 7]);
    check(&[], [UNKNOWN_NETNS | 5, UNKNOWN_NETNS | 7]);
}

#[test]
fn from_ipv6_the_host_is_led_to_who_has_ipv4_only() {
    let rows = vec![port("*", (8080, 8080), 80), port("2001:db8::1", (8081, 8081), 81)];
    let mut desired = Desired::default();
    desired.insert_network(network("front", 3, &["10.1.0.0/24"]));
    let web = Endpoint { ipv6: None, ..endpoint("web", "front", 1, rows) };
    desired.insert_endpoint(web);
    let programmed = Programmed::new(&desired, &HostFacts::default());
    let led: Vec<_> = programmed
        .v6
        .published_ports
        .iter()
        .map(|(key, value)| (key.port.number(), value.addr.to_mapped_v4(), value.flags))
        .collect();
    let (web, flags) = (V4::from_ip("10.1.0.2".parse().unwrap()), PublishedFlags::KEPT);
    let flags = flags | PublishedFlags::FOR_HOST;
    assert_eq!(led, [(8080, web, flags), (8081, web, flags)]);
    assert_eq!(programmed.v4.published_ports.len(), 1);
    let targets = Targets::new(&desired, &HostFacts::default());
    let found = |asked: &str| targets.find(Proto::Tcp, asked.parse().unwrap());
    assert_eq!(found("[2001:db8::1]:8081"), "10.1.0.2:81".parse().ok());
    assert_eq!(found("[2001:db8::2]:8081"), None);
    assert_eq!(found("[::1]:8080"), "10.1.0.2:80".parse().ok());
}

#[test]
fn marks_links_and_direct_routing_are_those_of_dockers_networks() {
    let mut desired = Desired::default();
    let accept_mark = "2/3".parse().ok();
    let quiet = network("quiet", 3, &["10.1.0.0/24", "fd00:1::/64"]);
    desired.insert_network(Network { direct_routing: true, accept_mark, icc: false, ..quiet });
    desired.insert_network(network("back", 4, &["10.2.0.0/24"]));
    let link = |to: &str| Link { endpoint: to.to_owned(), proto: Proto::Udp, port: 53 };
    let web = endpoint("web", "quiet", 1, vec![port("*", (8080, 8080), 80)]);
    desired.insert_endpoint(Endpoint { links: vec![link("dns"), link("gone")], ..web });
    desired.insert_endpoint(endpoint("dns", "quiet", 2, Vec::new()));
    let host = HostFacts {
        ifindexes: [("br-quiet".to_owned(), 10)].into(),
        uplinks: [(2, true)].into(),
        ..HostFacts::default()
    };
    let programmed = Programmed::new(&desired, &host);
    let mark = AcceptedMark { value: 2, mask: 3 };
    assert_eq!(programmed.accepted_marks, [(3, mark)].into());
    let trusted: Vec<_> = programmed.trusted_interfaces.keys().collect();
    assert_eq!(trusted, [&TrustedKey { ifindex: 2, network: 3 }]);
    let (port, proto) = (Port::new(53), 17);
    let key = LinkKey { from: 1, to: 2, port, proto, reserved: 0 };
    assert_eq!(programmed.links, [(key, 1)].into());
    // At the container's own address too.
    assert_eq!(programmed.v4.published_ports.len(), 2);
}
