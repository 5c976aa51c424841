//! What the host's firewall says about forwarded packets: whether it holds rules that packets past the
//! stack would escape. Pure.
//!
//! Docker's own chains and the jumps to them are not somebody's rules: netd does their work. What users
//! have put into `DOCKER-USER` is. So it is with firewalld ([`firewalld`]).

pub mod firewalld;

/// A chain of rules, whichever tool has made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table, as it is called in a message: `table inet filter`.
    pub table: String,
    pub name: String,
    /// The policy, for a chain that forwarded packets enter.
    pub forward: Option<Policy>,
    pub rules: Vec<Rule>,
}

/// What becomes of a packet that no rule decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

/// A rule, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub target: Target,
    /// It matches every packet.
    pub is_bare: bool,
}

/// Where a rule leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To another chain of the table.
    Jump(String),
    Return,
    Accept,
    /// Anything else: another verdict, or a change to the packet.
    Other,
}

/// What forwarded packets meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// A chain with rules of somebody's own.
    pub rules: Option<String>,
    /// Who stops what no rule accepts.
    pub stops: Option<String>,
    /// Why a part of the firewall is not known.
    pub unreadable: Option<String>,
}

impl Forwarding {
    /// What these chains are to forwarded packets.
    pub fn of(chains: &[Chain]) -> Self {
        let is_entered = |chain: &&Chain| chain.forward.is_some();
        let entered = || chains.iter().filter(is_entered).filter(|chain| !is_dockers_table(chain));
        let rules = |chain| match firewalld::is_its(chain) {
            true => firewalld::set_up(chains),
            false => with_rules(chain, chains),
        };
        let policy =
            dropping(chains).next().map(|chain| format!("the policy DROP of {}", chain.place()));
        let firewalld = || entered().find(|chain| firewalld::is_its(chain));
        Self {
            rules: entered().find_map(rules).map(Chain::place),
            stops: policy.or_else(|| firewalld().map(|_| firewalld::NAME.to_owned())),
            unreadable: None,
        }
    }
}

/// The chains whose policies stop what no rule accepts.
pub fn dropping(chains: &[Chain]) -> impl Iterator<Item = &Chain> {
    let is_anyones = |chain: &&Chain| !is_dockers_table(chain) && !firewalld::is_its(chain);
    chains.iter().filter(|chain| chain.forward == Some(Policy::Drop)).filter(is_anyones)
}

impl Chain {
    /// The chain as messages call it.
    pub fn place(&self) -> String {
        format!("chain {} of {}", self.name, self.table)
    }
}

/// The chain with somebody's own rules that a packet comes to from here.
fn with_rules<'a>(chain: &'a Chain, chains: &'a [Chain]) -> Option<&'a Chain> {
    chain.rules.iter().find_map(|rule| match &rule.target {
        Target::Jump(to) if to == USERS_CHAIN => {
            let users = chains.iter().find(|other| other.table == chain.table && other.name == *to);
            users.filter(|users| users.rules.iter().any(|rule| !is_bare_return(rule)))
        }
        Target::Jump(to) if is_dockers_chain(to) => None,
        Target::Return if rule.is_bare => None,
        Target::Jump(_) | Target::Return | Target::Accept | Target::Other => Some(chain),
    })
}

/// Docker ends the users' chain with one.
fn is_bare_return(rule: &Rule) -> bool {
    rule.is_bare && rule.target == Target::Return
}

/// The chain that Docker leaves to users.
const USERS_CHAIN: &str = "DOCKER-USER";

/// Source: moby `daemon/libnetwork/drivers/bridge/internal/iptabler` and `daemon/libnetwork/iptables`.
fn is_dockers_chain(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "DOCKER",
        "DOCKER-BRIDGE",
        "DOCKER-CT",
        "DOCKER-FORWARD",
        "DOCKER-INGRESS",
        "DOCKER-INTERNAL",
        "DOCKER-ISOLATION-STAGE-1",
        "DOCKER-ISOLATION-STAGE-2",
    ];
    NAMES.contains(&name)
}

/// Docker's own table where it uses nftables.
fn is_dockers_table(chain: &Chain) -> bool {
    chain.table.ends_with(" docker-bridges")
}

#[cfg(test)]
mod tests;
