//! The daemon on a host of its own, with real programs around it.
//!
//! Each test has a world to itself (`netd_tests::topology`), so all of them may run at once. A module
//! is about one behaviour; the names of its tests say which.

#![expect(clippy::unwrap_used, reason = "what a test's helpers cannot do is a failed test")]

mod addresses;
mod command_line;
mod configuration;
mod connection_table;
mod connections;
mod counters;
mod failures;
mod guards;
mod host_traffic;
mod isolation;
mod leaks;
mod many_daemons;
mod neighbours;
mod outbound;
mod packet_log;
mod privileges;
mod published_ports;
mod restarts;
mod sandboxes;
mod stopping;
mod sysctls;
mod uplinks;
