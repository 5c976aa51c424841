//! The programs in the kernel, without a network: `BPF_PROG_TEST_RUN` on one packet after the other.
//!
//! After each packet the verdict, the frame, every counter and the connection tables are compared with
//! what is expected, so nothing happens unseen. What a test run cannot show is in `devices`, with the
//! kernel forwarding between devices of the test. Needs root; each test has a network namespace of its own.

mod expect;
mod frame;
mod host;
mod tun;

mod devices;
mod fast;
mod fragments;
mod icmp_errors;
mod inside;
mod lifetime;
mod loading;
mod malformed;
mod mappings;
mod policy;
mod prefixes;
mod properties;
mod protocols;
mod source_ports;
mod walks;
mod wire;
