use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{AddressError, Pool, Pools, check_static, default_gateway, next_free, ula_prefix};
use crate::model::{Family, GatewayMode, Subnet};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn default_pools() -> Pools {
    Pools::new(&[], ula_prefix([1, 2, 3, 4, 5]))
}

#[track_caller]
fn check_pool(family: Family, taken: &[&str], expected: Option<&str>) {
    let taken: Vec<IpNet> = taken.iter().map(|text| net(text)).collect();
    assert_eq!(default_pools().free_subnet(family, &taken), expected.map(net));
}

#[test]
fn pools_are_tried_in_dockers_order() {
    check_pool(Family::Ipv4, &[], Some("172.17.0.0/16"));
    check_pool(Family::Ipv4, &["172.17.0.1/16"], Some("172.18.0.0/16"));
    check_pool(Family::Ipv4, &["172.16.0.0/12"], Some("192.168.0.0/20"));
    check_pool(Family::Ipv4, &["172.16.0.0/12", "192.168.1.7/24"], Some("192.168.16.0/20"));
    check_pool(Family::Ipv4, &["172.16.0.0/12", "192.168.0.0/16"], None);
    check_pool(
        Family::Ipv4,
        &["172.17.0.0/16", "172.18.0.0/16", "172.19.4.0/24"],
        Some("172.20.0.0/16"),
    );
}

#[test]
fn ipv6_subnets_come_from_the_hosts_own_prefix() {
    check_pool(Family::Ipv6, &[], Some("fd01:203:405::/64"));
    check_pool(Family::Ipv6, &["fd01:203:405::/64"], Some("fd01:203:405:1::/64"));
    check_pool(Family::Ipv6, &["fd00::/8"], None);
}

#[test]
fn a_pool_of_countless_subnets_is_searched_in_few_steps() {
    let pool = Pool::new(net("fd00::/8"), 64).unwrap();
    let taken = [net("fd00::/9"), net("fd80::/9")];
    assert_eq!(pool.free_subnet(&taken), None);
    assert_eq!(pool.free_subnet(&taken[..1]), Some(net("fd80::/64")));
}

#[test]
fn a_pool_reaches_to_the_end_of_the_address_space() {
    let pool = Pool::new(net("255.255.0.0/16"), 24).unwrap();
    assert_eq!(pool.free_subnet(&[net("255.255.0.0/16")]), None);
    let pool = Pool::new(net("::/0"), 1).unwrap();
    assert_eq!(pool.free_subnet(&[net("::/1")]), Some(net("8000::/1")));
    assert_eq!(pool.free_subnet(&[net("::/0")]), None);
}

#[test]
fn a_pool_that_cannot_be_cut_is_refused() {
    assert!(Pool::new(net("10.0.0.0/16"), 15).is_err());
    assert!(Pool::new(net("10.0.0.0/16"), 32).is_err());
    assert!(Pool::new(net("10.0.0.1/16"), 24).is_err());
    assert!(Pool::new(net("fd00::/48"), 127).is_err());
}

#[track_caller]
fn check_gateway(subnet: &str, range: Option<&str>, aux: &[&str], expected: &str) {
    let aux = aux.iter().map(|text| text.parse().unwrap()).collect();
    let gateway = default_gateway(&net(subnet), range.map(net).as_ref(), &aux);
    assert_eq!(gateway.unwrap().to_string(), expected);
}

#[test]
fn the_default_gateway_is_the_first_address_of_the_range() {
    check_gateway("172.30.0.0/16", None, &[], "172.30.0.1");
    check_gateway("172.30.0.0/16", None, &["172.30.0.1"], "172.30.0.2");
    check_gateway("172.30.0.0/16", Some("172.30.5.0/24"), &[], "172.30.5.0");
    check_gateway("192.0.2.0/31", None, &[], "192.0.2.0");
    check_gateway("2001:db8::/64", None, &[], "2001:db8::1");
}

fn subnet(text: &str, gateway: &str, range: Option<&str>, aux: &[&str]) -> Subnet {
    let named = |(i, text): (usize, &&str)| (format!("aux{i}"), text.parse().unwrap());
    Subnet {
        subnet: net(text),
        gateway: Some(gateway.parse().unwrap()),
        gateway_mode: GatewayMode::Nat,
        ip_range: range.map(net),
        aux_addresses: aux.iter().enumerate().map(named).collect::<BTreeMap<_, _>>(),
        user_configured: true,
    }
}

#[track_caller]
fn check_next(subnet: &Subnet, taken: &[&str], last: Option<&str>, expected: Option<&str>) {
    let taken = taken.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>();
    let next = next_free(subnet, &taken, last.map(|text| text.parse().unwrap()));
    assert_eq!(next.ok().map(|address| address.to_string()).as_deref(), expected);
}

