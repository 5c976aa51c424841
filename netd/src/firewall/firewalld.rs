//! firewalld's tables: what in them is the administrator's, and what is there as soon as firewalld runs. Pure.
//!
//! It rejects every forwarded packet that no zone and no policy accepts, and knows nothing of containers' bridges. Docker's
//! iptables put them into a zone that accepts everything; a packet past the stack asks nobody. What somebody has set up
//! for forwarded packets is obeyed all the same.
//!
//! Source: `nftables.py` and `policies.py` of firewalld 1 and 2; `libnetwork/iptables/firewalld.go` of moby 28.

use super::Chain;

/// What messages call it.
pub(super) const NAME: &str = "firewalld";

/// Its tables since firewalld 1, and the one that closes the host while they are loaded anew.
const TABLES: [&str; 2] = ["table inet firewalld", "table inet firewalld_policy_drop"];

/// The chain of a zone's or a policy's rules for forwarded packets begins with it.
const FORWARDED: &str = "filter_FWD";

const POLICY: &str = "filter_FWD_policy_";

/// The end of the chains of what can keep a packet off. A zone's `_allow` has its own devices' names at most.
const KEEPS_OFF: [&str; 4] = ["_pre", "_log", "_deny", "_post"];

/// Docker's own: everything to its zone is accepted.
const DOCKERS: [&str; 2] = ["filter_FWD_docker", "filter_FWD_policy_docker-forwarding"];

/// Zones that accept everything.
const ACCEPTING: [&str; 2] = ["filter_FWD_docker", "filter_FWD_trusted"];

pub(super) fn is_its(chain: &Chain) -> bool {
    TABLES.contains(&chain.table.as_str())
}

/// A chain of what somebody has set up for forwarded packets.
pub(super) fn set_up(chains: &[Chain]) -> Option<&Chain> {
    chains.iter().filter(|chain| is_its(chain)).find(|chain| {
        let name = chain.name.as_str();
        let is_rule =
            name.starts_with(FORWARDED) && KEEPS_OFF.iter().any(|end| name.ends_with(end));
        is_policy(name) || (is_rule && !chain.rules.is_empty())
    })
}

/// Whether there is anything that may accept a packet of a container's.
pub(super) fn accepts_some(chains: &[Chain]) -> bool {
    chains
        .iter()
        .filter(|chain| is_its(chain))
        .any(|chain| ACCEPTING.contains(&chain.name.as_str()) || is_policy(&chain.name))
}

fn is_policy(name: &str) -> bool {
    name.starts_with(POLICY) && !DOCKERS.iter().any(|dockers| name.starts_with(dockers))
}
