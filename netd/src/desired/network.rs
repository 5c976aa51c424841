//! Planning networks: their names, subnets, gateways and bridges.

mod nptv6;
mod subnets;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv6Net};
use thiserror::Error;

use super::{Desired, HostView, LookupError, MAX_NAME, is_name};
use crate::{
    api::NetworkCreate,
    driver_options::{DriverOptionError, DriverOptions},
    ids::{IdSource, new_id},
    ipam::{self, AddressError, Pools},
    model::{Family, GatewayMode, Manager, NatMode, Network, Subnet, is_ifname},
};
use subnets::NetworkPlan;

/// The highest network number, the size of the data path's table of networks less one.
pub const MAX_NETWORK_NUMBER: u16 = 4_095;

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
         and '-', {MAX_NAME} characters at most"
    )]
    Name { name: String },
    #[error("network {name} already exists: choose another name or remove it first")]
    Exists { name: String },
    #[error(
        "network {name}: all {MAX_NETWORK_NUMBER} networks are in use: remove one with `netd network rm`"
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
        "network {name}: {subnet} is not for hosts: choose a unicast prefix such as {}",
        ipam::example(.subnet)
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
    #[error(
        "network {name}: gateway mode isolated is for internal networks: give --internal as well"
    )]
    IsolatedNotInternal { name: String },
    #[error("network {name}: subnet {subnet} is isolated and has no gateway: leave {gateway} out")]
    IsolatedGateway { name: String, subnet: IpNet, gateway: IpAddr },
    #[error(
        "network {name}: nothing is masqueraded in gateway mode {mode}: leave --masquerade out"
    )]
    NothingToMasquerade { name: String, mode: GatewayMode },
    #[error(
        "network {name}: without masquerading there are no source ports to give: leave --nat eim out"
    )]
    NoPortsToGive { name: String },
    #[error("network {name}: --nptv6 {prefix} is of no use: {reason}")]
    Nptv6 { name: String, prefix: Ipv6Net, reason: &'static str },
    #[error("network {name}: --nptv6 {prefix} is not as long as {subnet}: give a /{}", .subnet.prefix_len())]
    Nptv6Length { name: String, prefix: Ipv6Net, subnet: IpNet },
    #[error("network {name}: --nptv6 {prefix} overlaps {owner}: choose another")]
    Nptv6Overlap { name: String, prefix: Ipv6Net, owner: OverlapOwner },
    #[error("network {name}: icc_published=false adds to --icc=false: give both, or neither")]
    IccPublished { name: String },
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
        let (request, options) = with_options(request)?;
        let modes = gateway_modes(&request, &options)?;
        let plan = NetworkPlan { desired: self, request: &request, host, pools, modes };
        let subnets = plan.subnets()?;
        check_snat_addresses(&request, &subnets)?;
        check_modes(&request, &options, &subnets)?;
        plan.check_nptv6(&subnets)?;
        let mtu = request.mtu.unwrap_or(host.default_mtu);
        check_mtu(&request.name, mtu, &subnets)?;
        let (id, bridge) = self.bridge(&request, host, ids)?;
        Ok(Network {
            number: self
                .free_numbers()
                .next()
                .ok_or_else(|| NetworkError::NumbersExhausted { name: request.name.clone() })?,
            name: request.name,
            id,
            created: 0,
            bridge,
            internal: request.internal,
            icc: request.icc.unwrap_or(true),
            masquerade: request
                .masquerade
                .unwrap_or_else(|| subnets.iter().any(|subnet| subnet.gateway_mode.translates())),
            subnets,
            snat_addresses: request.snat_addresses,
            mtu,
            datapath: request.datapath,
            strict_source: options.strict_source,
            icc_strict: options.icc_published == Some(false),
            max_flows: request.max_flows,
            nat: request.nat,
            nptv6: request.nptv6,
            inhibit_ipv4: options.inhibit_ipv4,
            mss_clamp: options.mss_clamp,
            trusted_interfaces: options.trusted_interfaces,
            direct_routing: false,
            accept_mark: None,
            options: request.options,
            labels: request.labels,
            manager: Manager::Netd,
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

    /// The names of our own networks that have no endpoints.
    pub fn unused_networks(&self) -> Vec<String> {
        let used: BTreeSet<&str> = self.endpoints.values().map(|e| e.network.as_str()).collect();
        let own = self.networks.values().filter(|network| network.manager.is_netd());
        let unused = own.filter(|network| !used.contains(network.name.as_str()));
        unused.map(|network| network.name.clone()).collect()
    }

    /// The numbers that no network has.
    pub(crate) fn free_numbers(&self) -> impl Iterator<Item = u16> + use<> {
        let taken: BTreeSet<u16> = self.networks.values().map(|network| network.number).collect();
        (1..=MAX_NETWORK_NUMBER).filter(move |number| !taken.contains(number))
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
fn with_options(request: &NetworkCreate) -> Result<(NetworkCreate, DriverOptions), NetworkError> {
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
    check(differ(&request.max_flows, &options.max_flows), "--max-flows", "max_flows");
    check(differ(&request.nat, &options.nat), "--nat", "nat");
    check(differ(&request.nptv6, &options.nptv6), "--nptv6", "nptv6");
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
    request.max_flows = request.max_flows.or(options.max_flows);
    request.nat = request.nat.or(options.nat);
    request.nptv6 = request.nptv6.or(options.nptv6);
    request.bridge = request.bridge.or_else(|| options.bridge.clone());
    request.ipv6 |= options.ipv6 == Some(true);
    request.internal |= options.internal == Some(true);
    for address in &options.snat_addresses {
        if !request.snat_addresses.contains(address) {
            request.snat_addresses.push(*address);
        }
    }
    Ok((request, options))
}

/// The gateway mode of each family, IPv4's first.
fn gateway_modes(
    request: &NetworkCreate,
    options: &DriverOptions,
) -> Result<[GatewayMode; 2], NetworkError> {
    const KEYS: [&str; 2] = [
        "com.docker.network.bridge.gateway_mode_ipv4",
        "com.docker.network.bridge.gateway_mode_ipv6",
    ];
    for (key, option) in KEYS.into_iter().zip(&options.gateway_modes) {
        if differ(&request.gateway_mode, option) {
            let (name, flag) = (request.name.clone(), "--gateway-mode");
            return Err(NetworkError::Contradiction { name, flag, key });
        }
    }
    Ok(options.gateway_modes.map(|option| request.gateway_mode.or(option).unwrap_or_default()))
}

/// Checks that the gateway modes go together with what else is asked for.
fn check_modes(
    request: &NetworkCreate,
    options: &DriverOptions,
    subnets: &[Subnet],
) -> Result<(), NetworkError> {
    let name = || request.name.clone();
    let is_isolated = |subnet: &Subnet| subnet.gateway_mode == GatewayMode::Isolated;
    if !request.internal && subnets.iter().any(is_isolated) {
        return Err(NetworkError::IsolatedNotInternal { name: name() });
    }
    let translates = |subnet: &Subnet| subnet.gateway_mode.translates();
    if let Some(first) = subnets.first()
        && request.masquerade == Some(true)
        && !subnets.iter().any(translates)
    {
        return Err(NetworkError::NothingToMasquerade { name: name(), mode: first.gateway_mode });
    }
    let masquerades = request.masquerade != Some(false) && !request.internal;
    if request.nat == Some(NatMode::Eim) && !(masquerades && subnets.iter().any(translates)) {
        return Err(NetworkError::NoPortsToGive { name: name() });
    }
    if options.icc_published == Some(false) && request.icc.unwrap_or(true) {
        return Err(NetworkError::IccPublished { name: name() });
    }
    Ok(())
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
        let Some(subnet) = subnets.iter().find(|subnet| is_same_family(subnet.subnet.addr()))
        else {
            return refuse(address, "the network has no subnet of its family");
        };
        if !subnet.gateway_mode.translates() {
            return refuse(address, "its family's gateway mode translates nothing");
        }
        if request.masquerade == Some(false) {
            return refuse(address, "the network does not masquerade");
        }
    }
    Ok(())
}

fn check_mtu(name: &str, mtu: u32, subnets: &[Subnet]) -> Result<(), NetworkError> {
    let has_ipv6 = subnets.iter().any(|subnet| subnet.family() == Family::Ipv6);
    let min = if has_ipv6 { MIN_MTU_IPV6 } else { MIN_MTU };
    if (min..=MAX_MTU).contains(&mtu) {
        Ok(())
    } else {
        Err(NetworkError::Mtu { name: name.to_owned(), mtu, min })
    }
}
