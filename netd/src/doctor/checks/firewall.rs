//! Checks of the host's firewall: leftover rules of other container engines, and what stops forwarded packets.

use std::collections::{BTreeMap, BTreeSet};

use super::{Verdict, Verdicts, or_ok};
use crate::{
    data_path::{Asked, Choice, Path, choose},
    doctor::facts::{Facts, Host},
    firewall::{Chain, Forwarding, dropping, firewalld},
};

/// Who leaves rules behind: what their chains begin with, or the tables that are theirs.
struct Owner {
    name: &'static str,
    chains: &'static [&'static str],
    tables: &'static [&'static str],
    /// The bridge that is there as long as the owner is in use.
    bridge: Option<&'static str>,
}

const DOCKER: &str = "Docker";

/// Source: docker-behaviour A1 and 5.1; netavark `src/firewall`; CNI `plugins/meta/portmap`; kube-proxy.
const OWNERS: [Owner; 4] = [
    Owner {
        name: DOCKER,
        chains: &["DOCKER"],
        tables: &["docker-bridges"],
        bridge: Some("docker0"),
    },
    Owner {
        name: "netavark",
        chains: &["NETAVARK"],
        tables: &["netavark"],
        bridge: Some("podman0"),
    },
    Owner { name: "CNI", chains: &["CNI-"], tables: &["cni_hostport"], bridge: Some("cni0") },
    Owner { name: "Kubernetes", chains: &["KUBE-"], tables: &["kube-proxy"], bridge: None },
];

/// Tables that iptables makes in nftables.
const IPTABLES_TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

pub(super) fn leftovers(facts: &Facts) -> Verdicts<'_> {
    let (chains, host) = (facts.chains.as_ref()?, facts.host.as_ref()?);
    // It has its bridge and no use for rules where netd does their work.
    let is_docker_netds =
        facts.docker.as_ref().is_ok_and(|docker| docker.is_here && docker.conflicts.is_empty());
    let mut found = Vec::new();
    for owner in &OWNERS {
        let has_bridge = |name: &str| host.links.iter().any(|link| link.name == name);
        let is_netds = owner.name == DOCKER && is_docker_netds;
        let is_in_use = owner.bridge.is_some_and(has_bridge) && !is_netds;
        let mut by_program: BTreeMap<String, Vec<&Chain>> = BTreeMap::new();
        for chain in chains {
            if let Some(removal) = removal(owner, chain) {
                by_program.entry(removal).or_default().push(chain);
            }
        }
        found
            .extend(by_program.iter().map(|(fix, chains)| leftover(owner, is_in_use, chains, fix)));
    }
    Ok(or_ok(found, "no rules of Docker, Podman, CNI or Kubernetes"))
}

fn leftover(owner: &Owner, is_in_use: bool, chains: &[&Chain], fix: &str) -> Verdict {
    let name = owner.name;
    let tables: BTreeSet<&str> = chains.iter().map(|chain| chain.table.as_str()).collect();
    let tables: Vec<&str> = tables.into_iter().collect();
    let whose = if is_in_use { "has" } else { "has left" };
    let also = if chains.iter().any(|chain| chain.name == "DOCKER-USER") {
        "; DOCKER-USER may have rules of yours"
    } else {
        ""
    };
    let (names, tables) = (names(chains), tables.join(", "));
    let message = format!("{name} {whose} chains in {tables}: {names}{also}");
    let comment = match (owner.name, is_in_use) {
        (DOCKER, true) => "   # after \"iptables\": false in /etc/docker/daemon.json and a restart",
        (_, true) => "   # once it is not used any more",
        (_, false) => "",
    };
    Verdict::finding(message, format!("{fix}{comment}"))
}

/// The first of the chains' names, each once.
fn names(chains: &[&Chain]) -> String {
    const SHOWN: usize = 4;
    let names: BTreeSet<&str> = chains.iter().map(|chain| chain.name.as_str()).collect();
    let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// The command that removes an owner's chain with its table, or with all that refers to it.
fn removal(owner: &Owner, chain: &Chain) -> Option<String> {
    let is_named = owner.chains.iter().any(|prefix| chain.name.starts_with(prefix));
    match Place::of(&chain.table) {
        Place::Nftables { family, table } if owner.tables.contains(&table) => {
            Some(format!("nft delete table {family} {table}"))
        }
        Place::Iptables { program } if is_named => {
            let prefix = owner.chains.first()?;
            Some(format!("{program}-save | grep -v {prefix} | {program}-restore"))
        }
        Place::Nftables { family, table } if is_named => {
            let name = &chain.name;
            Some(format!(
                "nft flush chain {family} {table} {name} && nft delete chain {family} {table} {name}"
            ))
        }
        Place::Nftables { .. } | Place::Iptables { .. } => None,
    }
}

/// Which program a table is changed with.
enum Place<'a> {
    Iptables { program: String },
    Nftables { family: &'a str, table: &'a str },
}

