//! Planning published ports: which host port each gets, and that no packet is meant for two.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use thiserror::Error;

use super::{Desired, HostView, LookupError};
use crate::{
    driver_options::DriverOptions,
    model::{Endpoint, Family, GatewayMode, HostIp, Listener, Network, Proto, PublishedPort},
    port_spec::{PortRange, PortSpec},
};

/// Why a port cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(
        "endpoint {endpoint} is on the internal network {network}, where no port can be published: \
         connect it to another network as well"
    )]
    InternalNetwork { endpoint: String, network: String },
    #[error(
        "endpoint {endpoint} has no IPv6 address, so {host_ip} cannot lead to it: use an IPv4 address"
    )]
    NoIpv6 { endpoint: String, host_ip: IpAddr },
    #[error(
        "endpoint {endpoint} has no IPv4 address, so {host_ip} cannot lead to it: use an IPv6 address"
    )]
    NoIpv4 { endpoint: String, host_ip: IpAddr },
    #[error(
        "endpoint {endpoint} is reached at its own address, for network {network} is routed: leave \
         {host_ip} out"
    )]
    Routed { endpoint: String, network: String, host_ip: HostIp },
    #[error("the host has no interface {ifname}: see `ip link`")]
    UnknownInterface { ifname: String },
    #[error(
        "the host has no address {host_ip}, so no port can be published on it: choose one of \
         `ip address`"
    )]
    UnknownAddress { host_ip: IpAddr },
    #[error(
        "port {wanted} is already published by endpoint {by} as {existing}: choose another host port"
    )]
    PortTaken { wanted: String, by: String, existing: String },
    #[error("port {wanted} is held by {}: choose another host port, or end it", shown_owner(.owner))]
    PortHeld {
        wanted: String,
        listener: Listener,
        /// A process by its name and number, for who can look.
        owner: Option<(String, u32)>,
    },
    #[error("all of the host ports {range}/{proto} are taken: use a larger range")]
    RangeTaken { range: PortRange, proto: Proto },
    #[error(
        "no host port is free in net.ipv4.ip_local_port_range ({first} {last}): name a HOSTPORT"
    )]
    NoneFree { first: u16, last: u16 },
    #[error(
        "no slot is left for a port of endpoint {endpoint}: remove endpoints or published ports"
    )]
    SlotsExhausted { endpoint: String },
}

/// A process as an error names it.
fn shown_owner(owner: &Option<(String, u32)>) -> String {
    match owner {
        Some((name, pid)) => format!("{name} (process {pid})"),
        None => "a process of this host".to_owned(),
    }
}

/// Why a port cannot be unpublished.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnpublishError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("endpoint {endpoint} does not publish {spec}: see `netd port ls {endpoint}`")]
    NotPublished { endpoint: String, spec: String },
}

impl Desired {
    /// Plans published ports for an endpoint that exists.
    ///
    /// # Errors
    /// Where one of them cannot be had; then none is.
    pub fn plan_ports(
        &self,
        endpoint: &str,
        specs: &[PortSpec],
        host: &HostView,
    ) -> Result<Vec<PublishedPort>, PublishError> {
        self.plan_ports_of(self.endpoint(endpoint)?, specs, host, self.free_slots())
    }

    /// Finds the published ports of an endpoint that the specs mean. One without a HOSTPORT means
    /// every row that leads to its container port.
    ///
    /// # Errors
    /// Where one of them means none.
    pub fn plan_unpublish(
        &self,
        endpoint: &str,
        specs: &[PortSpec],
    ) -> Result<Vec<PublishedPort>, UnpublishError> {
        let endpoint = self.endpoint(endpoint)?;
        let binding = default_host_ip(self.network(&endpoint.network)?);
        let mut slots = BTreeSet::new();
        for spec in specs {
            let host_ip = host_ip(spec, &binding);
            let is_meant = |row: &&PublishedPort| {
                (row.host_ip == host_ip || row.host_ip == HostIp::Container) && is_row_of(row, spec)
            };
            let mut meant = endpoint.ports.iter().filter(is_meant).map(|row| row.slot).peekable();
            if meant.peek().is_none() {
                let (endpoint, spec) = (endpoint.name.clone(), spec.to_string());
                return Err(UnpublishError::NotPublished { endpoint, spec });
            }
            slots.extend(meant);
        }
        Ok(endpoint.ports.iter().filter(|row| slots.contains(&row.slot)).cloned().collect())
    }

