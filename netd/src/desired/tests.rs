use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{Desired, HostView, PublishError, SandboxView};
use crate::{
    api::{Connect, NetworkCreate},
    ids::Counting,
    ipam::{Pools, ula_prefix},
    model::{Endpoint, Network, Proto, PublishedPort, SandboxRef},
    port_spec::PortSpec,
};

/// A desired state with a host around it, changed as the controller would.
struct World {
    desired: Desired,
    host: HostView,
    pools: Pools,
    ids: Counting,
}

impl World {
    fn new() -> Self {
        let host = HostView {
            addresses: vec![net("192.0.2.1/24"), net("192.0.2.2/24"), net("2001:db8::1/128")],
            routes: vec![net("0.0.0.0/0"), net("::/0"), net("10.9.0.0/16")],
            link_names: names(&["lo", "eth0"]),
            link_addresses: [("eth0".to_owned(), vec![address("192.0.2.1")])].into(),
            default_mtu: 1500,
            local_port_range: (40_000, 40_009),
            reserved_ports: vec![(40_001, 40_002)],
            busy_ports: BTreeSet::new(),
        };
        let pools = Pools::new(&[], ula_prefix([1, 2, 3, 4, 5]));
        Self { desired: Desired::default(), host, pools, ids: Counting::default() }
    }

    fn plan(&mut self, request: &NetworkCreate) -> Result<Network, String> {
        let plan = self.desired.plan_network(request, &self.host, &self.pools, &mut self.ids);
        plan.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn create(&mut self, name: &str) -> Network {
        self.create_with(NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() })
    }

    #[track_caller]
    fn create_with(&mut self, request: NetworkCreate) -> Network {
        let network = self.plan(&request).unwrap();
        self.desired.insert_network(network.clone());
        network
    }

