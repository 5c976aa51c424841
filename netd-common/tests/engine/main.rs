//! The engine on the host: the same code as in the kernel, over byte vectors and hash tables.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checksums;
mod family;
mod message;
mod packet;
mod scene;
mod tables;

mod connect;
mod echo;
mod frames;
mod lifetime;
mod policy;
mod reasons;
mod robustness;
mod source_ports;
mod walks;

mod model;
mod properties;
mod sequences;
