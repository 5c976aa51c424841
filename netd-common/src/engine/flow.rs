//! The life of a flow in the connection table: found, refreshed, created, forgotten.
//!
//! Invariants: the reply half is inserted first and with NOEXIST, so no two live flows share a reply
//! tuple; whoever fails after that takes it back. Removal goes the other way round, original half
//! first, so that a reply half without original is always a leftover that anyone may reuse.

use core::{mem::MaybeUninit, ops::ControlFlow};

use crate::{
    address::{Address, Port},
    config::ConfigFlags,
    conntrack::{CtEntry, CtFlags, CtKey, FlowState, Scope, Scratch, Seen, Translation, Zone},
    engine::{admission, mapping, source_port},
    packet::Packet,
    parse::Trackable,
    reason::Reason,
    tables::{FamilyTables, Flow, InsertError, Tables},
};

/// How long a half may stand alone: far longer than any CPU takes between its two insertions.
const LONE_HALF_SECS: u32 = 5;

/// Finds the live flow of a packet and records that the packet was seen.
///
/// A flow that is over is forgotten here, whatever the daemon has got round to: its owner has gone, its
/// time has run out, or the packet opens a new connection on a closing one.
///
/// Not inlined, for the reason that [`crate::parse::read`] has.
#[inline(never)]
pub(super) fn find<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    let (key, transport) = (&tracked.key(scope), tracked.transport);
    let flow = tables.flow(key)?;
    let entry = flow.entry();
    let now = tables.now_secs();
    let mut seen = Seen::after(entry.seen, entry.peer_seen, transport.seen);
    let is_first_of_second = entry.last_seen_secs != now;
    if is_first_of_second || transport.is_syn() {
        let reopens = transport.is_syn() && !entry.is_reply();
        if is_over(tables, key, flow, now, u16::from(reopens)) {
            forget(tables, key, entry);
            return None;
        }
        if Seen::refreshes(entry.seen, seen, transport.seen) {
            flow.set_last_seen(now);
        }
        if now.saturating_sub(entry.created_secs) > Seen::STREAM_SECS {
            seen |= Seen::LATER;
        }
    } else if has_lost_owner(tables, entry) {
        forget(tables, key, entry);
        return None;
    }
    if entry.flags & CtFlags::USES_MAPPING != 0 && (is_first_of_second || seen != entry.seen) {
        mapping::refresh(tables, key, entry, seen);
    }
    if seen != entry.seen {
        if seen & !entry.seen & Seen::FIN != 0 {
            tell_peer(tables, key, entry);
        }
        flow.set_seen(seen);
    }
    Some(memory.write(entry.translation()))
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
/// Not inlined, as above.
#[inline(never)]
pub(super) fn peek<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    let flow = tables.flow(key)?;
    if is_over(tables, key, flow, tables.now_secs(), 0) {
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

/// The generation of a flow: it changes when its published port or its endpoint goes.
#[inline(always)]
pub(super) fn generation<T: Tables>(tables: &T, slot: u32, endpoint_slot: u32) -> u32 {
    tables.generation(slot).wrapping_add(tables.generation(endpoint_slot))
}

/// Whether the flow is of an earlier generation.
#[inline(always)]
pub(super) fn has_lost_owner<A: Address, T: Tables>(tables: &T, entry: &CtEntry<A>) -> bool {
    entry.generation != generation(tables, entry.slot, entry.endpoint_slot)
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

/// Whether a flow has ended. With `reopens` other than zero, a closing one counts as ended: a number, which may come
/// from memory, so that the verifier does not walk everything twice for the two values of a condition.
///
/// Not inlined: it is needed once a second for a flow, and the programs stay small without copies.
#[inline(never)]
pub(super) fn is_over<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    flow: T::Flow,
    now: u32,
    reopens: u16,
) -> bool {
    let entry = flow.entry();
    if has_lost_owner(tables, entry) {
        return true;
    }
    let Some(peer) = tables.flow(&entry.peer_key(key)) else {
        return now.saturating_sub(entry.created_secs) > LONE_HALF_SECS;
    };
    let peer = peer.entry();
    let state = state(key.proto, entry, peer);
    if reopens != 0 && state.is_closing() {
        return true;
    }
    let last_seen = entry.last_seen_secs.max(peer.last_seen_secs);
    let mut timeout_secs = tables.timeout_secs(state.timeout(key.proto));
    if state.gives_way() {
        timeout_secs = admission::pressure::<A, T>(tables).shorten(timeout_secs);
    }
    now.saturating_sub(last_seen) >= timeout_secs
}

/// The state of the flow that two entries are the halves of.
#[inline(always)]
fn state<A: Address>(proto: u8, entry: &CtEntry<A>, peer: &CtEntry<A>) -> FlowState {
    let (original, reply) =
        if entry.is_reply() { (peer.seen, entry.seen) } else { (entry.seen, peer.seen) };
    FlowState::of(proto, original, reply)
}

/// Removes the flow that `key` is half of if it gives way to others. Says whether it did.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn give_way<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    now: u32,
) -> bool {
    let Some(half) = tables.flow(key) else {
        return false;
    };
    let entry = half.entry();
    let gives_way = match tables.flow(&entry.peer_key(key)) {
        Some(peer) => state(key.proto, entry, peer.entry()).gives_way(),
        None => false,
    };
    if gives_way || is_over(tables, key, half, now, 0) {
        forget(tables, key, entry);
        return true;
    }
    false
}

/// Removes a flow, original half first. Who removes that one takes the flow from the counts.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn forget<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    entry: &CtEntry<A>,
) {
    let peer = entry.peer_key(key);
    let (original, reply) = if entry.is_reply() { (&peer, key) } else { (key, &peer) };
    // Read while it is there: the kernel may give the memory to another flow at once.
    let (endpoint_slot, network) = (entry.endpoint_slot, entry.network);
    if tables.remove_flow(original) {
        admission::count::<A, T>(tables, endpoint_slot, network, -1);
    }
    tables.remove_flow(reply);
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
    admission::admit(tables, scratch, now)?;
    scratch.write_reply(now, generation(tables, scratch.new.slot, scratch.new.endpoint_slot));
    let new_sport = reserve_reply(tables, scratch, now)?;
    scratch.turn_into_original(new_sport);
    let (endpoint_slot, network) = (scratch.new.endpoint_slot, scratch.new.network);
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
        let takes_closing = u16::from(may_take && source_port::is_hard(attempt));
        scratch.candidates.takes_closing = takes_closing;
        // The table first: where ports are short, that is where they are.
        if !is_free(tables, &scratch.reply_key, scratch.candidates.takes_closing)
            || scratch.new.flags & CtFlags::SNAT != 0
                && (source_port::is_taken_by_host(tables, &scratch.reply_key)
                    || !is_mappings(scratch.new.flags, attempt)
                        && mapping::has_port(tables, scratch))
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
    if !is_over(tables, key, flow, tables.now_secs(), takes_closing) {
        return false;
    }
    forget(tables, key, flow.entry());
    true
}
