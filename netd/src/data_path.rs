//! Which way a network's new flows take between uplinks and containers: past the host's stack, or through
//! it. Pure.
//!
//! Whether the kernel has the helpers for the way past the stack is not asked here: the programs that call
//! them would not have been loaded.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{firewall::Forwarding, model::DatapathMode};

/// A way that packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// Rewritten and redirected.
    Fast,
    /// Rewritten, and routed by the kernel.
    Stack,
}

/// What was asked for, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By the network itself.
    Network(DatapathMode),
    /// By the daemon's configuration, for networks that say nothing.
    Daemon(DatapathMode),
}

/// What the host has that speaks for one way or the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The firewall, as far as forwarded packets meet it.
    pub forwarding: Forwarding,
    /// Whether each uplink's packets have an Ethernet header.
    pub uplinks: Vec<bool>,
    /// A device of the network whose packets are queued in a way of somebody's own, and the queueing
    /// discipline.
    pub shaped: Option<(String, String)>,
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub asked: Asked,
    pub path: Path,
    /// What speaks against the way past the stack, be it taken or not.
    pub obstacle: Option<Obstacle>,
    /// Who stops what goes through the stack and is not accepted by a rule.
    pub stops: Option<String>,
}

/// What speaks against the way past the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Rules of somebody's own judge forwarded packets.
    Rules { chain: String },
    /// Nobody knows whether there are such rules.
    Unreadable { why: String },
    /// Redirected packets would not wait in the queue.
    Shaped { device: String, qdisc: String },
    /// Redirected packets need a header that none has.
    NoEthernet,
}

impl Asked {
    /// The way that was asked for.
    pub fn mode(self) -> DatapathMode {
        match self {
            Self::Network(mode) | Self::Daemon(mode) => mode,
        }
    }
}

/// Decides: who asks for a way gets it, and `auto` is the way past the stack unless something speaks
/// against it.
pub fn choose(asked: Asked, facts: &Facts) -> Choice {
    let obstacle = obstacle(facts);
    let path = match asked.mode() {
        DatapathMode::Fast => Path::Fast,
        DatapathMode::Stack => Path::Stack,
        DatapathMode::Auto if obstacle.is_some() => Path::Stack,
        DatapathMode::Auto => Path::Fast,
    };
    Choice { asked, path, obstacle, stops: facts.forwarding.stops.clone() }
}

fn obstacle(facts: &Facts) -> Option<Obstacle> {
    let Facts { forwarding, uplinks, shaped } = facts;
    if let Some(why) = forwarding.unreadable.clone() {
        return Some(Obstacle::Unreadable { why });
    }
    if let Some(chain) = forwarding.rules.clone() {
        return Some(Obstacle::Rules { chain });
    }
    if let Some((device, qdisc)) = shaped.clone() {
        return Some(Obstacle::Shaped { device, qdisc });
    }
    // A host without any is one that has not got its network yet.
    let has_ethernet = uplinks.is_empty() || uplinks.contains(&true);
    (!has_ethernet).then_some(Obstacle::NoEthernet)
}

impl Choice {
    /// Whether somebody should look: what was asked for gets past what speaks against it.
    pub fn is_doubtful(&self) -> bool {
        self.path == Path::Fast && self.obstacle.is_some()
    }

