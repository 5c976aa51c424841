//! What should exist: plain data, and the rules by which requests are granted. It knows nothing that netd has
//! said.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::{
    Connect, Endpoint, Kind, Meanwhile, Network, Operation, Port, Request, Sandbox,
};
use crate::family::Family;

/// Everything that should exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The sandboxes.
    pub sandboxes: BTreeSet<Sandbox>,
    /// The networks.
    pub networks: BTreeMap<Network, NetworkPlan>,
    /// The endpoints.
    pub endpoints: BTreeMap<Endpoint, EndpointPlan>,
    /// The pairs of networks that may exchange packets, in order.
    pub allowed: BTreeSet<(Network, Network)>,
}

/// A network that should exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Its kind.
    pub kind: Kind,
    /// The number of its subnets, if it was chosen.
    pub subnet: Option<u8>,
}

/// An endpoint that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// The network.
    pub network: Network,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The number of its `eth` device in there.
    pub device: u8,
    /// The last part of its IPv4 address, if it was chosen.
    pub ip: Option<u8>,
    /// Its published ports.
    pub ports: Vec<Port>,
}

impl Model {
    /// Does an operation, in full.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Begin(sandbox) => drop(self.sandboxes.insert(*sandbox)),
            Operation::End(sandbox) | Operation::Restart(_, Meanwhile::Ended(sandbox)) => {
                self.sandboxes.remove(sandbox);
                self.endpoints.retain(|_, endpoint| endpoint.sandbox != *sandbox);
            }
            Operation::Ask(request) | Operation::Restart(_, Meanwhile::Asked(request, _)) => {
                if self.grants(request) {
                    self.grant(request);
                }
            }
            Operation::Wrong(_)
            | Operation::Reload
            | Operation::Tamper(_)
            | Operation::Restart(_, Meanwhile::Nothing | Meanwhile::Tampered(_)) => {}
        }
    }

    /// Whether netd has to grant a request.
    pub fn grants(&self, request: &Request) -> bool {
        let has = |network| self.networks.contains_key(network);
        match request {
            Request::Create(network, _, subnet) => {
                let is_taken =
                    |other: &NetworkPlan| other.subnet.is_some() && other.subnet == *subnet;
                !has(network) && !self.networks.values().any(is_taken)
            }
            Request::Remove(network) => has(network) && !self.is_used(*network),
            Request::Prune => true,
            Request::Connect(connect) => self.grants_connect(connect),
            Request::Disconnect(network, sandbox) => self.attachment(*network, *sandbox).is_some(),
            Request::Publish(endpoint, port) => self.endpoints.get(endpoint).is_some_and(|plan| {
                let network = self.networks[&plan.network];
                self.publishes(network.kind, &[], port)
            }),
            Request::Unpublish(endpoint, port) => {
                self.endpoints.get(endpoint).is_some_and(|plan| plan.ports.contains(port))
            }
            Request::Allow(a, b) => {
                let is_open = |network| {
                    self.networks.get(network).is_some_and(|plan| plan.kind != Kind::Internal)
                };
                a != b && is_open(a) && is_open(b)
            }
            Request::Disallow(a, b) => a != b && self.is_allowed(*a, *b),
        }
    }

    fn grants_connect(&self, connect: &Connect) -> bool {
        let Some(network) = self.networks.get(&connect.network) else { return false };
        let neighbours = || self.endpoints.values().filter(|it| it.network == connect.network);
        // The address of a pool's network is not known here, so the one that is asked for is none of its.
        let has_address = connect.ip.is_none()
            || network.subnet.is_some() && !neighbours().any(|it| it.ip == connect.ip);
        let mut planned = Vec::new();
        let mut publishes = |port: &Port| {
            let is_free = self.publishes(network.kind, &planned, port);
            planned.push(*port);
            is_free
        };
        self.sandboxes.contains(&connect.sandbox)
            && self.attachment(connect.network, connect.sandbox).is_none()
            && !self.endpoints.contains_key(&connect.endpoint)
            && has_address
            && connect.ports.iter().all(&mut publishes)
    }

    /// Whether a port can be published for a container of such a network, beside what is planned already.
    fn publishes(&self, kind: Kind, planned: &[Port], port: &Port) -> bool {
        let has_family = port.host_ip.is_none_or(|address| kind.has(Family::of(address)));
        let published = self.endpoints.values().flat_map(|endpoint| &endpoint.ports);
        let is_free = !published.chain(planned).any(|other| port.overlaps(other));
        kind != Kind::Internal && has_family && is_free
    }

    fn grant(&mut self, request: &Request) {
        match request {
            Request::Create(network, kind, subnet) => {
                let plan = NetworkPlan { kind: *kind, subnet: *subnet };
                self.networks.insert(*network, plan);
            }
            Request::Remove(network) => self.remove(*network),
            Request::Prune => {
                let networks: Vec<Network> = self.networks.keys().copied().collect();
                let unused = networks.into_iter().filter(|network| !self.is_used(*network));
                unused.collect::<Vec<_>>().into_iter().for_each(|network| self.remove(network));
            }
            Request::Connect(connect) => {
                let plan = EndpointPlan {
                    network: connect.network,
                    sandbox: connect.sandbox,
                    device: self.free_device(connect.sandbox),
                    ip: connect.ip,
                    ports: connect.ports.clone(),
                };
                self.endpoints.insert(connect.endpoint, plan);
            }
            Request::Disconnect(network, sandbox) => {
                let is_meant =
                    |plan: &EndpointPlan| plan.network == *network && plan.sandbox == *sandbox;
                self.endpoints.retain(|_, plan| !is_meant(plan));
            }
            Request::Publish(endpoint, port) => {
                let plan = self.endpoints.get_mut(endpoint);
                plan.into_iter().for_each(|plan| plan.ports.push(*port));
            }
            Request::Unpublish(endpoint, port) => {
                let plan = self.endpoints.get_mut(endpoint);
                plan.into_iter().for_each(|plan| plan.ports.retain(|other| other != port));
            }
            Request::Allow(a, b) => drop(self.allowed.insert((*a.min(b), *a.max(b)))),
            Request::Disallow(a, b) => drop(self.allowed.remove(&(*a.min(b), *a.max(b)))),
        }
    }

    fn remove(&mut self, network: Network) {
        self.networks.remove(&network);
        self.allowed.retain(|(a, b)| *a != network && *b != network);
    }

    fn is_used(&self, network: Network) -> bool {
        self.endpoints.values().any(|endpoint| endpoint.network == network)
    }

    fn free_device(&self, sandbox: Sandbox) -> u8 {
        let taken: BTreeSet<u8> = self.of_sandbox(sandbox).map(|(_, plan)| plan.device).collect();
        (0..=u8::MAX).find(|device| !taken.contains(device)).unwrap_or_default()
    }

    /// Whether two networks may exchange packets.
    pub fn is_allowed(&self, a: Network, b: Network) -> bool {
        self.allowed.contains(&(a.min(b), a.max(b)))
    }

    /// The endpoints of a sandbox.
    pub fn of_sandbox(
        &self,
        sandbox: Sandbox,
    ) -> impl Iterator<Item = (Endpoint, &EndpointPlan)> + Clone {
        let endpoints = self.endpoints.iter().map(|(name, plan)| (*name, plan));
        endpoints.filter(move |(_, plan)| plan.sandbox == sandbox)
    }

    /// The endpoint of a sandbox on a network.
    pub fn attachment(&self, network: Network, sandbox: Sandbox) -> Option<Endpoint> {
        let mut endpoints = self.of_sandbox(sandbox);
        endpoints.find(|(_, plan)| plan.network == network).map(|(name, _)| name)
    }

    /// The endpoint that is a sandbox's way out: the one with more families, then by the network's name.
    pub fn way_out(&self, sandbox: Sandbox, family: Family) -> Option<Endpoint> {
        let kind = |plan: &EndpointPlan| self.networks[&plan.network].kind;
        let leads_out =
            |plan: &EndpointPlan| kind(plan) != Kind::Internal && kind(plan).has(family);
        let endpoints = self.of_sandbox(sandbox).filter(|(_, plan)| leads_out(plan));
        let way = endpoints.min_by_key(|(_, plan)| (!kind(plan).has(Family::V6), plan.network));
        way.map(|(name, _)| name)
    }

    /// Where a packet from outside to a port of the host's address of the family is to arrive.
    pub fn destination(
        &self,
        family: Family,
        udp: bool,
        host_port: u16,
    ) -> Option<(Endpoint, u16)> {
        self.endpoints.iter().find_map(|(name, plan)| {
            let has_family = self.networks[&plan.network].kind.has(family);
            let mut ports = plan.ports.iter().filter(|port| port.udp == udp && has_family);
            let port = ports.find(|port| port.is_open(family, host_port))?;
            Some((*name, port.port + (host_port - port.host_port)))
        })
    }
}

