//! An attack on the walls between networks: every kind of packet, at random, from every side.
//!
//! ```text
//!   seed, number --> attack --> wire of an attacker ==> netd ==> wire of an observer --> verdict
//!                    link, address, transport,                   mark: which packet was it?
//!                    network, discovery                          table: may it arrive here?
//! ```
//! A packet follows from the seed of the run and its number, and carries the number wherever there is
//! room. So an observer knows what was sent, by whom and how; [`table`] says whether it may have arrived.

pub mod address;
pub mod arrival;
pub mod attack;
pub mod battle;
pub mod controls;
pub mod discovery;
pub mod link;
pub mod mark;
pub mod network;
pub mod observers;
pub mod random;
pub mod scene;
pub mod stage;
pub mod table;
pub mod tally;
pub mod transport;
pub mod wire;

use std::time::Duration;

/// How soon a packet is seen that nothing stands in the way of.
const PROMPTLY: Duration = Duration::from_millis(100);
