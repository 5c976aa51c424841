//! What exists, as lines of text: what netd says, and what it has to say and host and sandboxes to show.

use std::{collections::BTreeSet, fmt::Display};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{model::Model, operation::Kind};
use crate::{daemon::Daemon, family::Family, topology};

/// Facts, a line each.
pub type Lines = BTreeSet<String>;

/// A fact.
pub fn line(what: &str, value: impl Display) -> String {
    format!("{what} {value}")
}

/// What one has and the other has not, if anything.
pub fn difference(expected: &Lines, found: &Lines) -> Option<String> {
    let missing = expected.difference(found).map(|line| format!("missing: {line}"));
    let surplus = found.difference(expected).map(|line| format!("surplus: {line}"));
    let lines: Vec<String> = missing.chain(surplus).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What netd says that there is.
#[derive(Debug)]
pub struct Answers {
    networks: Vec<Value>,
    endpoints: Vec<Value>,
    ports: Vec<Value>,
}

/// What stays as it is as long as a network or an endpoint exists.
const FACTS: [&str; 11] = [
    "id",
    "created",
    "bridge",
    "subnets",
    "network_id",
    "mac",
    "host_ifname",
    "ipv4",
    "ipv6",
    "gateway",
    "gateway6",
];

impl Answers {
    /// Asks for everything.
    ///
    /// # Errors
    /// Where there is no answer.
    pub fn ask(daemon: &Daemon) -> Result<Self> {
        let ls = |what: &str| {
            let outcome = daemon.netd(&format!("{what} ls --json"));
            ensure!(outcome.is_ok(), "{outcome}");
            serde_json::from_str(&outcome.stdout).with_context(|| outcome.to_string())
        };
        Ok(Self { networks: ls("network")?, endpoints: ls("endpoint")?, ports: ls("port")? })
    }

    /// The facts of every network and endpoint, by name.
    pub fn facts(&self) -> impl Iterator<Item = (String, String)> {
        self.networks.iter().chain(&self.endpoints).map(|it| {
            let facts = FACTS.iter().filter_map(|key| Some(format!("{key}={}", it.get(key)?)));
            (text(it, "name"), facts.collect::<Vec<_>>().join(" "))
        })
    }

    /// A field of a network or an endpoint.
    pub fn field(&self, name: &str, key: &str) -> Option<String> {
        let mut all = self.networks.iter().chain(&self.endpoints);
        all.find(|it| it["name"] == name).map(|it| text(it, key))
    }

    /// What netd says, in the words of [`of_model`].
    pub fn lines(&self, model: &Model) -> Lines {
        let mut lines = Lines::new();
        for network in &self.networks {
            let name = text(network, "name");
            let subnets: Vec<String> = list(network, "subnets", |it| text(it, "subnet"));
            lines.insert(format!(
                "network {name} internal={} icc={} families={} allowed={:?} endpoints={:?}",
                network["internal"],
                network["icc"],
                subnets.len(),
                list(network, "allowed", plain),
                list(network, "endpoints", plain),
            ));
            let chosen = |it: &&String| it.starts_with("10.77.") || it.starts_with("fd77:");
            lines.extend(subnets.iter().filter(chosen).map(|it| format!("subnet {name} {it}")));
        }
        for endpoint in &self.endpoints {
            let name = text(endpoint, "name");
            lines.insert(format!(
                "endpoint {name} network={} sandbox={} ifname={} ipv4={} ipv6={}",
                text(endpoint, "network"),
                text(endpoint, "sandbox"),
                text(endpoint, "ifname"),
                endpoint["ipv4"].is_string(),
                endpoint["ipv6"].is_string(),
            ));
            if model.endpoints.iter().any(|(it, plan)| it.to_string() == name && plan.ip.is_some())
            {
                lines.insert(format!("address {name} {}", text(endpoint, "ipv4")));
            }
        }
        lines.extend(self.ports.iter().map(|port| {
            format!(
                "port {} {} {} {}-{} {}-{}",
                text(port, "endpoint"),
                text(port, "proto"),
                text(port, "host_ip"),
                port["host_port"],
                port["host_port_end"],
                port["port"],
                port["port_end"],
            )
        }));
        lines
    }

    /// What host and sandboxes have to show, by what netd says.
    pub fn of_host(&self, model: &Model, prefix: &str) -> Lines {
        let mut lines = Lines::new();
        for network in &self.networks {
            let bridge = text(network, "bridge");
            lines.insert(format!("{bridge} bridge up"));
            for subnet in network["subnets"].as_array().into_iter().flatten() {
                let (net, gateway) = (text(subnet, "subnet"), text(subnet, "gateway"));
                let len = net.split('/').nth(1).unwrap_or_default();
                lines.insert(format!("{bridge} has {gateway}/{len}"));
            }
        }
        for endpoint in &self.endpoints {
            let network = text(endpoint, "network");
            let bridge = self.field(&network, "bridge").unwrap_or_default();
            lines.insert(format!("{} veth up in {bridge}", text(endpoint, "host_ifname")));
            let device = format!("{} {}", text(endpoint, "sandbox"), text(endpoint, "ifname"));
            lines.insert(format!("{device} is {}", text(endpoint, "mac")));
            let addresses = ["ipv4", "ipv6"].map(|key| endpoint[key].as_str());
            let addresses = addresses.into_iter().flatten();
            lines.extend(addresses.map(|address| format!("{device} has {address}")));
        }
        for (sandbox, family) in
            model.sandboxes.iter().flat_map(|it| Family::BOTH.map(|family| (it, family)))
        {
            let Some(endpoint) = model.way_out(*sandbox, family) else { continue };
            let field = |key| self.field(&endpoint.to_string(), key).unwrap_or_default();
            let (ifname, gateway) = (field("ifname"), field(family.pick("gateway", "gateway6")));
            lines.insert(format!("{prefix}{sandbox} {ifname} leads to {gateway}"));
        }
        lines
    }
}

pub(super) fn text(value: &Value, key: &str) -> String {
    plain(&value[key])
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value, key: &str, text: impl Fn(&Value) -> String) -> Vec<String> {
    let mut list: Vec<String> = value[key].as_array().into_iter().flatten().map(text).collect();
    list.sort();
    list
}

/// What netd has to say, by the model.
pub fn of_model(model: &Model, prefix: &str) -> Lines {
    let mut lines = Lines::new();
    for (name, plan) in &model.networks {
        let families = Family::BOTH.into_iter().filter(|family| plan.kind.has(*family));
        let allowed = model.networks.keys().filter(|other| model.is_allowed(*name, **other));
        let allowed: Vec<String> = allowed.map(ToString::to_string).collect();
        let endpoints = model.endpoints.iter().filter(|(_, endpoint)| endpoint.network == *name);
        let endpoints: Vec<String> = endpoints.map(|(name, _)| name.to_string()).collect();
        lines.insert(format!(
            "network {name} internal={} icc={} families={} allowed={allowed:?} endpoints={endpoints:?}",
            plan.kind == Kind::Internal,
            plan.kind != Kind::Apart,
            families.clone().count(),
        ));
        let subnets = plan.subnet.into_iter().flat_map(|number| {
            families.clone().map(move |family| topology::subnet(family, number))
        });
        lines.extend(subnets.map(|subnet| format!("subnet {name} {subnet}")));
    }
    for (name, plan) in &model.endpoints {
        let network = &model.networks[&plan.network];
        lines.insert(format!(
            "endpoint {name} network={} sandbox={prefix}{} ifname=eth{} ipv4=true ipv6={}",
            plan.network,
            plan.sandbox,
            plan.device,
            network.kind.has(Family::V6),
        ));
        if let (Some(ip), Some(subnet)) = (plan.ip, network.subnet) {
            lines.insert(format!("address {name} 10.77.{subnet}.{ip}/24"));
        }
        lines.extend(plan.ports.iter().map(|port| {
            let host_ip = port.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
            let last = port.len - 1;
            format!(
                "port {name} {} {host_ip} {}-{} {}-{}",
                port.proto(),
                port.host_port,
                port.host_port + last,
                port.port,
                port.port + last
            )
        }));
    }
    lines
}
