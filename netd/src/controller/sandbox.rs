//! Which of a sandbox's networks is its way out.

use std::{cmp::Reverse, net::IpAddr};

use super::endpoints::gateways;
use crate::{
    desired::Desired,
    model::{Endpoint, SandboxRef},
};

/// The endpoint and gateway of each family, by Docker's order (`Endpoint.Less` of libnetwork): the
/// highest priority, then both families before one, then the network's name. An internal network is
/// never a way out.
pub(super) fn ways_out<'a>(
    desired: &'a Desired,
    sandbox: &SandboxRef,
) -> impl Iterator<Item = (&'a Endpoint, IpAddr)> {
    let is_way_out = |endpoint: &&Endpoint| {
        let network = desired.networks.get(&endpoint.network);
        endpoint.sandbox.is_same(sandbox) && network.is_some_and(|network| !network.internal)
    };
    let mut endpoints: Vec<&Endpoint> = desired.endpoints.values().filter(is_way_out).collect();
    endpoints.sort_by_key(|endpoint| {
        let families = gateways(endpoint).count();
        (Reverse(endpoint.gw_priority), Reverse(families), endpoint.network.as_str())
    });
    [IpAddr::is_ipv4, IpAddr::is_ipv6].into_iter().filter_map(move |has_family| {
        endpoints.iter().find_map(|endpoint| {
            let gateway = gateways(endpoint).find(has_family)?;
            Some((*endpoint, gateway))
        })
    })
}
