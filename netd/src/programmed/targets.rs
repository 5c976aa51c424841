//! Where published ports lead, for who asks in user space: as the programs find them. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netd_common::address::{Address, V4, V6};

use super::{HostFacts, ports::host_addresses};
use crate::{
    desired::Desired,
    model::{Endpoint, Family, Proto},
};

/// The published ports of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// By the host's address; the unspecified one stands for all of its family.
    targets: BTreeMap<(Proto, IpAddr), Vec<Target>>,
}

/// A range of host ports, and where its first one leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    host_port: u16,
    host_port_end: u16,
    container: SocketAddr,
}

impl Targets {
    /// Those of a desired state on this host.
    pub(crate) fn new(desired: &Desired, host: &HostFacts) -> Self {
        let mut this = Self::default();
        for endpoint in desired.endpoints.values() {
            this.add::<V4>(desired, host, endpoint);
            this.add::<V6>(desired, host, endpoint);
        }
        this
    }

    fn add<A: Address>(&mut self, desired: &Desired, host: &HostFacts, endpoint: &Endpoint) {
        let Some(network) = desired.networks.get(&endpoint.network) else { return };
        let translates = |address: &IpAddr| {
            let subnet = network.subnet(Family::of(*address));
            subnet.is_some_and(|subnet| subnet.gateway_mode.translates())
        };
        let addresses = || endpoint.addresses().map(|net| net.addr()).filter(translates);
        let own = addresses().find(|address| A::from_ip(*address).is_some());
        // One that has IPv4 only is reached from IPv6 as well.
        let Some(container) = own.or_else(|| addresses().find(IpAddr::is_ipv4)) else { return };
        for port in &endpoint.ports {
            let target = Target {
                host_port: port.host_port,
                host_port_end: port.host_port_end,
                container: SocketAddr::new(container, port.port),
            };
            for address in host_addresses::<A>(host, &port.host_ip) {
                self.targets.entry((port.proto, address.into())).or_default().push(target);
            }
        }
    }

    /// Where somebody on the host is led who asks for this address of the host's.
    pub(crate) fn find(&self, proto: Proto, asked: SocketAddr) -> Option<SocketAddr> {
        let any = match asked.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let places = [asked.ip(), any];
        places.into_iter().find_map(|place| self.find_at((proto, place), asked.port()))
    }

    fn find_at(&self, place: (Proto, IpAddr), port: u16) -> Option<SocketAddr> {
        let covers = |target: &&Target| (target.host_port..=target.host_port_end).contains(&port);
        let target = self.targets.get(&place)?.iter().find(covers)?;
        let container = target.container;
        Some(SocketAddr::new(container.ip(), container.port() + (port - target.host_port)))
    }
}
