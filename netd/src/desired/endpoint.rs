//! Planning endpoints: their names, addresses, MAC addresses and device names.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use thiserror::Error;

use super::{Desired, HostView, LookupError, MAX_NAME, PublishError, is_name};
use crate::{
    api::Connect,
    driver_options::DriverOptions,
    ids::{IdSource, new_host_ifname, new_id, new_mac},
    ipam::{self, AddressError},
    model::{Endpoint, Family, MacAddr, Network, SandboxRef, Subnet, is_ifname},
};

/// The longest name in DNS, as text (RFC 1035 section 2.3.4).
const MAX_ALIAS: usize = 253;

/// What planning may know of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxView {
    pub sandbox: SandboxRef,
    /// The names of its devices.
    pub link_names: BTreeSet<String>,
}

/// Why a sandbox cannot be connected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(
        "{name:?} cannot name an endpoint: begin with a letter or digit and go on with those, '_', \
         '.' and '-', {MAX_NAME} characters at most; give --name"
    )]
    Name { name: String },
    #[error(
        "{alias:?} cannot be an alias: give --alias 1 to {MAX_ALIAS} characters without white space"
    )]
    Alias { alias: String },
    #[error("endpoint {name} already exists: choose another --name")]
    Exists { name: String },
    #[error("sandbox {sandbox} is already connected to network {network} as endpoint {endpoint}")]
    AlreadyConnected { sandbox: String, network: String, endpoint: String },
    #[error("network {network} has no {family} subnet: leave {flag} out")]
    NoSubnet { network: String, family: Family, flag: &'static str },
    #[error("network {network}: {source}")]
    Address { network: String, source: AddressError },
    #[error("{mac} is a group address or zero: choose a MAC address whose first byte is even")]
    MacNotUnicast { mac: MacAddr },
    #[error("MAC address {mac} is already used by endpoint {endpoint}: choose another")]
    MacTaken { mac: MacAddr, endpoint: String },
    #[error("{ifname:?} cannot name a device: use at most 15 letters and digits")]
    Ifname { ifname: String },
    #[error("sandbox {sandbox} already has a device {ifname}: choose another --ifname")]
    IfnameTaken { sandbox: String, ifname: String },
    #[error("no slot is left for endpoint {name}: remove endpoints or published ports")]
    SlotsExhausted { name: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why a sandbox cannot be disconnected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DisconnectError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("sandbox {sandbox} is not connected to network {network}: see `netd endpoint ls`")]
    NotConnected { sandbox: String, network: String },
}

impl Desired {
    /// Plans an endpoint with its published ports.
    ///
    /// # Errors
    /// Where the request contradicts the network, the sandbox, the host, or another endpoint.
    pub fn plan_endpoint(
        &self,
        request: &Connect,
        sandbox: &SandboxView,
        host: &HostView,
        ids: &mut dyn IdSource,
    ) -> Result<Endpoint, ConnectError> {
        let network = self.network(&request.network)?;
        let name = self.endpoint_name(request, &sandbox.sandbox)?;
        let mut slots = self.free_slots();
        let slot =
            slots.next().ok_or_else(|| ConnectError::SlotsExhausted { name: name.clone() })?;
        let (ipv4, ipv6) = self.endpoint_addresses(network, request)?;
        check_aliases(&request.aliases)?;
        let mut endpoint = Endpoint {
            name,
            id: new_id(ids),
            slot,
            network: network.name.clone(),
            sandbox: sandbox.sandbox.clone(),
            ifname: ifname(network, request, sandbox)?,
            host_ifname: self.host_ifname(host, ids),
            mac: self.mac(network, request.mac, ids)?,
            ipv4,
            ipv6,
            gateway: gateway_of(network, Family::Ipv4).and_then(ipv4_of),
            gateway6: gateway_of(network, Family::Ipv6).and_then(ipv6_of),
            aliases: request.aliases.clone(),
            gw_priority: request.gw_priority,
            max_flows: request.max_flows,
            links: Vec::new(),
            ports: Vec::new(),
        };
        endpoint.ports = self.plan_ports_of(&endpoint, &request.ports, host, slots)?;
        Ok(endpoint)
    }

