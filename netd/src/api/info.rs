//! The objects of `ls`, `inspect` and `stats`, with the field names that scripts rely on.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    data_path::Path,
    model::{
        DRIVER, DatapathMode, Endpoint, FirewallMark, GatewayMode, HostIp, MacAddr, Manager,
        NatMode, Network, Proto, PublishedPort, SCOPE, Subnet,
    },
};

/// A network as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    pub name: String,
    pub id: String,
    pub driver: String,
    pub scope: String,
    /// RFC 3339.
    pub created: String,
    pub bridge: String,
    pub subnets: Vec<SubnetInfo>,
    pub internal: bool,
    pub icc: bool,
    pub masquerade: bool,
    pub snat_addresses: Vec<IpAddr>,
    /// The IPv4 subnet's, or that of the only one.
    pub gateway_mode: GatewayMode,
    pub mtu: u32,
    /// Null where the daemon's default holds.
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    /// The network's own, or else the daemon's.
    #[serde(default)]
    pub nat: NatMode,
    /// Null where the IPv6 prefix is not translated.
    #[serde(default)]
    pub nptv6: Option<Ipv6Net>,
    /// Who has made it.
    #[serde(default)]
    pub manager: Manager,
    /// Whether dockerd lets published ports be reached at the containers' own addresses.
    #[serde(default)]
    pub direct_routing: bool,
    /// The mark with which dockerd lets packets in; null where there is none.
    #[serde(default)]
    pub accept_mark: Option<FirewallMark>,
    pub datapath: DatapathInfo,
    /// Names.
    pub endpoints: Vec<String>,
    /// The names of the networks that it may exchange packets with.
    pub allowed: Vec<String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// Which way packets take between a network's containers and the uplinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathInfo {
    /// What the network asks for, or else the daemon's configuration.
    pub asked: DatapathMode,
    /// What new flows get.
    pub path: Path,
    pub reason: String,
}

/// A subnet as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetInfo {
    pub subnet: IpNet,
    pub gateway: Option<IpAddr>,
    pub gateway_mode: GatewayMode,
    pub ip_range: Option<IpNet>,
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// An endpoint as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointInfo {
    pub name: String,
    pub id: String,
    pub network: String,
    pub network_id: String,
    pub sandbox: String,
    pub ifname: String,
    pub host_ifname: String,
    pub mac: MacAddr,
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub gateway: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub aliases: Vec<String>,
    pub gw_priority: i32,
    /// Null where the daemon's default holds.
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    /// Who has made it.
    #[serde(default)]
    pub manager: Manager,
    /// What it may ask neighbours for although its network has no `icc`, as `ENDPOINT:PORT/PROTOCOL`.
    #[serde(default)]
    pub links: Vec<String>,
    pub ports: Vec<PortInfo>,
}

/// A published port as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    pub endpoint: String,
    pub proto: Proto,
    pub host_ip: HostIp,
    pub host_port: u16,
    pub host_port_end: u16,
    pub port: u16,
    pub port_end: u16,
    pub packets: u64,
    pub bytes: u64,
    pub flows: u64,
}

/// What a published port has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortTraffic {
    pub packets: u64,
    pub bytes: u64,
    /// How many flows it has begun.
    pub flows: u64,
}

/// The counters of a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatRow {
    pub reason: String,
    /// `pass`, `redirect` or `drop`.
    pub verdict: String,
    pub packets: u64,
    pub bytes: u64,
}

/// Everything that `netd stats` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsAnswer {
    pub reasons: Vec<StatRow>,
    pub endpoints: Vec<EndpointStats>,
    pub ports: Vec<PortInfo>,
}

/// The counters of an endpoint, seen from the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStats {
    pub endpoint: String,
    pub network: String,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}

impl NetworkInfo {
    /// Shows a network, given how its source ports are given where it does not say, the way that its
    /// packets take, the names of its endpoints, and of the networks it is allowed to reach.
    pub fn new(
        network: &Network,
        default_nat: NatMode,
        datapath: DatapathInfo,
        endpoints: Vec<String>,
        allowed: Vec<String>,
    ) -> Self {
        Self {
            name: network.name.clone(),
            id: network.id.clone(),
            driver: DRIVER.to_owned(),
            scope: SCOPE.to_owned(),
            created: clock::rfc3339(network.created),
            bridge: network.bridge.clone(),
            subnets: network.subnets.iter().map(SubnetInfo::new).collect(),
            internal: network.internal,
            icc: network.icc,
            masquerade: network.masquerade,
            snat_addresses: network.snat_addresses.clone(),
            gateway_mode: network.subnets.first().map(|s| s.gateway_mode).unwrap_or_default(),
            mtu: network.mtu,
            max_flows: network.max_flows,
            nat: network.nat.unwrap_or(default_nat),
            nptv6: network.nptv6,
            manager: network.manager,
            direct_routing: network.direct_routing,
            accept_mark: network.accept_mark,
            datapath,
            endpoints,
            allowed,
            options: network.options.clone(),
            labels: network.labels.clone(),
        }
    }
}

impl SubnetInfo {
    fn new(subnet: &Subnet) -> Self {
        Self {
            subnet: subnet.subnet,
            gateway: subnet.gateway,
            gateway_mode: subnet.gateway_mode,
            ip_range: subnet.ip_range,
            aux_addresses: subnet.aux_addresses.clone(),
        }
    }
}

impl EndpointInfo {
    /// Shows an endpoint, given its network and its published ports as they are shown.
    pub fn new(endpoint: &Endpoint, network: &Network, ports: Vec<PortInfo>) -> Self {
        Self {
            name: endpoint.name.clone(),
            id: endpoint.id.clone(),
            network: endpoint.network.clone(),
            network_id: network.id.clone(),
            sandbox: endpoint.sandbox.text.clone(),
            ifname: endpoint.ifname.clone(),
            host_ifname: endpoint.host_ifname.clone(),
            mac: endpoint.mac,
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            gateway: endpoint.gateway,
            gateway6: endpoint.gateway6,
            aliases: endpoint.aliases.clone(),
            gw_priority: endpoint.gw_priority,
            max_flows: endpoint.max_flows,
            manager: network.manager,
            links: endpoint.links.iter().map(ToString::to_string).collect(),
            ports,
        }
    }
}

impl PortInfo {
    /// Shows a published port of an endpoint, given what it has carried.
    pub fn new(endpoint: &str, port: &PublishedPort, traffic: PortTraffic) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            proto: port.proto,
            host_ip: port.host_ip.clone(),
            host_port: port.host_port,
            host_port_end: port.host_port_end,
            port: port.port,
            port_end: port.port_end,
            packets: traffic.packets,
            bytes: traffic.bytes,
            flows: traffic.flows,
        }
    }

    /// The port as a SPEC that `netd port rm` takes.
    pub fn spec(&self) -> String {
        let port = PublishedPort {
            slot: 0,
            proto: self.proto,
            host_ip: self.host_ip.clone(),
            host_port: self.host_port,
            host_port_end: self.host_port_end,
            port: self.port,
            port_end: self.port_end,
        };
        port.to_string()
    }
}
