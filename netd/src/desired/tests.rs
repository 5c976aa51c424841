//! What is planned, and what is refused and why.

mod endpoints;
mod gateway_modes;
mod networks;
mod ports;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{Desired, HostView, PublishError, SandboxView};
use crate::{
    api::{Connect, NetworkCreate},
    ids::Counting,
    ipam::{Pools, ula_prefix},
    model::{Endpoint, GatewayMode, NatMode, Network, Proto, PublishedPort, SandboxRef},
    port_spec::PortSpec,
};

/// A desired state with a host around it, changed as the controller would.
struct World {
    desired: Desired,
    host: HostView,
    pools: Pools,
    ids: Counting,
}

impl World {
    fn new() -> Self {
        let host = HostView {
            addresses: vec![net("192.0.2.1/24"), net("192.0.2.2/24"), net("2001:db8::1/128")],
            routes: vec![net("0.0.0.0/0"), net("::/0"), net("10.9.0.0/16")],
            link_names: names(&["lo", "eth0"]),
            link_addresses: [("eth0".to_owned(), vec![address("192.0.2.1")])].into(),
            default_mtu: 1500,
            local_port_range: (40_000, 40_009),
            reserved_ports: vec![(40_001, 40_002)],
            listeners: Vec::new(),
        };
        let pools = Pools::new(&[], ula_prefix([1, 2, 3, 4, 5]));
        Self { desired: Desired::default(), host, pools, ids: Counting::default() }
    }

    fn plan(&mut self, request: &NetworkCreate) -> Result<Network, String> {
        let plan = self.desired.plan_network(request, &self.host, &self.pools, &mut self.ids);
        plan.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn create(&mut self, name: &str) -> Network {
        self.create_with(NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() })
    }

    #[track_caller]
    fn create_with(&mut self, request: NetworkCreate) -> Network {
        let network = self.plan(&request).unwrap();
        self.desired.insert_network(network.clone());
        network
    }

    fn plan_endpoint(&mut self, request: &Connect) -> Result<Endpoint, String> {
        // The inode follows from the text, so that one text is one sandbox.
        let ino = request.sandbox.bytes().map(u64::from).sum();
        let sandbox = SandboxView {
            sandbox: SandboxRef { text: request.sandbox.clone(), dev: 4, ino },
            link_names: names(&["lo", "eth0"]),
        };
        let plan = self.desired.plan_endpoint(request, &sandbox, &self.host, &mut self.ids);
        plan.map_err(|error| error.to_string())
    }

    #[track_caller]
    fn connect(&mut self, network: &str, sandbox: &str) -> Endpoint {
        self.connect_with(connect(network, sandbox))
    }

    #[track_caller]
    fn connect_with(&mut self, request: Connect) -> Endpoint {
        let endpoint = self.plan_endpoint(&request).unwrap();
        self.desired.insert_endpoint(endpoint.clone());
        endpoint
    }

    fn publish(&mut self, endpoint: &str, specs: &[&str]) -> Result<Vec<String>, String> {
        let specs: Vec<PortSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let rows = self.desired.plan_ports(endpoint, &specs, &self.host);
        let rows = rows.map_err(|error| error.to_string())?;
        let mut changed = self.desired.endpoints[endpoint].clone();
        changed.ports.extend(rows.iter().cloned());
        self.desired.insert_endpoint(changed);
        Ok(rows.iter().map(PublishedPort::to_string).collect())
    }

    #[track_caller]
    fn check_published(&mut self, endpoint: &str, specs: &[&str], expected: &[&str]) {
        assert_eq!(self.publish(endpoint, specs).unwrap(), expected);
    }

    #[track_caller]
    fn check_not_published(&mut self, endpoint: &str, spec: &str, expected: &str) {
        let error = self.publish(endpoint, &[spec]).expect_err(spec);
        assert!(error.contains(expected), "{spec}: {error}");
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn connect(network: &str, sandbox: &str) -> Connect {
    Connect { network: network.to_owned(), sandbox: sandbox.to_owned(), ..Connect::default() }
}
