//! The words of the desired state: networks, endpoints, published ports.
//!
//! These types are stored and planned with; what the CLI sees of them is in `api`. They hold no
//! behaviour beyond their own text forms and comparisons: which combinations are allowed is decided
//! by `desired`.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

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
    pub gateway_mode: GatewayMode,
    pub mtu: u32,
    /// The `-o` options as they were given.
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// The bridge's own address.
    pub gateway: IpAddr,
    /// Where dynamic addresses come from, if not the whole subnet.
    pub ip_range: Option<IpNet>,
    /// Addresses that belong to others on the same bridge.
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// Whether the user chose the subnet, rather than a pool.
    pub user_configured: bool,
}

/// How packets get from outside into a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Through published ports only.
    #[default]
    Nat,
}

/// One attachment of a sandbox to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// The index of its counters and generation, shared with published ports, 1..=65535.
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
    pub ports: Vec<PublishedPort>,
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

/// A range of host ports that leads to an equally long range of container ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The index of its counters and generation, shared with endpoints, 1..=65535.
    pub slot: u32,
    pub proto: Proto,
    pub host_ip: HostIp,
    pub host_port: u16,
    pub host_port_end: u16,
    pub port: u16,
    pub port_end: u16,
}

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
}

/// Where a port is published. Its text is `*`, an address, or `%` and an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostIp {
    /// On every local address of both families.
    Any,
    /// On one address; the unspecified one stands for all of its family.
    Address(IpAddr),
    /// On the addresses of an interface, whichever they are.
    Interface(String),
}

/// An Ethernet address; its text is six pairs of hexadecimal digits with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// Why a text is no [`MacAddr`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a MAC address; write it as 02:00:5e:10:00:01")]
pub struct MacAddrError {
    text: String,
}

/// Why a text is no [`HostIp`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is neither an IP address nor %INTERFACE")]
pub struct HostIpError {
    text: String,
}

impl Network {
    /// The subnet of the family.
    pub fn subnet(&self, family: Family) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| Family::of_net(&subnet.subnet) == family)
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

impl PublishedPort {
    /// Whether a packet could be meant for both: then only one of them may exist.
    ///
    /// An interface and an address are not compared here, since which addresses an interface has is
    /// the host's to know.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares_host_ports(other) && self.host_ip.overlaps(&other.host_ip)
    }

    /// Whether both have a host port of the same protocol, be it on different addresses.
    pub fn shares_host_ports(&self, other: &Self) -> bool {
        self.proto == other.proto
            && self.host_port <= other.host_port_end
            && other.host_port <= self.host_port_end
    }
}

impl fmt::Display for PublishedPort {
    /// The port as a SPEC that `netd port rm` takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host_ip {
            HostIp::Any => {}
            HostIp::Address(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            host_ip @ (HostIp::Address(_) | HostIp::Interface(_)) => write!(f, "{host_ip}:")?,
        }
        write_range(f, self.host_port, self.host_port_end)?;
        f.write_str(":")?;
        write_range(f, self.port, self.port_end)?;
        write!(f, "/{}", self.proto)
    }
}

fn write_range(f: &mut fmt::Formatter<'_>, first: u16, last: u16) -> fmt::Result {
    if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl HostIp {
    /// Whether a packet's destination could be both; an interface and an address are not compared.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Address(a), Self::Address(b)) => {
                a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
            }
            (Self::Interface(a), Self::Interface(b)) => a == b,
            (Self::Interface(_), Self::Address(address))
            | (Self::Address(address), Self::Interface(_)) => address.is_unspecified(),
        }
    }
}

impl fmt::Display for HostIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Interface(ifname) => write!(f, "%{ifname}"),
        }
    }
}

impl FromStr for HostIp {
    type Err = HostIpError;

    fn from_str(text: &str) -> Result<Self, HostIpError> {
        let error = || HostIpError { text: text.to_owned() };
        match text.strip_prefix('%') {
            Some(ifname) if is_ifname(ifname) => Ok(Self::Interface(ifname.to_owned())),
            Some(_) => Err(error()),
            None if text == "*" => Ok(Self::Any),
            None => text.parse().map(Self::Address).map_err(|_| error()),
        }
    }
}

impl TryFrom<String> for HostIp {
    type Error = HostIpError;

    fn try_from(text: String) -> Result<Self, HostIpError> {
        text.parse()
    }
}

impl From<HostIp> for String {
    fn from(host_ip: HostIp) -> Self {
        host_ip.to_string()
    }
}

/// Whether the kernel takes the text as the name of a device (`dev_valid_name`, at most 15 bytes).
pub fn is_ifname(text: &str) -> bool {
    (1..16).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte))
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let error = || MacAddrError { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && !pair.starts_with('+'));
            *byte = u8::from_str_radix(pair.ok_or_else(error)?, 16).map_err(|_| error())?;
        }
        if pairs.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacAddrError;

    fn try_from(text: String) -> Result<Self, MacAddrError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{HostIp, MacAddr, Proto, PublishedPort, SandboxRef};

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

    #[test]
    fn a_mac_address_round_trips_and_bad_ones_are_refused() {
        assert_eq!(
            "02:0a:ff:00:00:01".parse::<MacAddr>().unwrap().to_string(),
            "02:0a:ff:00:00:01"
        );
        for bad in [
            "",
            "02:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:0",
            "+2:00:00:00:00:00",
            "xx:00:00:00:00:00",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn check_overlap(a: &str, b: &str, expected: bool) {
        let row = |text: &str| PublishedPort {
            slot: 1,
            proto: Proto::Tcp,
            host_ip: text.parse::<HostIp>().unwrap(),
            host_port: 80,
            host_port_end: 80,
            port: 80,
            port_end: 80,
        };
        assert_eq!(row(a).overlaps(&row(b)), expected, "{a} {b}");
        assert_eq!(row(b).overlaps(&row(a)), expected, "{b} {a}");
    }

    #[test]
    fn a_wildcard_overlaps_every_address_of_its_families() {
        check_overlap("*", "192.0.2.1", true);
        check_overlap("*", "2001:db8::1", true);
        check_overlap("*", "%eth0", true);
        check_overlap("0.0.0.0", "192.0.2.1", true);
        check_overlap("0.0.0.0", "2001:db8::1", false);
        check_overlap("0.0.0.0", "::", false);
        check_overlap("::", "%eth0", true);
        check_overlap("192.0.2.1", "192.0.2.1", true);
        check_overlap("192.0.2.1", "192.0.2.2", false);
        check_overlap("%eth0", "%eth1", false);
    }
}
