//! The expiry of flows: the daemon names candidates, this looks again and removes.

use crate::{address::Address, conntrack::CtKey, engine::flow, tables::FamilyTables};

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is still in use.
    Live,
    /// It was removed.
    Removed,
    /// It had gone already.
    Gone,
}

/// Removes the flow that `key` is half of, if its time is up, its owner gone or its other half lost, or if
/// removal `is_forced`.
#[inline(always)]
pub fn expire<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    is_forced: bool,
) -> Expiry {
    let Some(half) = tables.flow(key) else {
        return Expiry::Gone;
    };
    let over = if is_forced { flow::WHATEVER_COMES } else { tables.is_over(key, half, 0) };
    let is_removed = over != flow::LIVE && tables.forget(key, half, over);
    if is_removed { Expiry::Removed } else { Expiry::Live }
}
