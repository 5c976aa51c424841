//! The life of a flow in the connection table: found, refreshed, created, forgotten.
//!
//! Invariants: the reply half is inserted first and with NOEXIST, so no two live flows share a reply
//! tuple; whoever fails after that takes it back. Removal goes the other way round, original half
//! first, so that a reply half without original is always a leftover that anyone may reuse.
//!
//! Only who has **claimed** both halves removes them ([`CLAIMED`]): the kernel's maps remove by key, whatever
//! stands there by then, and between a look at a flow and its removal another CPU may bring it back to life or
//! remove it and begin the next one under the same key.

use core::{mem::MaybeUninit, ops::ControlFlow};

use crate::{
    address::{Address, Port},
    config::ConfigFlags,
    conntrack::{
        CLAIMED, CtEntry, CtFlags, CtKey, FlowState, Lifetime, NewFlow, Scope, Scratch, Seen,
        Translation, Zone,
    },
    counters::owner,
    engine::{admission, mapping, source_port},
    packet::Packet,
    parse::Trackable,
    reason::Reason,
    tables::{FamilyTables, Flow, FlowWork, InsertError, Tables},
};

/// The answer of [`is_over`] for a flow that is not, and for one that is whatever packets come.
pub const LIVE: u32 = 0;
pub(super) const WHATEVER_COMES: u32 = u32::MAX;

/// How long a half may stand alone: far longer than any CPU takes between its two insertions.
const LONE_HALF_SECS: u32 = 5;

/// Finds the live flow of a packet and records that the packet was seen.
///
/// A flow that is over is forgotten here, whatever the daemon has got round to: its owner has gone, its
/// time has run out, or the packet opens a new connection on a closing one.
#[inline(always)]
pub(super) fn find<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    memory: &'a mut FlowWork<A>,
) -> Option<&'a mut Translation<A>> {
    let (key, transport) = (&*memory.key.write(tracked.key(scope)), tracked.transport);
    let flow = tables.flow(key)?;
    let entry = flow.entry();
    let now = tables.now_secs();
    let mut seen = Seen::after(entry.seen, entry.peer_seen, transport.seen);
    let last_seen = flow.last_seen_secs();
    if last_seen != now || transport.is_syn() {
        let reopens = transport.is_syn() && !entry.is_reply();
        let over = tables.is_over(key, flow, u16::from(reopens) * FlowState::CLOSING);
        if over != LIVE {
            tables.forget(key, flow, over);
            return None;
        }
        let refreshed =
            if Seen::refreshes(entry.seen, seen, transport.seen) { now } else { last_seen };
        if !refresh(flow, last_seen, refreshed) {
            return None;
        }
        if now.saturating_sub(entry.created_secs) > Seen::STREAM_SECS {
            seen |= Seen::LATER;
        }
    } else if has_lost_owner(tables, entry) {
        tables.forget(key, flow, WHATEVER_COMES);
        return None;
    }
    if entry.flags & CtFlags::USES_MAPPING != 0 && (last_seen != now || seen != entry.seen) {
        mapping::refresh(tables, key, entry, seen);
    }
    if seen != entry.seen {
        if seen & !entry.seen & Seen::FIN != 0 {
            tell_peer(tables, key, entry);
        }
        flow.set_seen(seen);
    }
    Some(memory.to.write(entry.translation()))
}

/// Puts `now` in place of `last_seen`, where no other packet was faster: says whether the flow is still there.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn refresh<A: Address, F: Flow<A>>(flow: F, last_seen: u32, now: u32) -> bool {
    flow.replace_last_seen(last_seen, now) || flow.last_seen_secs() != CLAIMED
}

/// Tells the other direction of a FIN, so that it knows its next ACK for the FIN's without a look here.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
fn tell_peer<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>, entry: &CtEntry<A>) {
    if let Some(peer) = tables.flow(&entry.peer_key(key)) {
        peer.set_peer_seen(Seen::FIN);
    }
}

/// Finds the live flow of a key and leaves no trace of the question: an ICMP error neither refreshes a flow
/// nor ends it (RFC 4787 REQ-12, RFC 5508 REQ-6).
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn peek<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    let flow = tables.flow(key)?;
    if tables.is_over(key, flow, 0) != LIVE {
        return None;
    }
    Some(memory.write(flow.entry().translation()))
}

/// Counts a packet in its flow's entry, where that is switched on.
#[inline(always)]
pub(super) fn account<A, P, T>(packet: &P, tables: &T, scope: Scope, tracked: &Trackable<'_, A>)
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if tables.is_configured(ConfigFlags::FLOW_ACCOUNTING) {
        count(tables, scope, tracked, packet.len_bytes() - packet.network_offset());
    }
}

