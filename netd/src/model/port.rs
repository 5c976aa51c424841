//! Published ports, and where on the host they are published.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A range of host ports that leads to an equally long range of container ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The index of its counters and generation, shared with endpoints, 1..=16,383.
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
    Sctp,
}

/// Where a port is published. Its text is `*`, an address, `%` and an interface, or `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostIp {
    /// On every local address of both families.
    Any,
    /// On one address; the unspecified one stands for all of its family.
    Address(IpAddr),
    /// On the addresses of an interface, whichever they are.
    Interface(String),
    /// On no address of the host's: at the container's own.
    Container,
}

/// Why a text is no [`HostIp`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is neither an IP address nor %INTERFACE")]
pub struct HostIpError {
    text: String,
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
            HostIp::Any | HostIp::Container => {}
            HostIp::Address(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            host_ip @ (HostIp::Address(_) | HostIp::Interface(_)) => write!(f, "{host_ip}:")?,
        }
        if self.host_ip != HostIp::Container {
            write_range(f, self.host_port, self.host_port_end)?;
            f.write_str(":")?;
        }
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
            Self::Sctp => "sctp",
        })
    }
}

impl HostIp {
    /// Whether a packet's destination could be both; an interface and an address are not compared.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Container, _) | (_, Self::Container) => false,
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
            Self::Container => f.write_str("-"),
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
            None if text == "-" => Ok(Self::Container),
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

#[cfg(test)]
mod tests {
    use super::*;

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
