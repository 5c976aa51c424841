//! Networks: what they get, and which are refused.

use super::*;

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
    assert_eq!(network.subnets[0].gateway, Some(address("172.17.0.1")));
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
        network.subnets.iter().map(|s| format!("{} {}", s.subnet, s.gateway.unwrap())).collect()
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
    check(&|r| r.name = "a".repeat(129), "128 characters at most");
    check(&|r| r.name = "taken".to_owned(), "network taken already exists");
    check(&|r| r.subnets = vec![net("10.1.0.0/16"), net("10.2.0.0/16")], "are both IPv4");
    check(&|r| r.subnets = vec![net("10.1.2.3/16")], "write 10.1.0.0/16");
    check(&|r| r.subnets = vec![net("10.1.2.3/32")], "too small");
    check(&|r| r.subnets = vec![net("2001:db8::/127")], "too small");
    check(&|r| r.subnets = vec![net("127.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("224.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("240.0.0.0/8")], "not for hosts");
    check(&|r| r.subnets = vec![net("0.0.0.0/0")], "not for hosts");
    check(&|r| r.subnets = vec![net("0.1.0.0/16")], "not for hosts");
    check(&|r| r.subnets = vec![net("126.0.0.0/7")], "not for hosts");
    check(&|r| r.subnets = vec![net("192.0.0.0/2")], "such as 10.1.0.0/16");
    for prefix in ["fe80::/64", "::ffff:0:0/96", "::ffff:10.1.0.0/112", "::/64", "ff05::/64"] {
        check(&|r| r.subnets = vec![net(prefix)], "such as fd12:3456:789a::/64");
    }
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
    let to = |prefix: &str| Some(prefix.parse().unwrap());
    check(&|r| r.nptv6 = to("2001:db8:9::/64"), "no IPv6 subnet");
    check(&|r| (r.nptv6, r.ipv6) = (to("2001:db8:9::/56"), true), "give a /64");
    check(&|r| (r.nptv6, r.ipv6) = (to("2001:db8:9::1/64"), true), "host bits");
    check(&|r| (r.nptv6, r.ipv6) = (to("ff05::/64"), true), "not for hosts");
    check(&|r| (r.nptv6, r.ipv6, r.internal) = (to("2001:db8:9::/64"), true, true), "internal");
    check(
        &|r| (r.nptv6, r.subnets) = (to("2001:db8:9::/80"), vec![net("fd09::/80")]),
        "longer than /64",
    );
    check(
        &|r| (r.nptv6, r.subnets) = (to("fd09::/64"), vec![net("fd09::/64")]),
        "overlaps the subnet itself",
    );
    check(
        &|r| {
            (r.nptv6, r.ipv6) = (to("2001:db8:9::/64"), true);
            r.snat_addresses = vec![address("2001:db8::1")];
        },
        "--snat-address as well",
    );
    check(
        &|r| {
            (r.nptv6, r.ipv6) = (to("2001:db8:9::/64"), true);
            r.gateway_mode = Some(GatewayMode::Routed);
        },
        "not nat",
    );
    let eim = Some(NatMode::Eim);
    check(&|r| (r.nat, r.masquerade) = (eim, Some(false)), "leave --nat eim out");
    check(&|r| (r.nat, r.internal) = (eim, true), "leave --nat eim out");
    check(&|r| (r.nat, r.gateway_mode) = (eim, Some(GatewayMode::Routed)), "leave --nat eim out");
    check(
        &|r| (r.nat, r.options) = (eim, options("nat", "edm")),
        "--nat and the option nat contradict",
    );
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
    let error = world.desired.network("").unwrap_err().to_string();
    assert!(error.starts_with("network '' does not exist"), "{error}");
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
