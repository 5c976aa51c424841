//! The desired state, and whether a change to it is allowed. Pure: no clock, no host, no disk.
//!
//! A `plan_*` answers with the complete new object or with the reason why not, and changes nothing.
//! The controller brings the plan about on the host and on disk, and only then enters it here with
//! `insert_*` and `remove_*`. So a change that fails half-way leaves no trace in the desired state.
//!
//! Invariants: names, network numbers, bridges and slots are unique; subnets do not overlap; no two
//! published ports overlap; every endpoint's network exists.

mod endpoint;
mod network;
mod port;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use thiserror::Error;

pub use endpoint::{ConnectError, DisconnectError, SandboxView};
pub use network::{MAX_NETWORK_NUMBER, NetworkError, OverlapOwner, RemoveNetworkError};
pub use port::{PublishError, UnpublishError};

use crate::model::{
    Endpoint, Family, LINK_LOCAL_GATEWAY, Listener, Manager, Network, Proto, PublishedPort,
};

/// The highest slot: endpoints and published ports share the data path's table of counters.
pub const MAX_SLOT: u32 = netd_common::counters::SLOTS - 1;

/// What users want to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By name.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// The pairs of networks that may exchange packets, each in alphabetical order.
    pub allowed: BTreeSet<(String, String)>,
    /// The address given out last, by network: where the search for the next one begins. Not stored;
    /// after a restart the search begins at the start of the range.
    last_address: BTreeMap<(String, Family), IpAddr>,
    /// The slot given out last. Slots go round, so that one is not given again while flows of its
    /// former owner may still be counted under it.
    last_slot: u32,
    /// The host port given out last.
    last_host_port: BTreeMap<Proto, u16>,
}