    /// Finds the endpoint that attaches a sandbox to a network: by the namespace where it is known
    /// (`Some`) and has one, else by the text of the request. So an endpoint whose sandbox is gone can
    /// be found, also when another sandbox has taken its name.
    ///
    /// # Errors
    /// Where there is no such network or endpoint.
    pub fn find_attachment(
        &self,
        network: &str,
        text: &str,
        sandbox: Option<&SandboxRef>,
    ) -> Result<&Endpoint, DisconnectError> {
        let network = &self.network(network)?.name;
        let has_namespace =
            |endpoint: &&Endpoint| sandbox.is_some_and(|sandbox| endpoint.sandbox.is_same(sandbox));
        let has_text = |endpoint: &&Endpoint| endpoint.sandbox.text == text;
        let mut by_namespace = self.endpoints_of(network).filter(has_namespace);
        let mut by_text = self.endpoints_of(network).filter(has_text);
        by_namespace.next().or_else(|| by_text.next()).ok_or_else(|| {
            DisconnectError::NotConnected { sandbox: text.to_owned(), network: network.clone() }
        })
    }

    fn endpoint_name(
        &self,
        request: &Connect,
        sandbox: &SandboxRef,
    ) -> Result<String, ConnectError> {
        let mut attachments = self.endpoints_of(&request.network);
        if let Some(endpoint) = attachments.find(|endpoint| endpoint.sandbox.is_same(sandbox)) {
            return Err(ConnectError::AlreadyConnected {
                sandbox: request.sandbox.clone(),
                network: request.network.clone(),
                endpoint: endpoint.name.clone(),
            });
        }
        let mut name = request.name.clone().unwrap_or_else(|| sandbox.default_endpoint_name());
        let is_own = |owner: &Endpoint| owner.sandbox.is_same(sandbox);
        if request.name.is_none() && self.endpoints.get(&name).is_some_and(is_own) {
            name = format!("{name}.{}", request.network);
        }
        if !is_name(&name) {
            Err(ConnectError::Name { name })
        } else if self.endpoints.contains_key(&name) {
            Err(ConnectError::Exists { name })
        } else {
            Ok(name)
        }
    }

    fn endpoint_addresses(
        &self,
        network: &Network,
        request: &Connect,
    ) -> Result<(Option<Ipv4Net>, Option<Ipv6Net>), ConnectError> {
        let ipv4 = self.address(network, Family::Ipv4, request.ip.map(IpAddr::V4))?;
        let ipv6 = self.address(network, Family::Ipv6, request.ip6.map(IpAddr::V6))?;
        let ipv4 = ipv4.and_then(|(address, len)| Ipv4Net::new(ipv4_of(address)?, len).ok());
        let ipv6 = ipv6.and_then(|(address, len)| Ipv6Net::new(ipv6_of(address)?, len).ok());
        Ok((ipv4, ipv6))
    }

    fn address(
        &self,
        network: &Network,
        family: Family,
        chosen: Option<IpAddr>,
    ) -> Result<Option<(IpAddr, u8)>, ConnectError> {
        let Some(subnet) = network.subnet(family) else {
            let flag = if family == Family::Ipv4 { "--ip" } else { "--ip6" };
            let network = network.name.clone();
            return chosen
                .map_or(Ok(None), |_| Err(ConnectError::NoSubnet { network, family, flag }));
        };
        let taken = self.taken_addresses(&network.name);
        let address = match chosen {
            Some(chosen) => ipam::check_static(subnet, &taken, chosen).map(|()| chosen),
            None => self.next_address(&network.name, subnet, &taken),
        };
        let error = |source| ConnectError::Address { network: network.name.clone(), source };
        Ok(Some((address.map_err(error)?, subnet.subnet.prefix_len())))
    }

    fn taken_addresses(&self, network: &str) -> BTreeSet<IpAddr> {
        self.endpoints_of(network).flat_map(Endpoint::addresses).map(|net| net.addr()).collect()
    }

