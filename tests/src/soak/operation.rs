//! What a soak does, a step at a time. An operation is complete in itself: it can be done in any state, and
//! what becomes of it is for the model to say.

mod text;

use std::{fmt, net::IpAddr};

use crate::family::Family;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $letter:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u8);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    )*};
}

names! {
    /// A network's name.
    Network: "n";
    /// A sandbox's name, as far as it does not depend on the run.
    Sandbox: "s";
    /// An endpoint's name.
    Endpoint: "e";
}

/// A step of a soak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A sandbox is made, where there is none of that name.
    Begin(Sandbox),
    /// A sandbox goes with all that is in it.
    End(Sandbox),
    /// Somebody asks netd for something.
    Ask(Request),
    /// Somebody asks for what makes no sense, by the number of the line in [`WRONG`].
    Wrong(usize),
    /// The configuration is read again.
    Reload,
    /// Somebody else changes what is netd's.
    Tamper(Tampering),
    /// The daemon ends, something happens, and the next one starts.
    Restart(Ending, Meanwhile),
}

/// How a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By `netd stop`.
    Stopped,
    /// By `kill -9`.
    Killed,
}

/// What happens before the next daemon starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing.
    Nothing,
    /// Somebody changes what is netd's.
    Tampered(Tampering),
    /// A sandbox goes.
    Ended(Sandbox),
    /// The daemon was about to answer. It is killed so many microseconds after the question.
    Asked(Request, u32),
}

/// What netd is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `network create`, with the subnets of that number or those of the next free pool.
    Create(Network, Kind, Option<u8>),
    /// `network rm`.
    Remove(Network),
    /// `network prune`.
    Prune,
    /// `network connect`.
    Connect(Connect),
    /// `network disconnect`.
    Disconnect(Network, Sandbox),
    /// `port add`.
    Publish(Endpoint, Port),
    /// `port rm`.
    Unpublish(Endpoint, Port),
    /// `network allow`.
    Allow(Network, Network),
    /// `network disallow`.
    Disallow(Network, Network),
}

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without IPv6.
    Ipv4,
    /// Nothing special.
    Open,
    /// Without a way out.
    Internal,
    /// Its containers do not reach each other.
    Apart,
    /// Source ports do not depend on destinations.
    Mapped,
    /// Containers have no addresses but their own, and packets take the host's stack.
    Strict,
}

/// Who joins which network, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The network.
    pub network: Network,
    /// Who joins it.
    pub sandbox: Sandbox,
    /// The endpoint's name.
    pub endpoint: Endpoint,
    /// The last part of the IPv4 address, if it is chosen.
    pub ip: Option<u8>,
    /// What is published with it.
    pub ports: Vec<Port>,
}

/// A published port or a range, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Whether it is UDP's; else it is TCP's.
    pub udp: bool,
    /// The address of the host, or every one.
    pub host_ip: Option<IpAddr>,
    /// The first host port.
    pub host_port: u16,
    /// The first container port.
    pub port: u16,
    /// How many there are.
    pub len: u16,
}

/// What somebody else changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// A bridge is deleted.
    DeleteBridge(Network),
    /// A bridge is set down.
    SetDown(Network),
    /// A bridge loses its address.
    DeleteGateway(Network, Family),
    /// A link is deleted at the host's end.
    DeleteLink(Endpoint),
    /// A link is deleted inside the sandbox.
    DeleteInside(Endpoint),
    /// A link is pulled out of its bridge.
    Unplug(Endpoint),
}

/// What netd refuses whatever exists, with the exit status.
pub const WRONG: [(&str, i32); 12] = [
    ("network create -n", 2),
    ("network create .hidden", 1),
    ("network create other --subnet 10.77.99.1/24", 1),
    ("network create other --subnet 192.0.2.0/25", 1),
    ("network create other --bridge up0", 1),
    ("network create other --mtu 20", 1),
    ("network create other -o nothing=known", 1),
    ("network connect n9 nowhere", 1),
    ("network rm nowhere", 1),
    ("port add e9 203.0.113.9:9:9", 1),
    ("port add e9 9-8:9", 2),
    ("port rm e9 1:1", 1),
];

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Ipv4, Self::Open, Self::Internal, Self::Apart, Self::Mapped, Self::Strict];

    /// Whether it has the family.
    pub fn has(self, family: Family) -> bool {
        family == Family::V4 || self != Self::Ipv4
    }
}

impl Port {
    /// The protocol's name.
    pub fn proto(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }
}
