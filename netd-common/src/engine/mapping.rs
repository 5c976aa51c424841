//! Endpoint-independent mappings (RFC 4787 REQ-1, RFC 5382 REQ-1): one source port of an outside address for
//! all that a container sends from one of its ports, at which everybody reaches it (REQ-8 and REQ-3, the
//! full cone).
//!
//! ```text
//!   original half   { endpoint, A:a -> H:0 } -> H:x      the container's port, by outside address
//!   reply half      { uplink,   0:0 -> H:x } -> A:a      what was sent to the outside port
//! ```
//! A mapping lies in the connection table, in a zone of its own, as a flow whose remote end is nobody. No
//! packet is translated by it: it says which source port a flow gets and whom a flow from outside is for. The
//! packets find their flows, as everywhere, so that they cost no more.
//!
//! Invariants: an outside port has at most one mapping, and no flow of others begins there while it has. A
//! mapping ends [`Timeout::Mapping`] after the last packet that its container has sent by it, and not before the
//! connection of that packet does.

use crate::{
    address::{Address, Port},
    config::{ConfigFlags, Timeout},
    conntrack::{CLAIMED, CtEntry, CtFlags, CtKey, NewFlow, Redirect, Scope, Scratch, Seen, Zone},
    engine::{begin::Server, flow, published, source_port},
    header::proto,
    network::Endpoint,
    parse::Trackable,
    tables::{Begun, FamilyTables, Flow, HOST_NETNS},
};

/// The key that a container's port is found by.
#[inline(always)]
fn inside_key<A: Address>(proto: u8, src: A, sport: Port, outside: A) -> CtKey<A> {
    let (scope, zone) = (Scope::Endpoint as u8, Zone::MAPPINGS);
    CtKey { src, dst: outside, sport, dport: Port::ZERO, proto, scope, zone }
}

/// The key that an outside port is found by.
#[inline(always)]
fn outside_key<A: Address>(proto: u8, outside: A, port: Port) -> CtKey<A> {
    let (scope, zone) = (Scope::Uplink as u8, Zone::MAPPINGS);
    CtKey {
        src: A::unspecified(),
        dst: outside,
        sport: Port::ZERO,
        dport: port,
        proto,
        scope,
        zone,
    }
}

/// The container that a packet is for by a published port, if its destination `is_hosts` own, or by a mapping.
///
/// Not inlined: behind the call the verifier walks what follows once, and not once for each of the two.
#[inline(never)]
pub(super) fn published_or_mapped<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    is_hosts: bool,
) -> Option<Server<A>> {
    if is_hosts && let Some(published) = published::asked_for(tables, tracked) {
        return Some(Server::published(&published, tracked));
    }
    asked_for(tables, tracked)
}

/// The container that a packet from outside, or from another container, is for by a mapping.
#[inline(always)]
fn asked_for<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
) -> Option<Server<A>> {
    if !tables.is_configured(ConfigFlags::MAPPINGS) {
        return None;
    }
    let Trackable { ip, transport } = tracked;
    let may_begin = match ip.proto {
        proto::TCP => transport.is_syn(),
        proto::UDP => transport.may_begin_flow(tables),
        _ => false,
    };
    if !may_begin {
        return None;
    }
    let key = outside_key(ip.proto, ip.dst, transport.dport);
    let half = tables.flow(&key)?;
    if tables.is_over(&key, half, 0) != flow::LIVE {
        return None;
    }
    // A socket that the host has opened since then is the host's.
    if published::host_socket(tables, tracked).is_some() {
        return None;
    }
    Some(Server::mapped(half.entry()))
}

/// Keeps the mappings of a flow in time with it, of which `key` has carried `seen`: that of the sender lives on
/// (RFC 4787 REQ-6), and that of the receiver ends soon if the connection was reset. What outsiders send keeps
/// no mapping alive.
///
/// Not inlined: it is needed once a second for such a flow, and its keys have a stack frame of their own.
#[inline(never)]
pub(super) fn refresh<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    entry: &CtEntry<A>,
    seen: u8,
) {
    if seen & Seen::RST != 0 {
        let receiver = inside_key(key.proto, entry.new_dst, entry.new_dport, key.dst);
        if let Some(half) = tables.flow(&receiver) {
            half.set_seen(Seen::RST);
        }
    }
    // Only a mapping to this port: the flow may have got another one, and outlive the mapping it had.
    let sender = inside_key(key.proto, key.src, key.sport, entry.new_src);
    if let Some(half) = tables.flow(&sender)
        && half.entry().new_sport == entry.new_sport
    {
        keep(half, tables.now_secs());
        half.set_seen(seen);
    }
}