    pub(super) fn plan_ports_of(
        &self,
        endpoint: &Endpoint,
        specs: &[PortSpec],
        host: &HostView,
        slots: impl Iterator<Item = u32>,
    ) -> Result<Vec<PublishedPort>, PublishError> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let network = self.network(&endpoint.network)?;
        if network.internal {
            let (endpoint, network) = (endpoint.name.clone(), network.name.clone());
            return Err(PublishError::InternalNetwork { endpoint, network });
        }
        let mut plan = PortPlan { desired: self, endpoint, network, host, rows: Vec::new() };
        let binding = default_host_ip(network);
        // Who names a port gets it, whatever the ranges before it could have taken (P6).
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&i| Reverse(is_exact(&specs[i])));
        let slots: Vec<u32> = slots.take(specs.len()).collect();
        for i in order {
            let exhausted = || PublishError::SlotsExhausted { endpoint: endpoint.name.clone() };
            let slot = *slots.get(i).ok_or_else(exhausted)?;
            plan.publish(i, &specs[i], host_ip(&specs[i], &binding), slot)?;
        }
        plan.rows.sort_by_key(|(i, _)| *i);
        Ok(plan.rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// Where the ports of a network's endpoints are published whose SPEC has no HOSTIP.
fn default_host_ip(network: &Network) -> HostIp {
    // The network's options were read when it was created.
    let options = DriverOptions::parse(&network.options).unwrap_or_default();
    let binding = options.host_binding.filter(|&address| !is_routed(network, Family::of(address)));
    binding.map_or(HostIp::Any, HostIp::Address)
}

fn host_ip(spec: &PortSpec, default: &HostIp) -> HostIp {
    match &spec.host_ip {
        HostIp::Any | HostIp::Container => default.clone(),
        host_ip @ (HostIp::Address(_) | HostIp::Interface(_)) => host_ip.clone(),
    }
}

/// Whether the containers of a network are reached by their own addresses of this family only.
fn is_routed(network: &Network, family: Family) -> bool {
    network.subnet(family).is_some_and(|subnet| subnet.gateway_mode == GatewayMode::Routed)
}

fn is_exact(spec: &PortSpec) -> bool {
    spec.host_ports.is_some_and(|host_ports| host_ports.span() == spec.ports.span())
}

fn is_row_of(row: &PublishedPort, spec: &PortSpec) -> bool {
    let is_host_port = match spec.host_ports {
        // Its host port was not heeded when it was published either.
        _ if row.host_ip == HostIp::Container => true,
        None => true,
        Some(range) if is_exact(spec) => {
            (row.host_port, row.host_port_end) == (range.first(), range.last())
        }
        Some(range) => (range.first()..=range.last()).contains(&row.host_port),
    };
    let is_container_port = (row.port, row.port_end) == (spec.ports.first(), spec.ports.last());
    row.proto == spec.proto && is_host_port && is_container_port
}

/// The rows planned so far, each with the number of its spec.
struct PortPlan<'a> {
    desired: &'a Desired,
    endpoint: &'a Endpoint,
    network: &'a Network,
    host: &'a HostView,
    rows: Vec<(usize, PublishedPort)>,
}

