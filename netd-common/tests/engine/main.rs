//! The engine on the host: the same code as in the kernel, over byte vectors and hash tables.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checksums;
mod family;
mod icmp_error;
mod message;
mod packet;
mod place;
mod runs;
mod scene;
mod tables;

mod bridges;
mod connect;
mod echo;
mod fallback;
mod fragments;
mod frames;
mod gateway_modes;
mod hairpin;
mod hairpin_life;
mod host_flows;
mod icmp_errors;
mod icmp_forged;
mod icmp_hairpin;
mod icmp_quotes;
mod inheritance;
mod ipv6_headers;
mod lifetime;
mod mapping_life;
mod mappings;
mod mss;
mod multihomed;
mod policy;
mod prefixes;
mod pressure;
mod protocols;
mod reasons;
mod robustness;
mod source_ports;
mod strict_source;
mod switched;
mod walks;
mod wire;

mod fuzz;
mod interleavings;
mod model;
mod properties;
mod sequences;
