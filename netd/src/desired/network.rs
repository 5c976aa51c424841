//! Planning networks: their names, subnets, gateways and bridges.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use thiserror::Error;

use super::{Desired, HostView, LookupError, is_name};
use crate::{
    api::NetworkCreate,
    driver_options::{DriverOptionError, DriverOptions},
    ids::{IdSource, new_id},
    ipam::{self, AddressError, Pools},
    model::{Family, GatewayMode, Network, Subnet, is_ifname},
};

/// The highest network number, the size of the data path's table of networks less one.
const MAX_NUMBER: u16 = 4_095;

/// The smallest packet that every link must take (RFC 791, RFC 8200 section 5).
const MIN_MTU: u32 = 68;
const MIN_MTU_IPV6: u32 = 1_280;

/// The largest IPv4 packet.
const MAX_MTU: u32 = 65_535;

/// Why a network cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    #[error(
        "{name:?} cannot name a network: begin with a letter or digit and go on with those, '_', '.' \
         and '-'"
    )]
    Name { name: String },
    #[error("network {name} already exists: choose another name or remove it first")]
    Exists { name: String },
    #[error(
        "network {name}: all {MAX_NUMBER} networks are in use: remove one with `netd network rm`"
    )]
    NumbersExhausted { name: String },
    #[error("network {name}: {source}")]
    Options { name: String, source: DriverOptionError },
    #[error("network {name}: {flag} and the option {key} contradict each other: give one of them")]
    Contradiction { name: String, flag: &'static str, key: &'static str },
    #[error(
        "network {name}: {first} and {second} are both {family}: give one subnet of each family"
    )]
    TwoSubnets { name: String, family: Family, first: IpNet, second: IpNet },
    #[error("network {name}: subnet {subnet} has host bits: write {}", .subnet.trunc())]
    HostBits { name: String, subnet: IpNet },
    #[error("network {name}: subnet {subnet} is too small for a gateway and an endpoint")]
    TooSmall { name: String, subnet: IpNet },
    #[error(
        "network {name}: {subnet} is not for hosts: choose a unicast prefix such as 10.1.0.0/16"
    )]
    NotUnicast { name: String, subnet: IpNet },
    #[error("network {name}: subnet {subnet} overlaps {owner}: choose another")]
    Overlap { name: String, subnet: IpNet, owner: OverlapOwner },
    #[error(
        "network {name}: no {family} pool has a free subnet: give --subnet, or remove a network"
    )]
    PoolsExhausted { name: String, family: Family },
    #[error(
        "network {name}: {flag} {value} is in none of the network's subnets: give its --subnet"
    )]
    NoSubnet { name: String, flag: &'static str, value: String },
    #[error("network {name}: {flag} is given twice for subnet {subnet}")]
    Twice { name: String, flag: &'static str, subnet: IpNet },
    #[error("network {name}: {source}")]
    Address { name: String, source: AddressError },
    #[error("network {name}: --aux-address {aux}={address} is the gateway: choose another")]
    AuxIsGateway { name: String, aux: String, address: IpAddr },
    #[error("network {name}: --snat-address {address} is of no use: {reason}")]
    SnatAddress { name: String, address: IpAddr, reason: &'static str },
    #[error("network {name}: an MTU of {mtu} is not possible: give --mtu from {min} to {MAX_MTU}")]
    Mtu { name: String, mtu: u32, min: u32 },
    #[error("network {name}: {bridge:?} cannot name a device: use at most 15 letters and digits")]
    BridgeName { name: String, bridge: String },
    #[error("network {name}: a device {bridge} already exists: choose another --bridge")]
    BridgeExists { name: String, bridge: String },
}

/// What a subnet overlaps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverlapOwner {
    #[error("{subnet} of network {network}")]
    Network { network: String, subnet: IpNet },
    #[error("the host's address {address}")]
    HostAddress { address: IpNet },
    #[error("the host's route to {route}")]
    HostRoute { route: IpNet },
}

/// Why a network cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RemoveNetworkError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("network {name} is in use by {}: disconnect them first", .endpoints.join(", "))]
    InUse { name: String, endpoints: Vec<String> },
}

