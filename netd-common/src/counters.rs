//! What is counted, in per-CPU maps: packets by reason, traffic by published port and endpoint.

use bytemuck::{Pod, Zeroable};

/// How many slots there are: the endpoints and published ports that are counted, and slot 0, which is
/// nobody's. Each takes 40 bytes a CPU.
pub const SLOTS: u32 = 16_384;

/// Packets and bytes of one [`crate::reason::Reason`]. Layout: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the link-layer header on.
    pub bytes: u64,
}

/// The traffic of a slot: a published port or an endpoint. Layout: 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// What the container received.
    pub received: Counter,
    /// What the container sent.
    pub sent: Counter,
    /// Flows begun.
    pub flows: u64,
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: the type is `bytemuck::Pod`, which asks for more than `aya::Pod` does.
    unsafe impl aya::Pod for super::Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Traffic {}
}
