//! Networks whose prefix is translated (RFC 6296): their containers' addresses become others on the way out
//! and back, one for one, and nothing else of a packet changes. No packet begins a flow, every protocol passes,
//! and so does what comes from outside: there is nothing to tell whom it answers.
//!
//! What belongs to a flow, of a published port for one, has been found before, and does not come here.

use crate::{
    address::{Address, Family},
    conntrack::Redirect,
    engine::deliver,
    network::{FamilyFlags, Network, NetworkFlags},
    packet::Packet,
    parse::{Ip, Kind, NoTransport, Parsed},
    reason::Reason,
    tables::{FamilyTables, Tables},
};

/// The length of an ICMPv6 header, behind which an error quotes the packet that it is about.
const ICMP_LEN: u32 = 8;
/// The length of an address.
const ADDRESS_LEN: u32 = 16;

/// Whether an address is one that the world sees containers of a network by, its number being that of
/// [`FamilyTables::network_of`].
#[inline(always)]
pub(super) fn is_outside<A: Address, T: Tables>(tables: &T, number: u16, addr: A) -> bool {
    is_translated::<A, T>(tables, number)
        && tables.network(number).is_some_and(|network| !A::side(network).contains(addr))
}

/// Whether a network's prefix is translated.
#[inline(always)]
pub(super) fn is_translated<A: Address, T: Tables>(tables: &T, number: u16) -> bool {
    A::FAMILY == Family::V6
        && tables.network(number).is_some_and(|network| has_prefix::<A>(network))
}

/// Whether the network's prefix is translated.
#[inline(always)]
pub(super) fn has_prefix<A: Address>(network: &Network) -> bool {
    A::FAMILY == Family::V6 && A::side(network).has(FamilyFlags::PREFIX_TRANSLATED)
}

/// What a packet becomes.
struct Ends<A> {
    src: A,
    dst: A,
    /// Where an error quotes the address that becomes another, and that other; 0 where it does not.
    quote: u32,
    quoted: A,
}

/// From outside to a container: to the stack, or past it.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn enter<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed<A>,
    number: u16,
) -> Reason
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    let ip = &parsed.ip;
    let Some(network) = tables.network(number) else {
        return Reason::UnknownPort;
    };
    if let Err(reason) = may_cross(parsed) {
        return reason;
    }
    let Some(dst) = ip.dst.to_inside(network) else {
        return Reason::NoPrefixAddress;
    };
    let quote = match quoted::<A, K, P>(packet, parsed, A::SOURCE_OFFSET, ip.dst) {
        Ok(quote) => quote,
        Err(reason) => return reason,
    };
    let endpoint = tables.endpoint(dst).filter(|_| {
        network.has(NetworkFlags::FAST)
            && packet.network_offset() != 0
            && !packet.is_to_many()
            && fits(packet, parsed, network)
            && deliver::may_skip_stack(ip)
    });
    let ttl = ip.ttl - u8::from(endpoint.is_some());
    let ends = Ends { src: ip.src, dst, quote, quoted: dst };
    match rewrite(packet, ip, &ends, ttl) {
        Err(reason) => reason,
        Ok(()) => match endpoint {
            Some(endpoint) => {
                let to = Redirect::to_container(&endpoint, network.bridge_mac);
                deliver::hand_over(packet, tables, &to);
                Reason::PrefixTranslated.redirected()
            }
            None => Reason::PrefixTranslated,
        },
    }
}

/// From a container to the world, with `ttl` hops left.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn leave<A, K, P>(
    packet: &mut P,
    network: &Network,
    parsed: &Parsed<A>,
    ttl: u8,
) -> Result<(), Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
{
    let ip = &parsed.ip;
    if network.has(NetworkFlags::INTERNAL) {
        return Err(Reason::InternalNetwork);
    }
    may_cross(parsed)?;
    let src = ip.src.to_outside(network).ok_or(Reason::NoPrefixAddress)?;
    let quote = quoted::<A, K, P>(packet, parsed, A::SOURCE_OFFSET + ADDRESS_LEN, ip.src)?;
    rewrite(packet, ip, &Ends { src, dst: ip.dst, quote, quoted: src }, ttl)
}