    fn plan_endpoint(&mut self, request: &Connect) -> Result<Endpoint, String> {
        // The inode follows from the text, so that one text is one sandbox.
        let ino = request.sandbox.bytes().map(u64::from).sum();
        let sandbox = SandboxView {
            sandbox: SandboxRef { text: request.sandbox.clone(), dev: 4, ino },
            link_names: names(&["lo", "eth0"]),
        };
        let plan = self.desired.plan_endpoint(request, &sandbox, &self.host, &mut self.ids);
        plan.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn connect(&mut self, network: &str, sandbox: &str) -> Endpoint {
        self.connect_with(connect(network, sandbox))
    }

    #[track_caller]
    fn connect_with(&mut self, request: Connect) -> Endpoint {
        let endpoint = self.plan_endpoint(&request).unwrap();
        self.desired.insert_endpoint(endpoint.clone());
        endpoint
    }

    fn publish(&mut self, endpoint: &str, specs: &[&str]) -> Result<Vec<String>, String> {
        let specs: Vec<PortSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let rows = self.desired.plan_ports(endpoint, &specs, &self.host);
        let rows = rows.map_err(|error| error.to_string())?;
        let mut changed = self.desired.endpoints[endpoint].clone();
        changed.ports.extend(rows.iter().cloned());
        self.desired.insert_endpoint(changed);
        Ok(rows.iter().map(PublishedPort::to_string).collect())
    }

    #[track_caller]
    fn check_published(&mut self, endpoint: &str, specs: &[&str], expected: &[&str]) {
        assert_eq!(self.publish(endpoint, specs).unwrap(), expected);
    }

    #[track_caller]
    fn check_not_published(&mut self, endpoint: &str, spec: &str, expected: &str) {
        let error = self.publish(endpoint, &[spec]).expect_err(spec);
        assert!(error.contains(expected), "{spec}: {error}");
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn connect(network: &str, sandbox: &str) -> Connect {
    Connect { network: network.to_owned(), sandbox: sandbox.to_owned(), ..Connect::default() }
}

#[test]
fn a_plain_network_has_dockers_defaults() {
    let network = World::new().create("front");
    assert_eq!(network.number, 1);
    assert_eq!(network.id.len(), 64);
    assert_eq!(network.bridge, format!("br-{}", &network.id[..12]));
    assert_eq!(network.mtu, 1500);
    assert!(network.icc && network.masquerade && !network.internal);
    assert_eq!(network.subnets.len(), 1);
    assert_eq!(network.subnets[0].subnet, net("172.17.0.0/16"));
    assert_eq!(network.subnets[0].gateway, address("172.17.0.1"));
}

#[test]
fn networks_take_the_next_free_pool_and_number() {
    let mut world = World::new();
    world.create("a");
    world.create("b");
    world.host.addresses.push(net("172.19.0.1/16"));
    let third = world.create("c");
    assert_eq!((third.number, third.subnets[0].subnet), (3, net("172.20.0.0/16")));
    world.desired.remove_network("a");
    let fourth = world.create("d");
    assert_eq!((fourth.number, fourth.subnets[0].subnet), (1, net("172.17.0.0/16")));
}

#[test]
fn both_families_can_be_given_or_taken_from_pools() {
    let mut world = World::new();
    let base = |name: &str| NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() };
    let prefixes = |network: &Network| -> Vec<String> {
        network.subnets.iter().map(|s| format!("{} {}", s.subnet, s.gateway)).collect()
    };
    let both = world.create_with(NetworkCreate { ipv6: true, ..base("a") });
    assert_eq!(prefixes(&both), ["172.17.0.0/16 172.17.0.1", "fd01:203:405::/64 fd01:203:405::1"]);
    let subnets = vec![net("2001:db8:1::/64")];
    let v6_given = world.create_with(NetworkCreate { subnets, ..base("b") });
    assert_eq!(prefixes(&v6_given), ["172.18.0.0/16 172.18.0.1", "2001:db8:1::/64 2001:db8:1::1"]);
    let given = world.create_with(NetworkCreate {
        subnets: vec![net("2001:db8:2::/64"), net("10.1.0.0/16")],
        gateways: vec![address("10.1.255.254"), address("2001:db8:2::ff")],
        ip_ranges: vec![net("10.1.5.0/24")],
        aux_addresses: [("router".to_owned(), address("10.1.5.5"))].into(),
        ..base("c")
    });
    assert_eq!(prefixes(&given), ["10.1.0.0/16 10.1.255.254", "2001:db8:2::/64 2001:db8:2::ff"]);
    assert_eq!(given.subnets[0].ip_range, Some(net("10.1.5.0/24")));
    assert_eq!(given.subnets[0].aux_addresses["router"], address("10.1.5.5"));
    assert!(given.subnets[1].aux_addresses.is_empty() && given.subnets[1].user_configured);
}

#[test]
fn networks_that_make_no_sense_are_refused() {
    let mut world = World::new();
    world.create("taken");
    let mut check = |set: &dyn Fn(&mut NetworkCreate), expected: &str| {
        let mut request = NetworkCreate { name: "front".to_owned(), ..NetworkCreate::default() };
        set(&mut request);
        let error = world.plan(&request).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    let options = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    check(&|r| r.name = "-x".to_owned(), "\"-x\" cannot name a network");
    check(&|r| r.name = String::new(), "cannot name a network");
    check(&|r| r.name = "a b".to_owned(), "cannot name a network");
    check(&|r| r.name = "taken".to_owned(), "network taken already exists");
    check(&|r| r.subnets = vec![net("10.1.0.0/16"), net("10.2.0.0/16")], "are both IPv4");
    check(&|r| r.subnets = vec![net("10.1.2.3/16")], "write 10.1.0.0/16");
    check(&|r| r.subnets = vec![net("10.1.2.3/32")], "too small");
    check(&|r| r.subnets = vec![net("2001:db8::/127")], "too small");
    check(&|r| r.subnets = vec![net("127.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("224.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("240.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("0.0.0.0/0")], "not for hosts");
    check(&|r| r.subnets = vec![net("fe80::/64")], "not for hosts");
    check(&|r| r.subnets = vec![net("172.17.128.0/24")], "overlaps 172.17.0.0/16 of network taken");
    check(&|r| r.subnets = vec![net("192.0.0.0/8")], "overlaps the host's address 192.0.2.1/24");
    check(&|r| r.subnets = vec![net("10.9.1.0/24")], "overlaps the host's route to 10.9.0.0/16");
    check(&|r| r.gateways = vec![address("10.1.0.1")], "--gateway 10.1.0.1 is in none");
    check(&|r| r.ip_ranges = vec![net("10.1.0.0/24")], "--ip-range 10.1.0.0/24 is in none");
    check(&|r| r.ip_ranges = vec![net("172.18.0.0/8")], "--ip-range 172.18.0.0/8 is in none");
    check(
        &|r| r.gateways = vec![address("172.18.0.1"), address("172.18.0.2")],
        "--gateway is given twice",
    );
    check(&|r| r.gateways = vec![address("172.18.0.0")], "network or broadcast address");
    check(&|r| r.bridge = Some("eth0".to_owned()), "a device eth0 already exists");
    check(&|r| r.bridge = Some("a-name-that-is-long".to_owned()), "cannot name a device");
    check(&|r| r.mtu = Some(67), "an MTU of 67 is not possible");
    check(&|r| (r.mtu, r.ipv6) = (Some(1279), true), "an MTU of 1279 is not possible");
    check(&|r| r.snat_addresses = vec![address("2001:db8::1")], "no subnet of its family");
    check(
        &|r| r.snat_addresses = vec![address("192.0.2.1"), address("192.0.2.2")],
        "another one of its",
    );
    check(&|r| r.snat_addresses = vec![address("127.0.0.1")], "nothing outside can answer");
    check(&|r| r.options = options("colour", "red"), "option colour is not known");
    check(
        &|r| {
            r.icc = Some(true);
            r.options = options("com.docker.network.bridge.enable_icc", "false");
        },
        "--icc and the option com.docker.network.bridge.enable_icc contradict",
    );
    check(
        &|r| {
            r.subnets = vec![net("10.1.0.0/16")];
            r.aux_addresses = [("a".to_owned(), address("10.1.0.1"))].into();
            r.gateways = vec![address("10.1.0.1")];
        },
        "--aux-address a=10.1.0.1 is the gateway",
    );
}

#[test]
fn options_stand_for_flags() {
    let mut world = World::new();
    let options = [
        ("com.docker.network.bridge.name", "br0"),
        ("com.docker.network.bridge.enable_icc", "false"),
        ("com.docker.network.driver.mtu", "1400"),
        ("com.docker.network.host_ipv4", "192.0.2.9"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let request =
        NetworkCreate { name: "a".to_owned(), options: options.into(), ..NetworkCreate::default() };
    let network = world.create_with(request);
    assert_eq!((network.bridge.as_str(), network.icc, network.mtu), ("br0", false, 1400));
    assert_eq!(network.snat_addresses, [address("192.0.2.9")]);
    assert_eq!(network.options.len(), 4);
}

#[test]
fn a_network_in_use_is_not_removed() {
    let mut world = World::new();
    world.create("front");
    world.create("back");
    world.connect("front", "web");
    world.connect("front", "db");
    let error = world.desired.check_remove_network("front").unwrap_err().to_string();
    assert_eq!(error, "network front is in use by db, web: disconnect them first");
    assert!(world.desired.check_remove_network("back").is_ok());
    let error = world.desired.check_remove_network("nix").unwrap_err().to_string();
    assert!(error.starts_with("network nix does not exist"), "{error}");
    assert_eq!(world.desired.unused_networks(), ["back"]);
}

#[test]
fn networks_are_allowed_in_pairs() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(name);
    }
    let pair = world.desired.plan_allow("b", "a").unwrap();
    assert_eq!(pair, ("a".to_owned(), "b".to_owned()));
    assert!(world.desired.plan_disallow("a", "b").is_err());
    world.desired.allowed.insert(pair);
    assert!(world.desired.plan_disallow("b", "a").is_ok());
    assert_eq!(world.desired.allowed_with("b").collect::<Vec<_>>(), ["a"]);
    assert!(world.desired.plan_allow("a", "a").is_err());
    assert!(world.desired.plan_allow("a", "x").is_err());
    world.desired.remove_network("a");
    assert!(world.desired.allowed.is_empty());
}

#[test]
fn an_internal_network_is_allowed_to_no_other() {
    let mut world = World::new();
    world.create("a");
    world.create_with(NetworkCreate {
        name: "int".to_owned(),
        internal: true,
        ..NetworkCreate::default()
    });
    for (a, b) in [("a", "int"), ("int", "a")] {
        let error = world.desired.plan_allow(a, b).unwrap_err().to_string();
        assert_eq!(error, "network int is internal: nothing enters or leaves it");
    }
    // What a store holds all the same can be taken back.
    world.desired.allowed.insert(("a".to_owned(), "int".to_owned()));
    assert!(world.desired.plan_disallow("int", "a").is_ok());
}

#[test]
fn an_endpoint_gets_what_nobody_chose() {
    let mut world = World::new();
    world.create_with(NetworkCreate {
        name: "front".to_owned(),
        ipv6: true,
        ..NetworkCreate::default()
    });
    let endpoint = world.connect("front", "web");
    assert_eq!(
        (endpoint.name.as_str(), endpoint.slot, endpoint.ifname.as_str()),
        ("web", 1, "eth1")
    );
    assert_eq!(endpoint.ipv4.unwrap().to_string(), "172.17.0.2/16");
    assert_eq!(endpoint.ipv6.unwrap().to_string(), "fd01:203:405::2/64");
    assert_eq!(endpoint.gateway.unwrap().to_string(), "172.17.0.1");
    assert_eq!(endpoint.gateway6.unwrap().to_string(), "fd01:203:405::1");
    assert_eq!(endpoint.mac.0[0], 2);
    assert_eq!((endpoint.host_ifname.len(), &endpoint.host_ifname[..4]), (11, "veth"));
}

#[test]
fn a_chosen_address_does_not_move_the_round() {
    let mut world = World::new();
    world.create("front");
    let ip = Some("172.17.0.77".parse().unwrap());
    world.connect_with(Connect { ip, ..connect("front", "a") });
    let address = |endpoint: Endpoint| endpoint.ipv4.unwrap().addr().to_string();
    assert_eq!(address(world.connect("front", "b")), "172.17.0.2");
    world.desired.remove_endpoint("b");
    assert_eq!(address(world.connect("front", "c")), "172.17.0.3");
}

#[test]
fn a_second_attachment_is_named_after_its_network() {
    let mut world = World::new();
    world.create("front");
    world.create("back");
    assert_eq!(world.connect("front", "web").name, "web");
    assert_eq!(world.connect("back", "web").name, "web.back");
}

#[test]
fn an_internal_network_has_no_gateway_and_publishes_nothing() {
    let mut world = World::new();
    world.create_with(NetworkCreate {
        name: "in".to_owned(),
        internal: true,
        ..NetworkCreate::default()
    });
    assert_eq!(world.connect("in", "db").gateway, None);
    world.check_not_published("db", "80", "endpoint db is on the internal network in");
}

#[test]
fn an_auxiliary_address_can_be_the_gateway() {
    let mut world = World::new();
    let aux_addresses = [("DefaultGatewayIPv4".to_owned(), address("172.17.0.9"))].into();
    world.create_with(NetworkCreate {
        name: "a".to_owned(),
        aux_addresses,
        ..NetworkCreate::default()
    });
    assert_eq!(world.connect("a", "web").gateway.unwrap().to_string(), "172.17.0.9");
}

#[test]
fn endpoints_that_make_no_sense_are_refused() {
    let mut world = World::new();
    world.create("front");
    world.create("back");
    let first = world.connect("front", "web");
    let mut check = |set: &dyn Fn(&mut Connect), expected: &str| {
        let mut request = connect("front", "other");
        set(&mut request);
        let error = world.plan_endpoint(&request).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    check(&|r| r.network = "nix".to_owned(), "network nix does not exist");
    check(&|r| r.sandbox = "web".to_owned(), "already connected to network front as endpoint web");
    check(
        &|r| r.name = Some("web".to_owned()),
        "endpoint web already exists: choose another --name",
    );
    check(&|r| r.name = Some("a b".to_owned()), "cannot name an endpoint");
    check(&|r| r.ip = Some("10.0.0.1".parse().unwrap()), "outside subnet 172.17.0.0/16");
    check(&|r| r.ip = Some("172.17.0.2".parse().unwrap()), "already in use");
    check(&|r| r.ip6 = Some("2001:db8::2".parse().unwrap()), "has no IPv6 subnet: leave --ip6 out");
    check(&|r| r.mac = Some(first.mac), "is already used by endpoint web");
    check(&|r| r.mac = Some("01:00:5e:00:00:01".parse().unwrap()), "is a group address or zero");
    check(&|r| r.mac = Some("00:00:00:00:00:00".parse().unwrap()), "is a group address or zero");
    check(&|r| r.ifname = Some("eth0".to_owned()), "already has a device eth0");
    check(&|r| r.ifname = Some("a/b".to_owned()), "cannot name a device");
    check(&|r| r.ports = vec!["[::1]:80:80".parse().unwrap()], "has no IPv6 address");
}

#[test]
fn attachments_are_found_by_namespace_or_by_name() {
    let mut world = World::new();
    world.create("front");
    let endpoint = world.connect("front", "web");
    let same = SandboxRef { text: "pid:7".to_owned(), ..endpoint.sandbox.clone() };
    let found = world.desired.find_attachment("front", "pid:7", Some(&same)).unwrap();
    assert_eq!(found.name, "web");
    assert_eq!(world.desired.find_attachment("front", "web", None).unwrap().name, "web");
    let error = world.desired.find_attachment("front", "db", None).unwrap_err().to_string();
    assert!(error.starts_with("sandbox db is not connected to network front"), "{error}");
}

#[test]
fn an_attachment_is_found_by_its_name_after_another_sandbox_took_that() {
    let mut world = World::new();
    world.create("front");
    let stale = world.connect("front", "web");
    let reused = SandboxRef { ino: stale.sandbox.ino + 1, ..stale.sandbox };
    let found = world.desired.find_attachment("front", "web", Some(&reused)).unwrap();
    assert_eq!(found.name, "web");
    assert!(world.desired.find_attachment("front", "pid:7", Some(&reused)).is_err());

    // The namespace goes first, whatever order the names have.
    let mut own = world.connect("front", "xyz");
    own.sandbox = reused.clone();
    world.desired.insert_endpoint(own);
    let found = world.desired.find_attachment("front", "web", Some(&reused)).unwrap();
    assert_eq!(found.name, "xyz");
}

#[test]
fn an_exhausted_range_is_an_error() {
    let mut world = World::new();
    let subnets = vec![net("10.1.0.0/30")];
    world.create_with(NetworkCreate {
        name: "tiny".to_owned(),
        subnets,
        ..NetworkCreate::default()
    });
    world.connect("tiny", "a");
    let error = world.plan_endpoint(&connect("tiny", "b")).unwrap_err();
    assert!(error.contains("network tiny: no free address is left in 10.1.0.0/30"), "{error}");
}

/// Two endpoints, of which `six` has IPv6 as well.
fn published_world() -> World {
    let mut world = World::new();
    world.create("four");
    world.create_with(NetworkCreate {
        name: "both".to_owned(),
        ipv6: true,
        ..NetworkCreate::default()
    });
    world.connect("four", "web");
    world.connect("both", "six");
    world
}

#[test]
fn a_port_taken_names_its_owner() {
    let mut world = published_world();
    world.check_published("web", &["8080:80"], &["8080:80/tcp"]);
    let taken = "is already published by endpoint web as 8080:80/tcp";
    world.check_not_published("web", "8080:80", taken);
    world.check_not_published("six", "8080:80", taken);
    world.check_not_published("six", "192.0.2.1:8080:80", taken);
    world.check_not_published("six", "[2001:db8::1]:8080:80", taken);
    world.check_not_published("six", "8000-8100:8000-8100", taken);
    world.check_not_published("six", "%eth0:8080:80", taken);
    world.check_published("six", &["8080:80/udp"], &["8080:80/udp"]);
    world.check_published("web", &["192.0.2.1:81:81"], &["192.0.2.1:81:81/tcp"]);
    world.check_not_published("six", "81:81", "already published by endpoint web");
    world.check_not_published("six", "%eth0:81:81", "already published by endpoint web");
    world.check_published("six", &["%lo:81:81"], &["%lo:81:81/tcp"]);
    world.check_published(
        "six",
        &["[::]:82:82", "0.0.0.0:82:83"],
        &["[::]:82:82/tcp", "0.0.0.0:82:83/tcp"],
    );
    world.check_not_published("six", "%nix:84:84", "the host has no interface nix");
    world.check_not_published("web", "[::]:84:84", "endpoint web has no IPv6 address");
    world.check_not_published("nix", "84:84", "endpoint nix does not exist");
}

#[test]
fn a_port_is_published_only_on_addresses_of_the_host() {
    let mut world = published_world();
    let gateway = world.desired.networks["four"].subnets[0].gateway;
    let check_refused = |world: &mut World, address: &str| {
        let expected = format!(
            "the host has no address {}, so no port can be published on it: choose one of `ip address`",
            address.trim_matches(['[', ']'])
        );
        world.check_not_published("six", &format!("{address}:80:80"), &expected);
    };
    for address in [
        "192.0.2.9",
        "198.51.100.1",
        "172.17.0.2",
        "172.17.255.255",
        "224.0.0.1",
        "255.255.255.255",
        "[2001:db8::2]",
        "[ff02::1]",
        "[::ffff:192.0.2.1]",
        &gateway.to_string(),
    ] {
        check_refused(&mut world, address);
    }
    // A gateway is the host's own address once the bridge has it.
    world.host.addresses.push(IpNet::new(gateway, 16).unwrap());
    for (port, address) in
        ["192.0.2.1", "127.0.0.9", "0.0.0.0", "[::1]", "[::]", "[2001:db8::1]", "172.17.0.1"]
            .iter()
            .enumerate()
    {
        let spec = format!("{address}:{0}:{0}", 100 + port);
        world.check_published("six", &[&spec], &[&format!("{spec}/tcp")]);
    }
}

#[test]
fn one_refused_port_publishes_none() {
    let mut world = published_world();
    assert!(world.publish("web", &["80:80", "80:81"]).is_err());
    assert!(world.desired.endpoints["web"].ports.is_empty());
}

#[test]
fn a_range_gives_its_first_free_port_and_goes_round() {
    let mut world = published_world();
    world.check_published("web", &["8000-8002:80"], &["8000:80/tcp"]);
    world.check_published("six", &["8000-8002:80"], &["8001:80/tcp"]);
    world.desired.remove_endpoint("web");
    world.check_published("six", &["8000-8002:81"], &["8002:81/tcp"]);
    world.check_published("six", &["8000-8002:82"], &["8000:82/tcp"]);
    world.check_not_published(
        "six",
        "8000-8002:83",
        "all of the host ports 8000-8002/tcp are taken",
    );
}

#[test]
fn who_names_a_port_gets_it_before_a_range() {
    let mut world = published_world();
    world.check_published("web", &["8000-8001:80", "8000:81"], &["8001:80/tcp", "8000:81/tcp"]);
}

#[test]
fn a_picked_port_avoids_what_is_reserved_and_busy() {
    let mut world = published_world();
    world.host.busy_ports.insert((Proto::Tcp, 40_003));
    world.check_published("web", &["80"], &["40000:80/tcp"]);
    world.check_published("web", &["80", "90/udp"], &["40004:80/tcp", "40000:90/udp"]);
    world.check_published("web", &["7000-7003"], &["40005-40008:7000-7003/tcp"]);
    world.check_not_published(
        "web",
        "7000-7003",
        "no host port is free in net.ipv4.ip_local_port_range",
    );
    world.check_published("web", &["192.0.2.1::80"], &["192.0.2.1:40009:80/tcp"]);
    world.check_not_published("web", "80", "no host port is free");
    world.check_published("web", &["40001:80"], &["40001:80/tcp"]);
}

#[test]
fn a_network_can_choose_where_ports_are_published() {
    let mut world = World::new();
    let key = "com.docker.network.bridge.host_binding_ipv4".to_owned();
    let options = [(key, "127.0.0.1".to_owned())].into();
    world.create_with(NetworkCreate { name: "a".to_owned(), options, ..NetworkCreate::default() });
    world.connect("a", "web");
    world.check_published("web", &["80:80"], &["127.0.0.1:80:80/tcp"]);
    let rows = world.desired.plan_unpublish("web", &["80:80".parse().unwrap()]).unwrap();
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_spec_finds_the_rows_it_made() {
    let mut world = published_world();
    let made = ["8080:80", "8000-8002:81", "9000-9002:9000-9002", "192.0.2.1:53:53/udp", "80"];
    world.publish("web", &made).unwrap();
    let check = |specs: &[&str], expected: &[&str]| {
        let specs: Vec<PortSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let rows = world.desired.plan_unpublish("web", &specs).map_err(|error| error.to_string());
        let rows = rows.map(|rows| rows.iter().map(PublishedPort::to_string).collect::<Vec<_>>());
        match rows {
            Ok(rows) => assert_eq!(rows, expected),
            Err(error) => assert!(expected.is_empty(), "{error}"),
        }
    };
    check(&["8080:80"], &["8080:80/tcp"]);
    check(&["published=8080,target=80"], &["8080:80/tcp"]);
    check(&["8000-8002:81"], &["8000:81/tcp"]);
    check(&["8000:81"], &["8000:81/tcp"]);
    check(&["9000-9002:9000-9002"], &["9000-9002:9000-9002/tcp"]);
    check(&["80", "8080:80"], &["8080:80/tcp", "40000:80/tcp"]);
    check(&["192.0.2.1:53:53/udp"], &["192.0.2.1:53:53/udp"]);
    check(&["53:53/udp"], &[]);
    check(&["8080:81"], &[]);
    check(&["8080:80/udp"], &[]);
    check(&["9000:9000"], &[]);
}

#[test]
fn slots_are_shared_by_endpoints_and_ports() {
    let mut world = published_world();
    world.publish("web", &["80:80", "81:81"]).unwrap();
    let slots: Vec<u32> = world.desired.endpoints["web"].ports.iter().map(|row| row.slot).collect();
    assert_eq!((slots, world.desired.free_slot()), (vec![3, 4], Some(5)));
}

#[test]
fn what_was_just_given_back_rests() {
    let mut world = published_world();
    world.check_published("web", &["80", "81"], &["40000:80/tcp", "40003:81/tcp"]);
    world.desired.remove_endpoint("six");
    let mut web = world.desired.endpoints["web"].clone();
    web.ports.pop();
    world.desired.insert_endpoint(web);
    assert_eq!(world.desired.free_slot(), Some(5));
    world.check_published("web", &["82"], &["40004:82/tcp"]);
}

fn specs() -> impl Strategy<Value = String> {
    let host_ip = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "192.0.2.1:",
            "192.0.2.2:",
            "0.0.0.0:",
            "[::1]:",
            "[::]:",
            "%eth0:",
            "%lo:"
        ])
        .prop_map(str::to_owned),
    ];
    let ports =
        (40_000_u16..40_012, 0_u16..4, 0_u8..4).prop_map(|(first, span, kind)| match kind {
            0 => ":80".to_owned(),
            1 => format!("{first}-{}:80", first + span),
            2 => format!(":{first}-{}", first + span),
            _ => format!("{first}-{}:{first}-{}", first + span, first + span),
        });
    let proto = prop_oneof![Just("tcp"), Just("udp")];
    (host_ip, ports, proto).prop_map(|(host_ip, ports, proto)| {
        let ports = if host_ip.is_empty() { ports.trim_start_matches(':') } else { &ports };
        format!("{host_ip}{ports}/{proto}")
    })
}

proptest! {
    #[test]
    fn no_two_published_ports_overlap(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(specs(), 1..3)), 1..30),
    ) {
        let mut world = published_world();
        for (is_web, specs) in &steps {
            let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
            let _ = world.publish(if *is_web { "web" } else { "six" }, &specs);
        }
        let rows: Vec<_> = world.desired.published_ports().map(|(_, row)| row).collect();
        for (i, row) in rows.iter().enumerate() {
            prop_assert!(row.host_port <= row.host_port_end);
            prop_assert_eq!(row.host_port_end - row.host_port, row.port_end - row.port);
            for other in &rows[..i] {
                prop_assert!(!row.overlaps(other), "{} {}", row, other);
                prop_assert!(row.slot != other.slot);
            }
        }
    }
}

#[test]
fn slots_run_out_with_an_error() {
    let mut world = published_world();
    let mut web = world.desired.endpoints["web"].clone();
    let row = PublishedPort {
        slot: 0,
        proto: Proto::Udp,
        host_ip: "192.0.2.1".parse().unwrap(),
        host_port: 1,
        host_port_end: 1,
        port: 1,
        port_end: 1,
    };
    web.ports = (3..=super::MAX_SLOT).map(|slot| PublishedPort { slot, ..row.clone() }).collect();
    world.desired.insert_endpoint(web);
    let specs = ["80:80".parse().unwrap()];
    let plan = world.desired.plan_ports("six", &specs, &world.host);
    assert!(matches!(plan, Err(PublishError::SlotsExhausted { .. })));
}
