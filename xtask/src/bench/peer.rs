//! Who is compared.

use std::fmt;

use clap::ValueEnum;

/// A way from the client to the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Peer {
    /// netd, around the host's stack
    NetdFast,
    /// netd, through the host's stack
    NetdStack,
    /// The netd of `--before`, around the host's stack
    BeforeFast,
    /// The netd of `--before`, through the host's stack
    BeforeStack,
    /// The hops of netd's fast path without tables and checks: the limit of what it can reach
    Prototype,
    /// Docker's rules in iptables-nft, which is what a Docker host on Debian has
    Iptables,
    /// Docker's rules in iptables-legacy
    IptablesLegacy,
    /// Plain forwarding to the container's address: no translation and no rules
    Routing,
    /// No host in between, one veth pair from client to server
    Direct,
}

impl Peer {
    /// Whether it takes another netd than the one that is built here.
    pub(super) fn is_before(self) -> bool {
        matches!(self, Self::BeforeFast | Self::BeforeStack)
    }

    /// Whether the number of its published ports matters.
    pub(super) fn has_tables(self) -> bool {
        match self {
            Self::NetdFast
            | Self::NetdStack
            | Self::BeforeFast
            | Self::BeforeStack
            | Self::Iptables
            | Self::IptablesLegacy => true,
            Self::Prototype | Self::Routing | Self::Direct => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