impl PortPlan<'_> {
    fn publish(
        &mut self,
        number: usize,
        spec: &PortSpec,
        host_ip: HostIp,
        slot: u32,
    ) -> Result<(), PublishError> {
        self.check_host_ip(&host_ip)?;
        let (port, port_end) = (spec.ports.first(), spec.ports.last());
        if self.is_routed_only(&host_ip)? {
            let (host_port, host_port_end) = (port, port_end);
            let (proto, host_ip) = (spec.proto, HostIp::Container);
            let row =
                PublishedPort { slot, proto, host_ip, host_port, host_port_end, port, port_end };
            self.rows.push((number, row));
            return Ok(());
        }
        let (first, last) = spec.host_ports.map_or((1, 1), |range| (range.first(), range.last()));
        let mut row = PublishedPort {
            slot,
            proto: spec.proto,
            host_ip,
            host_port: first,
            host_port_end: last,
            port,
            port_end,
        };
        match spec.host_ports {
            Some(_) if is_exact(spec) => self.check_free(&row)?,
            Some(range) => self
                .move_to_free(&mut row, first..=last, &[])
                .ok_or(PublishError::RangeTaken { range, proto: spec.proto })?,
            None => {
                let (first, last) = self.host.local_port_range;
                self.move_to_free(&mut row, first..=last, &self.host.reserved_ports)
                    .ok_or(PublishError::NoneFree { first, last })?;
            }
        }
        self.rows.push((number, row));
        Ok(())
    }

    /// Whether the port is open at the container's own address only: the host port is not heeded then
    /// (row I7), but a host address that somebody names is a promise that cannot be kept.
    fn is_routed_only(&self, host_ip: &HostIp) -> Result<bool, PublishError> {
        let mut families: Vec<Family> =
            self.endpoint.addresses().map(|net| Family::of_net(&net)).collect();
        if let HostIp::Address(address) = host_ip {
            families.retain(|family| *family == Family::of(*address));
        }
        if !families.iter().all(|family| is_routed(self.network, *family)) {
            return Ok(false);
        }
        match host_ip {
            HostIp::Any | HostIp::Container => Ok(true),
            HostIp::Address(_) | HostIp::Interface(_) => Err(PublishError::Routed {
                endpoint: self.endpoint.name.clone(),
                network: self.network.name.clone(),
                host_ip: host_ip.clone(),
            }),
        }
    }

    fn check_host_ip(&self, host_ip: &HostIp) -> Result<(), PublishError> {
        let endpoint = self.endpoint.name.clone();
        match host_ip {
            HostIp::Address(host_ip @ IpAddr::V4(_)) if self.endpoint.ipv4.is_none() => {
                Err(PublishError::NoIpv4 { endpoint, host_ip: *host_ip })
            }
            HostIp::Address(host_ip @ IpAddr::V6(_)) if self.endpoint.ipv6.is_none() => {
                Err(PublishError::NoIpv6 { endpoint, host_ip: *host_ip })
            }
            HostIp::Address(host_ip) if !self.is_local(*host_ip) => {
                Err(PublishError::UnknownAddress { host_ip: *host_ip })
            }
            HostIp::Interface(ifname) if !self.host.link_names.contains(ifname) => {
                Err(PublishError::UnknownInterface { ifname: ifname.clone() })
            }
            HostIp::Any | HostIp::Container | HostIp::Address(_) | HostIp::Interface(_) => Ok(()),
        }
    }

    /// Whether a process of the host could listen on the address.
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_unspecified()
            || address.is_loopback()
            || self.host.addresses.iter().any(|net| net.addr() == address)
    }

    fn check_free(&self, row: &PublishedPort) -> Result<(), PublishError> {
        match self.in_the_way(row) {
            None => match self.holding(row) {
                None => Ok(()),
                Some(listener) => Err(PublishError::PortHeld {
                    wanted: row.to_string(),
                    listener: listener.clone(),
                    owner: None,
                }),
            },
            Some((by, existing)) => Err(PublishError::PortTaken {
                wanted: row.to_string(),
                by: by.name.clone(),
                existing: existing.to_string(),
            }),
        }
    }

    fn in_the_way(&self, row: &PublishedPort) -> Option<(&Endpoint, &PublishedPort)> {
        let planned = self.rows.iter().map(|(_, planned)| (self.endpoint, planned));
        let mut rows = self.desired.published_ports().chain(planned);
        rows.find(|(_, other)| {
            other.shares_host_ports(row)
                && (other.host_ip.overlaps(&row.host_ip)
                    || self.has_address(&other.host_ip, &row.host_ip)
                    || self.has_address(&row.host_ip, &other.host_ip))
        })
    }

    /// A socket of the host that has one of the ports: the one with the highest.
    fn holding(&self, row: &PublishedPort) -> Option<&Listener> {
        let is_hit = |listener: &&Listener| {
            listener.proto == row.proto
                && (row.host_port..=row.host_port_end).contains(&listener.port)
                && self.shares_address(listener, &row.host_ip)
        };
        self.host.listeners.iter().filter(is_hit).max_by_key(|listener| listener.port)
    }

    fn shares_address(&self, listener: &Listener, host_ip: &HostIp) -> bool {
        match host_ip {
            HostIp::Any => true,
            HostIp::Address(address) if address.is_unspecified() => {
                listener.address.is_ipv4() == address.is_ipv4() || listener.takes(*address)
            }
            HostIp::Address(address) => listener.takes(*address),
            HostIp::Interface(ifname) => {
                let mut addresses = self.host.link_addresses.get(ifname).into_iter().flatten();
                addresses.any(|address| listener.takes(*address))
            }
            HostIp::Container => false,
        }
    }

    /// Whether one is an interface and the other one of its addresses.
    fn has_address(&self, interface: &HostIp, address: &HostIp) -> bool {
        let (HostIp::Interface(ifname), HostIp::Address(address)) = (interface, address) else {
            return false;
        };
        let addresses = self.host.link_addresses.get(ifname);
        addresses.is_some_and(|addresses| addresses.contains(address))
    }

    /// Moves a row to the first free host ports of a range, beginning after those given out last.
    fn move_to_free(
        &self,
        row: &mut PublishedPort,
        range: RangeInclusive<u16>,
        reserved: &[(u16, u16)],
    ) -> Option<()> {
        let span = row.port_end - row.port;
        let last_given = self.rows.iter().rev().map(|(_, planned)| planned);
        let last_given = last_given.filter(|planned| planned.proto == row.proto);
        let last_given = last_given.map(|planned| planned.host_port_end).next();
        let last_given =
            last_given.or_else(|| self.desired.last_host_port.get(&row.proto).copied());
        let start =
            last_given.and_then(|last| last.checked_add(1)).filter(|start| range.contains(start));
        let start = start.unwrap_or(*range.start());
        self.move_within(row, span, start..=*range.end(), reserved)
            .or_else(|| self.move_within(row, span, range, reserved))
    }

    fn move_within(
        &self,
        row: &mut PublishedPort,
        span: u16,
        range: RangeInclusive<u16>,
        reserved: &[(u16, u16)],
    ) -> Option<()> {
        let mut first = *range.start();
        loop {
            let last = first.checked_add(span).filter(|last| range.contains(last))?;
            (row.host_port, row.host_port_end) = (first, last);
            let is_hit = |&&(low, high): &&(u16, u16)| low <= last && first <= high;
            let past = self
                .in_the_way(row)
                .map(|(_, other)| other.host_port_end)
                .max(reserved.iter().find(is_hit).map(|(_, high)| *high))
                .max(self.holding(row).map(|listener| listener.port));
            match past {
                None => return Some(()),
                // One step past whatever is in the way, so that a full range is crossed in few.
                Some(past) => first = past.checked_add(1)?,
            }
        }
    }
}
