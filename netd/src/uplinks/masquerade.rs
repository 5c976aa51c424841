//! Which address a masqueraded packet gets, worked out for every destination at once. Pure.
//!
//! iptables asks the kernel per packet; the data path looks the answer up by uplink and longest
//! prefix of the destination. So each rule of the kernel that depends on the destination becomes
//! one prefix here:
//!
//! - IPv4, `inet_select_addr(uplink, next hop, RT_SCOPE_UNIVERSE)`: the first primary address whose
//!   subnet has the next hop, else the first primary address. The next hop is the route's gateway,
//!   or the destination itself.
//! - IPv6, `ipv6_dev_get_saddr(uplink, destination)`, RFC 6724 section 5: the subnet's own address,
//!   else the best one for unique local (fc00::/7) and for global destinations. Rule 8 (longest
//!   match) is not followed between two global prefixes of one uplink: the first address wins.
//!
//! An uplink without a usable address borrows one of the loopback device, as the kernel does for
//! unnumbered links; not that of a third device, which the kernel would also try.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Uplink;
use crate::netlink::{
    addr::{Address, Scope},
    link::LOOPBACK_IFINDEX,
    route::Route,
};

const ANY_IPV4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
const ANY_IPV6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

/// RFC 4193; these have a label of their own in the policy table of RFC 6724.
const UNIQUE_LOCAL: IpNet =
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7));

/// The source address for packets that leave by an uplink to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MasqueradeSource {
    pub ifindex: u32,
    pub destination: IpNet,
    pub source: IpAddr,
}

/// Lists the sources of all uplinks, sorted, each destination once per uplink. A family in which an
/// uplink has no usable address has no entry.
pub fn masquerade_sources(
    uplinks: &[Uplink],
    addresses: &[Address],
    routes: &[Route],
) -> Vec<MasqueradeSource> {
    let mut sources = Vec::new();
    for Uplink { ifindex, .. } in uplinks {
        let routes: Vec<&Route> = routes
            .iter()
            .filter(|route| route.unicast && route.ifindex == Some(*ifindex))
            .collect();
        let mut chosen = ipv4_sources(&usable_ipv4(addresses, *ifindex), &routes);
        chosen.extend(ipv6_sources(&usable_ipv6(addresses, *ifindex)));
        sources.extend(chosen.into_iter().map(|(destination, source)| MasqueradeSource {
            ifindex: *ifindex,
            destination,
            source,
        }));
    }
    sources.sort();
    sources.dedup_by_key(|source| (source.ifindex, source.destination));
    sources
}

/// Returns the addresses of a device that `is_usable`, or else those of the loopback device.
fn usable(
    addresses: &[Address],
    ifindex: u32,
    is_usable: impl Fn(&Address) -> bool,
) -> Vec<&Address> {
    let of = |device| -> Vec<&Address> {
        let is_on = |address: &&Address| address.ifindex == device && is_usable(address);
        addresses.iter().filter(is_on).collect()
    };
    let own = of(ifindex);
    if own.is_empty() { of(LOOPBACK_IFINDEX) } else { own }
}

fn usable_ipv4(addresses: &[Address], ifindex: u32) -> Vec<&Address> {
    usable(addresses, ifindex, |address| {
        address.net.addr().is_ipv4() && !address.secondary && address.scope == Scope::Universe
    })
}

fn usable_ipv6(addresses: &[Address], ifindex: u32) -> Vec<&Address> {
    usable(addresses, ifindex, |address| {
        address.net.addr().is_ipv6() && !address.tentative && address.scope == Scope::Universe
    })
}

fn ipv4_sources(primary: &[&Address], routes: &[&Route]) -> BTreeMap<IpNet, IpAddr> {
    let Some(first) = primary.first() else { return BTreeMap::new() };
    let covering = |hop: IpNet| {
        let address = primary.iter().find(|address| address.on_link().contains(&hop));
        address.unwrap_or(first).net.addr()
    };
    let mut sources = BTreeMap::from([(ANY_IPV4, first.net.addr())]);
    // The kernel takes the route with the lowest metric, so that one is written last.
    let mut routes: Vec<&&Route> =
        routes.iter().filter(|route| route.destination.addr().is_ipv4()).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.metric));
    for route in &routes {
        sources.insert(route.destination.trunc(), covering(next_hop(route)));
    }
    for subnet in primary.iter().filter_map(subnet) {
        // Without a route of its own a subnet is reached as the route around it says; only where
        // that is on-link too do its packets go straight to their destination.
        let around = routes
            .iter()
            .filter(|route| route.destination.contains(&subnet))
            .max_by_key(|route| route.destination.prefix_len());
        if around.is_none_or(|route| route.gateway.is_none()) {
            sources.insert(subnet, covering(subnet));
        }
    }
    sources
}

/// The address that is asked for on the link: the gateway's, or any of the destination. An IPv6
/// gateway of an IPv4 route counts as none (`rt_nexthop`).
fn next_hop(route: &Route) -> IpNet {
    match route.gateway {
        Some(gateway @ IpAddr::V4(_)) => IpNet::from(gateway),
        Some(IpAddr::V6(_)) | None => route.destination,
    }
}

fn ipv6_sources(usable: &[&Address]) -> BTreeMap<IpNet, IpAddr> {
    let subnets = usable.iter().filter_map(subnet);
    let destinations = subnets.chain([UNIQUE_LOCAL, ANY_IPV6]);
    destinations.filter_map(|to| Some((to, best_ipv6(usable, to)?))).collect()
}

/// Picks the first address by the rules of RFC 6724 in the kernel's order: 3 (deprecated last), 6
/// (same label), 7 (temporary last, since flows outlive temporary addresses), 8 (nothing matches
/// longer than the addresses of the destination's own subnet).
fn best_ipv6(usable: &[&Address], destination: IpNet) -> Option<IpAddr> {
    let is_unique_local = UNIQUE_LOCAL.contains(&destination);
    let rank = |address: &&&Address| {
        let has_label = UNIQUE_LOCAL.contains(&address.net.addr()) == is_unique_local;
        let is_inside = address.on_link().contains(&destination);
        (address.deprecated, !has_label, address.temporary, !is_inside)
    };
    usable.iter().min_by_key(rank).map(|address| address.net.addr())
}

/// Returns the subnet of an address, if there is anyone in it.
fn subnet(address: &&Address) -> Option<IpNet> {
    Some(address.on_link()).filter(|subnet| *subnet != IpNet::from(address.net.addr()))
}
