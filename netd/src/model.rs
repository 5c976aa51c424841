//! The words of the desired state: networks, endpoints, published ports.
//!
//! These types are stored and planned with; what the CLI sees of them is in `api`. They hold no
//! behaviour beyond their own text forms and comparisons: which combinations are allowed is decided
//! by `desired`.

mod firewall_mark;
mod listener;
mod mac;
mod mss;
mod port;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use firewall_mark::{FirewallMark, FirewallMarkError};
pub use listener::Listener;
pub use mac::{MacAddr, MacAddrError};
pub use mss::{MssClamp, MssClampError};
pub use port::{HostIp, HostIpError, Proto, PublishedPort, is_ifname};

/// The link-local gateway that Docker gives each IPv6 bridge (docker-behaviour A8).
pub const LINK_LOCAL_GATEWAY: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);

/// The one network driver of netd.
pub const DRIVER: &str = "bridge";

/// The reach of a network of [`DRIVER`], in Docker's word.
pub const SCOPE: &str = "local";

/// A bridge with its subnets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// The index in the data path, 1..=4095, unique.
    pub number: u16,
    /// Units: seconds since 1970.
    pub created: u64,
    pub bridge: String,
    /// At most one of each family, IPv4 first.
    pub subnets: Vec<Subnet>,
    pub internal: bool,
    pub icc: bool,
    pub masquerade: bool,
    /// The fixed source addresses in place of the uplink's own, at most one of each family.
    pub snat_addresses: Vec<IpAddr>,
    pub mtu: u32,
    /// Which way packets take between uplinks and containers, where the network says so itself.
    #[serde(default)]
    pub datapath: Option<DatapathMode>,
    /// Containers send from nothing but the addresses that they were given.
    #[serde(default)]
    pub strict_source: bool,
    /// Without `icc`, containers do not reach each other's published ports either.
    #[serde(default)]
    pub icc_strict: bool,
    /// The most flows of its containers together, if not the daemon's default.
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    /// How source ports are given, if not as the daemon's default says.
    #[serde(default)]
    pub nat: Option<NatMode>,
    /// The prefix that its IPv6 subnet's is translated to.
    #[serde(default)]
    pub nptv6: Option<Ipv6Net>,
    /// The bridge gets no IPv4 address: another device has the gateway's.
    #[serde(default)]
    pub inhibit_ipv4: bool,
    /// What the MSS of TCP connections through an uplink is lowered to, if to anything.
    #[serde(default)]
    pub mss_clamp: Option<MssClamp>,
    /// The devices from which published ports are also reached at the containers' own addresses.
    #[serde(default)]
    pub trusted_interfaces: Vec<String>,
    /// They are from every uplink.
    #[serde(default)]
    pub direct_routing: bool,
    /// What the host's firewall has marked so enters from such a device at any port.
    #[serde(default)]
    pub accept_mark: Option<FirewallMark>,
    /// The `-o` options as they were given.
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Manager::is_netd")]
    pub manager: Manager,
}

/// Who makes a network's bridge and the links of its endpoints, and gives them their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    #[default]
    Netd,
    /// dockerd; netd programs what packets meet, and changes nothing else.
    Docker,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// The bridge's own address; a subnet of mode `isolated` has none.
    pub gateway: Option<IpAddr>,
    #[serde(default)]
    pub gateway_mode: GatewayMode,
    /// Where dynamic addresses come from, if not the whole subnet.
    pub ip_range: Option<IpNet>,
    /// Addresses that belong to others on the same bridge.
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// Whether the user chose the subnet, rather than a pool.
    pub user_configured: bool,
}

/// How packets get from outside into a network, in Docker's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// To published ports of the host, which are translated
    #[default]
    Nat,
    /// As nat, and to every port of a container at its own address
    NatUnprotected,
    /// To published ports at the container's own address; nothing is translated
    Routed,
    /// Not at all, and the bridge has no address; for internal networks
    Isolated,
}

/// How the source ports of masqueraded flows are given, in the words of RFC 4787.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NatMode {
    /// Endpoint-dependent: for each connection, which alone is answered, as Linux does
    #[default]
    Edm,
    /// Endpoint-independent: one port for all destinations, at which everybody reaches the sender
    Eim,
}

/// Which way packets take between an uplink and a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DatapathMode {
    /// Past the kernel's stack where nothing speaks against it
    #[default]
    Auto,
    /// Rewritten and redirected past the kernel's stack
    Fast,
    /// Rewritten, and routed by the kernel
    Stack,
}

/// One attachment of a sandbox to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// The index of its counters and generation, shared with published ports, 1..=16,383.
    pub slot: u32,
    pub network: String,
    pub sandbox: SandboxRef,
    /// The sandbox's end of the veth pair.
    pub ifname: String,
    /// The host's end of the veth pair.
    pub host_ifname: String,
    pub mac: MacAddr,
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub gateway: Option<std::net::Ipv4Addr>,
    pub gateway6: Option<std::net::Ipv6Addr>,
    pub aliases: Vec<String>,
    pub gw_priority: i32,
    /// The most flows, if not the daemon's default.
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    /// What it may ask neighbours for where the network has no `icc`.
    #[serde(default)]
    pub links: Vec<Link>,
    pub ports: Vec<PublishedPort>,
}

