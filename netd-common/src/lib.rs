//! The contract between netd's eBPF programs and its daemon, and the NAT engine itself.
//!
//! Two things live here because both sides need the same copy of them. The *map types* are what the
//! daemon writes and the programs read: fixed layouts, addresses and ports in network order behind
//! typed getters, no padding. The *engine* is the packet logic, generic over [`packet::Packet`] and
//! [`tables::Tables`]: the kernel runs it over socket buffers and maps, host tests over byte vectors
//! and hash tables, so what is tested is what is loaded.
//!
//! A change of a map type's layout or meaning bumps [`ABI_VERSION`].
#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

mod pod;

pub mod address;
pub mod conntrack;
pub mod fragment;
pub mod network;
pub mod nptv6;
pub mod published;
pub mod socket;

pub mod config;
pub mod counters;
pub mod names;
pub mod reason;

pub mod checksum;
pub mod crc32c;
pub mod header;
pub mod packet;
pub mod parse;
pub mod siphash;
pub mod tables;

pub mod engine;
pub mod expiry;
pub mod layout;

/// The version of every layout and meaning shared through maps. The daemon keeps its pins in a
/// folder named after it, so that programs and maps of two versions never meet.
pub const ABI_VERSION: u32 = if cfg!(feature = "other-layout") { 1005 } else { 5 };
