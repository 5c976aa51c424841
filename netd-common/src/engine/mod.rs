//! The NAT engine: what each hook does with a packet, from parsing to the verdict.
//!
//! Every hook is one function that ends in a [`Reason`]; a reason has one verdict and one counter.
//! Steps return `Result<T, Reason>`, so `?` ends a packet's life with the reason it met. Nothing is
//! written before every decision has been made ([`rewrite`] cannot fail).
//!
//! ```text
//!             outside                                   container
//!   from_wire:   what is hostile ends early
//!   from_uplink: flow | published -> DNAT          to_endpoint: who may enter
//!   to_uplink:   flow | masquerade -> SNAT         from_endpoint: who may leave, and where to
//! ```
//! A packet of a redirected flow meets one hook only, where it comes in: [`from_uplink`] hands it to the
//! container, [`from_endpoint`] to an uplink's next hop or to another container, translated. What takes
//! the host's stack is translated on the uplink, so that the host's firewall and routing see the
//! containers' addresses, as they do with iptables. One table serves both, so a single packet may take the
//! other way ([`deliver`]).
//!
//! Each hook has a program for each [`Kind`](crate::parse::Kind) of packets, which differ in what they read:
//! those for what nearly all packets are, those for the rest, so that nobody pays for what is rare.

mod admission;
mod afterwards;
mod begin;
mod bridge;
mod deliver;
mod destination;
mod expiry;
mod flow;
mod fragments;
mod from_endpoint;
mod from_host;
mod from_uplink;
mod from_wire;
mod icmp_error;
mod inherit;
mod mapping;
mod mss;
mod outcome;
mod prefix;
mod published;
mod rewrite;
mod run;
mod source_port;
mod step;
mod to_endpoint;
mod to_uplink;

pub use afterwards::{Afterwards, update_sctp_checksum};
pub use bridge::{from_bridge, to_bridge};
pub use expiry::{Expiry, expire};
pub use flow::{LIVE, forget, insert_pair, is_over};
pub use fragments::{Piece, Remembered};
pub use from_endpoint::from_endpoint;
pub use from_uplink::from_uplink;
pub use from_wire::from_wire;
pub use inherit::{Inherited, inherit};
pub use mapping::timeout_of as mapping_timeout;
pub use mss::lower_mss;
pub use outcome::{Outcome, Part};
pub use published::{ForHost, find_published, published_for_host};
pub use run::give_up;
pub use to_endpoint::to_endpoint;
pub use to_uplink::to_uplink;

use run::{Steps, by_family, read};