/// A port that a neighbour exposes to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The neighbour's name.
    pub endpoint: String,
    pub proto: Proto,
    pub port: u16,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.endpoint, self.port, self.proto)
    }
}

/// A container's network namespace: how the user called it, and which one it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRef {
    /// A name under `/run/netns`, an absolute path, or `pid:N`.
    pub text: String,
    /// The device of the namespace's inode; with `ino` it tells one namespace from all others.
    pub dev: u64,
    pub ino: u64,
}

impl Network {
    /// The subnet of the family.
    pub fn subnet(&self, family: Family) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.family() == family)
    }

    /// Whether the bridge speaks IPv6.
    pub fn has_ipv6_gateway(&self) -> bool {
        self.subnet(Family::Ipv6).is_some_and(|subnet| subnet.gateway.is_some())
    }

    /// The bridge's MAC address. It follows from the id: a bridge that is made again has it too, so that no
    /// container has to learn another one.
    pub fn bridge_mac(&self) -> MacAddr {
        let digits = |at: usize| self.id.get(2 * at..2 * at + 2);
        let byte = |at| digits(at).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // Locally administered, as in `ids::new_mac`.
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at| byte(at).unwrap_or_default());
        MacAddr([0x02, a, b, c, d, e])
    }

    /// The address that the bridge has in a subnet of this network.
    pub fn bridge_address(&self, subnet: &Subnet) -> Option<IpAddr> {
        let is_inhibited = self.inhibit_ipv4 && subnet.family() == Family::Ipv4;
        subnet.gateway.filter(|_| !is_inhibited)
    }

    /// The addresses of the bridge, each with the prefix length of its subnet, but for [`LINK_LOCAL_GATEWAY`].
    pub fn bridge_addresses(&self) -> Vec<IpNet> {
        let address = |subnet: &Subnet| {
            IpNet::new(self.bridge_address(subnet)?, subnet.subnet.prefix_len()).ok()
        };
        self.subnets.iter().filter_map(address).collect()
    }
}

impl Manager {
    /// Whether it is netd itself.
    pub fn is_netd(&self) -> bool {
        *self == Self::Netd
    }
}

impl Subnet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of_net(&self.subnet)
    }
}

impl GatewayMode {
    /// Whether ports are published on addresses of the host, and what leaves is masqueraded.
    pub fn translates(self) -> bool {
        match self {
            Self::Nat | Self::NatUnprotected => true,
            Self::Routed | Self::Isolated => false,
        }
    }
}

impl fmt::Display for GatewayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::NatUnprotected => "nat-unprotected",
            Self::Routed => "routed",
            Self::Isolated => "isolated",
        })
    }
}

impl fmt::Display for NatMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edm => "edm",
            Self::Eim => "eim",
        })
    }
}

impl fmt::Display for DatapathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fast => "fast",
            Self::Stack => "stack",
        })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// Both, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// The family of a prefix.
    pub fn of_net(net: &IpNet) -> Self {
        Self::of(net.addr())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

impl Endpoint {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4.map(IpNet::V4).into_iter().chain(self.ipv6.map(IpNet::V6))
    }
}

impl SandboxRef {
    /// Whether both mean the same network namespace, whatever they call it.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// The name of an endpoint whose user gave none: that of the sandbox.
    pub fn default_endpoint_name(&self) -> String {
        let name = match self.text.strip_prefix("pid:") {
            Some(pid) => format!("pid-{pid}"),
            None => match self.text.strip_prefix("/proc/").and_then(|path| path.split_once('/')) {
                Some((pid, "ns/net")) => format!("pid-{pid}"),
                _ => self.text.rsplit('/').next().unwrap_or_default().to_owned(),
            },
        };
        name.replace(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c), "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_an_older_netd_has_stored_is_read() {
        let stored = r#"{"name":"front","id":"0123","number":1,"created":0,"bridge":"br-0123",
            "subnets":[{"subnet":"10.1.0.0/24","gateway":"10.1.0.1","ip_range":null,
            "aux_addresses":{},"user_configured":true}],"internal":false,"icc":true,
            "masquerade":true,"snat_addresses":[],"gateway_mode":"nat","mtu":1500,"options":{},
            "labels":{}}"#;
        let network: Network = serde_json::from_str(stored).unwrap();
        assert_eq!(network.subnets[0].gateway_mode, GatewayMode::Nat);
        assert_eq!(network.subnets[0].gateway, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(network.datapath, None);
        assert!(!network.icc_strict && !network.strict_source && !network.inhibit_ipv4);
    }

    #[track_caller]
    fn check_default_name(text: &str, expected: &str) {
        let sandbox = SandboxRef { text: text.to_owned(), dev: 0, ino: 0 };
        assert_eq!(sandbox.default_endpoint_name(), expected);
    }

    #[test]
    fn an_endpoint_takes_its_sandboxs_name() {
        check_default_name("web", "web");
        check_default_name("pid:42", "pid-42");
        check_default_name("/proc/42/ns/net", "pid-42");
        check_default_name("/run/docker/netns/3f2a", "3f2a");
        check_default_name("/run/netns/a b", "a-b");
    }
}