impl Port {
    /// Whether a packet could be meant for both.
    fn overlaps(&self, other: &Self) -> bool {
        let shares_address =
            self.host_ip.is_none() || other.host_ip.is_none() || self.host_ip == other.host_ip;
        let shares_port = self.host_port < other.host_port + other.len
            && other.host_port < self.host_port + self.len;
        self.udp == other.udp && shares_address && shares_port
    }

    fn is_open(&self, family: Family, host_port: u16) -> bool {
        let has_port = (self.host_port..self.host_port + self.len).contains(&host_port);
        has_port && self.host_ip.is_none_or(|address| address == family.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_port: u16, len: u16) -> Port {
        Port { udp: false, host_ip: None, host_port, port: 80, len }
    }

    fn connect(network: u8, sandbox: u8, endpoint: u8, ports: &[Port]) -> Request {
        let (network, sandbox) = (Network(network), Sandbox(sandbox));
        let ports = ports.to_vec();
        Request::Connect(Connect {
            network,
            sandbox,
            endpoint: Endpoint(endpoint),
            ip: None,
            ports,
        })
    }

    /// Two networks, IPv4 alone and both families, and two sandboxes; the first is on both.
    fn model() -> Model {
        let mut model = Model::default();
        for operation in [
            Operation::Begin(Sandbox(0)),
            Operation::Begin(Sandbox(1)),
            Operation::Ask(Request::Create(Network(0), Kind::Ipv4, Some(0))),
            Operation::Ask(Request::Create(Network(1), Kind::Open, None)),
            Operation::Ask(connect(0, 0, 0, &[port(8000, 4)])),
            Operation::Ask(connect(1, 0, 1, &[])),
        ] {
            model.apply(&operation);
        }
        assert_eq!(model.endpoints.len(), 2);
        model
    }

    #[test]
    fn ports_that_overlap_are_refused() {
        let model = model();
        let grants = |host_port, len| model.grants(&connect(1, 1, 2, &[port(host_port, len)]));
        assert!(!grants(8003, 1));
        assert!(!grants(7999, 2));
        assert!(grants(8004, 1));
        assert!(!model.grants(&connect(1, 1, 2, &[port(8004, 1), port(8004, 1)])));
    }

    #[test]
    fn a_packet_arrives_where_the_family_has_an_address() {
        let model = model();
        let of = |family| model.destination(family, false, 8002);
        assert_eq!(of(Family::V4), Some((Endpoint(0), 82)));
        assert_eq!(of(Family::V6), None);
    }

    #[test]
    fn the_way_out_is_by_the_network_with_both_families() {
        let model = model();
        for family in Family::BOTH {
            assert_eq!(model.way_out(Sandbox(0), family), Some(Endpoint(1)));
        }
    }

    #[test]
    fn a_sandbox_goes_with_its_endpoints() {
        let mut model = model();
        model.apply(&Operation::End(Sandbox(0)));
        assert_eq!(model.endpoints.len(), 0);
        assert!(model.grants(&Request::Remove(Network(0))));
    }
}
