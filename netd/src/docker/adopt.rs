//! Which networks and endpoints of ours a Docker host asks for. Pure.

mod containers;
mod links;
mod networks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{settings::Settings, taken::Taken, view::View};
use crate::{
    config::DockerConfig,
    desired::Desired,
    model::{Endpoint, MacAddr, Network, PublishedPort, SandboxRef},
};

/// What adopting depends on beside Docker itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub config: DockerConfig,
    /// What dockerd was told; none where its file has changed since it has read it.
    pub settings: Option<Settings>,
    /// The addresses of each bridge, by name.
    pub bridge_addresses: BTreeMap<String, Vec<IpNet>>,
    /// The links that are plugged into a bridge, by its name and the MAC address of their other end.
    pub links: BTreeMap<(String, MacAddr), HostLink>,
    /// What is plugged into each bridge beside containers' links, by its name.
    pub other_ports: BTreeMap<String, Vec<String>>,
    /// The devices that are no bridges.
    pub other_devices: BTreeSet<String>,
    /// The inodes of the containers' network namespaces, by container id.
    pub sandboxes: BTreeMap<String, SandboxRef>,
}

/// The host's end of a container's link, and what its other end is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    pub host_ifname: String,
    pub ifname: Option<String>,
}

/// What Docker's networks and containers are as ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// By name.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What could not be adopted, or not wholly, and why.
    pub faults: BTreeSet<String>,
    /// Some containers have no link yet.
    pub is_pending: bool,
}

/// Plans everything anew; what is in `desired` already keeps its number, slots and names.
pub fn adopt(view: &View, desired: &Desired, facts: &Facts) -> Adopted {
    let mut adopting = Adopting {
        numbers: Box::new(desired.free_numbers()),
        slots: Box::new(desired.free_slots()),
        view,
        desired,
        facts,
        known: desired.endpoints.values().map(|known| (known.id.as_str(), known)).collect(),
        links: BTreeSet::new(),
        attached: view
            .containers
            .values()
            .flat_map(|container| container.attachments.values())
            .map(|attachment| attachment.endpoint_id.as_str())
            .collect(),
        own_ports: Taken::default(),
        ports: Taken::default(),
        names: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        unbound: Vec::new(),
        adopted: Adopted::default(),
    };
    for (owner, row) in desired.published_ports().filter(|(owner, _)| !desired.is_dockers(owner)) {
        adopting.own_ports.add(&owner.name, row);
    }
    adopting.keep_unknown();
    for network in view.networks.values() {
        adopting.network(network);
    }
    // What somebody has comes before what somebody is about to have.
    let mut containers: Vec<_> = view.containers.iter().collect();
    containers.sort_by_key(|(_, container)| !container.is_started);
    for (id, container) in containers {
        adopting.container(id, container);
    }
    adopting.publish_unbound();
    adopting.links();
    adopting.adopted
}

struct Adopting<'a> {
    view: &'a View,
    desired: &'a Desired,
    facts: &'a Facts,
    numbers: Box<dyn Iterator<Item = u16>>,
    slots: Box<dyn Iterator<Item = u32>>,
    /// The endpoints that there are, by their ids.
    known: BTreeMap<&'a str, &'a Endpoint>,
    /// The links of this plan's endpoints.
    links: BTreeSet<&'a str>,
    /// The ids of the endpoints that Docker has.
    attached: BTreeSet<&'a str>,
    /// What netd publishes itself.
    own_ports: Taken,
    /// What this plan publishes.
    ports: Taken,
    /// Our names of networks, by Docker's id.
    names: BTreeMap<&'a str, String>,
    /// Our names of endpoints, by Docker's id.
    endpoints: BTreeMap<&'a str, String>,
    /// What Docker does not bind for endpoints: whatever it does comes first.
    unbound: Vec<(String, Vec<PublishedPort>)>,
    adopted: Adopted,
}

impl<'a> Adopting<'a> {
    /// What Docker has and says nothing of use about stays as it is.
    fn keep_unknown(&mut self) {
        let networks = self.desired.networks.values();
        for network in networks.filter(|network| self.view.unknown.contains(&network.id)) {
            for endpoint in self.desired.endpoints_of(&network.name) {
                for row in &endpoint.ports {
                    self.ports.add(&endpoint.name, row);
                }
                self.adopted.endpoints.insert(endpoint.name.clone(), endpoint.clone());
            }
            self.adopted.networks.insert(network.name.clone(), network.clone());
        }
    }

    fn fault(&mut self, fault: String) {
        self.adopted.faults.insert(fault);
    }
}

/// As Docker shortens an id.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