#[test]
fn dynamic_addresses_go_round() {
    let small = subnet("192.0.2.0/29", "192.0.2.1", None, &["192.0.2.3"]);
    check_next(&small, &[], None, Some("192.0.2.2"));
    check_next(&small, &["192.0.2.2"], Some("192.0.2.2"), Some("192.0.2.4"));
    check_next(&small, &[], Some("192.0.2.2"), Some("192.0.2.4"));
    check_next(&small, &[], Some("192.0.2.6"), Some("192.0.2.2"));
    check_next(
        &small,
        &["192.0.2.2", "192.0.2.4", "192.0.2.6"],
        Some("192.0.2.4"),
        Some("192.0.2.5"),
    );
    check_next(
        &small,
        &["192.0.2.2", "192.0.2.4", "192.0.2.5", "192.0.2.6"],
        Some("192.0.2.4"),
        None,
    );
    // Only the one given out last is free: the round must come back to it.
    check_next(
        &small,
        &["192.0.2.2", "192.0.2.5", "192.0.2.6"],
        Some("192.0.2.4"),
        Some("192.0.2.4"),
    );
    let ranged = subnet("172.30.0.0/16", "172.30.0.1", Some("172.30.9.0/30"), &[]);
    check_next(&ranged, &[], None, Some("172.30.9.0"));
    check_next(&ranged, &[], Some("172.30.9.3"), Some("172.30.9.0"));
    check_next(&ranged, &[], Some("172.30.77.3"), Some("172.30.9.0"));
    let v6 = subnet("2001:db8::/64", "2001:db8::1", None, &[]);
    check_next(&v6, &[], None, Some("2001:db8::2"));
    let top =
        subnet("ffff::/16", "ffff::1", Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"), &[]);
    let (one, two) =
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    check_next(&top, &[], Some(two), Some(one));
}

#[test]
fn a_chosen_address_must_be_free_and_a_hosts() {
    let subnet = subnet("192.0.2.0/24", "192.0.2.1", None, &["192.0.2.9"]);
    let taken = BTreeSet::from(["192.0.2.5".parse().unwrap()]);
    let check = |text: &str| check_static(&subnet, &taken, text.parse().unwrap());
    assert_eq!(check("192.0.2.77"), Ok(()));
    assert!(matches!(check("198.51.100.1"), Err(AddressError::OutsideSubnet { .. })));
    assert!(matches!(check("192.0.2.0"), Err(AddressError::NotForHosts { .. })));
    assert!(matches!(check("192.0.2.255"), Err(AddressError::NotForHosts { .. })));
    assert!(matches!(check("192.0.2.1"), Err(AddressError::Gateway { .. })));
    assert!(matches!(check("192.0.2.9"), Err(AddressError::Auxiliary { .. })));
    assert!(matches!(check("192.0.2.5"), Err(AddressError::Taken { .. })));
}

/// A subnet of a few addresses with a gateway, perhaps a range and an auxiliary address.
fn small_subnets() -> impl Strategy<Value = Subnet> {
    (any::<bool>(), 26_u8..=30, prop::option::of(0_u8..=2), prop::option::of(1_u32..16)).prop_map(
        |(is_v6, len, narrower, aux)| {
            let (text, extra) = if is_v6 { ("2001:db8::", 96) } else { ("192.0.2.0", 0) };
            let subnet = net(&format!("{text}/{}", len + extra));
            let last = subnet.broadcast();
            let ip_range =
                narrower.map(|n| IpNet::new(last, (len + n).min(31) + extra).unwrap().trunc());
            let aux: Option<std::net::IpAddr> = aux.and_then(|n| subnet.hosts().nth(n as usize));
            let aux: BTreeSet<_> = aux.into_iter().collect();
            let gateway = default_gateway(&subnet, ip_range.as_ref(), &aux);
            Subnet {
                subnet,
                gateway: Some(gateway.unwrap_or(last)),
                gateway_mode: GatewayMode::Nat,
                ip_range,
                aux_addresses: aux.into_iter().map(|aux| ("aux".to_owned(), aux)).collect(),
                user_configured: true,
            }
        },
    )
}

proptest! {
    #[test]
    fn no_address_is_handed_out_twice_or_out_of_place(
        subnet in small_subnets(),
        steps in prop::collection::vec(prop::option::weighted(0.8, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut taken = BTreeSet::new();
        let mut last = None;
        for step in steps {
            match step {
                Some(_) => match next_free(&subnet, &taken, last) {
                    Ok(address) => {
                        prop_assert!(subnet.ip_range.unwrap_or(subnet.subnet).contains(&address));
                        prop_assert_eq!(check_static(&subnet, &taken, address), Ok(()));
                        taken.insert(address);
                        last = Some(address);
                    }
                    Err(AddressError::Exhausted { range }) => {
                        let free = |address: &std::net::IpAddr| check_static(&subnet, &taken, *address).is_ok();
                        prop_assert!(!addresses(&range).any(|address| free(&address)));
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                },
                None => { taken.pop_first(); }
            }
        }
    }
}

fn addresses(range: &IpNet) -> impl Iterator<Item = std::net::IpAddr> {
    let (family, (first, last)) = (Family::of_net(range), super::bounds(range));
    (first..=last).map(move |number| super::address(family, number))
}
