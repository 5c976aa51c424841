//! An existing Docker host, followed: what dockerd has made becomes networks and endpoints of ours.
//!
//! ```text
//!   dockerd -> follow (its API) -> read -> View -> adopt (pure) -> controller
//! ```
//! dockerd goes on making bridges and veth pairs, choosing addresses and reserving ports; with iptables and the
//! userland proxy off it programs nothing. That is netd's part. Nothing of Docker's is ever changed here.

pub mod adopt;
pub mod conflict;
pub(crate) mod follow;
pub mod ports;
pub mod read;
pub mod settings;
mod taken;
pub mod view;

pub use view::View;
