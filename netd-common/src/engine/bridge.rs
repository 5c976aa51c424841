//! What crosses a bridge device: the safety net under its ports.
//!
//! Everything here has been judged where it entered, or is about to be where it leaves, if the ports carry
//! their programs. A port that another program has just plugged in carries none yet. The bridge cannot see
//! the port, so it goes by the container's addresses: those that are known belong to ports with programs.

use core::hint::black_box;

use crate::{
    address::{Address, V4, V6},
    engine::{Outcome, Steps, by_family, from_endpoint::needs_no_source, icmp_error, to_endpoint},
    header::ETHERNET_SOURCE,
    network::{Endpoint, NetworkFlags},
    packet::Packet,
    parse::{self, Kind, NoTransport},
    reason::Reason,
    tables::{FamilyTables, Route, Work},
};

/// Runs the hook of what the ports send to the host, or through it.
#[inline(always)]
pub fn from_bridge<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    by_family::<FromBridge, K, P, T>(packet, tables)
}

/// Runs the hook of what the host sends to the ports, its own or from elsewhere.
#[inline(always)]
pub fn to_bridge<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if packet.ingress_ifindex() == 0 {
        return Outcome::Judged(Reason::HostToContainer);
    }
    by_family::<ToBridge, K, P, T>(packet, tables)
}

/// The container with this address, if it is on the bridge that the packet crosses: its port judges the packet,
/// so no more is read of it here.
#[inline(always)]
fn on_this_bridge<A, P, T>(packet: &P, tables: &T, addr: A) -> Option<Endpoint>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    // Copied once more: from a packet to where a map wants its key, the compiler would call memmove.
    let endpoint = tables.endpoint(black_box(addr))?;
    let network = tables.network(endpoint.network)?;
    (network.bridge_ifindex == packet.ifindex()).then_some(endpoint)
}

struct FromBridge;

impl<P: Packet, T> Steps<P, T> for FromBridge {
    const MAY_MASQUERADE: bool = false;
    const NEEDS_PORTS: bool = false;

    fn translates<K: Kind>() -> bool {
        false
    }

    #[inline(always)]
    fn is_rare<A: Address>(_packet: &P, _tables: &T) -> bool {
        false
    }

    #[inline(always)]
    fn glance<A: Address, K: Kind>(packet: &P, tables: &T) -> Option<Reason>
    where
        T: FamilyTables<A>,
    {
        // What has options may say which way it is to go.
        if K::IS_RARE && parse::is_rare::<A, P>(packet) {
            return None;
        }
        let sender = on_this_bridge::<A, P, T>(packet, tables, parse::source(packet)?)?;
        let is_its_own = packet.load(ETHERNET_SOURCE) == Some(sender.mac);
        is_its_own.then_some(Reason::JudgedByPort)
    }

    #[inline(always)]
    fn judge<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let number = tables.network_of_bridge(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        let ip =
            &super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)?.ip;
        if needs_no_source(ip) {
            return Ok(Some(Reason::Multicast));
        }
        if ip.src.is_link_local() || ip.dst.is_link_local() {
            return Ok(Some(Reason::LinkLocal));
        }
        let sender = tables.endpoint(ip.src);
        if let Some(endpoint) = sender
            && packet.load(ETHERNET_SOURCE) == Some(endpoint.mac)
        {
            return Ok(Some(Reason::JudgedByPort));
        }
        let network = tables.network(number).ok_or(Reason::UnknownPort)?;
        let side = A::side(network);
        // A container on two networks answers by its default route, whichever it was asked on.
        if sender.is_none() && !side.contains(ip.src) {
            return Err(Reason::SourceNotInSubnet);
        }
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        if side.contains(ip.dst) {
            let to_host = tables.is_host_address(ip.dst);
            return Ok(Some(if to_host { Reason::ContainerToHost } else { Reason::SameNetwork }));
        }
        if network.has(NetworkFlags::INTERNAL) {
            return Err(Reason::InternalNetwork);
        }
        if tables.is_host_address(ip.dst) {
            return Ok(Some(Reason::ContainerToHost));
        }
        match tables.network_of(ip.dst) {
            Some(other) if tables.may_enter(number, other) => Ok(Some(Reason::NetworksAllowed)),
            Some(_) => Err(Reason::NetworksApart),
            None => match tables.route(network.bridge_ifindex, ip, 0) {
                Route::Uplink { .. } | Route::Nowhere => Ok(Some(Reason::ContainerToOutside)),
                Route::Elsewhere => Err(Reason::NotAnUplink),
            },
        }
    }
}

struct ToBridge;

impl<P: Packet, T> Steps<P, T> for ToBridge {
    const MAY_MASQUERADE: bool = false;

    fn translates<K: Kind>() -> bool {
        false
    }

    #[inline(always)]
    fn is_rare<A: Address>(_packet: &P, _tables: &T) -> bool {
        false
    }

    #[inline(always)]
    fn glance<A: Address, K: Kind>(packet: &P, tables: &T) -> Option<Reason>
    where
        T: FamilyTables<A>,
    {
        // What has options may say which way it is to go.
        if K::IS_RARE && parse::is_rare::<A, P>(packet) {
            return None;
        }
        on_this_bridge::<A, P, T>(packet, tables, parse::destination(packet)?)?;
        Some(Reason::JudgedByPort)
    }

    #[inline(always)]
    fn judge<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let number = tables.network_of_bridge(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        let parsed =
            super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)?;
        let ip = &parsed.ip;
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        if tables.endpoint(ip.dst).is_some_and(|endpoint| endpoint.network == number) {
            return Ok(Some(Reason::JudgedByPort));
        }
        if K::IS_RARE
            && parsed.missing == Some(NoTransport::IcmpError)
            && icmp_error::may_enter(packet, tables, ip, &mut work.error)
        {
            return Ok(Some(Reason::FlowToContainer));
        }
        to_endpoint::from_beyond(packet, tables, parsed, number).map(Some)
    }
}
