//! Chains and rules of nftables, from messages of the kernel. Pure.

use std::collections::BTreeMap;

use netlink_packet_core::{NlasIterator, parse_string, parse_u32_be};

use crate::firewall::{Chain, Policy, Rule, Target};

/// Subsystem and message types of linux/netfilter/nfnetlink.h and nf_tables.h, a type's subsystem in its
/// upper byte.
pub(in crate::netlink) const SUBSYSTEM: u8 = 10;
const NEW_CHAIN: u16 = of_subsystem(3);
pub(super) const GET_CHAINS: u16 = of_subsystem(4);
const NEW_RULE: u16 = of_subsystem(6);
pub(super) const GET_RULES: u16 = of_subsystem(7);

/// The multicast group of changes: NFNLGRP_NFTABLES.
pub(in crate::netlink) const GROUP: u32 = 7;

/// The fixed part of a message: `struct nfgenmsg`, which begins with the family.
const NFGENMSG_LEN: usize = 4;

/// NF_INET_FORWARD of linux/netfilter.h, for IPv4, IPv6 and both.
const FORWARD: u32 = 2;

/// Attributes of linux/netfilter/nf_tables.h.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Verdicts of linux/netfilter.h and linux/netfilter/nf_tables.h, as they are sent.
const ACCEPT: u32 = 1;
const JUMP: u32 = -3_i32 as u32;
const GOTO: u32 = -4_i32 as u32;
const RETURN: u32 = -5_i32 as u32;

const fn of_subsystem(kind: u16) -> u16 {
    (SUBSYSTEM as u16) << 8 | kind
}

/// The chains that have been read, by table and name.
#[derive(Debug, Default)]
pub(super) struct Ruleset(BTreeMap<(String, String), Chain>);

impl Ruleset {
    /// Takes up a message; others than those of chains and rules change nothing. Rules come after their
    /// chains.
    pub(super) fn add(&mut self, kind: u16, payload: &[u8]) {
        let Some((family, attributes)) = message(payload) else { return };
        match kind {
            NEW_CHAIN => {
                if let Some(chain) = chain(family, attributes) {
                    self.0.insert((chain.table.clone(), chain.name.clone()), chain);
                }
            }
            NEW_RULE => {
                if let Some((table, name, rule)) = rule(family, attributes)
                    && let Some(chain) = self.0.get_mut(&(table, name))
                {
                    chain.rules.push(rule);
                }
            }
            _ => {}
        }
    }

    pub(super) fn chains(self) -> Vec<Chain> {
        self.0.into_values().collect()
    }
}

/// The family's name and the attributes; none for families whose packets are not forwarded by IP.
fn message(payload: &[u8]) -> Option<(&'static str, &[u8])> {
    // Families of linux/netfilter.h.
    let family = match payload.first()? {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    Some((family, payload.get(NFGENMSG_LEN..)?))
}

fn chain(family: &str, bytes: &[u8]) -> Option<Chain> {
    let hook = value(bytes, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER));
    let policy = match number(bytes, CHAIN_POLICY) {
        Some(0) => Policy::Drop,
        Some(_) | None => Policy::Accept,
    };
    Some(Chain {
        table: format!("table {family} {}", text(bytes, CHAIN_TABLE)?),
        name: text(bytes, CHAIN_NAME)?,
        forward: (hook == Some(FORWARD)).then_some(policy),
        rules: Vec::new(),
    })
}

fn rule(family: &str, bytes: &[u8]) -> Option<(String, String, Rule)> {
    let table = format!("table {family} {}", text(bytes, RULE_TABLE)?);
    let expressions = value(bytes, RULE_EXPRESSIONS).unwrap_or_default();
    let mut rule = Rule { target: Target::Other, is_bare: true };
    for (_, expression) in attributes(expressions) {
        let (name, data) = (text(expression, EXPRESSION_NAME), value(expression, EXPRESSION_DATA));
        match name.as_deref() {
            Some("counter") => {}
            Some("immediate") => rule.target = data.and_then(verdict).unwrap_or(Target::Other),
            Some(_) | None => rule.is_bare = false,
        }
    }
    Some((table, text(bytes, RULE_CHAIN)?, rule))
}

