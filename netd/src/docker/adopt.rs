//! Which networks and endpoints of ours a Docker host asks for. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    ports::{self, Ipv6Way, Part},
    taken::Taken,
    view::{self, Attachment, Container, Pool, View},
};
use crate::{
    config::DockerConfig,
    desired::Desired,
    driver_options::DriverOptions,
    model::{
        Endpoint, Family, GatewayMode, MacAddr, Manager, Network, PublishedPort, SandboxRef, Subnet,
    },
};

/// Ethernet's: Docker's own where nobody names another.
const DEFAULT_MTU: u32 = 1500;

/// The name of a container's device where it is not known.
const DEFAULT_IFNAME: &str = "eth0";

/// What adopting depends on beside Docker itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub config: DockerConfig,
    /// Whether dockerd was told to masquerade docker0.
    pub ip_masq: bool,
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

    fn network(&mut self, docker: &'a view::Network) {
        let known = self.desired.networks.values().find(|network| network.id == docker.id);
        let Some(number) = known.map(|network| network.number).or_else(|| self.numbers.next())
        else {
            self.fault(format!("network {}: all network numbers are in use", docker.name));
            return;
        };
        let candidates = [docker.name.clone(), format!("{}-{}", docker.name, short(&docker.id))];
        let is_free = |name: &String| {
            let other = self.desired.networks.get(name).filter(|other| other.id != docker.id);
            // One that Docker has no more gives its name up: docker0's network is another one after each restart.
            let is_there = |other: &&Network| {
                other.manager.is_netd() || self.view.networks.contains_key(&other.id)
            };
            other.filter(is_there).is_none() && !self.adopted.networks.contains_key(name)
        };
        let keeps = known.map(|known| known.name.clone()).filter(|name| candidates.contains(name));
        let Some(name) = keeps.or_else(|| candidates.into_iter().find(is_free)) else { return };
        let (options, errors) = DriverOptions::parse_others(&docker.options);
        for error in errors {
            self.fault(format!("network {}: {error}", docker.name));
        }
        let network = self.built(docker, name.clone(), number, options);
        if let Some(fault) = self.fault_of(&network, known.is_some()) {
            self.fault(fault);
            return;
        }
        self.names.insert(&docker.id, name.clone());
        self.adopted.networks.insert(name, network);
    }

    /// Why a network is left alone.
    fn fault_of(&self, network: &Network, is_known: bool) -> Option<String> {
        let Network { name, bridge, .. } = network;
        if self.facts.other_devices.contains(bridge) {
            return Some(format!("network {name}: its bridge {bridge} is no bridge"));
        }
        // Packets to and from there would be nobody's. What is plugged in later is closed, and said so.
        let others = self.facts.other_ports.get(bridge).filter(|_| !is_known);
        if let Some(others) = others {
            let others = others.join(", ");
            return Some(format!(
                "network {name}: bridge {bridge} has ports beside its containers' ({others}), so it is left alone"
            ));
        }
        let own = self.desired.networks.values().filter(|network| network.manager.is_netd());
        let mut own = own.flat_map(|own| own.subnets.iter().map(move |subnet| (own, subnet)));
        let overlaps = |subnet: &Subnet| {
            network
                .subnets
                .iter()
                .any(|it| it.subnet.contains(&subnet.subnet) || subnet.subnet.contains(&it.subnet))
        };
        let (other, subnet) = own.find(|(_, subnet)| overlaps(subnet))?;
        Some(format!(
            "network {name}: it overlaps {} of netd's network {}",
            subnet.subnet, other.name
        ))
    }

    fn built(
        &mut self,
        docker: &view::Network,
        name: String,
        number: u16,
        options: DriverOptions,
    ) -> Network {
        let bridge = options.bridge.unwrap_or_else(|| format!("br-{}", short(&docker.id)));
        let subnets = self.subnets(docker, &bridge, options.gateway_modes);
        let translates = subnets.iter().any(|subnet| subnet.gateway_mode.translates());
        let (icc, masquerade) = if docker.is_default {
            (self.facts.config.icc.or(options.icc), Some(self.facts.ip_masq))
        } else {
            (options.icc, options.masquerade)
        };
        let has_family =
            |address: &IpAddr| subnets.iter().any(|subnet| subnet.family() == Family::of(*address));
        Network {
            name,
            id: docker.id.clone(),
            number,
            created: docker.created,
            bridge,
            internal: docker.internal,
            icc: icc.unwrap_or(true),
            masquerade: masquerade.unwrap_or(true) && translates,
            snat_addresses: options.snat_addresses.into_iter().filter(has_family).collect(),
            subnets,
            mtu: options.mtu.filter(|mtu| *mtu != 0).unwrap_or(DEFAULT_MTU),
            datapath: None,
            strict_source: options.strict_source,
            icc_strict: options.icc_published == Some(false),
            max_flows: options.max_flows,
            nat: options.nat,
            nptv6: options.nptv6,
            inhibit_ipv4: options.inhibit_ipv4,
            mss_clamp: options.mss_clamp,
            trusted_interfaces: options.trusted_interfaces,
            options: docker.options.clone(),
            labels: docker.labels.clone(),
            manager: Manager::Docker,
        }
    }

    /// The first of each family, IPv4 first: Docker's bridges have no more.
    fn subnets(
        &self,
        docker: &view::Network,
        bridge: &str,
        modes: [Option<GatewayMode>; 2],
    ) -> Vec<Subnet> {
        let of = |family: Family| {
            docker.pools.iter().find(move |pool| Family::of_net(&pool.subnet) == family)
        };
        let subnets = Family::ALL.into_iter().zip(modes).filter_map(|(family, mode)| {
            let pool = of(family)?;
            let gateway_mode = mode.unwrap_or_default();
            let gateway = pool.gateway.or_else(|| self.bridge_address(bridge, pool));
            Some(Subnet {
                subnet: pool.subnet,
                gateway: gateway.filter(|_| gateway_mode != GatewayMode::Isolated),
                gateway_mode,
                ip_range: pool.ip_range,
                aux_addresses: pool.aux_addresses.clone(),
                user_configured: true,
            })
        });
        subnets.collect()
    }

    fn bridge_address(&self, bridge: &str, pool: &Pool) -> Option<IpAddr> {
        let addresses = self.facts.bridge_addresses.get(bridge)?;
        addresses.iter().map(IpNet::addr).find(|address| pool.subnet.contains(address))
    }

    fn container(&mut self, id: &str, container: &'a Container) {
        let ways = self.ways(container);
        for (network_id, attachment) in &container.attachments {
            let Some(network) = self.names.get(network_id.as_str()) else { continue };
            let Some(network) = self.adopted.networks.get(network).cloned() else { continue };
            let key = (network.bridge.clone(), attachment.mac);
            let Some(link) = self.facts.links.get(&key) else {
                self.adopted.is_pending = true;
                continue;
            };
            let part = Part {
                has_ipv4: ways[0] == Some(network_id),
                ipv6: match ways[1] {
                    Some(way) if way == network_id => Ipv6Way::Here,
                    Some(_) => Ipv6Way::Elsewhere,
                    None => Ipv6Way::Nowhere,
                },
                is_routed: is_routed(&network, attachment),
            };
            if !self.links.insert(&link.host_ifname) {
                let (name, mac) = (&container.name, attachment.mac);
                self.fault(format!("container {name}: another one of its network has {mac} too"));
                continue;
            }
            self.endpoint((id, container), attachment, &network, link, part);
        }
    }

    /// By which of its networks a container is reached and leaves, by family: A11, `Endpoint.Less` of libnetwork.
    fn ways(&self, container: &'a Container) -> [Option<&'a String>; 2] {
        let network = |id: &String| self.adopted.networks.get(self.names.get(id.as_str())?);
        let leads_out =
            |(id, _): &(&String, &Attachment)| network(id).is_some_and(|network| !network.internal);
        let mut attachments: Vec<_> = container.attachments.iter().filter(leads_out).collect();
        attachments.sort_by_key(|(id, attachment)| {
            let has_both = attachment.ipv4.is_some() && attachment.ipv6.is_some();
            let name = self.view.networks.get(*id).map(|network| network.name.as_str());
            (Reverse(attachment.gw_priority), Reverse(has_both), name)
        });
        let first = |has: fn(&Attachment) -> bool| {
            attachments.iter().find(|(_, attachment)| has(attachment)).map(|(id, _)| *id)
        };
        [
            first(|attachment| attachment.ipv4.is_some()),
            first(|attachment| attachment.ipv6.is_some()),
        ]
    }

    fn endpoint(
        &mut self,
        (id, container): (&str, &Container),
        attachment: &Attachment,
        network: &Network,
        link: &HostLink,
        part: Part,
    ) {
        let known = self.known.get(attachment.endpoint_id.as_str()).copied();
        let Some(slot) = known.map(|known| known.slot).or_else(|| self.slots.next()) else {
            self.fault(format!("container {}: no slot is left", container.name));
            return;
        };
        let Some(name) = self.endpoint_name(container, attachment, network, known) else { return };
        let known_ports = known.map_or(&[][..], |known| &known.ports);
        let ports = match &container.ports {
            _ if network.internal => Vec::new(),
            Some(ports) => ports::rows(ports, part),
            // Not known while the container starts, nor at once after a start of netd.
            None => known_ports.to_vec(),
        };
        let ports = self.with_slots(&name, ports, known_ports);
        let sandbox = self.facts.sandboxes.get(id).cloned();
        let sandbox = sandbox.or_else(|| known.map(|known| known.sandbox.clone()));
        // Each endpoint a sandbox of its own, as long as it is not known that some have the same.
        let unknown =
            || SandboxRef { text: format!("docker:{}", short(id)), dev: 0, ino: slot.into() };
        let ifname = link.ifname.clone().or_else(|| known.map(|known| known.ifname.clone()));
        let endpoint = Endpoint {
            name: name.clone(),
            id: attachment.endpoint_id.clone(),
            slot,
            network: network.name.clone(),
            sandbox: sandbox.unwrap_or_else(unknown),
            ifname: ifname.unwrap_or_else(|| DEFAULT_IFNAME.to_owned()),
            host_ifname: link.host_ifname.clone(),
            mac: attachment.mac,
            ipv4: attachment.ipv4,
            ipv6: attachment.ipv6,
            gateway: attachment.gateway,
            gateway6: attachment.gateway6,
            aliases: attachment.aliases.clone(),
            gw_priority: attachment.gw_priority,
            max_flows: known.and_then(|known| known.max_flows),
            ports,
        };
        self.adopted.endpoints.insert(name, endpoint);
    }

    /// The container's, as long as it is nobody else's.
    fn endpoint_name(
        &self,
        container: &Container,
        attachment: &Attachment,
        network: &Network,
        known: Option<&Endpoint>,
    ) -> Option<String> {
        let full = format!("{}.{}", container.name, network.name);
        let candidates = [
            container.name.clone(),
            full.clone(),
            format!("{full}.{}", short(&attachment.endpoint_id)),
        ];
        let is_free = |name: &String| {
            let other = self.desired.endpoints.get(name);
            let is_gone = |other: &Endpoint| {
                self.desired.is_dockers(other) && !self.attached.contains(other.id.as_str())
            };
            other.is_none_or(|other| other.id == attachment.endpoint_id || is_gone(other))
                && !self.adopted.endpoints.contains_key(name)
        };
        let keeps = known.map(|known| known.name.clone()).filter(|name| candidates.contains(name));
        keeps.or_else(|| candidates.into_iter().find(is_free))
    }

    /// Rows that were there before keep their slots. One that netd publishes itself for somebody else stays that
    /// one's.
    fn with_slots(
        &mut self,
        endpoint: &str,
        rows: Vec<PublishedPort>,
        known: &[PublishedPort],
    ) -> Vec<PublishedPort> {
        let mut given = Vec::new();
        for row in rows {
            // Docker has not given the port away yet, or not for long.
            if self.ports.overlapping(&row).is_some_and(|(owner, _)| owner != endpoint) {
                continue;
            }
            if let Some((owner, other)) = self.own_ports.overlapping(&row) {
                let fault = format!(
                    "container {endpoint}: port {row} is published by endpoint {owner} as {other}"
                );
                self.fault(fault);
                continue;
            }
            let before = known
                .iter()
                .find(|known| PublishedPort { slot: row.slot, ..(*known).clone() } == row);
            match before.map(|before| before.slot).or_else(|| self.slots.next()) {
                Some(slot) => {
                    self.ports.add(endpoint, &row);
                    given.push(PublishedPort { slot, ..row });
                }
                None => self.fault(format!("container {endpoint}: no slot is left for port {row}")),
            }
        }
        given
    }

    fn fault(&mut self, fault: String) {
        self.adopted.faults.insert(fault);
    }
}

/// Whether a container is reached at its own addresses only.
fn is_routed(network: &Network, attachment: &Attachment) -> bool {
    let has = [attachment.ipv4.is_some(), attachment.ipv6.is_some()];
    let mut families = Family::ALL.into_iter().zip(has).filter(|(_, has)| *has).peekable();
    families.peek().is_some()
        && families.all(|(family, _)| {
            let subnet = network.subnet(family);
            subnet.is_some_and(|subnet| subnet.gateway_mode == GatewayMode::Routed)
        })
}

/// As Docker shortens an id.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests;
