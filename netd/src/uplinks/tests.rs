//! Hosts as they are found, and what is read from their links, addresses and routes.

use std::collections::BTreeSet;

use super::{
    Uplink, default_route_mtu, lost_sources,
    masquerade::masquerade_sources,
    router_advertised, uplinks,
    xdp::{self, NoXdp},
};
use crate::{
    config::XdpMode,
    netlink::{
        addr::{Address, Scope},
        link::Link,
        route::Route,
    },
};

const ETH0: u32 = 2;

fn link(ifindex: u32, name: &str, kind: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        kind: (!kind.is_empty()).then(|| kind.to_owned()),
        mtu: 1400 + ifindex,
        ethernet: true,
        ..Link::default()
    }
}

fn host() -> Vec<Link> {
    let port = |link, controller| Link { controller: Some(controller), ..link };
    vec![
        Link { loopback: true, ..link(1, "lo", "") },
        link(ETH0, "eth0", ""),
        link(3, "docker0", "bridge"),
        port(link(4, "veth4", "veth"), 3),
        link(5, "br-0123456789ab", "bridge"),
        link(6, "br-lan", "bridge"),
        port(link(7, "eth1", ""), 6),
        link(8, "nd-web", "bridge"),
        port(link(9, "veth9", "veth"), 8),
        Link { ethernet: false, ..link(10, "wg0", "wireguard") },
        link(11, "bond0", "bond"),
        port(link(12, "eth2", ""), 11),
        link(13, "red", "vrf"),
        port(link(14, "eth3", ""), 13),
        link(15, "virbr0", "bridge"),
        link(16, "ifb0", "ifb"),
        link(17, "cni-uplink", "vlan"),
        link(18, "veth18", "veth"),
    ]
}

#[track_caller]
fn check_uplinks(ours: &[u32], named: &[&str], expected: &[&str]) {
    let named: Vec<String> = named.iter().map(|name| name.to_string()).collect();
    let ours: BTreeSet<u32> = ours.iter().copied().collect();
    let found = uplinks(&host(), &ours, &named, &BTreeSet::new());
    let found: Vec<&str> = found.iter().map(|uplink| uplink.name.as_str()).collect();
    assert_eq!(found, expected);
}

#[test]
fn uplinks_are_what_leads_out() {
    let expected = ["eth0", "br-lan", "wg0", "bond0", "eth3", "cni-uplink", "veth18"];
    check_uplinks(&[8, 9], &[], &expected);
    check_uplinks(&[8, 9, 18], &[], &expected[..6]);
}

#[test]
fn named_uplinks_are_exactly_those() {
    check_uplinks(&[8, 9], &["docker0", "wg0", "eth9"], &["docker0", "wg0"]);
    check_uplinks(&[8, 9], &["lo", "nd-web"], &[]);
    let ours = BTreeSet::from([8, 9]);
    let found = uplinks(&host(), &ours, &["wg0".to_owned()], &BTreeSet::from(["docker0"]));
    let names: Vec<&str> = found.iter().map(|uplink| uplink.name.as_str()).collect();
    assert_eq!(names, ["docker0", "wg0"], "what a network trusts is one in any case");
}

#[test]
fn uplinks_without_ethernet_headers_say_so() {
    let found = uplinks(&host(), &BTreeSet::new(), &["wg0".to_owned()], &BTreeSet::new());
    assert_eq!(found, [Uplink { ifindex: 10, name: "wg0".to_owned(), ethernet: false }]);
}

#[test]
fn sources_are_lost_with_the_last_device_that_kept_them() {
    let on = |ifindex: u32, address: &str| (ifindex, address.parse().unwrap());
    let lost = |before: &[_], now: &[_]| {
        lost_sources(&before.iter().copied().collect(), &now.iter().copied().collect())
    };
    let (a, b) = ("192.0.2.1", "2001:db8::1");
    let all = [on(2, a), on(2, b), on(3, a)];
    assert!(lost(&all, &all).is_empty());
    assert!(lost(&[], &all).is_empty());
    assert!(lost(&all, &[on(2, b), on(3, a), on(4, a)]).is_empty());
    assert_eq!(lost(&all, &[on(2, a)]), BTreeSet::from([b.parse().unwrap()]));
    assert_eq!(lost(&[on(2, a)], &[on(3, a)]), BTreeSet::from([a.parse().unwrap()]));
}

/// Reads `ADDRESS/LEN [FLAG]...`.
fn address(text: &str) -> Address {
    let mut words = text.split(' ');
    let net = words.next().unwrap().parse().unwrap();
    let flags: Vec<&str> = words.collect();
    let has = |flag| flags.contains(&flag);
    Address {
        ifindex: if has("lo") { 1 } else { ETH0 },
        net,
        peer: flags.iter().find_map(|flag| flag.strip_prefix("peer=")?.parse().ok()),
        scope: if has("link") { Scope::Link } else { Scope::Universe },
        deprecated: has("deprecated"),
        temporary: has("temporary"),
        tentative: has("tentative"),
        secondary: has("secondary"),
        ours: false,
    }
}