/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
fn count<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    bytes: u32,
) {
    if let Some(flow) = tables.flow(&tracked.key(scope)) {
        flow.count(bytes);
    }
}

/// The generation of a flow: it changes when its published port or its [`owner`] goes.
#[inline(always)]
fn generation<T: Tables>(tables: &T, slot: u32, endpoint_slot: u32, network: u16) -> u32 {
    tables.generation(slot).wrapping_add(tables.generation(owner(endpoint_slot, network)))
}

/// Whether the flow is of an earlier generation.
#[inline(always)]
pub(super) fn has_lost_owner<A: Address, T: Tables>(tables: &T, entry: &CtEntry<A>) -> bool {
    entry.generation != generation(tables, entry.slot, entry.endpoint_slot, entry.network)
}

/// Whether there is a live flow that answers the packet, seen in `scope`; without a trace of the question.
///
/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
pub(super) fn is_answered<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
) -> bool {
    is_live(tables, &tracked.reverse_key(scope))
}

/// Whether the key is that of a live flow; without a trace of the question.
#[inline(always)]
pub(super) fn is_live<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>) -> bool {
    tables.flow(key).is_some_and(|flow| !has_lost_owner(tables, flow.entry()))
}

/// Whether the flow or the mapping that `key` is half of is over: its time has run out, its owner gone, its
/// other half lost, or it is of a kind that `also` has the bit of ([`FlowState::CLOSING`] and so on; of
/// mappings, whatever bit, those that have not been used for a while). A number, so that the verifier does not
/// walk everything twice for the two values of a condition.
///
/// The answer is [`LIVE`], or a time: it is over unless a packet is seen then or later.
#[inline(always)]
pub fn is_over<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    half: T::Flow,
    also: u16,
) -> u32 {
    let entry = half.entry();
    if has_lost_owner(tables, entry) || half.last_seen_secs() == CLAIMED {
        WHATEVER_COMES
    } else if key.zone == Zone::MAPPINGS {
        mapping::is_over(tables, key, half, also)
    } else {
        is_flow_over(tables, key, half, also)
    }
}

#[inline(always)]
fn is_flow_over<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    flow: T::Flow,
    also: u16,
) -> u32 {
    let (entry, now) = (flow.entry(), tables.now_secs());
    let Some(peer) = tables.flow(&entry.peer_key(key)) else {
        return if is_young(entry, now) { LIVE } else { WHATEVER_COMES };
    };
    let last_seen = flow.last_seen_secs().max(peer.last_seen_secs());
    let lifetime = lifetime(key.proto, entry, peer.entry());
    if lifetime.is_any_of(also) {
        return WHATEVER_COMES;
    }
    let mut timeout_secs = tables.timer_secs(lifetime.timer());
    if lifetime.is_any_of(FlowState::GIVING_WAY) {
        timeout_secs = admission::pressure::<A, T>(tables).shorten(timeout_secs);
    }
    if now.saturating_sub(last_seen) < timeout_secs { LIVE } else { last_seen + 1 }
}

/// Whether a half that stands alone may belong to who is about to insert the other one.
#[inline(always)]
fn is_young<A: Address>(entry: &CtEntry<A>, now: u32) -> bool {
    now.saturating_sub(entry.created_secs) <= LONE_HALF_SECS
}

/// How long the flow lives that two entries are the halves of.
#[inline(always)]
fn lifetime<A: Address>(proto: u8, entry: &CtEntry<A>, peer: &CtEntry<A>) -> Lifetime {
    let (original, reply) =
        if entry.is_reply() { (peer.seen, entry.seen) } else { (entry.seen, peer.seen) };
    Lifetime::of(proto, original, reply)
}

/// Removes the flow that `key` is half of if it gives way to others, or is over. Says whether it did.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn give_way<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>) -> bool {
    let Some(flow) = tables.flow(key) else {
        return false;
    };
    let over = tables.is_over(key, flow, FlowState::GIVING_WAY);
    over != LIVE && tables.forget(key, flow, over)
}

/// Removes a flow or a mapping if no packet is seen at the time `over` or later, and nobody else does. Says
/// whether it did.
#[inline(always)]
pub fn forget<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    flow: T::Flow,
    over: u32,
) -> bool {
    let entry = flow.entry();
    let peer_key = &entry.peer_key(key);
    let peer = tables.flow(peer_key);
    if peer.is_none() && is_young(entry, tables.now_secs()) {
        return false;
    }
    let last_seen = claim(flow, over);
    if last_seen == CLAIMED {
        return false;
    }
    if let Some(peer) = peer {
        if claim(peer, over) == CLAIMED {
            flow.replace_last_seen(CLAIMED, last_seen);
            return false;
        }
        tables.remove_flow(peer_key);
    }
    if peer.is_some() || !entry.is_reply() {
        admission::count::<A, T>(tables, entry.endpoint_slot, entry.network, -1);
    }
    tables.remove_flow(key);
    true
}

