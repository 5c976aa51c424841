//! How the daemon hands flows to the expiry program: a test-run packet with an Ethernet header's worth of
//! zeros, a [`BatchHead`], and up to [`BATCH`] keys. The kernel repeats the program once for each key; the
//! head, which lives in the packet, says which one is next.

use bytemuck::{Pod, Zeroable};

/// The most keys of one batch: 80 IPv6 keys and the heads stay below the 3.5 KiB that the single page of
/// a test run leaves for data.
pub const BATCH: usize = 80;

/// Says what follows and how far the program has come. Layout: 12 bytes, native order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BatchHead {
    /// Bits: the keys are IPv6's; the flows end even if they are live.
    flags: u32,
    /// The key that the next run looks at.
    pub next: u32,
    /// How many flows were removed.
    pub removed: u32,
}

impl BatchHead {
    const V6: u32 = 1;
    const FORCED: u32 = 1 << 1;

    /// The head of a batch of flows that are removed if they are over.
    pub fn new(is_v6: bool) -> Self {
        Self { flags: if is_v6 { Self::V6 } else { 0 }, next: 0, removed: 0 }
    }

    /// The head of a batch of flows that are removed in any case.
    #[must_use]
    pub fn forced(self) -> Self {
        Self { flags: self.flags | Self::FORCED, ..self }
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
}
