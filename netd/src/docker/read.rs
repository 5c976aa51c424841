//! From Docker's JSON to a [`View`]. Pure.
//!
//! dockerd may answer anything. What cannot be understood is an error about one object, and what is not needed is
//! not looked at.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use bollard::models::{
    ContainerInspectResponse, EndpointResource, EndpointSettings, IpamConfig, NetworkInspect,
    PortBinding, PortMap,
};
use ipnet::IpNet;
use thiserror::Error;

use super::view::{Attachment, Binding, Container, Network, Pool, Ports, Sandbox};
use crate::{
    clock,
    model::{MacAddr, Proto},
};

/// The driver whose networks are bridges.
pub const BRIDGE_DRIVER: &str = "bridge";

/// Swarm's bridge to the outside of its overlays: Docker's own business.
const GWBRIDGE: &str = "docker_gwbridge";

/// Why an answer of Docker's is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("there is no {field}")]
    Missing { field: &'static str },
    #[error("its {field} is {value:?}")]
    Wrong { field: &'static str, value: String },
}

/// A container that a network has, by the network's account: what is known of one that starts.
pub type Attached = BTreeMap<String, Container>;

/// Reads a network, and the containers on it; none where it is no bridge of Docker's.
///
/// # Errors
/// Where something is missing or senseless that packets depend on.
pub fn network(answer: NetworkInspect) -> Result<Option<(Network, Attached)>, ReadError> {
    let name = required(answer.name, "Name")?;
    let is_bridge = answer.driver.as_deref() == Some(BRIDGE_DRIVER);
    if !is_bridge || name == GWBRIDGE || answer.ingress == Some(true) {
        return Ok(None);
    }
    let id = id(answer.id, "Id")?;
    let options: BTreeMap<String, String> = sorted(answer.options);
    let pools = answer.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let pools: Result<Vec<Option<Pool>>, _> = pools.into_iter().map(pool).collect();
    let network = Network {
        name,
        created: answer.created.as_deref().and_then(clock::parse_rfc3339).unwrap_or(0),
        is_default: options
            .get("com.docker.network.bridge.default_bridge")
            .is_some_and(|value| value == "true"),
        internal: answer.internal.unwrap_or(false),
        pools: pools?.into_iter().flatten().collect(),
        options,
        labels: sorted(answer.labels),
        id: id.clone(),
    };
    let containers = answer.containers.unwrap_or_default();
    let attached: Result<Vec<_>, ReadError> = containers
        .into_iter()
        .map(|(container, resource)| attached(&id, container, resource))
        .collect();
    Ok(Some((network, attached?.into_iter().flatten().collect())))
}

/// The bridge of a network, where it has one of a name that does not tell whose it is.
pub(crate) fn bridge_name(answer: bollard::models::Network) -> Option<String> {
    answer.options?.remove("com.docker.network.bridge.name")
}

/// An answer without a subnet is of an IPAM driver that gives none.
fn pool(config: IpamConfig) -> Result<Option<Pool>, ReadError> {
    let Some(subnet) = optional::<IpNet>(config.subnet, "Subnet")? else { return Ok(None) };
    let mut aux_addresses = BTreeMap::new();
    for (name, address) in config.auxiliary_addresses.unwrap_or_default() {
        aux_addresses.insert(name, parsed(&address, "AuxiliaryAddresses")?);
    }
    Ok(Some(Pool {
        subnet: subnet.trunc(),
        // Some releases write it with a prefix length.
        gateway: optional_address(config.gateway, "Gateway")?,
        ip_range: optional(config.ip_range, "IPRange")?,
        aux_addresses,
    }))
}

fn attached(
    network: &str,
    container: String,
    resource: EndpointResource,
) -> Result<Option<(String, Container)>, ReadError> {
    // An endpoint without a container is about to go, or of another host's.
    let Some(mac) = optional::<MacAddr>(resource.mac_address, "MacAddress")? else {
        return Ok(None);
    };
    if !is_id(&container) {
        return Ok(None);
    }
    let attachment = Attachment {
        endpoint_id: id(resource.endpoint_id, "EndpointID")?,
        mac,
        ipv4: optional(resource.ipv4_address, "IPv4Address")?,
        ipv6: optional(resource.ipv6_address, "IPv6Address")?,
        gateway: None,
        gateway6: None,
        gw_priority: 0,
        aliases: Vec::new(),
    };
    let name = required(resource.name, "Name")?;
    let attachments = BTreeMap::from([(network.to_owned(), attachment)]);
    let starting = Container {
        name,
        is_started: false,
        sandbox: None,
        attachments,
        ports: None,
        links: Vec::new(),
    };
    Ok(Some((container, starting)))
}

/// What a container says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// None where it does not run.
    pub running: Option<Container>,
    /// What it will publish when it starts, as far as that needs no choice.
    pub planned: Planned,
}

