//! ICMP errors about flows: they are no packets of a flow, but quote one.
//!
//! Whoever sends an error has received the packet that it quotes, so the error goes the opposite way: what is
//! quoted, turned round, is the key of the flow where the error arrives, and what becomes of packets of that
//! direction says what becomes of the quote (RFC 5508 REQ-4, REQ-5).
//!
//! ```text
//!   flow     X -> R      becomes X -> A
//!   error    Y -> R, quotes R -> X      becomes Y -> A, quotes A -> X
//! ```
//! An error neither refreshes a flow nor ends it (RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6), and does
//! not count as its packet.

mod hairpin;
mod rewrite;

use core::mem::MaybeUninit;

use crate::{
    address::Address,
    conntrack::{Scope, Translation},
    engine::{deliver, flow, from_endpoint::check_source, step::apart},
    network::{BridgePort, FamilyFlags},
    packet::Packet,
    parse::{self, Ip, Quote},
    reason::Reason,
    tables::{ErrorWork, FamilyTables},
};

/// An ICMP error about a flow.
struct IcmpError<'a, A> {
    ip: &'a Ip<A>,
    quote: &'a Quote<A>,
}

/// From an uplink; `None` where the error is about no flow.
///
/// Not inlined, like all that the hooks call here: a stack frame of its own.
#[inline(never)]
pub(super) fn from_uplink<A, P, T>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    work: &mut ErrorWork<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let quote = parse::quote(packet, ip, &mut work.quote)?;
    match translation(tables, Scope::Uplink, ip, quote, &mut work.to) {
        Ok(to) => Some(apart!(deliver::from_uplink, packet, tables, &IcmpError { ip, quote }, to)),
        Err(reason) => reason,
    }
}

/// From a container; `None` where the error is about no flow.
#[inline(never)]
pub(super) fn from_endpoint<A, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    ip: &Ip<A>,
    work: &mut ErrorWork<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let quote = parse::quote(packet, ip, &mut work.quote)?;
    match translation(tables, Scope::Endpoint, ip, quote, &mut work.to) {
        Ok(to) => {
            // Whoever sends it has to be one who may send what it is about.
            let network = tables.network(port.network)?;
            if check_source(packet, tables, port, network, quote.ip.dst).is_err()
                || !to.redirect.is_some() && shows_hidden(tables, ip, quote, to)
            {
                return Some(Reason::ForgedIcmpError);
            }
            Some(apart!(deliver::from_endpoint, packet, tables, port, &IcmpError { ip, quote }, to))
        }
        Err(reason) => reason,
    }
}

/// Out of an uplink: a container's, or the host's own about a packet that it was given translated; `None`
/// where the error is about no flow.
#[inline(never)]
pub(super) fn to_uplink<A, P, T>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    work: &mut ErrorWork<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let quote = parse::quote(packet, ip, &mut work.quote)?;
    // Redirected, and translated by that: the network is not masqueraded. What the stack routes came in on
    // a bridge, not on one of its ports.
    if tables.bridge_port(packet.ingress_ifindex()).is_some() {
        return is_of_flow(tables, Scope::Uplink, ip, quote).then_some(Reason::NotOurs);
    }
    match translation(tables, Scope::Endpoint, ip, quote, &mut work.to) {
        Ok(to) if shows_hidden(tables, ip, quote, to) => Some(Reason::ForgedIcmpError),
        Ok(to) => Some(apart!(deliver::from_host, packet, tables, &IcmpError { ip, quote }, to)),
        Err(reason) => reason,
    }
}

/// Whether an error would leave with a container's address that its network hides: the flow has its own, which
/// then stands for nobody else.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
fn shows_hidden<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    quote: &Quote<A>,
    to: &Translation<A>,
) -> bool {
    let keeps_source = to.src == quote.ip.dst && ip.src != quote.ip.dst;
    keeps_source
        && !tables.is_host_address(ip.src)
        && tables
            .network_of(ip.src)
            .and_then(|number| tables.network(number))
            .is_some_and(|network| A::side(network).has(FamilyFlags::MASQUERADE))
}

/// The host's own, to a container; `None` where the error is about no flow, or about a packet that the host
/// has seen as the container knows it.
#[inline(never)]
pub(super) fn to_endpoint<A, P, T>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    work: &mut ErrorWork<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let quote = parse::quote(packet, ip, &mut work.quote)?;
    let to = match translation(tables, Scope::Endpoint, ip, quote, &mut work.to) {
        Ok(to) => to,
        Err(None) => match hairpin::of_request(tables, quote, &mut work.to) {
            Some(to) => to,
            None => hairpin::of_reply(tables, quote, &mut work.to)?,
        },
        Err(reason) => return reason,
    };
    Some(apart!(deliver::from_host, packet, tables, &IcmpError { ip, quote }, to))
}

/// Whether an error that is routed to a container is about one of its flows.
#[inline(never)]
pub(super) fn may_enter<A, P, T>(
    packet: &P,
    tables: &T,
    ip: &Ip<A>,
    work: &mut ErrorWork<A>,
) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    parse::quote(packet, ip, &mut work.quote)
        .is_some_and(|quote| is_of_flow(tables, Scope::Endpoint, ip, quote))
}

/// What becomes of packets that go an error's way in the flow that it is about, seen in `scope`.
///
/// # Errors
/// Why the error is not translated: it is about no flow, which has no reason of its own, or it is
/// `ForgedIcmpError`, `BrokenQuote` or `IcmpRedirect`.
#[inline(always)]
fn translation<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    ip: &Ip<A>,
    quote: &Quote<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Result<&'a mut Translation<A>, Option<Reason>> {
    let to = peek(tables, scope, quote, memory).ok_or(None)?;
    if quote.ip.src != ip.dst {
        return Err(Some(Reason::ForgedIcmpError));
    }
    if !quote.ip.is_sound {
        return Err(Some(Reason::BrokenQuote));
    }
    if quote.is_redirect {
        return Err(Some(Reason::IcmpRedirect));
    }
    Ok(to)
}

/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
fn peek<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    quote: &Quote<A>,
    memory: &'a mut MaybeUninit<Translation<A>>,
) -> Option<&'a mut Translation<A>> {
    flow::peek(tables, &quote.reverse_key(scope), memory)
}

/// Whether an error is about a live flow, seen in `scope`, and for who has sent what it quotes.
///
/// Not inlined, as above.
#[inline(never)]
fn is_of_flow<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    ip: &Ip<A>,
    quote: &Quote<A>,
) -> bool {
    flow::is_live(tables, &quote.key(scope)) && quote.ip.src == ip.dst
}
