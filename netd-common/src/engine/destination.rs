//! Where a container may send what belongs to no flow yet.

use crate::{
    address::Address,
    conntrack::{Redirect, Scope},
    engine::{
        begin::{self, Server},
        deliver, flow, from_uplink, mapping, prefix,
    },
    header::{ETHERNET_DESTINATION, proto},
    network::{BridgePort, Endpoint, LinkKey, Network, NetworkFlags, UplinkFlags},
    packet::Packet,
    parse::{Kind, NoTransport, Parsed, Trackable},
    reason::Reason,
    tables::{FamilyTables, Route},
};

/// Judges a container's packet by its destination; `None` where it begins a flow.
///
/// Not inlined: a stack frame of its own, next to that of translation.
#[inline(never)]
pub(super) fn judge<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    parsed: &Parsed<A>,
) -> Option<Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    match by_destination::<A, K, P, T>(packet, tables, port, parsed) {
        Ok(reason) => reason,
        Err(reason) => Some(reason),
    }
}

#[inline(always)]
fn by_destination<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    parsed: &Parsed<A>,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    let ip = &parsed.ip;
    let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
    let is_in_subnet = A::side(network).contains(ip.dst);
    let is_internal = network.has(NetworkFlags::INTERNAL);
    if is_internal && !is_in_subnet {
        return Err(Reason::InternalNetwork);
    }
    if tables.is_host_address(ip.dst) {
        return to_host(packet, tables, port, is_internal, parsed);
    }
    if is_in_subnet {
        return to_neighbour(packet, tables, port, network, parsed);
    }
    match tables.network_of(ip.dst) {
        Some(other) if prefix::is_outside(tables, other, ip.dst) => {
            if other != port.network {
                return Err(Reason::NetworksApart);
            }
            Ok(Some(prefix::turn_back(packet, tables, network, parsed)))
        }
        Some(other) if tables.may_enter(port.network, other) => {
            to_allowed_network(packet, tables, other, parsed).map(Some)
        }
        Some(other) => to_other_network(packet, tables, port, parsed, other),
        None => to_world::<A, K, P, T>(packet, tables, port.network, network, parsed),
    }
}

/// To an address of the host: a published port (rows P12, P13 and P15), a mapping's (RFC 4787 REQ-9), or a
/// service of the host's own.
#[inline(always)]
fn to_host<A, P, T>(
    packet: &P,
    tables: &T,
    port: &BridgePort,
    is_internal: bool,
    parsed: &Parsed<A>,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if let Ok(tracked) = &parsed.trackable()
        && let Some(server) = mapping::published_or_mapped(tables, tracked, true)
    {
        if is_internal {
            return Err(Reason::InternalNetwork);
        }
        return Ok(begin::between_containers(packet, tables, port, tracked, &server));
    }
    Ok(Some(Reason::ContainerToHost))
}

/// To a container of the same network, as the bridge would switch it.
#[inline(always)]
fn to_neighbour<A, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    network: &Network,
    parsed: &Parsed<A>,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if parsed.missing == Some(NoTransport::Discovery) {
        return Ok(Some(Reason::LinkLocal));
    }
    let has_icc = network.has(NetworkFlags::ICC);
    match tables.endpoint(parsed.ip.dst) {
        // Only a frame for the neighbour itself: one for the gateway is the gateway's to answer.
        Some(endpoint)
            if endpoint.ifindex != packet.ifindex()
                && packet.load::<[u8; 6]>(ETHERNET_DESTINATION) == Some(endpoint.mac) =>
        {
            if let Ok(tracked) = &parsed.trackable()
                && (if has_icc {
                    is_answered_to_another_flow(tables, tracked)
                } else {
                    is_linked(tables, port, &endpoint, tracked)
                })
            {
                let server = Server::direct(tables, tracked, port.network);
                return Ok(begin::between_containers(packet, tables, port, tracked, &server));
            }
            if !has_icc {
                return Err(Reason::IccOff);
            }
            packet.redirect_peer(endpoint.ifindex);
            tables.count_received(endpoint.slot, packet.len_bytes());
            Ok(Some(Reason::SameNetwork.redirected()))
        }
        Some(_) | None if !has_icc => Err(Reason::IccOff),
        Some(_) | None => Ok(Some(Reason::SameNetwork)),
    }
}