/// What a container was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    pub ports: Ports,
    /// As [`Container::links`].
    pub links: Vec<String>,
}

/// Reads a container.
///
/// # Errors
/// As [`network`].
pub fn container(mut answer: ContainerInspectResponse) -> Result<Inspected, ReadError> {
    let host = answer.host_config.take().unwrap_or_default();
    let wanted = host.port_bindings.unwrap_or_default();
    let exposed = answer.config.take().and_then(|config| config.exposed_ports).unwrap_or_default();
    let exposed =
        exposed.iter().map(|key| container_port(key)).collect::<Result<BTreeSet<_>, _>>()?;
    let exposed: Vec<_> = exposed.into_iter().collect();
    let links: Vec<String> = host.links.iter().flatten().filter_map(|it| linked(it)).collect();
    let planned = Planned { ports: planned(&wanted, &exposed)?, links: links.clone() };
    let running = running(answer, wanted, exposed)?;
    let running = running.map(|container| Container { links, ..container });
    Ok(Inspected { running, planned })
}

/// The container that a link leads to: `/CONTAINER:/OWN_NAME/ALIAS`.
fn linked(link: &str) -> Option<String> {
    let name = link.split(':').next()?.trim_start_matches('/');
    (!name.is_empty()).then(|| name.to_owned())
}

fn running(
    answer: ContainerInspectResponse,
    wanted: PortMap,
    exposed: Vec<(Proto, u16)>,
) -> Result<Option<Container>, ReadError> {
    let state = answer.state.unwrap_or_default();
    // One that is restarted for ever is "running" between two lives as well, without a process.
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let Some(pid) = pid.filter(|_| state.running == Some(true)) else { return Ok(None) };
    let settings = answer.network_settings.unwrap_or_default();
    let mut attachments = BTreeMap::new();
    for endpoint in settings.networks.unwrap_or_default().into_values() {
        if let Some((network, attachment)) = attachment(endpoint)? {
            attachments.insert(network, attachment);
        }
    }
    Ok(Some(Container {
        is_started: true,
        name: required(answer.name, "Name")?.trim_start_matches('/').to_owned(),
        sandbox: settings.sandbox_key.map(|path| Sandbox { path, pid }),
        attachments,
        ports: Some(ports(settings.ports.unwrap_or_default(), wanted, exposed)?),
        links: Vec::new(),
    }))
}

/// An endpoint without an id, or without a MAC address, is of a network that is not joined.
fn attachment(endpoint: EndpointSettings) -> Result<Option<(String, Attachment)>, ReadError> {
    let is_joined = endpoint.endpoint_id.as_deref().is_some_and(|id| !id.is_empty());
    let Some(mac) = optional::<MacAddr>(endpoint.mac_address, "MacAddress")? else {
        return Ok(None);
    };
    if !is_joined {
        return Ok(None);
    }
    let ipv4 = net(endpoint.ip_address, endpoint.ip_prefix_len, "IPAddress")?;
    let ipv6 =
        net(endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len, "GlobalIPv6Address")?;
    let (names, aliases) = (endpoint.dns_names, endpoint.aliases);
    let attachment = Attachment {
        endpoint_id: id(endpoint.endpoint_id, "EndpointID")?,
        mac,
        ipv4,
        ipv6,
        gateway: optional(endpoint.gateway, "Gateway")?,
        gateway6: optional(endpoint.ipv6_gateway, "IPv6Gateway")?,
        gw_priority: endpoint.gw_priority.and_then(|it| i32::try_from(it).ok()).unwrap_or(0),
        aliases: names.or(aliases).unwrap_or_default(),
    };
    Ok(Some((id(endpoint.network_id, "NetworkID")?, attachment)))
}

/// What is asked for by a number: of the host's other ports Docker chooses one at each start. Whether it binds what is
/// named by an IPv6 address is seen then.
fn planned(wanted: &PortMap, exposed: &[(Proto, u16)]) -> Result<Ports, ReadError> {
    let mut exact = PortMap::new();
    for (key, bindings) in wanted {
        let mut bound = Vec::new();
        let is_exact = |it: &&PortBinding| is_number(it) && !is_named_v6(it);
        for binding in bindings.iter().flatten().filter(is_exact) {
            bound.push(binding.clone());
            if binding.host_ip.as_deref().unwrap_or("").is_empty() {
                let host_ip = Some("::".to_owned());
                bound.push(PortBinding { host_ip, host_port: binding.host_port.clone() });
            }
        }
        exact.insert(key.clone(), Some(bound));
    }
    ports(exact, wanted.clone(), exposed.to_vec())
}