    fn next_address(
        &self,
        network: &str,
        subnet: &Subnet,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, AddressError> {
        let key = (network.to_owned(), Family::of_net(&subnet.subnet));
        ipam::next_free(subnet, taken, self.last_address.get(&key).copied())
    }

    /// Remembers the addresses of an endpoint about to be entered, where they are those that were
    /// next: an address that a user chose does not move the round.
    pub(super) fn note_addresses(&mut self, endpoint: &Endpoint) {
        let Some(network) = self.networks.get(&endpoint.network) else { return };
        let taken = self.taken_addresses(&network.name);
        let is_next = |address: &IpAddr| {
            let subnet = network.subnet(Family::of(*address));
            subnet.is_some_and(|s| self.next_address(&network.name, s, &taken) == Ok(*address))
        };
        let next: Vec<IpAddr> =
            endpoint.addresses().map(|net| net.addr()).filter(is_next).collect();
        for address in next {
            self.last_address.insert((endpoint.network.clone(), Family::of(address)), address);
        }
    }

    fn mac(
        &self,
        network: &Network,
        chosen: Option<MacAddr>,
        ids: &mut dyn IdSource,
    ) -> Result<MacAddr, ConnectError> {
        let owner = |mac| self.endpoints_of(&network.name).find(|endpoint| endpoint.mac == mac);
        let Some(mac) = chosen else {
            return Ok(loop {
                let mac = new_mac(ids);
                if owner(mac).is_none() {
                    break mac;
                }
            });
        };
        if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
            return Err(ConnectError::MacNotUnicast { mac });
        }
        match owner(mac) {
            Some(owner) => Err(ConnectError::MacTaken { mac, endpoint: owner.name.clone() }),
            None => Ok(mac),
        }
    }

    fn host_ifname(&self, host: &HostView, ids: &mut dyn IdSource) -> String {
        loop {
            let ifname = new_host_ifname(ids);
            let is_planned = self.endpoints.values().any(|endpoint| endpoint.host_ifname == ifname);
            if !is_planned && !host.link_names.contains(&ifname) {
                return ifname;
            }
        }
    }
}

/// Any word can be one, as for Docker.
fn check_aliases(aliases: &[String]) -> Result<(), ConnectError> {
    let is_no_word = |alias: &&String| {
        let is_forbidden = |c: char| c.is_whitespace() || c.is_control();
        !(1..=MAX_ALIAS).contains(&alias.len()) || alias.contains(is_forbidden)
    };
    match aliases.iter().find(is_no_word) {
        Some(alias) => Err(ConnectError::Alias { alias: alias.clone() }),
        None => Ok(()),
    }
}

fn ifname(
    network: &Network,
    request: &Connect,
    sandbox: &SandboxView,
) -> Result<String, ConnectError> {
    let is_taken = |ifname: &String| sandbox.link_names.contains(ifname);
    match &request.ifname {
        Some(ifname) if !is_ifname(ifname) => Err(ConnectError::Ifname { ifname: ifname.clone() }),
        Some(ifname) if is_taken(ifname) => Err(ConnectError::IfnameTaken {
            sandbox: request.sandbox.clone(),
            ifname: ifname.clone(),
        }),
        Some(ifname) => Ok(ifname.clone()),
        None => {
            // The network's options were read when it was created.
            let options = DriverOptions::parse(&network.options).unwrap_or_default();
            let prefix = options.ifname_prefix.unwrap_or_else(|| "eth".to_owned());
            let mut names = (0_u32..).map(|n| format!("{prefix}{n}"));
            let ifname = names.find(|ifname| !is_taken(ifname)).unwrap_or(prefix);
            if is_ifname(&ifname) { Ok(ifname) } else { Err(ConnectError::Ifname { ifname }) }
        }
    }
}

/// The gateway of a network's endpoints: none where nothing leads out. The auxiliary addresses of
/// these names are Docker's way to have another one than the bridge (`docker-behaviour.md` A5).
fn gateway_of(network: &Network, family: Family) -> Option<IpAddr> {
    let subnet = network.subnet(family).filter(|_| !network.internal)?;
    let key = match family {
        Family::Ipv4 => "DefaultGatewayIPv4",
        Family::Ipv6 => "DefaultGatewayIPv6",
    };
    subnet.aux_addresses.get(key).copied().or(subnet.gateway)
}

fn ipv4_of(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6_of(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}