impl Desired {
    /// Plans a network. `created` is left at 0 for the controller, which knows the time.
    ///
    /// # Errors
    /// Where the request contradicts itself, the host, or a network that exists.
    pub fn plan_network(
        &self,
        request: &NetworkCreate,
        host: &HostView,
        pools: &Pools,
        ids: &mut dyn IdSource,
    ) -> Result<Network, NetworkError> {
        let name = || request.name.clone();
        if !is_name(&request.name) {
            return Err(NetworkError::Name { name: name() });
        }
        if self.networks.contains_key(&request.name) {
            return Err(NetworkError::Exists { name: name() });
        }
        let request = with_options(request)?;
        let subnets = NetworkPlan { desired: self, request: &request, host, pools }.subnets()?;
        check_snat_addresses(&request, &subnets)?;
        let mtu = request.mtu.unwrap_or(host.default_mtu);
        check_mtu(&request.name, mtu, &subnets)?;
        let (id, bridge) = self.bridge(&request, host, ids)?;
        Ok(Network {
            number: self.free_number(&request.name)?,
            name: request.name,
            id,
            created: 0,
            bridge,
            subnets,
            internal: request.internal,
            icc: request.icc.unwrap_or(true),
            masquerade: request.masquerade.unwrap_or(true),
            snat_addresses: request.snat_addresses,
            gateway_mode: GatewayMode::Nat,
            mtu,
            options: request.options,
            labels: request.labels,
        })
    }

    /// Checks that a network can go.
    ///
    /// # Errors
    /// Where it does not exist or has endpoints.
    pub fn check_remove_network(&self, name: &str) -> Result<&Network, RemoveNetworkError> {
        let network = self.network(name)?;
        let endpoints: Vec<_> = self.endpoints_of(name).map(|e| e.name.clone()).collect();
        if endpoints.is_empty() {
            Ok(network)
        } else {
            Err(RemoveNetworkError::InUse { name: name.to_owned(), endpoints })
        }
    }

    /// The names of the networks that have no endpoints.
    pub fn unused_networks(&self) -> Vec<String> {
        let used: BTreeSet<&str> = self.endpoints.values().map(|e| e.network.as_str()).collect();
        self.networks.keys().filter(|name| !used.contains(name.as_str())).cloned().collect()
    }

    fn free_number(&self, name: &str) -> Result<u16, NetworkError> {
        let taken: BTreeSet<u16> = self.networks.values().map(|network| network.number).collect();
        let free = (1..=MAX_NUMBER).find(|number| !taken.contains(number));
        free.ok_or_else(|| NetworkError::NumbersExhausted { name: name.to_owned() })
    }

    fn bridge(
        &self,
        request: &NetworkCreate,
        host: &HostView,
        ids: &mut dyn IdSource,
    ) -> Result<(String, String), NetworkError> {
        let is_taken = |bridge: &String| {
            host.link_names.contains(bridge) || self.networks.values().any(|n| n.bridge == *bridge)
        };
        let Some(bridge) = &request.bridge else {
            return Ok(loop {
                let id = new_id(ids);
                let bridge = format!("br-{}", &id[..12]);
                if !is_taken(&bridge) {
                    break (id, bridge);
                }
            });
        };
        let (name, bridge) = (request.name.clone(), bridge.clone());
        if !is_ifname(&bridge) {
            Err(NetworkError::BridgeName { name, bridge })
        } else if is_taken(&bridge) {
            Err(NetworkError::BridgeExists { name, bridge })
        } else {
            Ok((new_id(ids), bridge))
        }
    }
}

/// The request with what its `-o` options say filled in.
fn with_options(request: &NetworkCreate) -> Result<NetworkCreate, NetworkError> {
    let options = DriverOptions::parse(&request.options)
        .map_err(|source| NetworkError::Options { name: request.name.clone(), source })?;
    let mut request = request.clone();
    let mut clash = None;
    let mut check = |is_clash: bool, flag, key| {
        if is_clash {
            clash = Some((flag, key));
        }
    };
    check(differ(&request.icc, &options.icc), "--icc", "com.docker.network.bridge.enable_icc");
    check(
        differ(&request.masquerade, &options.masquerade),
        "--masquerade",
        "com.docker.network.bridge.enable_ip_masquerade",
    );
    check(differ(&request.mtu, &options.mtu), "--mtu", "com.docker.network.driver.mtu");
    check(differ(&request.bridge, &options.bridge), "--bridge", "com.docker.network.bridge.name");
    check(request.ipv6 && options.ipv6 == Some(false), "--ipv6", "com.docker.network.enable_ipv6");
    check(
        request.internal && options.internal == Some(false),
        "--internal",
        "com.docker.network.internal",
    );
    if let Some((flag, key)) = clash {
        return Err(NetworkError::Contradiction { name: request.name, flag, key });
    }
    request.icc = request.icc.or(options.icc);
    request.masquerade = request.masquerade.or(options.masquerade);
    request.mtu = request.mtu.or(options.mtu);
    request.bridge = request.bridge.or(options.bridge);
    request.ipv6 |= options.ipv6 == Some(true);
    request.internal |= options.internal == Some(true);
    for address in options.snat_addresses {
        if !request.snat_addresses.contains(&address) {
            request.snat_addresses.push(address);
        }
    }
    Ok(request)
}

fn differ<T: PartialEq>(flag: &Option<T>, option: &Option<T>) -> bool {
    matches!((flag, option), (Some(flag), Some(option)) if flag != option)
}

