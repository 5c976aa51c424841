//! What an adoption changes of the desired state.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use crate::{
    desired::Desired,
    docker::adopt::Adopted,
    model::{Endpoint, Network},
    store::Change,
};

/// What changes with an adoption.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) networks: Vec<Network>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) lost_networks: Vec<Network>,
    pub(super) lost_endpoints: Vec<Endpoint>,
    /// The slots of endpoints and ports that are gone.
    pub(super) lost_slots: BTreeSet<u32>,
    /// Endpoints that were not there, or on another link.
    pub(super) joined: Vec<Endpoint>,
}

impl Difference {
    pub(super) fn new(desired: &Desired, adopted: Adopted) -> Self {
        let mut difference = Self::default();
        let Adopted { networks, endpoints, .. } = adopted;
        for known in desired.networks.values().filter(|it| !it.manager.is_netd()) {
            if networks.get(&known.name).is_none_or(|it| it.id != known.id) {
                difference.lost_networks.push(known.clone());
            }
        }
        let by_id: BTreeMap<&str, &Endpoint> =
            endpoints.values().map(|endpoint| (endpoint.id.as_str(), endpoint)).collect();
        for known in desired.endpoints.values().filter(|it| desired.is_dockers(it)) {
            let now = by_id.get(known.id.as_str()).copied();
            let kept = now.into_iter().flat_map(slots).collect::<BTreeSet<_>>();
            difference.lost_slots.extend(slots(known).filter(|slot| !kept.contains(slot)));
            if now.is_none_or(|now| now.name != known.name) {
                difference.lost_endpoints.push(known.clone());
            }
        }
        let is_new = |network: &Network| desired.networks.get(&network.name) != Some(network);
        difference.networks = networks.into_values().filter(is_new).collect();
        let known = |endpoint: &Endpoint| desired.endpoints.get(&endpoint.name);
        let is_new = |endpoint: &Endpoint| known(endpoint) != Some(endpoint);
        difference.endpoints = endpoints.into_values().filter(is_new).collect();
        let joins = |endpoint: &&Endpoint| {
            known(endpoint).is_none_or(|known| known.host_ifname != endpoint.host_ifname)
        };
        difference.joined = difference.endpoints.iter().filter(joins).cloned().collect();
        difference
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.networks.is_empty()
            && self.endpoints.is_empty()
            && self.lost_networks.is_empty()
            && self.lost_endpoints.is_empty()
    }

    /// The lost networks whose names no other one has now, which is then in their place, with what they were allowed.
    pub(super) fn nameless(&self) -> impl Iterator<Item = &Network> {
        let is_taken = |lost: &&Network| self.networks.iter().any(|it| it.name == lost.name);
        self.lost_networks.iter().filter(move |lost| !is_taken(lost))
    }

    pub(super) fn changes(&self) -> Vec<Change<'_>> {
        let lost_endpoints = self.lost_endpoints.iter().map(|it| Change::RemoveEndpoint(&it.name));
        let lost_networks = self.nameless().map(|it| Change::RemoveNetwork(&it.name));
        let networks = self.networks.iter().map(Change::PutNetwork);
        let endpoints = self.endpoints.iter().map(Change::PutEndpoint);
        lost_endpoints.chain(lost_networks).chain(networks).chain(endpoints).collect()
    }

    pub(super) fn say(&self) {
        for network in &self.lost_networks {
            info!(network = network.name, "Docker's network is gone");
        }
        for network in &self.networks {
            info!(network = network.name, bridge = network.bridge, "Docker's network taken up");
        }
        for endpoint in &self.lost_endpoints {
            info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "Docker's endpoint is gone"
            );
        }
        for endpoint in &self.joined {
            info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "Docker's endpoint taken up"
            );
        }
    }
}

/// The slots of an endpoint and its ports.
fn slots(endpoint: &Endpoint) -> impl Iterator<Item = u32> {
    endpoint.ports.iter().map(|port| port.slot).chain([endpoint.slot])
}
