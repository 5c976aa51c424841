//! The expiry of flows: the daemon names candidates, this looks again and removes.

use crate::{
    address::Address,
    conntrack::{CtKey, Zone},
    engine::{flow, mapping},
    tables::FamilyTables,
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
    let over = if is_forced { flow::WHATEVER_COMES } else { is_over(tables, key, half) };
    let is_removed = over != flow::LIVE && flow::forget(tables, key, half, over);
    if is_removed { Expiry::Removed } else { Expiry::Live }
}

/// The answer of [`flow::is_over`], for a flow or a mapping.
#[inline(always)]
fn is_over<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>, half: T::Flow) -> u32 {
    if key.zone == Zone::MAPPINGS {
        mapping::is_over(tables, key, half, 0)
    } else {
        flow::is_over(tables, key, half, tables.now_secs(), 0)
    }
}