fn verdict(immediate: &[u8]) -> Option<Target> {
    let verdict = value(value(immediate, IMMEDIATE_DATA)?, DATA_VERDICT)?;
    match number(verdict, VERDICT_CODE)? {
        JUMP | GOTO => Some(Target::Jump(text(verdict, VERDICT_CHAIN)?)),
        RETURN => Some(Target::Return),
        ACCEPT => Some(Target::Accept),
        _ => Some(Target::Other),
    }
}

/// Attributes with their kinds.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const HEADER_LEN: usize = 4;
    NlasIterator::new(bytes).flatten().filter_map(|attribute| {
        let (kind, len) = (attribute.kind(), attribute.value_length());
        Some((kind, attribute.into_inner().get(HEADER_LEN..HEADER_LEN + len)?))
    })
}

/// The value of the first attribute of a kind.
fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn text(bytes: &[u8], kind: u16) -> Option<String> {
    parse_string(value(bytes, kind)?).ok()
}

fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    parse_u32_be(value(bytes, kind)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Ruleset, SUBSYSTEM};
    use crate::firewall::{Forwarding, Policy, Target};

    /// Chains and rules as the kernel lists them, from a host with the rules of `captured/README`.
    const CAPTURED: &[u8] = include_bytes!("captured/nftables.bin");

    /// Reads messages of netlink, each with a header of 16 bytes.
    fn read(mut bytes: &[u8]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        while let Ok(message) = netlink_packet_core::NetlinkBuffer::new_checked(bytes) {
            assert_eq!(message.message_type() >> 8, u16::from(SUBSYSTEM));
            ruleset.add(message.message_type(), message.payload());
            let aligned = (message.length() as usize).next_multiple_of(4);
            bytes = bytes.get(aligned..).unwrap_or_default();
        }
        ruleset
    }

    #[test]
    fn chains_and_rules_are_read_as_they_are() {
        let chains = read(CAPTURED).chains();
        let show = |target: &Target| match target {
            Target::Jump(to) => to.clone(),
            Target::Return => "return".to_owned(),
            Target::Accept => "accept".to_owned(),
            Target::Other => "other".to_owned(),
        };
        let lines: Vec<String> = chains
            .iter()
            .map(|chain| {
                let rules = chain.rules.iter();
                let rules: Vec<String> = rules
                    .map(|rule| {
                        format!("{}{}", if rule.is_bare { "" } else { "if " }, show(&rule.target))
                    })
                    .collect();
                format!("{} {} {:?}: {}", chain.table, chain.name, chain.forward, rules.join(", "))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "table inet mine forward Some(Accept): if other, other",
                "table inet mine input None: if other",
                "table ip filter DOCKER None: ",
                "table ip filter DOCKER-FORWARD None: if DOCKER",
                "table ip filter DOCKER-USER None: if other, return",
                "table ip filter FORWARD Some(Drop): DOCKER-USER, DOCKER-FORWARD",
                "table ip6 filter FORWARD Some(Accept): ",
            ]
        );
        let forwarding = Forwarding::of(&chains);
        assert_eq!(forwarding.rules.unwrap(), "chain forward of table inet mine");
        assert_eq!(
            forwarding.stops.unwrap(),
            "the policy DROP of chain FORWARD of table ip filter"
        );
        let dockers: Vec<_> =
            chains.into_iter().filter(|chain| chain.table == "table ip filter").collect();
        assert!(dockers.iter().any(|chain| chain.forward == Some(Policy::Drop)));
        let users = Forwarding::of(&dockers).rules.unwrap();
        assert_eq!(users, "chain DOCKER-USER of table ip filter");
    }

    #[test]
    fn messages_that_are_cut_off_are_ignored() {
        for len in 0..CAPTURED.len() {
            let mut ruleset = Ruleset::default();
            ruleset.add(super::NEW_CHAIN, &CAPTURED[16..16.max(len)]);
            ruleset.add(super::NEW_RULE, &CAPTURED[16..16.max(len)]);
            let _ = ruleset.chains();
        }
    }
}
