//! Flows of another netd's table, which come into this one half by half, the reply half first, as if they had begun
//! here. Packets may use both tables meanwhile, so a flow that is here already learns what the other one knows.

use crate::{
    address::Address,
    conntrack::{CLAIMED, CtEntry, CtKey, Zone},
    engine::{admission, flow},
    tables::{FamilyTables, Flow},
};

/// What became of a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// It is in the table now.
    New,
    /// It was, and is up to date; or it was not, and flows are only to learn.
    Known,
    /// Another flow has its place, or there is none.
    Refused,
}

/// Puts a half into the table, unless flows are only to learn: then no flow comes to be.
///
/// Whose table this is to be in time has flows of an earlier look at the other one, some of which may have ended
/// there since: what holds the place of a flow that began later makes room.
#[inline(always)]
pub fn inherit<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    entry: &CtEntry<A>,
    only_learns: bool,
) -> Inherited {
    if let Some(flow) = tables.flow(key) {
        if is_same(flow.entry(), entry) {
            learn::<A, T>(flow, entry);
            return Inherited::Known;
        }
        let is_earlier = flow.entry().created_secs <= entry.created_secs;
        if only_learns || !is_earlier || !tables.forget(key, flow, flow::WHATEVER_COMES) {
            return Inherited::Refused;
        }
    }
    if only_learns {
        Inherited::Known
    } else if entry.is_reply() {
        insert(tables, key, entry)
    } else {
        begin(tables, key, entry)
    }
}

/// Whether two entries of one key are of one flow.
#[inline(always)]
fn is_same<A: Address>(one: &CtEntry<A>, other: &CtEntry<A>) -> bool {
    one.created_secs == other.created_secs
        && one.new_src == other.new_src
        && one.new_dst == other.new_dst
        && one.new_sport == other.new_sport
        && one.new_dport == other.new_dport
}

/// Inserts the original half of a flow whose reply half is there, and counts it.
#[inline(always)]
fn begin<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    entry: &CtEntry<A>,
) -> Inherited {
    let is_its = |reply: T::Flow| reply.entry().created_secs == entry.created_secs;
    if !tables.flow(&entry.peer_key(key)).is_some_and(is_its) {
        return Inherited::Refused;
    }
    admission::count::<A, T>(tables, entry.endpoint_slot, entry.network, 1);
    let inserted = insert(tables, key, entry);
    if inserted != Inherited::New {
        admission::count::<A, T>(tables, entry.endpoint_slot, entry.network, -1);
    } else if key.zone == Zone::FLOWS {
        admission::remember(tables, key);
    }
    inserted
}

#[inline(always)]
fn insert<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    entry: &CtEntry<A>,
) -> Inherited {
    match tables.insert_flow(key, entry) {
        Ok(()) => Inherited::New,
        Err(_) => Inherited::Refused,
    }
}

/// Lets a half know what packets have carried that the other table has seen.
#[inline(always)]
fn learn<A: Address, T: FamilyTables<A>>(flow: T::Flow, entry: &CtEntry<A>) {
    let known = flow.entry();
    let (seen, peer_seen) = (known.seen | entry.seen, known.peer_seen | entry.peer_seen);
    if seen != known.seen {
        flow.set_seen(seen);
    }
    if peer_seen != known.peer_seen {
        flow.set_peer_seen(peer_seen);
    }
    let last_seen = flow.last_seen_secs();
    if last_seen != CLAIMED && last_seen < entry.last_seen_secs {
        // A packet that is faster is as new.
        flow.replace_last_seen(last_seen, entry.last_seen_secs);
    }
}