/// What planning may know of the host, read afresh for each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The addresses of all devices with their prefixes.
    pub addresses: Vec<IpNet>,
    /// The destinations of all routes.
    pub routes: Vec<IpNet>,
    /// The names of all devices.
    pub link_names: BTreeSet<String>,
    /// The addresses by device, to compare published ports on `%eth0` with those on an address.
    pub link_addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The MTU of the default route's device.
    pub default_mtu: u32,
    /// `net.ipv4.ip_local_port_range`, where host ports are picked from.
    pub local_port_range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`, which are not picked.
    pub reserved_ports: Vec<(u16, u16)>,
    /// The host's own sockets that wait for clients: their ports are not picked, nor chosen in a range.
    pub listeners: Vec<Listener>,
}

impl HostView {
    /// The host once a network's bridge is made.
    pub fn add_bridge(&mut self, network: &Network) {
        let mut addresses = network.bridge_addresses();
        if network.subnet(Family::Ipv6).is_some() {
            addresses.push(IpNet::V6(LINK_LOCAL_GATEWAY));
        }
        let own = addresses.iter().map(IpNet::addr).collect();
        self.link_names.insert(network.bridge.clone());
        self.link_addresses.insert(network.bridge.clone(), own);
        self.addresses.extend(addresses);
    }
}

/// Why a name stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    #[error("network {} does not exist: see `netd network ls`", shown(.name))]
    UnknownNetwork { name: String },
    #[error("endpoint {} does not exist: see `netd endpoint ls`", shown(.name))]
    UnknownEndpoint { name: String },
}

/// Why two networks could not be allowed or disallowed to exchange packets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AllowError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("network {name} is always allowed to itself: name two networks")]
    Itself { name: String },
    #[error("network {name} is internal: nothing enters or leaves it")]
    Internal { name: String },
    #[error("networks {a} and {b} are not allowed to exchange packets: nothing to take back")]
    NotAllowed { a: String, b: String },
}

impl Desired {
    /// The state that was stored.
    pub fn new(
        networks: BTreeMap<String, Network>,
        endpoints: BTreeMap<String, Endpoint>,
        allowed: BTreeSet<(String, String)>,
    ) -> Self {
        Self { networks, endpoints, allowed, ..Self::default() }
    }

    /// The network of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn network(&self, name: &str) -> Result<&Network, LookupError> {
        let error = || LookupError::UnknownNetwork { name: name.to_owned() };
        self.networks.get(name).ok_or_else(error)
    }

    /// The endpoint of that name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn endpoint(&self, name: &str) -> Result<&Endpoint, LookupError> {
        let error = || LookupError::UnknownEndpoint { name: name.to_owned() };
        self.endpoints.get(name).ok_or_else(error)
    }

    /// The endpoints of a network, by name.
    pub fn endpoints_of<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.endpoints.values().filter(move |endpoint| endpoint.network == network)
    }

    /// The other networks that a network may exchange packets with.
    pub fn allowed_with<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a str> {
        self.allowed.iter().filter_map(move |(a, b)| match (a == network, b == network) {
            (true, _) => Some(b.as_str()),
            (_, true) => Some(a.as_str()),
            (false, false) => None,
        })
    }

    /// Whether an endpoint is on a network of Docker's.
    pub fn is_dockers(&self, endpoint: &Endpoint) -> bool {
        self.networks.get(&endpoint.network).is_some_and(|it| it.manager == Manager::Docker)
    }

    /// The next slot that neither an endpoint nor a published port has.
    pub fn free_slot(&self) -> Option<u32> {
        self.free_slots().next()
    }

    /// The free slots, from the one after the last given out.
    pub(crate) fn free_slots(&self) -> impl Iterator<Item = u32> + use<> {
        let ports = self.published_ports().map(|(_, port)| port.slot);
        let endpoints = self.endpoints.values().map(|endpoint| endpoint.slot);
        let taken: BTreeSet<u32> = endpoints.chain(ports).collect();
        let last = self.last_slot;
        (last + 1..=MAX_SLOT).chain(1..=last).filter(move |slot| !taken.contains(slot))
    }

    /// Every published port with its endpoint.
    pub fn published_ports(&self) -> impl Iterator<Item = (&Endpoint, &PublishedPort)> {
        let endpoints = self.endpoints.values();
        endpoints.flat_map(|endpoint| endpoint.ports.iter().map(move |row| (endpoint, row)))
    }

    /// Enters a network that has come about.
    pub fn insert_network(&mut self, network: Network) {
        self.networks.insert(network.name.clone(), network);
    }

    /// Takes out a network that is gone, with its allowances.
    pub fn remove_network(&mut self, name: &str) -> Option<Network> {
        self.allowed.retain(|(a, b)| a != name && b != name);
        self.last_address.retain(|(network, _), _| network != name);
        self.networks.remove(name)
    }

    /// Enters an endpoint that has come about, or one whose published ports have changed.
    pub fn insert_endpoint(&mut self, endpoint: Endpoint) {
        let known = self.endpoints.get(&endpoint.name).map(|known| known.ports.clone());
        if known.is_none() {
            self.note_addresses(&endpoint);
            self.last_slot = endpoint.slot;
        }
        // Rows that were there before do not move the rounds: after an unpublish that would lead
        // back to the slot and the port just given back.
        let known = known.unwrap_or_default();
        for port in endpoint.ports.iter().filter(|port| !known.contains(port)) {
            self.last_slot = port.slot;
            self.last_host_port.insert(port.proto, port.host_port_end);
        }
        self.endpoints.insert(endpoint.name.clone(), endpoint);
    }

    /// Takes out an endpoint that is gone.
    pub fn remove_endpoint(&mut self, name: &str) -> Option<Endpoint> {
        self.endpoints.remove(name)
    }

    /// Checks that two networks can be allowed to exchange packets; the answer is the pair to insert
    /// into `allowed`. It is no error if it is there already.
    ///
    /// # Errors
    /// Where one does not exist or is internal, or both are the same.
    pub fn plan_allow(&self, a: &str, b: &str) -> Result<(String, String), AllowError> {
        let pair = self.pair(a, b)?;
        for network in [self.network(a)?, self.network(b)?] {
            if network.internal {
                return Err(AllowError::Internal { name: network.name.clone() });
            }
        }
        Ok(pair)
    }

    /// Checks that an allowance can be taken back; the answer is the pair to remove.
    ///
    /// # Errors
    /// Where there is no such allowance.
    pub fn plan_disallow(&self, a: &str, b: &str) -> Result<(String, String), AllowError> {
        let pair = self.pair(a, b)?;
        if self.allowed.contains(&pair) {
            Ok(pair)
        } else {
            Err(AllowError::NotAllowed { a: a.to_owned(), b: b.to_owned() })
        }
    }

    /// Two networks as they stand in `allowed`.
    fn pair(&self, a: &str, b: &str) -> Result<(String, String), AllowError> {
        self.network(a)?;
        self.network(b)?;
        if a == b {
            return Err(AllowError::Itself { name: a.to_owned() });
        }
        Ok((a.min(b).to_owned(), a.max(b).to_owned()))
    }
}

/// A name as an error shows it, where even an empty one is to be seen.
fn shown(name: &str) -> &str {
    if name.is_empty() { "''" } else { name }
}

/// The longest name of a network or an endpoint: twice a host name's, so that a line of a list holds one.
const MAX_NAME: usize = 128;

/// Whether a text can name a network or an endpoint: Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, and no longer than
/// somebody reads.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[cfg(test)]
mod tests;
