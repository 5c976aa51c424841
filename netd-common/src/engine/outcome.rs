//! How far a hook's program has come with a packet.

use crate::reason::Reason;

/// What a program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It has come to an end.
    Judged(Reason),
    /// Nothing is decided: the hook's program for rare packets is to judge it.
    Rare,
}

impl Outcome {
    /// The outcome with another reason, where there is one.
    #[inline(always)]
    pub fn map(self, change: impl FnOnce(Reason) -> Reason) -> Self {
        match self {
            Self::Judged(reason) => Self::Judged(change(reason)),
            Self::Rare => Self::Rare,
        }
    }
}
