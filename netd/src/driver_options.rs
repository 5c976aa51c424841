//! The keys of `network create -o`: Docker's and Podman's own, so that nobody learns new ones.
//!
//! Each key stands for a flag or for a default. A key that netd does not know is refused: a network
//! that silently ignores an option about isolation is worse than none.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32};

use clap::ValueEnum as _;
use ipnet::Ipv6Net;
use thiserror::Error;

use crate::model::{GatewayMode, MssClamp, NatMode, is_ifname};

/// What the options of a network ask for; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverOptions {
    pub bridge: Option<String>,
    pub icc: Option<bool>,
    pub masquerade: Option<bool>,
    pub ipv6: Option<bool>,
    pub internal: Option<bool>,
    pub mtu: Option<u32>,
    pub max_flows: Option<NonZeroU32>,
    pub nat: Option<NatMode>,
    pub nptv6: Option<Ipv6Net>,
    /// IPv4's, IPv6's.
    pub gateway_modes: [Option<GatewayMode>; 2],
    pub strict_source: bool,
    pub icc_published: Option<bool>,
    pub inhibit_ipv4: bool,
    pub mss_clamp: Option<MssClamp>,
    pub trusted_interfaces: Vec<String>,
    pub snat_addresses: Vec<IpAddr>,
    /// Where ports are published whose SPEC has no HOSTIP.
    pub host_binding: Option<IpAddr>,
    /// What the names of interfaces in sandboxes begin with, in place of `eth`.
    pub ifname_prefix: Option<String>,
}

/// Why an option was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DriverOptionError {
    #[error("option {key} is not known: leave it out, or use one of {KNOWN}")]
    Unknown { key: String },
    #[error("option {key}={value} is not supported yet: leave it out")]
    Unsupported { key: String, value: String },
    #[error("option {key}={value} is wrong: {expected} belongs there")]
    Value { key: String, value: String, expected: &'static str },
    #[error(
        "networks do not reach each other until `netd network allow A B`: leave {key}={value} out"
    )]
    NotIsolated { key: String, value: String },
}

const KNOWN: &str = "com.docker.network.bridge.name, com.docker.network.bridge.enable_icc, \
    com.docker.network.bridge.enable_ip_masquerade, com.docker.network.bridge.gateway_mode_ipv4, \
    com.docker.network.bridge.gateway_mode_ipv6, com.docker.network.bridge.host_binding_ipv4, \
    com.docker.network.bridge.inhibit_ipv4, com.docker.network.bridge.trusted_host_interfaces, \
    com.docker.network.container_iface_prefix, com.docker.network.driver.mtu, \
    com.docker.network.enable_ipv6, com.docker.network.host_ipv4, com.docker.network.host_ipv6, \
    com.docker.network.internal, icc_published, isolate, max_flows, mss_clamp, mtu, nat, nptv6, \
    outbound_addr4, outbound_addr6, strict_src";

