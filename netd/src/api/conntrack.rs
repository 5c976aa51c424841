//! A flow as `netd conntrack ls` shows it, and the filters that choose among flows.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackInfo {
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or the protocol's number.
    pub proto: String,
    /// In conntrack(8)'s words.
    pub state: String,
    /// As the first packet had it. An ICMP id stands in `sport`.
    pub orig: FlowTuple,
    /// As the answer to it has it.
    pub reply: FlowTuple,
    pub endpoint: Option<String>,
    pub network: Option<String>,
    pub timeout_secs: u64,
    /// Present where flow accounting is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Present where flow accounting is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The addresses and ports of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTuple {
    pub src: IpAddr,
    pub sport: u16,
    pub dst: IpAddr,
    pub dport: u16,
}

/// The connection table as `netd conntrack count --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    /// Flows of both families.
    pub count: u64,
    /// The most flows of each family.
    pub max_flows: u32,
    /// `none`, `high` from three quarters on, `critical` from nine tenths on: the fuller family's.
    pub pressure: String,
    /// Flows that were not set up and gave way to others while the table was full.
    pub displaced: u64,
}

/// Which flows are meant: those that meet everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_src: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orig_dst: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl ConntrackFilter {
    /// Whether a flow is one of those meant. Ports are those of the original direction.
    pub fn matches(&self, flow: &ConntrackInfo) -> bool {
        let net = |wanted: Option<IpNet>, address: IpAddr| {
            wanted.is_none_or(|net| net.contains(&address))
        };
        let port = |wanted: Option<u16>, port: u16| wanted.is_none_or(|wanted| wanted == port);
        let word = |wanted: &Option<String>, word: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(word))
        };
        let name =
            |wanted: &Option<String>, name: &Option<String>| wanted.is_none() || wanted == name;
        word(&self.proto, &flow.proto)
            && word(&self.state, &flow.state)
            && net(self.orig_src, flow.orig.src)
            && net(self.orig_dst, flow.orig.dst)
            && port(self.sport, flow.orig.sport)
            && port(self.dport, flow.orig.dport)
            && name(&self.network, &flow.network)
            && name(&self.endpoint, &flow.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConntrackFilter, ConntrackInfo, FlowTuple};

    fn flow() -> ConntrackInfo {
        let tuple = |src: &str, sport, dst: &str, dport| FlowTuple {
            src: src.parse().unwrap(),
            sport,
            dst: dst.parse().unwrap(),
            dport,
        };
        ConntrackInfo {
            proto: "tcp".to_owned(),
            state: "ESTABLISHED".to_owned(),
            orig: tuple("198.51.100.7", 40_000, "192.0.2.1", 8080),
            reply: tuple("172.17.0.2", 80, "198.51.100.7", 40_000),
            endpoint: Some("web".to_owned()),
            network: None,
            timeout_secs: 60,
            packets: None,
            bytes: None,
        }
    }

    #[track_caller]
    fn check(set: impl FnOnce(&mut ConntrackFilter), expected: bool) {
        let mut filter = ConntrackFilter::default();
        set(&mut filter);
        assert_eq!(filter.matches(&flow()), expected, "{filter:?}");
    }

    #[test]
    fn a_filter_compares_the_original_direction_and_the_owner() {
        check(|_| {}, true);
        check(|f| f.proto = Some("TCP".to_owned()), true);
        check(|f| f.proto = Some("udp".to_owned()), false);
        check(|f| f.state = Some("established".to_owned()), true);
        check(|f| f.orig_src = Some("198.51.100.0/24".parse().unwrap()), true);
        check(|f| f.orig_src = Some("172.17.0.2/32".parse().unwrap()), false);
        check(|f| f.orig_dst = Some("192.0.2.1/32".parse().unwrap()), true);
        check(|f| f.orig_dst = Some("2001:db8::/32".parse().unwrap()), false);
        check(|f| f.sport = Some(40_000), true);
        check(|f| f.dport = Some(80), false);
        check(|f| f.endpoint = Some("web".to_owned()), true);
        check(|f| f.endpoint = Some("db".to_owned()), false);
        check(|f| f.network = Some("front".to_owned()), false);
    }

    #[test]
    fn counters_are_left_out_where_nothing_is_counted() {
        let text = serde_json::to_string(&flow()).unwrap();
        assert!(text.ends_with(r#""endpoint":"web","network":null,"timeout_secs":60}"#), "{text}");
    }
}
