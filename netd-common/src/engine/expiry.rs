//! The expiry of flows: the daemon names candidates, this looks again and removes.

use crate::{
    address::Address,
    conntrack::CtKey,
    engine::flow,
    tables::{FamilyTables, Flow},
};

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
    if !is_forced && !flow::is_over(tables, key, half, tables.now_secs(), 0) {
        return Expiry::Live;
    }
    flow::forget(tables, key, half.entry());
    Expiry::Removed
}
