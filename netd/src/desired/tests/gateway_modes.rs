//! Networks whose containers are reached by their own addresses, and those without gateway.

use super::*;

/// A request for network `n` with both families, a gateway mode for both, and options.
fn modal(mode: Option<GatewayMode>, options: &[(&str, &str)]) -> NetworkCreate {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    NetworkCreate {
        name: "n".to_owned(),
        subnets: vec![net("10.1.0.0/24"), net("fd00:1::/64")],
        gateway_mode: mode,
        options: options.collect(),
        ..NetworkCreate::default()
    }
}

const MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";

#[test]
fn each_family_has_a_gateway_mode_of_its_own() {
    let modes = |request: NetworkCreate| {
        let network = World::new().plan(&request).unwrap();
        network.subnets.iter().map(|subnet| subnet.gateway_mode.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(modes(modal(None, &[])), ["nat", "nat"]);
    assert_eq!(modes(modal(Some(GatewayMode::Routed), &[])), ["routed", "routed"]);
    assert_eq!(modes(modal(None, &[(MODE_V6, "routed")])), ["nat", "routed"]);
    assert_eq!(
        modes(modal(Some(GatewayMode::Routed), &[(MODE_V4, "routed")])),
        ["routed", "routed"]
    );
}

#[test]
fn gateway_modes_that_contradict_the_rest_are_refused() {
    let isolated = Some(GatewayMode::Isolated);
    let check = |request: NetworkCreate, expected: &str| {
        let error = World::new().plan(&request).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(modal(Some(GatewayMode::Nat), &[(MODE_V4, "routed")]), "contradict each other");
    check(modal(isolated, &[]), "give --internal");
    let gateways = vec![address("10.1.0.1")];
    check(NetworkCreate { internal: true, gateways, ..modal(isolated, &[]) }, "leave 10.1.0.1 out");
    let routed = || modal(Some(GatewayMode::Routed), &[]);
    check(NetworkCreate { masquerade: Some(true), ..routed() }, "leave --masquerade out");
    let snat_addresses = vec![address("192.0.2.1")];
    check(NetworkCreate { snat_addresses, ..routed() }, "translates nothing");
    check(modal(None, &[("icc_published", "false")]), "--icc=false");
    let icc = Some(false);
    let strict = NetworkCreate { icc, ..modal(None, &[("icc_published", "false")]) };
    assert!(World::new().plan(&strict).unwrap().icc_strict);
}

#[test]
fn an_isolated_network_takes_no_address_for_a_gateway() {
    let mut world = World::new();
    let request = NetworkCreate { internal: true, ..modal(Some(GatewayMode::Isolated), &[]) };
    let network = world.create_with(request);
    assert!(network.subnets.iter().all(|subnet| subnet.gateway.is_none()));
    let endpoint = world.connect("n", "web");
    assert_eq!(endpoint.ipv4.unwrap().to_string(), "10.1.0.1/24");
    assert_eq!((endpoint.gateway, endpoint.gateway6), (None, None));
}

#[test]
fn ports_of_a_routed_network_are_open_at_the_container_whatever_the_host_port() {
    let mut world = World::new();
    world.create_with(modal(Some(GatewayMode::Routed), &[]));
    for sandbox in ["web", "app"] {
        world.connect("n", sandbox);
        // The same host port twice is no conflict, since none is taken.
        world.check_published(sandbox, &["8080:80", "443"], &["80/tcp", "443/tcp"]);
    }
    world.check_not_published("web", "127.0.0.1:8080:81", "leave 127.0.0.1 out");
    world.check_not_published("web", "%eth0:8080:81", "leave %eth0 out");
    for spec in ["80", "8080:443"] {
        assert_eq!(world.desired.plan_unpublish("web", &[spec.parse().unwrap()]).unwrap().len(), 1);
    }
}

#[test]
fn a_port_of_mixed_modes_takes_its_host_port_where_it_is_translated() {
    let mut world = World::new();
    world.create_with(modal(None, &[(MODE_V6, "routed")]));
    world.connect("n", "web");
    world.check_published("web", &["8080:80"], &["8080:80/tcp"]);
    world.check_published("web", &["192.0.2.1:8081:81"], &["192.0.2.1:8081:81/tcp"]);
    world.check_not_published("web", "[2001:db8::1]:8082:82", "is routed");
}