/// What is bound, and what was asked for.
fn ports(bound: PortMap, wanted: PortMap, exposed: Vec<(Proto, u16)>) -> Result<Ports, ReadError> {
    let is_published = |(_, bindings): &(&String, &Option<Vec<PortBinding>>)| bindings.is_some();
    let opened = bound.iter().chain(&wanted).filter(is_published);
    let mut opened = opened.map(|(key, _)| container_port(key)).collect::<Result<Vec<_>, _>>()?;
    opened.sort_unstable();
    opened.dedup();
    let mut unbound = bindings(named_v6(&wanted))?;
    let bindings = bindings(bound)?;
    unbound.retain(|binding| !bindings.contains(binding));
    Ok(Ports { bindings, unbound, everywhere: everywhere(wanted)?, opened, exposed })
}

/// What is asked for at an IPv6 address, by number.
fn named_v6(wanted: &PortMap) -> PortMap {
    let is_named = |it: &&PortBinding| is_number(it) && is_named_v6(it);
    let named = wanted.iter().map(|(key, bindings)| {
        let bindings = bindings.iter().flatten().filter(is_named).cloned();
        (key.clone(), Some(bindings.collect()))
    });
    named.collect()
}

fn is_named_v6(binding: &PortBinding) -> bool {
    let address = binding.host_ip.as_deref().and_then(|text| text.parse::<Ipv6Addr>().ok());
    address.is_some_and(|address| !address.is_unspecified())
}

/// Whether Docker has no choice.
fn is_number(binding: &PortBinding) -> bool {
    let port = binding.host_port.as_deref().and_then(|port| port.parse::<u16>().ok());
    port.is_some_and(|port| port != 0)
}

fn bindings(ports: PortMap) -> Result<Vec<Binding>, ReadError> {
    let mut bindings = Vec::new();
    for (key, bound) in ports {
        let (proto, port) = container_port(&key)?;
        for PortBinding { host_ip, host_port } in bound.unwrap_or_default() {
            let host_ip = match host_ip.as_deref() {
                None | Some("") => IpAddr::from([0; 4]),
                Some(text) => parsed(text, "HostIp")?,
            };
            let host_port = match host_port.as_deref() {
                None | Some("") => 0,
                Some(text) => parsed(text, "HostPort")?,
            };
            bindings.push(Binding { proto, host_ip, host_port, port });
        }
    }
    bindings.sort_unstable();
    bindings.dedup();
    Ok(bindings)
}

/// The ports that are asked for without an address.
fn everywhere(wanted: PortMap) -> Result<Vec<(Proto, u16)>, ReadError> {
    let is_everywhere = |binding: &PortBinding| binding.host_ip.as_deref().unwrap_or("").is_empty();
    let ports =
        wanted.into_iter().filter(|(_, bindings)| bindings.iter().flatten().any(is_everywhere));
    let mut ports = ports.map(|(key, _)| container_port(&key)).collect::<Result<Vec<_>, _>>()?;
    ports.sort_unstable();
    Ok(ports)
}

/// `80/tcp`; without a protocol it is TCP.
fn container_port(key: &str) -> Result<(Proto, u16), ReadError> {
    let (port, proto) = key.split_once('/').unwrap_or((key, "tcp"));
    let proto = match proto {
        "tcp" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        _ => return Err(ReadError::Wrong { field: "port", value: key.to_owned() }),
    };
    Ok((proto, parsed(port, "port")?))
}

/// An address and the length of its prefix, which stand apart.
fn net<T: FromStr>(
    address: Option<String>,
    len: Option<i64>,
    field: &'static str,
) -> Result<Option<T>, ReadError> {
    let text = address.filter(|text| !text.is_empty());
    text.map(|text| parsed(&format!("{text}/{}", len.unwrap_or(-1)), field)).transpose()
}

fn required(value: Option<String>, field: &'static str) -> Result<String, ReadError> {
    let value = value.filter(|value| !value.is_empty()).ok_or(ReadError::Missing { field })?;
    if value.chars().any(char::is_control) {
        return Err(ReadError::Wrong { field, value });
    }
    Ok(value)
}

/// 64 hexadecimal digits.
fn id(value: Option<String>, field: &'static str) -> Result<String, ReadError> {
    let value = required(value, field)?;
    if is_id(&value) { Ok(value) } else { Err(ReadError::Wrong { field, value }) }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Docker writes what it does not have as an empty text, since 29 of addresses also as `invalid IP`.
fn optional<T: FromStr>(
    value: Option<String>,
    field: &'static str,
) -> Result<Option<T>, ReadError> {
    let value = value.filter(|text| !text.is_empty() && !text.starts_with("invalid "));
    value.map(|text| parsed(&text, field)).transpose()
}

fn optional_address(
    value: Option<String>,
    field: &'static str,
) -> Result<Option<IpAddr>, ReadError> {
    let address = |text: String| text.split('/').next().unwrap_or_default().to_owned();
    optional(value.map(address), field)
}

fn parsed<T: FromStr>(text: &str, field: &'static str) -> Result<T, ReadError> {
    text.parse().map_err(|_| ReadError::Wrong { field, value: text.to_owned() })
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
