//! firewalld's table: what in it somebody has set up against forwarded packets, and what is there as soon as firewalld
//! runs. Pure.
//!
//! It rejects every forwarded packet that no zone and no policy accepts, and knows nothing of containers' bridges. Docker's
//! iptables put them into a zone that accepts everything; a packet past the stack asks nobody. A policy that keeps
//! something off is obeyed all the same.
//!
//! Source: `nftables.py` and `fw_policy.py` of firewalld 0.9 to 2.5; `libnetwork/iptables/firewalld.go` of moby 28.

use super::{Chain, Target};

/// What messages call it.
pub(super) const NAME: &str = "firewalld";

const TABLE: &str = "table inet firewalld";

/// The table that closes the host while the other one is loaded.
const CLOSING_TABLE: &str = "table inet firewalld_policy_drop";

/// The chains of zones and policies for forwarded packets begin with it.
const FORWARDED: &str = "filter_FWD";

const POLICY: &str = "filter_FWD_policy_";

/// The ends of the chains whose rules can keep a packet off.
const KEEPS_OFF: [&str; 4] = ["_pre", "_log", "_deny", "_post"];

/// There with `StrictForwardPorts=yes`: ports that others publish are to be closed.
const STRICT: &str = "filter_FORWARD_dnat";

pub(super) fn is_its(chain: &Chain) -> bool {
    chain.table == TABLE
}

/// Whether firewalld is loading its rules.
pub fn is_loading(chains: &[Chain]) -> bool {
    chains.iter().any(|chain| chain.table == CLOSING_TABLE)
}

/// Whether firewalld stops every packet of a container's that it sees.
pub fn is_closed(chains: &[Chain]) -> bool {
    let mut its = chains.iter().filter(|chain| is_its(chain));
    let accepts_all = |chain: &Chain| {
        let mut rules = chain.rules.iter();
        chain.name.starts_with(FORWARDED)
            && rules.any(|rule| rule.is_bare && rule.target == Target::Accept)
    };
    let judges = its.clone().any(|chain| chain.forward.is_some());
    judges && !its.any(accepts_all)
}

/// A chain of what somebody has set up against forwarded packets.
pub(super) fn set_up(chains: &[Chain]) -> Option<&Chain> {
    chains.iter().filter(|chain| is_its(chain)).find(|chain| {
        let name = chain.name.as_str();
        let keeps_off = KEEPS_OFF.iter().any(|end| name.ends_with(end)) && !chain.rules.is_empty();
        // A policy that accepts, or only adds to what zones accept, keeps nothing off.
        let refuses = || chain.rules.iter().any(|rule| rule.target == Target::Other);
        name == STRICT
            || (name.starts_with(FORWARDED) && keeps_off)
            || (name.starts_with(POLICY) && refuses())
    })
}
