//! Uplinks: which of the host's links lead out, and what follows from their routes. Pure.

pub mod masquerade;
pub mod xdp;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr};

use crate::netlink::{link::Link, route::Route};

/// The MTU of Ethernet, for a host that has no default route yet.
const ETHERNET_MTU: u32 = 1500;

/// Bridges of other managers: Docker, libvirt, CNI, Podman, LXC, LXD, Incus. A trailing `*` stands
/// for anything; Docker's `br-` and twelve hex digits are checked apart.
const FOREIGN_BRIDGES: [&str; 9] = [
    "docker0",
    "docker_gwbridge",
    "virbr*",
    "cni*",
    "podman*",
    "lxcbr*",
    "lxdbr*",
    "incusbr*",
    "nerdctl*",
];

/// Kinds of links that carry no IP packets of their own to anywhere: redirection targets, capture
/// devices, CAN buses, and the VRF device, whose members are the uplinks.
const NOT_LAYER_3: [&str; 6] = ["ifb", "nlmon", "can", "vcan", "vxcan", "vrf"];

/// A link of the host that leads out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub ifindex: u32,
    pub name: String,
    /// Whether its packets start with an Ethernet header.
    pub ethernet: bool,
}

/// Picks the uplinks (decisions 16): the layer-3 links that are neither loopback, nor `ours`, nor
/// a port of something, nor another manager's bridge; or, with `named`, exactly those. Those that a
/// network trusts are in any case.
///
/// A bridge that is not another manager's is an uplink: many hosts put their address on one.
pub fn uplinks(
    links: &[Link],
    ours: &BTreeSet<u32>,
    named: &[String],
    trusted: &BTreeSet<&str>,
) -> Vec<Uplink> {
    let vrfs: BTreeSet<u32> =
        links.iter().filter(|link| is_kind(link, "vrf")).map(|link| link.ifindex).collect();
    let is_uplink = |link: &&Link| {
        if link.loopback || ours.contains(&link.ifindex) {
            return false;
        }
        // What comes from it is let in by our programs, or not at all.
        if trusted.contains(link.name.as_str()) {
            return true;
        }
        if !named.is_empty() {
            return named.contains(&link.name);
        }
        // Docker makes a pair here, and only then plugs one end in and moves the other away.
        if is_kind(link, "veth") && !link.up && is_docker_veth(&link.name) {
            return false;
        }
        // A member of a VRF keeps its own addresses and routes; a port of a bridge has none.
        let is_port = link.controller.is_some_and(|controller| !vrfs.contains(&controller));
        !is_port && !is_foreign_bridge(link) && !NOT_LAYER_3.iter().any(|kind| is_kind(link, kind))
    };
    links
        .iter()
        .filter(is_uplink)
        .map(|link| Uplink {
            ifindex: link.ifindex,
            name: link.name.clone(),
            ethernet: link.ethernet,
        })
        .collect()
}

fn is_kind(link: &Link, kind: &str) -> bool {
    link.kind.as_deref() == Some(kind)
}

fn is_foreign_bridge(link: &Link) -> bool {
    is_kind(link, "bridge")
        && (is_docker_network(&link.name)
            || FOREIGN_BRIDGES.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => link.name.starts_with(prefix),
                None => link.name == *pattern,
            }))
}

/// `br-` and the first twelve digits of the network's id (docker-behaviour A1).
fn is_docker_network(name: &str) -> bool {
    name.strip_prefix("br-").is_some_and(|id| {
        id.len() == 12 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// `veth` and seven digits (docker-behaviour A2).
pub(crate) fn is_docker_veth(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|id| {
        id.len() == 7 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The addresses that no device has kept of those that packets might leave with, by device. One that has moved
/// to another device is lost too: flows go by a device.
pub fn lost_sources(
    before: &BTreeSet<(u32, IpAddr)>,
    now: &BTreeSet<(u32, IpAddr)>,
) -> BTreeSet<IpAddr> {
    let address = |(_, address): &(u32, IpAddr)| *address;
    let kept: BTreeSet<IpAddr> = (before & now).iter().map(address).collect();
    let gone: BTreeSet<IpAddr> = (before - now).iter().map(address).collect();
    &gone - &kept
}

/// Names the uplinks whose IPv6 default route came by router advertisement.
pub fn router_advertised(uplinks: &[Uplink], routes: &[Route]) -> Vec<String> {
    let is_advertised = |uplink: &&Uplink| {
        routes.iter().any(|route| {
            route.is_default()
                && route.from_router_advertisement
                && route.ifindex == Some(uplink.ifindex)
        })
    };
    uplinks.iter().filter(is_advertised).map(|uplink| uplink.name.clone()).collect()
}

/// Returns the MTU of the default route's device, IPv4's before IPv6's, or 1500 without one.
pub fn default_route_mtu(links: &[Link], routes: &[Route]) -> u32 {
    let default = routes
        .iter()
        .filter(|route| route.is_default())
        .min_by_key(|route| (route.destination.addr().is_ipv6(), route.metric));
    default
        .and_then(|route| links.iter().find(|link| Some(link.ifindex) == route.ifindex))
        .map_or(ETHERNET_MTU, |link| link.mtu)
}
