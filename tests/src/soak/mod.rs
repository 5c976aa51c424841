//! A soak: thousands of random operations on one daemon, and a model of what should exist after each.
//!
//! ```text
//!   seed -> operation -> model: is it granted, what exists then?
//!                     -> stage: netd, namespaces; the answer must agree
//!           checkpoint:  model == netd's answers == host, sandboxes, maps, pins; packets go where they should
//! ```
//! A list of operations and nothing else decides what a run does, so a run can be had again, and a failing list
//! made shorter. Flows that nobody touches go on through the whole of it.

pub mod flows;
pub mod generate;
pub mod maps;
pub mod model;
pub mod operation;
pub mod probe;
pub mod run;
pub mod sandbox;
pub mod seen;
pub mod shown;
pub mod shrink;
pub mod stage;