impl DriverOptions {
    /// Reads a network's options.
    ///
    /// # Errors
    /// On the first key that netd does not know, or whose value is wrong.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        for (key, value) in options {
            parsed.set(&Opt { key, value })?;
        }
        Ok(parsed)
    }

    /// Reads the options of a network that another manager has made with them: what netd does not know is that
    /// manager's own business, and what is wrong is an error beside the rest.
    pub fn parse_others(options: &BTreeMap<String, String>) -> (Self, Vec<DriverOptionError>) {
        let mut parsed = Self::default();
        let set = options.iter().map(|(key, value)| parsed.set(&Opt { key, value }));
        let errors = set.filter_map(Result::err);
        let errors = errors.filter(|error| matches!(error, DriverOptionError::Value { .. }));
        let errors = errors.collect();
        (parsed, errors)
    }

    fn set(&mut self, opt: &Opt<'_>) -> Result<(), DriverOptionError> {
        let bridge_key = opt.key.strip_prefix("com.docker.network.bridge.");
        match (bridge_key, opt.key) {
            (Some("name"), _) => self.bridge = Some(opt.value.to_owned()),
            (Some("enable_icc"), _) => self.icc = Some(opt.bool()?),
            (Some("enable_ip_masquerade"), _) => self.masquerade = Some(opt.bool()?),
            (Some("host_binding_ipv4"), _) => {
                let address = opt.address(false)?;
                self.host_binding = (!address.is_unspecified()).then_some(address);
            }
            (Some("gateway_mode_ipv4"), _) => self.gateway_modes[0] = opt.gateway_mode()?,
            (Some("gateway_mode_ipv6"), _) => self.gateway_modes[1] = opt.gateway_mode()?,
            (Some("inhibit_ipv4"), _) => self.inhibit_ipv4 = opt.bool()?,
            (Some("default_bridge"), _) => opt.only("false")?,
            (Some("trusted_host_interfaces"), _) => self.trusted_interfaces = opt.ifnames()?,
            (_, "com.docker.network.container_iface_prefix") => {
                self.ifname_prefix = Some(opt.value.to_owned());
            }
            (_, "com.docker.network.driver.mtu" | "mtu") => self.mtu = Some(opt.mtu()?),
            (_, "max_flows") => self.max_flows = Some(opt.flows()?),
            (_, "nat") => self.nat = Some(opt.nat_mode()?),
            (_, "nptv6") => {
                self.nptv6 = Some(opt.value.parse().map_err(|_| opt.wrong("an IPv6 prefix"))?);
            }
            (_, "com.docker.network.enable_ipv6") => self.ipv6 = Some(opt.bool()?),
            (_, "com.docker.network.enable_ipv4") => opt.only("true")?,
            (_, "com.docker.network.internal") => self.internal = Some(opt.bool()?),
            (_, "com.docker.network.host_ipv4" | "outbound_addr4") => {
                self.snat_addresses.push(opt.address(false)?);
            }
            (_, "com.docker.network.host_ipv6" | "outbound_addr6") => {
                self.snat_addresses.push(opt.address(true)?);
            }
            (_, "strict_src") => self.strict_source = opt.bool()?,
            (_, "mss_clamp") => self.mss_clamp = Some(opt.mss_clamp()?),
            (_, "icc_published") => self.icc_published = Some(opt.bool()?),
            (_, "isolate") => opt.isolated()?,
            (_, "mode") => opt.only("managed")?,
            (_, "vlan" | "vrf" | "metric" | "no_default_route") => return Err(opt.unsupported()),
            _ => return Err(DriverOptionError::Unknown { key: opt.key.to_owned() }),
        }
        Ok(())
    }
}

struct Opt<'a> {
    key: &'a str,
    value: &'a str,
}

