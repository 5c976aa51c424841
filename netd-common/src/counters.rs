//! What is counted, in per-CPU maps: packets by reason, traffic by published port and endpoint.

use bytemuck::{Pod, Zeroable};

/// How many slots there are: the endpoints and published ports that are counted, and slot 0, which is
/// nobody's. Each takes 40 bytes a CPU.
pub const SLOTS: u32 = 16_384;

/// How many networks there can be; number 0 is nobody's.
pub const NETWORKS: u32 = 4096;

/// What the flows of the table are counted by, and limited: the index into both arrays. Endpoints come
/// first, by their slots.
pub struct FlowCount;

impl FlowCount {
    /// The flows of IPv4, as a [`FamilyCounts`] of its own.
    pub const V4: FamilyCounts = FamilyCounts::at(SLOTS + NETWORKS);
    /// The flows of IPv6.
    pub const V6: FamilyCounts = FamilyCounts::at(SLOTS + NETWORKS + FamilyCounts::COUNT);
    /// How many counts there are.
    pub const COUNT: u32 = SLOTS + NETWORKS + 2 * FamilyCounts::COUNT;

    /// The flows of a network, by its number.
    #[inline(always)]
    pub const fn of_network(number: u16) -> u32 {
        SLOTS + number as u32
    }
}

/// How many generations there are.
pub const GENERATIONS: u32 = SLOTS + NETWORKS;

/// The index of the generation that a flow lives by beside its published port's: that of its endpoint, or of its
/// network where it is nobody's, for then somebody else may be given the address that it was begun from.
#[inline(always)]
pub const fn owner(endpoint_slot: u32, network: u16) -> u32 {
    if endpoint_slot == 0 { FlowCount::of_network(network) } else { endpoint_slot }
}

/// Where the counts of one family's table are.
#[derive(Clone, Copy, Debug)]
pub struct FamilyCounts {
    /// Flows in the table.
    pub live: u32,
    /// Flows that were ever begun: the end of the queue of young flows.
    pub begun: u32,
    /// The front of that queue: flows that were displaced, or passed over.
    pub passed: u32,
    /// Flows that gave way to others while the table was full.
    pub displaced: u32,
}

impl FamilyCounts {
    const COUNT: u32 = 4;

    const fn at(first: u32) -> Self {
        Self { live: first, begun: first + 1, passed: first + 2, displaced: first + 3 }
    }
}

/// How many flows of a family are remembered in the order in which they began, so that the oldest of those
/// that give way can be found in a table that is full. A power of two; an element takes 16 bytes for
/// IPv4, 40 for IPv6.
pub const YOUNG_FLOWS: u32 = 65_536;

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
