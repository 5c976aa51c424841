//! Planning a network's subnets: their prefixes, gateways and ranges.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{NetworkError, OverlapOwner};
use crate::{
    api::NetworkCreate,
    desired::{Desired, HostView},
    ipam::{self, Pools},
    model::{Family, GatewayMode, Subnet},
};

/// The choice of a network's subnets.
pub(super) struct NetworkPlan<'a> {
    pub(super) desired: &'a Desired,
    pub(super) request: &'a NetworkCreate,
    pub(super) host: &'a HostView,
    pub(super) pools: &'a Pools,
    /// IPv4's, IPv6's.
    pub(super) modes: [GatewayMode; 2],
}

impl NetworkPlan<'_> {
    pub(super) fn subnets(&self) -> Result<Vec<Subnet>, NetworkError> {
        let mut prefixes = Vec::new();
        for family in Family::ALL {
            let mut given = self.request.subnets.iter().filter(|net| Family::of_net(net) == family);
            match (given.next(), given.next()) {
                (Some(&first), Some(&second)) => {
                    return Err(NetworkError::TwoSubnets {
                        name: self.name(),
                        family,
                        first,
                        second,
                    });
                }
                (Some(subnet), None) => {
                    self.check_prefix(subnet)?;
                    prefixes.push((*subnet, true));
                }
                (None, _) if family == Family::Ipv4 || self.request.ipv6 => {
                    prefixes.push((self.next_of_pool(family)?, false));
                }
                (None, _) => {}
            }
        }
        self.check_details_have_a_subnet(&prefixes)?;
        prefixes.into_iter().map(|(net, is_given)| self.subnet(net, is_given)).collect()
    }

    fn name(&self) -> String {
        self.request.name.clone()
    }

    fn check_prefix(&self, subnet: &IpNet) -> Result<(), NetworkError> {
        let (name, subnet) = (self.name(), *subnet);
        if subnet != subnet.trunc() {
            return Err(NetworkError::HostBits { name, subnet });
        }
        if subnet.prefix_len() > ipam::longest_subnet(Family::of_net(&subnet)) {
            return Err(NetworkError::TooSmall { name, subnet });
        }
        if !ipam::is_unicast(&subnet) {
            return Err(NetworkError::NotUnicast { name, subnet });
        }
        match self.owner_of(&subnet) {
            Some(owner) => Err(NetworkError::Overlap { name, subnet, owner }),
            None => Ok(()),
        }
    }

    fn owner_of(&self, subnet: &IpNet) -> Option<OverlapOwner> {
        if let Some(owner) = self.owner_among_networks(subnet) {
            return Some(owner);
        }
        let overlaps = |net: &&IpNet| ipam::overlap(net, subnet);
        if let Some(&address) = self.host.addresses.iter().find(overlaps) {
            return Some(OverlapOwner::HostAddress { address });
        }
        // The default route leads everywhere and takes no address away.
        let mut routes = self.host.routes.iter().filter(|route| route.prefix_len() > 0);
        routes.find(overlaps).map(|&route| OverlapOwner::HostRoute { route })
    }

    /// The network that has a part of a prefix, be it as a subnet or as what one is translated to.
    pub(super) fn owner_among_networks(&self, prefix: &IpNet) -> Option<OverlapOwner> {
        let mut prefixes = self.desired.networks.values().flat_map(|network| {
            let outside = network.nptv6.map(IpNet::V6);
            let subnets = network.subnets.iter().map(|subnet| subnet.subnet);
            subnets.chain(outside).map(|net| (network.name.clone(), net))
        });
        let found = prefixes.find(|(_, net)| ipam::overlap(net, prefix));
        found.map(|(network, subnet)| OverlapOwner::Network { network, subnet })
    }

    fn next_of_pool(&self, family: Family) -> Result<IpNet, NetworkError> {
        let networks = self.desired.networks.values().flat_map(|network| &network.subnets);
        let routes = self.host.routes.iter().filter(|route| route.prefix_len() > 0);
        let host = self.host.addresses.iter().chain(routes).chain(&ipam::NOT_FOR_HOSTS).copied();
        let taken: Vec<_> = networks.map(|subnet| subnet.subnet).chain(host).collect();
        let free = self.pools.free_subnet(family, &taken);
        free.ok_or_else(|| NetworkError::PoolsExhausted { name: self.name(), family })
    }

    fn check_details_have_a_subnet(&self, prefixes: &[(IpNet, bool)]) -> Result<(), NetworkError> {
        let inside = |address: &IpAddr| prefixes.iter().any(|(net, _)| net.contains(address));
        let gateways = self.request.gateways.iter().map(|ip| ("--gateway", *ip, ip.to_string()));
        let ranges = &self.request.ip_ranges;
        let ranges = ranges.iter().map(|net| ("--ip-range", net.addr(), net.to_string()));
        let aux = self.request.aux_addresses.iter();
        let aux = aux.map(|(name, ip)| ("--aux-address", *ip, format!("{name}={ip}")));
        for (flag, address, value) in gateways.chain(ranges).chain(aux) {
            if !inside(&address) {
                return Err(NetworkError::NoSubnet { name: self.name(), flag, value });
            }
        }
        Ok(())
    }

    fn subnet(&self, subnet: IpNet, user_configured: bool) -> Result<Subnet, NetworkError> {
        let address_error = |source| NetworkError::Address { name: self.name(), source };
        let ip_range = self.ip_range(&subnet)?;
        let aux = self.request.aux_addresses.iter().filter(|(_, ip)| subnet.contains(*ip));
        let aux: BTreeMap<String, IpAddr> = aux.map(|(name, ip)| (name.clone(), *ip)).collect();
        let gateway_mode = match Family::of_net(&subnet) {
            Family::Ipv4 => self.modes[0],
            Family::Ipv6 => self.modes[1],
        };
        let gateway = self.gateway(&subnet, gateway_mode, ip_range.as_ref(), &aux)?;
        if let Some(gateway) = gateway {
            ipam::check_host_address(&subnet, gateway).map_err(address_error)?;
        }
        for (aux, &address) in &aux {
            ipam::check_host_address(&subnet, address).map_err(address_error)?;
            if Some(address) == gateway {
                let (name, aux) = (self.name(), aux.clone());
                return Err(NetworkError::AuxIsGateway { name, aux, address });
            }
        }
        let aux_addresses = aux;
        Ok(Subnet { subnet, gateway, gateway_mode, ip_range, aux_addresses, user_configured })
    }

    /// The bridge's address: the one that was given, or the first of the range.
    fn gateway(
        &self,
        subnet: &IpNet,
        mode: GatewayMode,
        ip_range: Option<&IpNet>,
        aux: &BTreeMap<String, IpAddr>,
    ) -> Result<Option<IpAddr>, NetworkError> {
        let given = self.given_gateway(subnet)?;
        if mode == GatewayMode::Isolated {
            let (name, subnet) = (self.name(), *subnet);
            let refuse = |gateway| Err(NetworkError::IsolatedGateway { name, subnet, gateway });
            return given.map_or(Ok(None), refuse);
        }
        if given.is_some() {
            return Ok(given);
        }
        let aux = aux.values().copied().collect();
        let first = ipam::default_gateway(subnet, ip_range, &aux);
        let address_error = |source| NetworkError::Address { name: self.name(), source };
        first.map(Some).map_err(address_error)
    }

    fn given_gateway(&self, subnet: &IpNet) -> Result<Option<IpAddr>, NetworkError> {
        let mut gateways = self.request.gateways.iter().filter(|ip| subnet.contains(*ip));
        match (gateways.next(), gateways.next()) {
            (Some(_), Some(_)) => {
                let (name, subnet) = (self.name(), *subnet);
                Err(NetworkError::Twice { name, flag: "--gateway", subnet })
            }
            (gateway, _) => Ok(gateway.copied()),
        }
    }

    fn ip_range(&self, subnet: &IpNet) -> Result<Option<IpNet>, NetworkError> {
        let mut ranges =
            self.request.ip_ranges.iter().filter(|range| subnet.contains(&range.addr()));
        let (first, second) = (ranges.next(), ranges.next());
        if second.is_some() {
            let (name, subnet) = (self.name(), *subnet);
            return Err(NetworkError::Twice { name, flag: "--ip-range", subnet });
        }
        match first {
            Some(range) if range.prefix_len() < subnet.prefix_len() => {
                let (name, value) = (self.name(), range.to_string());
                Err(NetworkError::NoSubnet { name, flag: "--ip-range", value })
            }
            range => Ok(range.map(IpNet::trunc)),
        }
    }
}