impl<'a> Place<'a> {
    /// From `table filter of iptables-legacy`, `table ip filter` or `table inet mine`.
    fn of(table: &'a str) -> Self {
        let words: Vec<&str> = table.split(' ').skip(1).collect();
        match words.as_slice() {
            [_, "of", program] => Self::Iptables { program: (*program).to_owned() },
            ["ip", table] if IPTABLES_TABLES.contains(table) => {
                Self::Iptables { program: "iptables-nft".to_owned() }
            }
            ["ip6", table] if IPTABLES_TABLES.contains(table) => {
                Self::Iptables { program: "ip6tables-nft".to_owned() }
            }
            [family, table] => Self::Nftables { family, table },
            _ => Self::Nftables { family: "", table: "" },
        }
    }
}

pub(super) fn forward_policy(facts: &Facts) -> Verdicts<'_> {
    let (chains, host) = (facts.chains.as_ref()?, facts.host.as_ref()?);
    let drops = dropping(chains).map(|chain| {
        let message = format!(
            "the policy DROP of {} stops packets that take the stack's way and no rule accepts",
            chain.place()
        );
        Verdict::finding(message, accept(chain))
    });
    let takes_stack = choice(facts, host, chains).path == Path::Stack;
    let firewalld = (takes_stack && firewalld::is_closed(chains)).then(|| {
        Verdict::finding(
            "firewalld stops packets that take the stack's way: no zone and no policy accepts any",
            ACCEPT_IN_FIREWALLD,
        )
    });
    let found = drops.chain(firewalld).collect();
    Ok(or_ok(found, "no chain's policy drops forwarded packets"))
}

/// As `iptables -P FORWARD ACCEPT`.
pub(super) const ACCEPT_IN_FIREWALLD: &str = "firewall-cmd --permanent --new-policy netd-forward && \
    firewall-cmd --permanent --policy netd-forward --add-ingress-zone ANY && \
    firewall-cmd --permanent --policy netd-forward --add-egress-zone ANY && \
    firewall-cmd --permanent --policy netd-forward --set-target ACCEPT && \
    firewall-cmd --permanent --policy netd-forward --set-priority 32767 && \
    firewall-cmd --reload   # or, where the stack's way was asked for: netd run --datapath auto";

fn accept(chain: &Chain) -> String {
    let name = &chain.name;
    match Place::of(&chain.table) {
        Place::Iptables { program } if name == "FORWARD" => format!("{program} -P FORWARD ACCEPT"),
        Place::Iptables { .. } => {
            let table = chain.table.trim_start_matches("table ");
            format!("nft add chain {table} {name} '{{ policy accept ; }}'")
        }
        Place::Nftables { family, table } => {
            format!("nft add chain {family} {table} {name} '{{ policy accept ; }}'")
        }
    }
}

pub(super) fn br_netfilter(facts: &Facts) -> Verdicts<'_> {
    let (filters, chains) = (&facts.sysctls.bridge_filters, facts.chains.as_ref()?);
    let forwarding = Forwarding::of(chains);
    let harm = match (forwarding.stops, forwarding.rules) {
        (Some(who), _) => format!("{who} stops"),
        (None, Some(rules)) => format!("rules in {rules} judge"),
        (None, None) => return Ok(vec![Verdict::ok("no rule meets what a bridge switches")]),
    };
    if filters.is_empty() {
        return Ok(vec![Verdict::ok("what a bridge switches does not meet the host's rules")]);
    }
    let (set, off) = (filters.join(" = 1, "), filters.iter());
    let message = format!("{set} = 1: {harm} frames that a bridge switches within a network");
    let off: Vec<String> = off.map(|name| format!("net.bridge.{name}=0")).collect();
    Ok(vec![Verdict::finding(message, format!("sysctl -w {}", off.join(" ")))])
}

/// The way of networks that ask for none.
fn choice(facts: &Facts, host: &Host, chains: &[Chain]) -> Choice {
    choose(Asked::Daemon(facts.config.datapath.mode), &host.path_facts(chains))
}

pub(super) fn data_path(facts: &Facts) -> Verdicts<'_> {
    let choice = choice(facts, facts.host.as_ref()?, facts.chains.as_ref()?);
    let message = format!("{}: {}", choice.path, choice.reason());
    Ok(vec![if choice.is_doubtful() {
        Verdict::finding(message, "netd run --datapath auto")
    } else {
        Verdict::ok(message)
    }])
}