    /// Why this way, as a sentence without an end.
    pub fn reason(&self) -> String {
        let asker = match self.asked {
            Asked::Network(_) => "by the network",
            Asked::Daemon(_) => "by the daemon's configuration",
        };
        let mut reason = match (self.asked.mode(), &self.obstacle) {
            (DatapathMode::Auto, Some(obstacle)) => obstacle.to_string(),
            (DatapathMode::Auto, None) => "nothing speaks against it".to_owned(),
            (DatapathMode::Fast, Some(obstacle)) => {
                format!("asked for {asker}, although {obstacle}")
            }
            (DatapathMode::Fast, None) | (DatapathMode::Stack, _) => format!("asked for {asker}"),
        };
        if let Some(who) = &self.stops {
            let stops = match self.path {
                Path::Fast => "would have stopped packets on the stack's way",
                Path::Stack => "stops packets that no rule accepts",
            };
            reason.push_str(&format!("; {who} {stops}"));
        }
        reason
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules { chain } => write!(f, "rules in {chain} judge forwarded packets"),
            Self::Unreadable { why } => write!(f, "the firewall is not known: {why}"),
            Self::Shaped { device, qdisc } => {
                write!(f, "{device} has the queueing discipline {qdisc}")
            }
            Self::NoEthernet => write!(f, "no uplink has an Ethernet header"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "fast",
            Self::Stack => "stack",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Choice, DatapathMode, Facts, Forwarding, Path, choose};

    fn rules() -> Facts {
        let rules = Some("chain FORWARD of table ip filter".to_owned());
        Facts { forwarding: Forwarding { rules, ..Forwarding::default() }, ..Facts::default() }
    }

    fn drops(facts: Facts) -> Facts {
        let stops = Some("the policy DROP of chain FORWARD of table ip filter".to_owned());
        Facts { forwarding: Forwarding { stops, ..facts.forwarding }, ..facts }
    }

    #[track_caller]
    fn check(asked: Asked, facts: &Facts, path: Path, reason: &str) -> Choice {
        let choice = choose(asked, facts);
        assert_eq!((choice.path, choice.reason().as_str()), (path, reason));
        choice
    }

    #[test]
    fn auto_is_fast_unless_something_speaks_against_it() {
        let auto = Asked::Daemon(DatapathMode::Auto);
        let free = "nothing speaks against it";
        check(auto, &Facts::default(), Path::Fast, free);
        check(auto, &Facts { uplinks: vec![true, false], ..Facts::default() }, Path::Fast, free);
        let reason = "rules in chain FORWARD of table ip filter judge forwarded packets";
        check(auto, &rules(), Path::Stack, reason);
        let tunnels = Facts { uplinks: vec![false, false], ..Facts::default() };
        check(auto, &tunnels, Path::Stack, "no uplink has an Ethernet header");
        let shaped = Some(("br-1".to_owned(), "tbf".to_owned()));
        let shaped = Facts { shaped, ..Facts::default() };
        check(auto, &shaped, Path::Stack, "br-1 has the queueing discipline tbf");
        let unreadable = Some("cannot list the rules".to_owned());
        let forwarding = Forwarding { unreadable, ..Forwarding::default() };
        let unreadable = Facts { forwarding, ..Facts::default() };
        let reason = "the firewall is not known: cannot list the rules";
        check(auto, &unreadable, Path::Stack, reason);
    }

    #[test]
    fn a_policy_alone_decides_nothing_but_is_said() {
        let auto = Asked::Network(DatapathMode::Auto);
        let reason = "nothing speaks against it; the policy DROP of chain FORWARD of table ip filter \
            would have stopped packets on the stack's way";
        check(auto, &drops(Facts::default()), Path::Fast, reason);
        let reason = "asked for by the daemon's configuration; the policy DROP of chain FORWARD of \
            table ip filter stops packets that no rule accepts";
        let stack = Asked::Daemon(DatapathMode::Stack);
        check(stack, &drops(Facts::default()), Path::Stack, reason);
    }

    #[test]
    fn who_asks_gets_it_and_is_warned() {
        let fast = Asked::Network(DatapathMode::Fast);
        let choice = check(fast, &Facts::default(), Path::Fast, "asked for by the network");
        assert!(!choice.is_doubtful());
        let reason = "asked for by the network, although rules in chain FORWARD of table ip filter \
            judge forwarded packets";
        assert!(check(fast, &rules(), Path::Fast, reason).is_doubtful());
        let stack = Asked::Network(DatapathMode::Stack);
        let choice = check(stack, &rules(), Path::Stack, "asked for by the network");
        assert!(!choice.is_doubtful());
    }
}
