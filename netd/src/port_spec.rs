//! The text of a published port, and its only parser: Docker's `-p`, short and long.
//!
//! ```text
//!   [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]      HOSTIP: 192.0.2.1, [2001:db8::1], %eth0
//!   published=8080,target=80[,protocol=tcp][,host_ip=192.0.2.1]
//! ```
//! A [`PortSpec`] is a wish. Which host port it gets and whether it is free is decided by `desired`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{HostIp, Proto};

/// What a user wants published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    pub host_ip: HostIp,
    /// Where none is given, one is picked.
    pub host_ports: Option<PortRange>,
    pub ports: PortRange,
    pub proto: Proto,
}

/// Ports from `first` to `last`, neither of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is no [`PortSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PortSpecError {
    #[error("the container port is missing: write [HOSTIP:][HOSTPORT:]PORT[/PROTO]")]
    NoPort,
    #[error("{text:?} is not a port or a range of ports: use numbers from 1 to 65535")]
    Port { text: String },
    #[error("the range {first}-{last} runs backwards: write {last}-{first}")]
    Backwards { first: u16, last: u16 },
    #[error(
        "host ports {host} and container ports {container} differ in number: make the ranges equally \
         long, or give a single container port"
    )]
    RangesDiffer { host: PortRange, container: PortRange },
    #[error("{text:?} is not a protocol: use tcp, udp or sctp")]
    Proto { text: String },
    #[error("{text:?} is not a host address: use 192.0.2.1, [2001:db8::1] or %eth0")]
    HostIp { text: String },
    #[error(
        "{address} stands where the host port belongs: write {address}::PORT to have one picked"
    )]
    NoHostPort { address: String },
    #[error("{key:?} is not a key of a port: use published, target, protocol and host_ip")]
    Key { key: String },
    #[error("{key} is given twice")]
    Twice { key: &'static str },
}

impl PortRange {
    /// The ports from `first` to `last`.
    ///
    /// # Errors
    /// Where one of them is 0 or they run backwards.
    pub fn new(first: u16, last: u16) -> Result<Self, PortSpecError> {
        if first == 0 || last == 0 {
            Err(PortSpecError::Port { text: "0".to_owned() })
        } else if first > last {
            Err(PortSpecError::Backwards { first, last })
        } else {
            Ok(Self { first, last })
        }
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port, itself part of the range.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are, less one: a whole port space would not fit.
    pub fn span(self) -> u16 {
        self.last - self.first
    }
}

impl TryFrom<(u16, u16)> for PortRange {
    type Error = PortSpecError;

    fn try_from((first, last): (u16, u16)) -> Result<Self, PortSpecError> {
        Self::new(first, last)
    }
}

impl From<PortRange> for (u16, u16) {
    fn from(range: PortRange) -> Self {
        (range.first, range.last)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        let error = || PortSpecError::Port { text: text.to_owned() };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port != 0 && !text.starts_with('+') => Ok(port),
            _ => Err(error()),
        };
        match text.split_once('-') {
            None => port(text).and_then(|port| Self::new(port, port)),
            Some((first, last)) => Self::new(port(first)?, port(last)?),
        }
    }
}

impl PortSpec {
    fn new(
        host_ip: HostIp,
        host_ports: Option<PortRange>,
        ports: PortRange,
        proto: Proto,
    ) -> Result<Self, PortSpecError> {
        match host_ports {
            Some(host) if host.span() != ports.span() && ports.span() != 0 => {
                Err(PortSpecError::RangesDiffer { host, container: ports })
            }
            _ => Ok(Self { host_ip, host_ports, ports, proto }),
        }
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_host_ip = !matches!(self.host_ip, HostIp::Any | HostIp::Container);
        match &self.host_ip {
            HostIp::Any | HostIp::Container => {}
            HostIp::Address(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            host_ip @ (HostIp::Address(_) | HostIp::Interface(_)) => write!(f, "{host_ip}:")?,
        }
        match self.host_ports {
            Some(host_ports) => write!(f, "{host_ports}:")?,
            None if has_host_ip => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}/{}", self.ports, self.proto)
    }
}

impl FromStr for PortSpec {
    type Err = PortSpecError;