impl Opt<'_> {
    /// The spellings of Go's `strconv.ParseBool`, which Docker reads its labels with.
    fn bool(&self) -> Result<bool, DriverOptionError> {
        match self.value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn mtu(&self) -> Result<u32, DriverOptionError> {
        self.value.parse().map_err(|_| self.wrong("a number of bytes"))
    }

    fn flows(&self) -> Result<NonZeroU32, DriverOptionError> {
        self.value.parse().map_err(|_| self.wrong("a number of flows"))
    }

    fn mss_clamp(&self) -> Result<MssClamp, DriverOptionError> {
        self.value.parse().map_err(|_| self.wrong("auto or a number of bytes from 88 to 65495"))
    }

    fn nat_mode(&self) -> Result<NatMode, DriverOptionError> {
        NatMode::from_str(self.value, false).map_err(|_| self.wrong("edm or eim"))
    }

    fn address(&self, is_ipv6: bool) -> Result<IpAddr, DriverOptionError> {
        let expected = if is_ipv6 { "an IPv6 address" } else { "an IPv4 address" };
        let address = self.value.parse().ok();
        address.filter(|address: &IpAddr| address.is_ipv6() == is_ipv6).ok_or(self.wrong(expected))
    }

    /// An empty value is Docker's way to say nothing.
    fn gateway_mode(&self) -> Result<Option<GatewayMode>, DriverOptionError> {
        if self.value.is_empty() {
            return Ok(None);
        }
        let mode = GatewayMode::from_str(self.value, false);
        mode.map(Some).map_err(|_| self.wrong("nat, nat-unprotected, routed or isolated"))
    }

    /// Names of devices with colons between them.
    fn ifnames(&self) -> Result<Vec<String>, DriverOptionError> {
        let names = self.value.split(':').filter(|name| !name.is_empty());
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.iter().all(|name| is_ifname(name)) {
            Ok(names)
        } else {
            Err(self.wrong("names of devices with colons between them"))
        }
    }

    fn isolated(&self) -> Result<(), DriverOptionError> {
        let (key, value) = (self.key.to_owned(), self.value.to_owned());
        match self.value {
            "strict" => Ok(()),
            _ if self.bool()? => Ok(()),
            _ => Err(DriverOptionError::NotIsolated { key, value }),
        }
    }

    fn only(&self, supported: &str) -> Result<(), DriverOptionError> {
        if self.value == supported { Ok(()) } else { Err(self.unsupported()) }
    }

    fn unsupported(&self) -> DriverOptionError {
        DriverOptionError::Unsupported { key: self.key.to_owned(), value: self.value.to_owned() }
    }

    fn wrong(&self, expected: &'static str) -> DriverOptionError {
        let (key, value) = (self.key.to_owned(), self.value.to_owned());
        DriverOptionError::Value { key, value, expected }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, num::NonZeroU32};

    use super::{DriverOptionError, DriverOptions, GatewayMode, MssClamp, NatMode};

    fn parse(key: &str, value: &str) -> Result<DriverOptions, DriverOptionError> {
        DriverOptions::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn dockers_and_podmans_keys_are_taken() {
        let empty = DriverOptions::default;
        let check =
            |key: &str, value: &str, expected| assert_eq!(parse(key, value), Ok(expected), "{key}");
        let docker = |key: &str| format!("com.docker.network.{key}");
        let bridge = Some("br0".to_owned());
        check(&docker("bridge.name"), "br0", DriverOptions { bridge, ..empty() });
        check(&docker("bridge.enable_icc"), "false", DriverOptions { icc: Some(false), ..empty() });
        check(
            &docker("bridge.enable_ip_masquerade"),
            "0",
            DriverOptions { masquerade: Some(false), ..empty() },
        );
        check(&docker("driver.mtu"), "1400", DriverOptions { mtu: Some(1400), ..empty() });
        check("mtu", "1400", DriverOptions { mtu: Some(1400), ..empty() });
        let snat_addresses = vec!["192.0.2.1".parse().unwrap()];
        check(&docker("host_ipv4"), "192.0.2.1", DriverOptions { snat_addresses, ..empty() });
        let host_binding = Some("127.0.0.1".parse().unwrap());
        check(
            &docker("bridge.host_binding_ipv4"),
            "127.0.0.1",
            DriverOptions { host_binding, ..empty() },
        );
        check(&docker("bridge.host_binding_ipv4"), "0.0.0.0", empty());
        let max_flows = NonZeroU32::new(500);
        check("max_flows", "500", DriverOptions { max_flows, ..empty() });
        assert!(matches!(parse("max_flows", "0"), Err(DriverOptionError::Value { .. })));
        check("nat", "eim", DriverOptions { nat: Some(NatMode::Eim), ..empty() });
        assert!(matches!(parse("nat", "full-cone"), Err(DriverOptionError::Value { .. })));
        let nptv6 = Some("2001:db8:1::/64".parse().unwrap());
        check("nptv6", "2001:db8:1::/64", DriverOptions { nptv6, ..empty() });
        assert!(matches!(parse("nptv6", "10.0.0.0/8"), Err(DriverOptionError::Value { .. })));
        check("isolate", "true", empty());
        check("isolate", "strict", empty());
        let gateway_modes = [None, Some(GatewayMode::Routed)];
        check(
            &docker("bridge.gateway_mode_ipv6"),
            "routed",
            DriverOptions { gateway_modes, ..empty() },
        );
        check(&docker("bridge.gateway_mode_ipv4"), "", empty());
        let trusted_interfaces = vec!["eth1".to_owned(), "wg0".to_owned()];
        check(
            &docker("bridge.trusted_host_interfaces"),
            "eth1:wg0",
            DriverOptions { trusted_interfaces, ..empty() },
        );
        check(
            &docker("bridge.inhibit_ipv4"),
            "true",
            DriverOptions { inhibit_ipv4: true, ..empty() },
        );
        check("strict_src", "1", DriverOptions { strict_source: true, ..empty() });
        let mss_clamp = Some(MssClamp::Auto);
        check("mss_clamp", "auto", DriverOptions { mss_clamp, ..empty() });
        check("icc_published", "false", DriverOptions { icc_published: Some(false), ..empty() });
    }

    #[test]
    fn other_keys_and_values_are_refused() {
        assert!(matches!(parse("colour", "red"), Err(DriverOptionError::Unknown { .. })));
        assert!(matches!(parse("isolate", "false"), Err(DriverOptionError::NotIsolated { .. })));
        assert!(matches!(parse("vlan", "7"), Err(DriverOptionError::Unsupported { .. })));
        assert!(matches!(parse("mss_clamp", "0"), Err(DriverOptionError::Value { .. })));
        assert!(matches!(parse("mtu", "big"), Err(DriverOptionError::Value { .. })));
        let bridged = parse("com.docker.network.bridge.gateway_mode_ipv4", "bridged");
        assert!(matches!(bridged, Err(DriverOptionError::Value { .. })));
        let trusted = parse("com.docker.network.bridge.trusted_host_interfaces", "eth0:a/b");
        assert!(matches!(trusted, Err(DriverOptionError::Value { .. })));
        let wrong_family = parse("com.docker.network.host_ipv6", "192.0.2.1");
        assert!(matches!(wrong_family, Err(DriverOptionError::Value { .. })));
    }
}
