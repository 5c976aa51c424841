//! Who may have a place in the table: flows are counted by endpoint, by network and by family, held to
//! limits, and where the table is full, the oldest of those that give way makes room.
//!
//! A count goes up before a flow's original half is inserted and down with whoever removes that half, so
//! it is exact but for the moment between. Limits are read before they are counted: as many flows as there
//! are CPUs may go beyond one.

use core::ops::ControlFlow;

use crate::{
    address::Address,
    conntrack::{CtKey, Pressure, Scratch},
    counters::{FlowCount, YOUNG_FLOWS},
    engine::flow,
    reason::Reason,
    tables::{FamilyTables, Tables},
};

/// How many of the oldest flows are looked at for one that gives way. Those that have gone or are set up
/// are passed over for good, so each is looked at once, however many packets ask.
const CANDIDATES: u32 = 512;

/// Finds room for the flow that lies in `scratch`.
///
/// # Errors
/// `EndpointFlowLimit`, `NetworkFlowLimit` or `ConntrackFull`.
#[inline(always)]
pub(super) fn admit<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
) -> Result<(), Reason> {
    check_limits(tables, scratch.new.endpoint_slot, scratch.new.network)?;
    if tables.flow_count(A::FLOW_COUNTS.live) < tables.max_flows() || displace(tables, scratch) {
        Ok(())
    } else {
        Err(Reason::ConntrackFull)
    }
}

/// Holds an endpoint and a network to their limits.
///
/// # Errors
/// `EndpointFlowLimit` or `NetworkFlowLimit`.
#[inline(always)]
pub(super) fn check_limits<T: Tables>(
    tables: &T,
    endpoint_slot: u32,
    network: u16,
) -> Result<(), Reason> {
    if is_at_limit(tables, endpoint_slot) {
        Err(Reason::EndpointFlowLimit)
    } else if is_at_limit(tables, FlowCount::of_network(network)) {
        Err(Reason::NetworkFlowLimit)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn is_at_limit<T: Tables>(tables: &T, index: u32) -> bool {
    let limit = tables.flow_limit(index);
    limit != 0 && tables.flow_count(index) >= limit
}

/// Removes the oldest flow that gives way. Says whether there was one.
#[inline(always)]
fn displace<A: Address, T: FamilyTables<A>>(tables: &T, scratch: &mut Scratch<A>) -> bool {
    let (mut is_displaced, counts) = (false, A::FLOW_COUNTS);
    tables.repeat(CANDIDATES, |_| {
        let (begun, passed) = (tables.flow_count(counts.begun), tables.flow_count(counts.passed));
        let waiting = begun.wrapping_sub(passed);
        if waiting == 0 {
            return ControlFlow::Break(());
        }
        // What was not asked for in time has been written over.
        let lost = waiting.saturating_sub(YOUNG_FLOWS);
        tables.add_to_flow_count(counts.passed, i64::from(lost) + 1);
        let index = passed.wrapping_add(lost) % YOUNG_FLOWS;
        if tables.recall_young_flow(index, &mut scratch.oldest)
            && flow::give_way(tables, &scratch.oldest)
        {
            is_displaced = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if is_displaced {
        tables.add_to_flow_count(counts.displaced, 1);
    }
    is_displaced
}

/// Remembers a flow that has begun.
#[inline(always)]
pub(super) fn remember<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>) {
    let counts = A::FLOW_COUNTS;
    // Two CPUs may write to one place: then the table has no such flow, or another one that is judged.
    tables.remember_young_flow(tables.flow_count(counts.begun) % YOUNG_FLOWS, key);
    tables.add_to_flow_count(counts.begun, 1);
}

/// Counts a flow of an endpoint and a network, or takes it from the counts.
#[inline(always)]
pub(super) fn count<A: Address, T: FamilyTables<A>>(
    tables: &T,
    endpoint_slot: u32,
    network: u16,
    change: i64,
) {
    tables.add_to_flow_count(endpoint_slot, change);
    tables.add_to_flow_count(FlowCount::of_network(network), change);
    tables.add_to_flow_count(A::FLOW_COUNTS.live, change);
}

/// How full the table is.
#[inline(always)]
pub(super) fn pressure<A: Address, T: FamilyTables<A>>(tables: &T) -> Pressure {
    Pressure::of(tables.flow_count(A::FLOW_COUNTS.live), tables.max_flows())
}
