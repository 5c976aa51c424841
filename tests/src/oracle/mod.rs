//! netd beside Docker's own rules: the same packets through both, and what came out compared.
//!
//! ```text
//!   golden (rule sets, options) --> side: netd        <-- case: what is sent, round by round
//!                               \-> side: iptables    <-/        |
//!                                     |                          v
//!                                   arrival: where, which bytes --> compare --> difference: known, or not
//! ```
//! Every packet carries the number of its case ([`mark`]), so that what arrives is known by it. Nothing
//! here uses netd's own code for packets: checksums are summed up in full.

pub mod answer;
pub mod arrival;
pub mod case;
pub mod compare;
pub mod conntrack;
pub mod datagram;
pub mod golden;
pub mod incoming;
pub mod judge;
pub mod known;
pub mod lab;
pub mod made_up;
pub mod mark;
pub mod message;
pub mod outgoing;
pub mod pieces;
pub mod places;
pub mod rules;
pub mod side;
