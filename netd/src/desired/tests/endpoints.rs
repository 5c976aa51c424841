//! Attachments of containers to networks.

use super::*;

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
    check(&|r| r.name = Some("a".repeat(129)), "128 characters at most");
    check(&|r| r.sandbox = "a".repeat(129), "give --name");
    check(&|r| r.aliases = vec![String::new()], "\"\" cannot be an alias");
    check(&|r| r.aliases = vec!["db".to_owned(), "a\nb".to_owned()], "cannot be an alias");
    check(&|r| r.aliases = vec!["a".repeat(254)], "253 characters");
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
