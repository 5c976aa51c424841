//! netd's daemon and command line; the modules in reading order.

pub mod backup;
pub mod data_path;
pub mod desired;
pub mod docker;
pub mod driver_options;
pub mod errors;
pub mod firewall;
pub mod ids;
pub mod ipam;
pub mod model;
pub mod port_spec;
pub mod programmed;

pub mod api;
pub mod cli;
pub mod client;
pub mod server;

pub mod clock;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod detach;
pub mod doctor;
pub mod store;
mod takeover;
pub mod traces;

pub mod datapath;
mod fail_point;
pub mod listeners;
pub mod locks;
pub mod mounts;
mod moved;
pub mod netlink;
pub mod netns;
pub mod privileges;
mod proxy;
pub mod sysctl;
pub mod uplinks;
pub mod watchdog;
