//! The daemon on a host of its own, with real programs around it.
//!
//! Each test has a world to itself (`netd_tests::topology`), so all of them may run at once. A module
//! is about one behaviour; the names of its tests say which.

#![expect(clippy::unwrap_used, reason = "what a test's helpers cannot do is a failed test")]

mod addresses;
mod changing_hosts;
mod command_line;
mod configuration;
mod connection_table;
mod connections;
mod containers;
mod counters;
mod data_path_choice;
mod docker;
mod docker_host;
mod doctor;
mod fail_points;
mod failures;
mod fast_path;
mod flood;
mod flow_states;
mod fragments;
mod full_cone;
mod gateway_modes;
mod guards;
mod hitless;
mod host_clients;
mod hostile;
mod icmp_errors;
mod isolation;
mod kernel_faults;
mod large_packets;
mod leaks;
mod many_daemons;
mod neighbour_entries;
mod neighbours;
mod options;
mod oracle;
mod other_kernels;
mod outbound;
mod packet_log;
mod port_reservation;
mod prefix_translation;
mod privileges;
mod protocols;
mod published_ports;
mod restarts;
mod rfc;
mod sandboxes;
mod scale;
mod service_manager;
mod soak;
mod source_ports;
mod state;
mod stopping;
mod strangers;
mod sysctls;
mod upgrades;
mod uplinks;
mod xdp;
