//! The expiry of flows: the daemon names candidates, this looks again and removes.

use crate::{
    address::Address,
    conntrack::{CtKey, Zone},
    engine::{flow, mapping},
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
    if !is_forced && !is_over(tables, key, half) {
        return Expiry::Live;
    }
    flow::forget(tables, key, half.entry());
    Expiry::Removed
}

#[inline(always)]
fn is_over<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>, half: T::Flow) -> bool {
    if key.zone == Zone::MAPPINGS {
        mapping::is_over(tables, key, half, 0)
    } else {
        flow::is_over(tables, key, half, tables.now_secs(), 0)
    }
}