/// Claims a half: when a packet of it was seen last, or [`CLAIMED`] where that was at the time `over` or
/// later, or somebody else has it.
#[inline(always)]
fn claim<A: Address, F: Flow<A>>(half: F, over: u32) -> u32 {
    let last_seen = half.last_seen_secs();
    if last_seen < over && half.replace_last_seen(last_seen, CLAIMED) {
        return last_seen;
    }
    CLAIMED
}

/// Inserts both halves of the flow, or the mapping, that lies in `scratch`, or finds it already there.
///
/// # Errors
/// `EndpointFlowLimit`, `NetworkFlowLimit`, `SourcePortsExhausted` or `ConntrackFull`; nothing is left
/// behind then.
#[inline(always)]
pub fn insert_pair<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
) -> Result<(), Reason> {
    let now = tables.now_secs();
    admission::admit(tables, scratch)?;
    let NewFlow { slot, endpoint_slot, network, .. } = scratch.new;
    scratch.write_reply(now, generation(tables, slot, endpoint_slot, network));
    let new_sport = reserve_reply(tables, scratch, now)?;
    scratch.turn_into_original(new_sport);
    admission::count::<A, T>(tables, endpoint_slot, network, 1);
    let result = tables.insert_flow(&scratch.new.key, &scratch.entry);
    if result.is_err() {
        tables.remove_flow(&scratch.reply_key);
        admission::count::<A, T>(tables, endpoint_slot, network, -1);
    }
    match result {
        // A mapping gives way to nobody, and is no flow to count.
        Ok(()) if scratch.new.key.zone == Zone::MAPPINGS => Ok(()),
        Ok(()) => {
            admission::remember(tables, &scratch.new.key);
            tables.count_flow(scratch.new.slot);
            Ok(())
        }
        Err(InsertError::Exists) => Ok(()),
        Err(InsertError::Full) => Err(Reason::ConntrackFull),
    }
}

/// Inserts the reply half under the first source port that nobody owns.
#[inline(always)]
fn reserve_reply<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
    now: u32,
) -> Result<Port, Reason> {
    source_port::choose_candidates(tables, &scratch.new, &mut scratch.candidates, now);
    let zone = scratch.new.key.zone;
    let may_take = zone == Zone::MAPPINGS || scratch.new.seen & Seen::TCP == Seen::SYN;
    let mut outcome = Err(Reason::SourcePortsExhausted);
    tables.repeat(source_port::attempts(&scratch.candidates), |attempt| {
        let new_sport = source_port::candidate(&scratch.candidates, attempt);
        scratch.write_reply_key(new_sport);
        let takes_closing =
            u16::from(may_take && source_port::is_hard(attempt)) * FlowState::CLOSING;
        scratch.candidates.takes_closing = takes_closing;
        // The table first: where ports are short, that is where they are.
        if !is_free(tables, &scratch.reply_key, scratch.candidates.takes_closing)
            || scratch.new.flags & CtFlags::SNAT != 0
                && (source_port::is_taken_by_host(tables, &scratch.reply_key)
                    || !is_mappings(scratch.new.flags, attempt)
                        && mapping::has_port(tables, scratch))
            || source_port::is_taken_by_client(tables, scratch.new.client, &scratch.reply_key)
        {
            return ControlFlow::Continue(());
        }
        match tables.insert_flow(&scratch.reply_key, &scratch.entry) {
            Ok(()) => outcome = Ok(new_sport),
            Err(InsertError::Full) => outcome = Err(Reason::ConntrackFull),
            // Another CPU was faster.
            Err(InsertError::Exists) => return ControlFlow::Continue(()),
        }
        ControlFlow::Break(())
    });
    outcome
}

/// Whether the candidate of an attempt is the port of the source's own mapping.
#[inline(always)]
fn is_mappings(flags: u16, attempt: u32) -> bool {
    attempt == 0 && flags & CtFlags::ENDPOINT_INDEPENDENT != 0
}

/// Whether no flow holds a key; one that is over is removed. For `takes_closing` see [`is_over`].
#[inline(never)]
fn is_free<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>, takes_closing: u16) -> bool {
    let Some(flow) = tables.flow(key) else {
        return true;
    };
    let over = tables.is_over(key, flow, takes_closing);
    over != LIVE && tables.forget(key, flow, over)
}