    fn from_str(text: &str) -> Result<Self, PortSpecError> {
        if text.contains('=') { parse_long(text) } else { parse_short(text) }
    }
}

fn parse_short(text: &str) -> Result<PortSpec, PortSpecError> {
    let (addresses, proto) = match text.rsplit_once('/') {
        Some((addresses, proto)) => (addresses, parse_proto(proto)?),
        None => (text, Proto::Tcp),
    };
    let (host, ports) = match addresses.rsplit_once(':') {
        Some((host, ports)) if !ports.ends_with(']') => (Some(host), ports),
        _ => (None, addresses),
    };
    if ports.is_empty() {
        return Err(PortSpecError::NoPort);
    }
    let ports = ports.parse()?;
    let (host_ip, host_ports) = match host {
        None => (HostIp::Any, None),
        Some(host) => match host.rsplit_once(':') {
            Some((host_ip, host_ports)) if !host_ports.ends_with(']') => {
                (parse_host_ip(host_ip, true)?, parse_host_ports(host_ports)?)
            }
            _ => (HostIp::Any, parse_host_ports(host)?),
        },
    };
    PortSpec::new(host_ip, host_ports, ports, proto)
}

fn parse_long(text: &str) -> Result<PortSpec, PortSpecError> {
    let [mut published, mut target, mut protocol, mut host_ip] = [None; 4];
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let (key, slot) = match key {
            "published" => ("published", &mut published),
            "target" => ("target", &mut target),
            "protocol" => ("protocol", &mut protocol),
            "host_ip" => ("host_ip", &mut host_ip),
            _ => return Err(PortSpecError::Key { key: key.to_owned() }),
        };
        if slot.replace(value).is_some() {
            return Err(PortSpecError::Twice { key });
        }
    }
    let ports = target.filter(|target| !target.is_empty()).ok_or(PortSpecError::NoPort)?.parse()?;
    let host_ip = host_ip.map_or(Ok(HostIp::Any), |text| parse_host_ip(text, false))?;
    let host_ports = published.map_or(Ok(None), parse_host_ports)?;
    PortSpec::new(host_ip, host_ports, ports, protocol.map_or(Ok(Proto::Tcp), parse_proto)?)
}

fn parse_proto(text: &str) -> Result<Proto, PortSpecError> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Proto::Tcp),
        "udp" => Ok(Proto::Udp),
        "sctp" => Ok(Proto::Sctp),
        _ => Err(PortSpecError::Proto { text: text.to_owned() }),
    }
}

/// An empty text and 0 ask for a port to be picked, as with Docker.
fn parse_host_ports(text: &str) -> Result<Option<PortRange>, PortSpecError> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    match parse_host_ip(text, true) {
        Ok(HostIp::Address(_) | HostIp::Interface(_)) => {
            Err(PortSpecError::NoHostPort { address: text.to_owned() })
        }
        Ok(HostIp::Any | HostIp::Container) | Err(_) => text.parse().map(Some),
    }
}

/// The short form needs brackets to tell the colons of an IPv6 address from its own.
fn parse_host_ip(text: &str, brackets_needed: bool) -> Result<HostIp, PortSpecError> {
    let error = || PortSpecError::HostIp { text: text.to_owned() };
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match (inner.unwrap_or(text).parse(), inner) {
        _ if text.is_empty() => Ok(HostIp::Any),
        (Ok(host_ip @ HostIp::Address(IpAddr::V6(_))), inner)
            if inner.is_some() || !brackets_needed =>
        {
            Ok(host_ip)
        }
        (Ok(host_ip @ (HostIp::Address(IpAddr::V4(_)) | HostIp::Interface(_))), None) => {
            Ok(host_ip)
        }
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests;
