//! What Docker has, as far as packets depend on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::{MacAddr, Proto};

/// Everything, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The networks of the bridge driver, by id.
    pub networks: BTreeMap<String, Network>,
    /// The containers that run, by id.
    pub containers: BTreeMap<String, Container>,
    /// The ids of networks of which nothing is known but that they are there.
    pub unknown: BTreeSet<String>,
}

/// A network of the bridge driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub name: String,
    /// Units: seconds since 1970.
    pub created: u64,
    /// `docker0`, whose options are the daemon's.
    pub is_default: bool,
    pub internal: bool,
    pub pools: Vec<Pool>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub subnet: IpNet,
    /// Not told by every Docker, nor for every subnet: else it is the bridge's address.
    pub gateway: Option<IpAddr>,
    pub ip_range: Option<IpNet>,
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// A container that runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// It has said so itself; before, what is known of it is what its networks say.
    pub is_started: bool,
    /// Its network namespace as a path, and as that of a process; not known while it starts.
    pub sandbox: Option<Sandbox>,
    /// By network id.
    pub attachments: BTreeMap<String, Attachment>,
    /// While it starts, what it was made with and needs no choice; not known if nobody has seen it before.
    pub ports: Option<Ports>,
    /// The containers that it is linked to, by name.
    pub links: Vec<String>,
}

/// Where a container's network namespace is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub path: String,
    pub pid: u32,
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub endpoint_id: String,
    pub mac: MacAddr,
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub gateway: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub gw_priority: i32,
    pub aliases: Vec<String>,
}

/// What a container publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// What is bound on the host.
    pub bindings: Vec<Binding>,
    /// What is asked for at an IPv6 address that Docker does not bind, since no rule could lead from there to a container
    /// without IPv6.
    pub unbound: Vec<Binding>,
    /// The container ports that somebody wants on every address of the host: `-p 8080:80` without an address.
    pub everywhere: Vec<(Proto, u16)>,
    /// All container ports that are published, whether or not a port of the host is bound.
    pub opened: Vec<(Proto, u16)>,
    /// All container ports that those may ask for who are linked to it.
    pub exposed: Vec<(Proto, u16)>,
}

/// A port of the host that leads to one of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    pub proto: Proto,
    /// The unspecified address stands for all of its family.
    pub host_ip: IpAddr,
    /// 0 where the network is routed, so that no port of the host is bound.
    pub host_port: u16,
    pub port: u16,
}
