//! How far a hook's program has come with a packet.

use crate::{address::Family, parse::Kind, reason::Reason};

/// What a program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It has come to an end.
    Judged(Reason),
    /// Nothing is decided: another of the hook's programs is to judge it.
    Elsewhere(Part),
    /// Its flow has begun: the same program is to judge it again, and finds the flow.
    Again,
    /// It is of no flow that these programs know, and nothing has been done to it: those of the netd that comes
    /// after are to judge it. While there are none, this is what becomes of it: no flow begins.
    Successors(Reason),
}

/// The programs of a hook, in the order of their names in [`crate::names::PARTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// Common packets of IPv4, and what is no IP packet: the program that the device carries.
    CommonV4,
    /// Common packets of IPv6.
    CommonV6,
    /// Rare packets of IPv4.
    RareV4,
    /// Rare packets of IPv6.
    RareV6,
}

impl Part {
    /// How many there are.
    pub const COUNT: u32 = 4;

    /// The program for packets of a kind.
    #[inline(always)]
    pub const fn judging<K: Kind>() -> Self {
        Self::of(K::FAMILY, K::IS_RARE)
    }

    /// The program for a family's common packets, or its rare ones.
    #[inline(always)]
    pub(super) const fn of(family: Family, is_rare: bool) -> Self {
        match (family, is_rare) {
            (Family::V4, false) => Self::CommonV4,
            (Family::V6, false) => Self::CommonV6,
            (Family::V4, true) => Self::RareV4,
            (Family::V6, true) => Self::RareV6,
        }
    }
}

impl Outcome {
    /// The outcome with another reason, where there is one.
    #[inline(always)]
    pub fn map(self, change: impl FnOnce(Reason) -> Reason) -> Self {
        match self {
            Self::Judged(reason) => Self::Judged(change(reason)),
            Self::Elsewhere(_) | Self::Again | Self::Successors(_) => self,
        }
    }
}