/// Reads `DESTINATION [via GATEWAY] [metric N] [ra] [dev IFINDEX]`.
fn route(text: &str) -> Route {
    let words: Vec<&str> = text.split(' ').collect();
    let after = |key| words.iter().skip_while(move |word| **word != key).nth(1);
    Route {
        destination: words[0].parse().unwrap(),
        gateway: after("via").map(|gateway| gateway.parse().unwrap()),
        ifindex: Some(after("dev").map_or(ETH0, |ifindex| ifindex.parse().unwrap())),
        source: None,
        metric: after("metric").map_or(0, |metric| metric.parse().unwrap()),
        unicast: true,
        from_router_advertisement: words.contains(&"ra"),
    }
}

#[track_caller]
fn check_sources(addresses: &[&str], routes: &[&str], expected: &[(&str, &str)]) {
    let eth0 = Uplink { ifindex: ETH0, name: "eth0".to_owned(), ethernet: true };
    let addresses: Vec<Address> = addresses.iter().map(|text| address(text)).collect();
    let routes: Vec<Route> = routes.iter().map(|text| route(text)).collect();
    let found: Vec<(String, String)> = masquerade_sources(&[eth0], &addresses, &routes)
        .iter()
        .map(|entry| (entry.destination.to_string(), entry.source.to_string()))
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn each_subnet_and_each_gateway_has_its_own_ipv4_source() {
    check_sources(
        &["192.0.2.10/24", "192.0.2.11/24 secondary", "198.51.100.10/24"],
        &[
            "0.0.0.0/0 via 192.0.2.1",
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24 via 198.51.100.1",
        ],
        &[
            ("0.0.0.0/0", "192.0.2.10"),
            ("192.0.2.0/24", "192.0.2.10"),
            ("198.51.100.0/24", "198.51.100.10"),
            ("203.0.113.0/24", "198.51.100.10"),
        ],
    );
}

#[test]
fn the_default_gateway_decides_not_the_order_of_the_addresses() {
    check_sources(
        &["192.0.2.10/24", "198.51.100.10/24"],
        &[
            "0.0.0.0/0 via 198.51.100.1 metric 100",
            "0.0.0.0/0 via 192.0.2.1 metric 200",
            "192.0.2.0/24",
            "198.51.100.0/24",
        ],
        &[
            ("0.0.0.0/0", "198.51.100.10"),
            ("192.0.2.0/24", "192.0.2.10"),
            ("198.51.100.0/24", "198.51.100.10"),
        ],
    );
}

#[test]
fn link_scope_addresses_are_no_ipv4_source() {
    check_sources(&["169.254.7.7/16 link"], &["0.0.0.0/0 via 169.254.0.1"], &[]);
    check_sources(
        &["169.254.7.7/16 link", "192.0.2.10/32"],
        &["0.0.0.0/0 via 169.254.0.1"],
        &[("0.0.0.0/0", "192.0.2.10")],
    );
}

#[test]
fn point_to_point_links_are_their_peers_subnet() {
    check_sources(
        &["192.0.2.10/24", "198.51.100.1/32 peer=198.51.100.2"],
        &["198.51.100.2/32", "203.0.113.0/24 via 198.51.100.2"],
        &[
            ("0.0.0.0/0", "192.0.2.10"),
            ("192.0.2.0/24", "192.0.2.10"),
            ("198.51.100.2/32", "198.51.100.1"),
            ("203.0.113.0/24", "198.51.100.1"),
        ],
    );
}

#[test]
fn the_first_address_wins_in_nested_subnets() {
    check_sources(
        &["10.0.0.1/8", "10.1.0.1/16"],
        &["10.0.0.0/8", "10.1.0.0/16"],
        &[("0.0.0.0/0", "10.0.0.1"), ("10.0.0.0/8", "10.0.0.1"), ("10.1.0.0/16", "10.0.0.1")],
    );
    check_sources(
        &["10.1.0.1/16", "10.0.0.1/8"],
        &["10.0.0.0/8", "10.1.0.0/16"],
        &[("0.0.0.0/0", "10.1.0.1"), ("10.0.0.0/8", "10.0.0.1"), ("10.1.0.0/16", "10.1.0.1")],
    );
}

#[test]
fn a_subnet_behind_a_gateway_counts_as_the_gateways() {
    check_sources(
        &["192.0.2.10/24", "10.1.2.1/24"],
        &["10.1.0.0/16 via 192.0.2.1"],
        &[
            ("0.0.0.0/0", "192.0.2.10"),
            ("10.1.0.0/16", "192.0.2.10"),
            ("192.0.2.0/24", "192.0.2.10"),
        ],
    );
}

#[test]
fn unnumbered_uplinks_borrow_the_loopback_address() {
    check_sources(
        &["127.0.0.1/8 link lo", "192.0.2.77/32 lo", "2001:db8::77/128 lo", "fe80::2/64 link"],
        &["0.0.0.0/0 via fe80::1"],
        &[("0.0.0.0/0", "192.0.2.77"), ("::/0", "2001:db8::77"), ("fc00::/7", "2001:db8::77")],
    );
}

#[test]
fn ipv6_prefers_the_subnet_then_the_same_kind_of_address() {
    check_sources(
        &["fd00:1::2/64", "2001:db8:1::2/64", "2001:db8:2::2/64", "fe80::2/64 link"],
        &[],
        &[
            ("::/0", "2001:db8:1::2"),
            ("2001:db8:1::/64", "2001:db8:1::2"),
            ("2001:db8:2::/64", "2001:db8:2::2"),
            ("fc00::/7", "fd00:1::2"),
            ("fd00:1::/64", "fd00:1::2"),
        ],
    );
}

#[test]
fn ipv6_avoids_deprecated_and_temporary_and_never_takes_tentative_addresses() {
    check_sources(
        &[
            "2001:db8:9::9/64 tentative",
            "2001:db8:1::3/64 temporary",
            "2001:db8:2::2/64 deprecated",
            "2001:db8:1::2/64",
        ],
        &[],
        &[
            ("::/0", "2001:db8:1::2"),
            ("2001:db8:1::/64", "2001:db8:1::2"),
            ("2001:db8:2::/64", "2001:db8:1::2"),
            ("fc00::/7", "2001:db8:1::2"),
        ],
    );
    check_sources(
        &["2001:db8:2::2/64 deprecated"],
        &[],
        &[
            ("::/0", "2001:db8:2::2"),
            ("2001:db8:2::/64", "2001:db8:2::2"),
            ("fc00::/7", "2001:db8:2::2"),
        ],
    );
    check_sources(&["2001:db8:9::9/64 tentative", "fe80::2/64 link"], &["::/0 via fe80::1"], &[]);
}

#[test]
fn uplinks_with_an_advertised_default_route_are_found() {
    let uplinks = uplinks(&host(), &BTreeSet::new(), &[], &BTreeSet::new());
    let advertised = |routes: &[&str]| {
        let routes: Vec<Route> = routes.iter().map(|text| route(text)).collect();
        router_advertised(&uplinks, &routes)
    };
    assert_eq!(advertised(&["::/0 via fe80::1 ra", "::/0 via fe80::1 dev 10"]), ["eth0"]);
    assert_eq!(advertised(&["2001:db8::/32 via fe80::1 ra"]), Vec::<String>::new());
}

#[test]
fn containers_get_the_mtu_of_the_default_route() {
    let mtu = |routes: &[&str]| {
        let routes: Vec<Route> = routes.iter().map(|text| route(text)).collect();
        default_route_mtu(&host(), &routes)
    };
    assert_eq!(mtu(&[]), 1500);
    assert_eq!(mtu(&["192.0.2.0/24"]), 1500);
    assert_eq!(mtu(&["::/0 via fe80::1 dev 10"]), 1410);
    assert_eq!(mtu(&["::/0 via fe80::1 dev 10", "0.0.0.0/0 via 192.0.2.1 dev 6 metric 9"]), 1406);
    assert_eq!(mtu(&["0.0.0.0/0 dev 6 metric 9", "0.0.0.0/0 dev 11 metric 3"]), 1411);
}

#[track_caller]
fn check_xdp(mode: XdpMode, uplink: &str, expected: Result<(), NoXdp>) {
    let on = |link, below| Link { below: Some(below), ..link };
    let mut links = host();
    links.extend([
        on(link(19, "eth2.5", "vlan"), 12),
        on(link(20, "guest", "macvlan"), ETH0),
        // A veth's other end is not below it.
        on(link(21, "veth21", "veth"), ETH0),
    ]);
    let link = links.iter().find(|link| link.name == uplink).unwrap();
    let (ifindex, name) = (link.ifindex, link.name.clone());
    let uplink = Uplink { ifindex, name, ethernet: true };
    assert_eq!(xdp::check(mode, &uplink, &links), expected, "{mode:?} {uplink:?}");
}

#[test]
fn xdp_is_for_devices_that_lose_nothing_by_it() {
    for mode in [XdpMode::Auto, XdpMode::Drop] {
        check_xdp(mode, "eth0", Ok(()));
        check_xdp(mode, "bond0", Ok(()));
        check_xdp(mode, "eth2", Err(NoXdp::Vlans));
    }
    check_xdp(XdpMode::Auto, "veth18", Err(NoXdp::Veth));
    check_xdp(XdpMode::Drop, "veth18", Ok(()));
}

#[test]
fn frames_for_the_host_have_the_address_of_the_device_that_receives_them() {
    let mut links = host();
    for link in &mut links {
        link.mac = (link.ifindex != 13).then_some([2, 0, 0, 0, 0, link.ifindex as u8]);
    }
    let found = xdp::macs(&links, |ifindex| [ETH0, 11, 13].contains(&ifindex));
    // eth0, bond0 and its port eth2; the VRF's member eth3 is an uplink by itself.
    let expected = [ETH0, 11, 12, 14].map(|ifindex| (ifindex, [2, 0, 0, 0, 0, ifindex as u8]));
    assert_eq!(found, expected.into());
}
