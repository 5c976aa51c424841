//! How the daemon hands flows to a program: a test-run packet with an Ethernet header's worth of zeros, a
//! [`BatchHead`], and up to [`BATCH`] keys of flows that may be over, or [`INHERITED`] halves of flows that come from
//! another table. The kernel repeats the program once for each; the head, which lives in the packet, says which one
//! is next.

use bytemuck::{Pod, Zeroable};

/// The most keys of one batch: 80 IPv6 keys and the heads stay below the 3.5 KiB that the single page of
/// a test run leaves for data.
pub const BATCH: usize = 80;

/// The most halves of one batch, each a key and its entry.
pub const INHERITED: usize = 24;

/// Says what follows and how far the program has come. Layout: 16 bytes, native order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BatchHead {
    /// Bits: the keys are IPv6's; the flows end even if they are live; no flow comes to be.
    flags: u32,
    /// What the next run looks at.
    pub next: u32,
    /// How many flows were removed, or halves inserted.
    pub changed: u32,
    /// How many halves were refused.
    pub refused: u32,
}

impl BatchHead {
    const V6: u32 = 1;
    const FORCED: u32 = 1 << 1;
    const LEARNS: u32 = 1 << 2;

    /// The head of a batch of flows that are removed if they are over.
    pub fn new(is_v6: bool) -> Self {
        Self { flags: if is_v6 { Self::V6 } else { 0 }, next: 0, changed: 0, refused: 0 }
    }

    /// The head of a batch of flows that are removed in any case.
    #[must_use]
    pub fn forced(self) -> Self {
        Self { flags: self.flags | Self::FORCED, ..self }
    }

    /// The head of a batch of halves from which flows only learn.
    #[must_use]
    pub fn learning(self) -> Self {
        Self { flags: self.flags | Self::LEARNS, ..self }
    }

    /// Whether the keys are IPv6's.
    #[inline(always)]
    pub fn is_v6(&self) -> bool {
        self.flags & Self::V6 != 0
    }

    /// Whether the flows end even if they are live.
    #[inline(always)]
    pub fn is_forced(&self) -> bool {
        self.flags & Self::FORCED != 0
    }

    /// Whether flows only learn from the halves.
    #[inline(always)]
    pub fn only_learns(&self) -> bool {
        self.flags & Self::LEARNS != 0
    }
}
