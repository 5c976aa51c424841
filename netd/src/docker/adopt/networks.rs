//! Docker's networks as ours.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Adopting, short};
use crate::{
    docker::view::{self, Pool},
    driver_options::DriverOptions,
    model::{Family, FirewallMark, GatewayMode, Manager, Network, Subnet},
};

/// Ethernet's: Docker's own where nobody names another.
const DEFAULT_MTU: u32 = 1500;

/// What the daemon's own options say of all networks, or of docker0.
struct Told {
    ip_masq: bool,
    direct_routing: bool,
    accept_mark: Option<FirewallMark>,
}

impl<'a> Adopting<'a> {
    pub(super) fn network(&mut self, docker: &'a view::Network) {
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
        let network = self.built(docker, name.clone(), number, options, known);
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
        known: Option<&Network>,
    ) -> Network {
        let bridge = options.bridge.unwrap_or_else(|| format!("br-{}", short(&docker.id)));
        let subnets = self.subnets(docker, &bridge, options.gateway_modes);
        let translates = subnets.iter().any(|subnet| subnet.gateway_mode.translates());
        let told = self.told(known);
        let (icc, masquerade) = if docker.is_default {
            (self.facts.config.icc.or(options.icc), Some(told.ip_masq))
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
            direct_routing: told.direct_routing,
            accept_mark: self.facts.config.accept_mark.or(told.accept_mark),
            options: docker.options.clone(),
            labels: docker.labels.clone(),
            manager: Manager::Docker,
        }
    }

    /// What dockerd was told, or else what held before.
    fn told(&self, known: Option<&Network>) -> Told {
        match (self.facts.settings, known) {
            (Some(settings), _) => Told {
                ip_masq: settings.ip_masq,
                direct_routing: settings.allow_direct_routing,
                accept_mark: settings.accept_mark,
            },
            (None, Some(known)) => Told {
                ip_masq: known.masquerade,
                direct_routing: known.direct_routing,
                accept_mark: known.accept_mark,
            },
            (None, None) => Told { ip_masq: true, direct_routing: false, accept_mark: None },
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
}
