//! How far a hook's program has come with a packet.

use crate::{address::Family, reason::Reason};

/// What a program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It has come to an end.
    Judged(Reason),
    /// Nothing is decided: another of the hook's programs is to judge it.
    Elsewhere(Part),
}

/// The programs of a hook, in the order of their names in [`crate::names::PARTS`]. Beside them stands the
/// one that the device carries: it judges plain IPv4 packets, and what is no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// Common packets of IPv6.
    CommonV6,
    /// Rare packets of IPv4.
    RareV4,
    /// Rare packets of IPv6.
    RareV6,
}

impl Part {
    /// How many there are.
    pub const COUNT: u32 = 3;

    /// The program for packets of the family that are rare; for common ones of IPv6 where they are not.
    #[inline(always)]
    pub(super) const fn of(family: Family, is_rare: bool) -> Self {
        match (family, is_rare) {
            (Family::V4, _) => Self::RareV4,
            (Family::V6, true) => Self::RareV6,
            (Family::V6, false) => Self::CommonV6,
        }
    }
}

impl Outcome {
    /// The outcome with another reason, where there is one.
    #[inline(always)]
    pub fn map(self, change: impl FnOnce(Reason) -> Reason) -> Self {
        match self {
            Self::Judged(reason) => Self::Judged(change(reason)),
            Self::Elsewhere(part) => Self::Elsewhere(part),
        }
    }
}
