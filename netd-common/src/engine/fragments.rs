//! Fragments: the first one carries the ports, and the others take theirs from it.
//!
//! A later fragment that comes before the first is judged like any packet without ports, and where it may
//! be of a flow a copy is held. Once the first one has been judged, what is held of its datagram comes in
//! again behind it. So order makes no difference, within hard limits ([`crate::fragment`]).

use crate::{
    address::Address,
    fragment::{Datagram, FirstFragment, FragmentKey, LIFE_SECS},
    packet::Packet,
    parse::Parsed,
    reason::{Reason, Verdict},
    tables::{FamilyTables, Work},
};

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it, or one that the first has been seen of: nothing is left to do.
    Settled,
    /// The first, with ports that the others need.
    First,
    /// A later one that has come before the first.
    Early,
}

/// What the hook is to remember of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Remembered<A> {
    /// Its datagram.
    pub key: FragmentKey<A>,
    /// What it says of the others, where it is the first.
    pub first: FirstFragment,
    /// Which part of it the packet is.
    pub piece: Piece,
    /// What the packet has been judged for: kept here the verifier doesn't walk all for each reason.
    pub reason: Reason,
}

/// Completes a later fragment from the first one, and notes what there is to remember.
///
/// Not inlined: the key is in a stack frame of its own.
#[inline(never)]
pub(super) fn complete<A, P, T>(
    packet: &P,
    tables: &T,
    parsed: &mut Parsed<A>,
    noted: &mut Remembered<A>,
) where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    noted.key = FragmentKey::new(&parsed.ip, packet.ifindex(), packet.ingress_ifindex());
    if let Ok(tracked) = parsed.trackable() {
        (noted.first.sport, noted.first.dport) = (tracked.transport.sport, tracked.transport.dport);
        noted.first.proto = tracked.ip.proto;
        noted.piece = Piece::First;
    } else if parsed.ip.fragment.is_first() {
        noted.piece = Piece::Settled;
    } else if let Some(first) = first_of(tables, &noted.key) {
        parsed.complete(&first);
        noted.piece = Piece::Settled;
    } else {
        noted.piece = Piece::Early;
    }
}

#[inline(always)]
fn first_of<A: Address, T: FamilyTables<A>>(
    tables: &T,
    key: &FragmentKey<A>,
) -> Option<FirstFragment> {
    let first = tables.first_fragment(key)?;
    let age = tables.now_secs().saturating_sub(first.seen_secs);
    (age < LIFE_SECS).then_some(first)
}

/// Remembers the packet that has been judged, where others of its datagram need that.
///
/// Not inlined, as above.
#[inline(never)]
pub(super) fn remember<A: Address, P: Packet, T: FamilyTables<A>>(
    packet: &P,
    tables: &T,
) -> Reason {
    let remembered = tables.with_work(|work: &mut Work<A>| {
        let noted = &mut work.remembered;
        let reason = noted.reason;
        if !concerns_others(packet, tables, noted) {
            return reason;
        }
        let datagram = datagram(tables, &noted.key);
        match noted.piece {
            Piece::Settled => reason,
            Piece::First => release(tables, datagram, reason),
            Piece::Early => hold(tables, noted, datagram),
        }
    });
    remembered.unwrap_or(Reason::NoMemory)
}

/// Remembers a first fragment, and says whether the packet changes anything for those that are held.
#[inline(always)]
fn concerns_others<A, P, T>(packet: &P, tables: &T, noted: &mut Remembered<A>) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    match noted.piece {
        Piece::Settled => false,
        Piece::First if noted.reason.verdict() == Verdict::Drop => false,
        Piece::First => {
            noted.first.seen_secs = tables.now_secs();
            tables.remember_first_fragment(&noted.key, &noted.first);
            is_of_flow(noted.reason) && is_coming_in(packet)
        }
        Piece::Early => may_be_of_flow(noted.reason) && is_coming_in(packet),
    }
}

/// Holds a copy of a fragment that is of a flow, for all that is known. What has to be dropped for want of
/// ports is not lost then.
#[inline(always)]
fn hold<A, T>(tables: &T, noted: &Remembered<A>, datagram: Datagram) -> Reason
where
    A: Address,
    T: FamilyTables<A>,
{
    let reason = noted.reason;
    if !tables.hold_fragment(datagram) {
        return reason;
    }
    let is_lost = matches!(reason, Reason::Fragment | Reason::ContainerToOutside);
    let reason = if is_lost { Reason::FragmentHeld } else { reason };
    match first_of(tables, &noted.key) {
        // Another CPU has seen the first one meanwhile, and may have looked too early for this one.
        Some(_) => release(tables, datagram, reason),
        None => reason,
    }
}

/// Who floods with one address after the other gets no more places for that: a container is known by its
/// port, a machine outside by its IPv4 address or its IPv6 link.
///
/// Not inlined: hashing takes more registers than a program has.
#[inline(never)]
fn datagram<A: Address, T: FamilyTables<A>>(tables: &T, key: &FragmentKey<A>) -> Datagram {
    let sender = match tables.bridge_port(key.ifindex) {
        // Opaque: the verifier would walk the hashes twice, once for this very number.
        Some(_) => core::hint::black_box(0),
        None => key.src.words()[0],
    };
    key.datagram(tables.secret(), sender)
}

/// Lets what is held come in again. The packet lends its memory for that, and is lost where the kernel has
/// none to restore it with.
#[inline(always)]
fn release<A: Address, T: FamilyTables<A>>(
    tables: &T,
    datagram: Datagram,
    reason: Reason,
) -> Reason {
    if tables.release_fragments(datagram) { reason } else { Reason::NoMemory }
}

/// Whether the hook is where packets come in: what is held can't come in where it leaves. A packet that
/// leaves has been in order where it came in.
#[inline(always)]
fn is_coming_in<P: Packet>(packet: &P) -> bool {
    packet.ifindex() == packet.ingress_ifindex()
}

/// Whether a packet without ports may be of a flow all the same.
#[inline(always)]
const fn may_be_of_flow(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Fragment
            | Reason::FragmentToHost
            | Reason::NotOurs
            | Reason::ContainerToHost
            | Reason::ContainerToOutside
            | Reason::SameNetwork
            | Reason::SameNetworkRedirected
            | Reason::NetworksAllowed
            // Refused to whoever begins, not to whoever answers, or has a port published.
            | Reason::IccOff
            | Reason::NetworksApart
            | Reason::DirectRouting
    )
}

/// Whether a packet is of a flow, so that the other fragments are not what they were taken for.
#[inline(always)]
const fn is_of_flow(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Published
            | Reason::PublishedReply
            | Reason::Masqueraded
            | Reason::MasqueradeReply
            | Reason::Untranslated
            | Reason::PublishedRedirected
            | Reason::PublishedReplyRedirected
            | Reason::MasqueradedRedirected
            | Reason::MasqueradeReplyRedirected
            | Reason::UntranslatedRedirected
            | Reason::NotDeliverable
            | Reason::ContainerToOutside
    )
}