/// Whether the time of the mapping has come that `key` is half of, as [`flow::is_over`] says it.
#[inline(always)]
pub(super) fn is_over<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &CtKey<A>,
    half: T::Flow,
    takes_idle: u16,
) -> u32 {
    let entry = half.entry();
    let inside = if entry.is_reply() { tables.flow(&entry.peer_key(key)) } else { Some(half) };
    let (seen, since) = match inside {
        Some(inside) => (inside.entry().seen, inside.last_seen_secs()),
        // On its way in, or left behind.
        None => (0, entry.created_secs),
    };
    let mut timeout = timeout_of(key.proto, seen);
    if takes_idle != 0 && timeout == Timeout::Mapping {
        timeout = Timeout::Udp;
    }
    let is_live = tables.now_secs().saturating_sub(since) < tables.timeout_secs(timeout);
    if is_live { flow::LIVE } else { since + 1 }
}

/// Records that a mapping is used; says whether it is still there.
#[inline(always)]
fn keep<A: Address>(inside: impl Flow<A>, now: u32) -> bool {
    let last_seen = inside.last_seen_secs();
    last_seen != CLAIMED && flow::refresh(inside, last_seen, now)
}

/// The timer of a mapping whose container has last sent a packet of a flow that has carried `seen` there: an
/// established connection may be silent for long.
#[inline(always)]
pub fn timeout_of(proto: u8, seen: u8) -> Timeout {
    let is_established = seen & (Seen::ACK | Seen::FIN | Seen::RST) == Seen::ACK;
    if proto == proto::TCP && is_established { Timeout::TcpEstablished } else { Timeout::Mapping }
}

/// Whether the outside port that replies with the key in `scratch` are sent to is a mapping's. If it is to be
/// one's, the key becomes that of its reply half, and a mapping that has ended is removed.
///
/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
pub(super) fn has_port<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scratch: &mut Scratch<A>,
) -> bool {
    let is_asked_by_mapping = scratch.new.key.zone == Zone::MAPPINGS;
    if !is_asked_by_mapping && !tables.is_configured(ConfigFlags::MAPPINGS) {
        return false;
    }
    let key = &mut scratch.reply_key;
    let key = &outside_key(key.proto, key.dst, key.dport);
    if is_asked_by_mapping {
        scratch.reply_key = *key;
    }
    let Some(half) = tables.flow(key) else {
        return false;
    };
    if !is_asked_by_mapping {
        return true;
    }
    let over = tables.is_over(key, half, scratch.candidates.takes_closing);
    over == flow::LIVE || !tables.forget(key, half, over)
}

/// Has the flow that was described ask for the outside port of its source's mapping. Where there is none, the
/// mapping is described in the flow's place, to be inserted first. Says what was described.
///
/// Not inlined: its key has a stack frame of its own.
#[inline(never)]
pub(super) fn prepare<A: Address, T: FamilyTables<A>>(tables: &T) -> Begun {
    let described = tables.with_description(|new| {
        if new.flags & CtFlags::ENDPOINT_INDEPENDENT == 0 {
            return Begun::Flow;
        }
        let key = inside_key(new.key.proto, new.key.src, new.key.sport, new.new_src);
        if let Some(port) = find(tables, &key) {
            new.wanted = port;
            return Begun::Flow;
        }
        match tables.endpoint(new.key.src) {
            Some(owner) if new.key.proto == proto::TCP || new.key.proto == proto::UDP => {
                new.key = key;
                describe(new, &owner);
                Begun::Mapping
            }
            // Nobody reaches the host by a port that it sends from, nor whoever has no address of his own.
            Some(_) | None => {
                new.flags &= !CtFlags::ENDPOINT_INDEPENDENT;
                Begun::Flow
            }
        }
    });
    described.unwrap_or(Begun::Flow)
}

/// Turns the description of a flow into that of its source's mapping. The remote end stays: the port is to be
/// free for the flow as well.
#[inline(always)]
fn describe<A: Address>(new: &mut NewFlow<A>, owner: &Endpoint) {
    new.original = Redirect::none();
    new.original_mtu = 0;
    new.reply = Redirect::none();
    new.reply_mtu = 0;
    new.slot = owner.slot;
    new.endpoint_slot = owner.slot;
    new.network = owner.network;
    new.flags = CtFlags::SNAT;
    new.client = HOST_NETNS;
    new.seen = 0;
}

/// The outside port of a mapping. One that has been published or reserved since then is given up.
#[inline(never)]
fn find<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>) -> Option<Port> {
    let half = tables.flow(key)?;
    let entry = half.entry();
    let port = entry.new_sport;
    let mut over = tables.is_over(key, half, 0);
    if source_port::is_kept(tables, key.dst, key.proto, port) {
        over = flow::WHATEVER_COMES;
    }
    if over != flow::LIVE {
        tables.forget(key, half, over);
        return None;
    }
    keep(half, tables.now_secs()).then_some(port)
}