fn check_snat_addresses(request: &NetworkCreate, subnets: &[Subnet]) -> Result<(), NetworkError> {
    let refuse = |address: IpAddr, reason| {
        Err(NetworkError::SnatAddress { name: request.name.clone(), address, reason })
    };
    for (i, &address) in request.snat_addresses.iter().enumerate() {
        let is_same_family = |other: IpAddr| other.is_ipv4() == address.is_ipv4();
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return refuse(address, "nothing outside can answer to it");
        }
        if request.snat_addresses[..i].iter().any(|other| is_same_family(*other)) {
            return refuse(address, "there is another one of its family");
        }
        if !subnets.iter().any(|subnet| is_same_family(subnet.gateway)) {
            return refuse(address, "the network has no subnet of its family");
        }
        if request.masquerade == Some(false) {
            return refuse(address, "the network does not masquerade");
        }
    }
    Ok(())
}

fn check_mtu(name: &str, mtu: u32, subnets: &[Subnet]) -> Result<(), NetworkError> {
    let has_ipv6 = subnets.iter().any(|subnet| subnet.gateway.is_ipv6());
    let min = if has_ipv6 { MIN_MTU_IPV6 } else { MIN_MTU };
    if (min..=MAX_MTU).contains(&mtu) {
        Ok(())
    } else {
        Err(NetworkError::Mtu { name: name.to_owned(), mtu, min })
    }
}

/// The choice of a network's subnets.
struct NetworkPlan<'a> {
    desired: &'a Desired,
    request: &'a NetworkCreate,
    host: &'a HostView,
    pools: &'a Pools,
}

impl NetworkPlan<'_> {
    fn subnets(&self) -> Result<Vec<Subnet>, NetworkError> {
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
        let address = subnet.addr();
        let is_link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
        if subnet != subnet.trunc() {
            return Err(NetworkError::HostBits { name, subnet });
        }
        if subnet.prefix_len() > ipam::longest_subnet(Family::of(address)) {
            return Err(NetworkError::TooSmall { name, subnet });
        }
        let is_special =
            address.is_unspecified() || address.is_multicast() || address.is_loopback();
        if is_special || is_link_local || is_class_e(address) {
            return Err(NetworkError::NotUnicast { name, subnet });
        }
        match self.owner_of(&subnet) {
            Some(owner) => Err(NetworkError::Overlap { name, subnet, owner }),
            None => Ok(()),
        }
    }

    fn owner_of(&self, subnet: &IpNet) -> Option<OverlapOwner> {
        let overlaps = |net: &&IpNet| ipam::overlap(net, subnet);
        let mut networks = self.desired.networks.values().flat_map(|network| {
            network.subnets.iter().map(|subnet| (network.name.clone(), subnet.subnet))
        });
        if let Some((network, subnet)) = networks.find(|(_, net)| overlaps(&net)) {
            return Some(OverlapOwner::Network { network, subnet });
        }
        if let Some(&address) = self.host.addresses.iter().find(overlaps) {
            return Some(OverlapOwner::HostAddress { address });
        }
        // The default route leads everywhere and takes no address away.
        let mut routes = self.host.routes.iter().filter(|route| route.prefix_len() > 0);
        routes.find(overlaps).map(|&route| OverlapOwner::HostRoute { route })
    }

    fn next_of_pool(&self, family: Family) -> Result<IpNet, NetworkError> {
        let networks = self.desired.networks.values().flat_map(|network| &network.subnets);
        let routes = self.host.routes.iter().filter(|route| route.prefix_len() > 0);
        let host = self.host.addresses.iter().chain(routes).copied();
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
        let mut gateways = self.request.gateways.iter().filter(|ip| subnet.contains(*ip));
        let gateway = match (gateways.next(), gateways.next()) {
            (Some(_), Some(_)) => {
                return Err(NetworkError::Twice { name: self.name(), flag: "--gateway", subnet });
            }
            (Some(&gateway), None) => gateway,
            (None, _) => {
                let aux = aux.values().copied().collect();
                ipam::default_gateway(&subnet, ip_range.as_ref(), &aux).map_err(address_error)?
            }
        };
        ipam::check_host_address(&subnet, gateway).map_err(address_error)?;
        for (aux, &address) in &aux {
            ipam::check_host_address(&subnet, address).map_err(address_error)?;
            if address == gateway {
                let (name, aux) = (self.name(), aux.clone());
                return Err(NetworkError::AuxIsGateway { name, aux, address });
            }
        }
        Ok(Subnet { subnet, gateway, ip_range, aux_addresses: aux, user_configured })
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

/// 240.0.0.0/4 and the broadcast address, which the kernel takes for no interface's (RFC 1112).
fn is_class_e(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] >= 240)
}