/// Whether the neighbour exposes the port to this container (row I3). It becomes a flow, so that the answers need
/// no link of their own.
#[inline(always)]
fn is_linked<A, T>(
    tables: &T,
    port: &BridgePort,
    endpoint: &Endpoint,
    tracked: &Trackable<'_, A>,
) -> bool
where
    A: Address,
    T: FamilyTables<A>,
{
    let Trackable { ip, transport } = tracked;
    let key = LinkKey {
        from: port.slot,
        to: endpoint.slot,
        port: transport.dport,
        proto: ip.proto,
        reserved: 0,
    };
    transport.may_begin_flow(tables) && tables.is_linked(&key)
}

/// Whether the neighbour's answer would be taken for that of a flow to one of its published ports, which
/// the container has begun from the same source port. What begins here gets another port then.
#[inline(always)]
fn is_answered_to_another_flow<A, T>(tables: &T, tracked: &Trackable<'_, A>) -> bool
where
    A: Address,
    T: FamilyTables<A>,
{
    let begins = tracked.ip.proto != proto::TCP || tracked.transport.is_syn();
    begins && flow::is_answered(tables, Scope::Endpoint, tracked)
}

/// To a container of a network that is allowed, routed but not translated.
#[inline(always)]
fn to_allowed_network<A, P, T>(
    packet: &mut P,
    tables: &T,
    number: u16,
    parsed: &Parsed<A>,
) -> Result<Reason, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let ip = &parsed.ip;
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    if network.has(NetworkFlags::INTERNAL) {
        return Err(Reason::InternalNetwork);
    }
    let Some(endpoint) = tables.endpoint(ip.dst) else {
        return Ok(Reason::NetworksAllowed);
    };
    let len = match parsed.trackable() {
        Ok(tracked) => tracked.wire_len(packet),
        // It may be of a flow, and is held as it came.
        Err(NoTransport::Fragment) => u32::MAX,
        Err(_) => packet.len_bytes() - ip.offset,
    };
    let fits = len <= u32::from(network.mtu);
    if !fits || !deliver::may_skip_stack(ip) {
        return Ok(Reason::NetworksAllowed);
    }
    if !packet.make_writable(ip.payload_offset) {
        return Err(Reason::NoMemory);
    }
    A::rewrite(packet, ip, ip.src, ip.dst, ip.ttl - 1);
    let to = Redirect::to_container(&endpoint, network.bridge_mac);
    deliver::hand_over(packet, tables, &to);
    Ok(Reason::NetworksAllowed.redirected())
}

/// To a container of a network that is not allowed: only where that one is routed or unprotected.
#[inline(always)]
fn to_other_network<A, P, T>(
    packet: &P,
    tables: &T,
    port: &BridgePort,
    parsed: &Parsed<A>,
    other: u16,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let Ok(tracked) = &parsed.trackable() else {
        return Err(Reason::NetworksApart);
    };
    let Ok(server) = from_uplink::directly(tables, tracked, other, false) else {
        return Err(Reason::NetworksApart);
    };
    Ok(begin::between_containers(packet, tables, port, tracked, &server))
}

/// Out of the host, but only where the packet is translated on its way out.
#[inline(always)]
fn to_world<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    number: u16,
    network: &Network,
    parsed: &Parsed<A>,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    let len = parsed.trackable().map_or(0, |tracked| tracked.wire_len(packet));
    match tables.route(network.bridge_ifindex, &parsed.ip, len) {
        // A packet that the stack may refuse begins no flow before it leaves.
        Route::Uplink { ifindex, flags, fits: true, next_hop, .. }
            if network.has(NetworkFlags::FAST)
                && flags & UplinkFlags::ETHERNET != 0
                && deliver::is_for_gateway(packet, network)
                && deliver::may_skip_stack(&parsed.ip)
                // A container's address on another network is translated as that one's is: on the uplink.
                && tables.endpoint(parsed.ip.src).is_some_and(|sender| sender.network == number) =>
        {
            if prefix::has_prefix::<A>(network) {
                prefix::leave::<A, K, P>(packet, network, parsed, parsed.ip.ttl - 1)?;
                packet.redirect_out(ifindex, next_hop);
                return Ok(Some(Reason::PrefixTranslated.redirected()));
            }
            match parsed.trackable() {
                Ok(tracked) if tracked.transport.may_begin_flow(tables) => {
                    begin::to_world(tables, &tracked, number, ifindex, true)?;
                    Ok(None)
                }
                Ok(_) | Err(_) => Ok(Some(Reason::ContainerToOutside)),
            }
        }
        // Judged again, and translated, where it leaves.
        Route::Uplink { .. } | Route::Nowhere => Ok(Some(Reason::ContainerToOutside)),
        Route::Elsewhere => Err(Reason::NotAnUplink),
    }
}
