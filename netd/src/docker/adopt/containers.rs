//! Docker's containers as endpoints of ours.

use std::cmp::Reverse;

use super::{Adopting, HostLink, short};
use crate::{
    docker::{
        ports::{self, Ipv6Way, Part},
        view::{Attachment, Container},
    },
    driver_options::DriverOptions,
    model::{Endpoint, Family, GatewayMode, Network, PublishedPort, SandboxRef},
};

/// The name of a container's device where it is not known.
const DEFAULT_IFNAME: &str = "eth0";

impl<'a> Adopting<'a> {
    pub(super) fn container(&mut self, id: &str, container: &'a Container) {
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
        attachment: &'a Attachment,
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
            Some(ports) if !container.is_started => {
                let (options, _) = DriverOptions::parse_others(&network.options);
                let bound = options.host_binding.map(|address| ports::bound_at(ports, address));
                ports::rows(bound.as_ref().unwrap_or(ports), part)
            }
            Some(ports) => ports::rows(ports, part),
            // Not known while the container starts, nor at once after a start of netd.
            None => known_ports.to_vec(),
        };
        let ports = self.with_slots(&name, ports, known_ports);
        let unbound = container.ports.as_ref().filter(|_| !network.internal);
        let unbound = unbound.map(|ports| ports::unbound_rows(ports, part)).unwrap_or_default();
        self.unbound.push((name.clone(), unbound));
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
            links: Vec::new(),
            ports,
        };
        self.endpoints.insert(&attachment.endpoint_id, name.clone());
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

    /// Publishes what Docker does not bind, where nobody else has the port.
    pub(super) fn publish_unbound(&mut self) {
        for (name, rows) in std::mem::take(&mut self.unbound) {
            for row in rows {
                if let Some((owner, other)) = self.ports.overlapping(&row) {
                    let fault =
                        format!("container {name}: port {row} is published by {owner} as {other}");
                    self.fault(fault);
                    continue;
                }
                let Some(endpoint) = self.adopted.endpoints.get(&name) else { continue };
                let known = self.known.get(endpoint.id.as_str());
                let known = known.map_or(&[][..], |known| &known.ports);
                let rows = self.with_slots(&name, vec![row], known);
                if let Some(endpoint) = self.adopted.endpoints.get_mut(&name) {
                    endpoint.ports.extend(rows);
                }
            }
        }
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