/// The host's own error to the world about a packet for a container, which it was given translated; `None`
/// where it is about another.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn error_of_host<A, P, T>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if A::FAMILY != Family::V6 {
        return None;
    }
    let ip = &parsed.ip;
    let quote = ip.payload_offset + ICMP_LEN + A::SOURCE_OFFSET + ADDRESS_LEN;
    let inside = packet.load::<A>(quote)?;
    let number = tables.network_of(inside)?;
    let network = tables.network(number).filter(|network| has_prefix::<A>(network))?;
    let quoted = inside.to_outside(network).filter(|_| A::side(network).contains(inside))?;
    // It may have come from the bridge.
    let src = match tables.network_of(ip.src) {
        Some(own) if own == number => ip.src.to_outside(network)?,
        Some(_) | None => ip.src,
    };
    match rewrite(packet, ip, &Ends { src, dst: ip.dst, quote, quoted }, ip.ttl) {
        Ok(()) => Some(Reason::PrefixTranslated),
        Err(reason) => Some(reason),
    }
}

/// From a container to another of its network, or to itself, by the address that the world sees (hairpinning): each sees the other as the world does.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn turn_back<A, P, T>(
    packet: &mut P,
    tables: &T,
    network: &Network,
    parsed: &Parsed<A>,
) -> Reason
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let ip = &parsed.ip;
    let (Some(src), Some(dst)) = (ip.src.to_outside(network), ip.dst.to_inside(network)) else {
        return Reason::NoPrefixAddress;
    };
    if !network.has(NetworkFlags::ICC) && src != ip.dst {
        return Reason::IccOff;
    }
    let Some(endpoint) = tables.endpoint(dst) else {
        return Reason::NoPrefixAddress;
    };
    if !fits(packet, parsed, network)
        || !deliver::may_skip_stack(ip)
        || parsed.missing == Some(NoTransport::IcmpError)
    {
        // The stack would take it for a forged one.
        return Reason::NoPrefixAddress;
    }
    match rewrite(packet, ip, &Ends { src, dst, quote: 0, quoted: dst }, ip.ttl - 1) {
        Ok(()) => {
            let to = Redirect::to_container(&endpoint, network.bridge_mac);
            deliver::hand_over(packet, tables, &to);
            Reason::PrefixTranslated.redirected()
        }
        Err(reason) => reason,
    }
}

/// Refuses what belongs on one link, and what is broken.
#[inline(always)]
fn may_cross<A: Address>(parsed: &Parsed<A>) -> Result<(), Reason> {
    let is_of_link = parsed.ip.dst.is_multicast()
        || parsed.ip.src.is_link_local()
        || parsed.missing == Some(NoTransport::Discovery);
    match parsed.missing {
        Some(NoTransport::Malformed) => Err(Reason::Malformed),
        _ if is_of_link => Err(Reason::UnsupportedProtocol),
        _ => Ok(()),
    }
}

/// Whether the network's containers take a packet of this length.
#[inline(always)]
fn fits<A: Address, P: Packet>(packet: &P, parsed: &Parsed<A>, network: &Network) -> bool {
    let len = match parsed.trackable() {
        Ok(tracked) => tracked.wire_len(packet),
        Err(_) => packet.len_bytes() - parsed.ip.offset,
    };
    len <= u32::from(network.mtu)
}

/// Where an ICMP error quotes `addr`, at `offset` of a packet that was translated; 0 if the packet is no
/// error.
///
/// # Errors
/// `IcmpError` where it quotes another: nobody here has sent or received that packet.
#[inline(always)]
fn quoted<A: Address, K: Kind, P: Packet>(
    packet: &P,
    parsed: &Parsed<A>,
    offset: u32,
    addr: A,
) -> Result<u32, Reason> {
    if !K::IS_RARE || parsed.missing != Some(NoTransport::IcmpError) {
        return Ok(0);
    }
    let at = parsed.ip.payload_offset + ICMP_LEN + offset;
    if packet.load::<A>(at) == Some(addr) { Ok(at) } else { Err(Reason::IcmpError) }
}

#[inline(always)]
fn rewrite<A: Address, P: Packet>(
    packet: &mut P,
    ip: &Ip<A>,
    ends: &Ends<A>,
    ttl: u8,
) -> Result<(), Reason> {
    let writable = if ends.quote == 0 { ip.payload_offset } else { ends.quote + ADDRESS_LEN };
    if !packet.make_writable(writable) {
        return Err(Reason::NoMemory);
    }
    if ends.quote != 0 {
        // Covered by the checksum of the error, which stays right as every other.
        packet.store_unsummed(ends.quote, &ends.quoted);
    }
    A::rewrite(packet, ip, ends.src, ends.dst, ttl);
    Ok(())
}
