//! Where a packet of a flow goes: past the host's stack if it can, else through it.
//!
//! A flow is redirected or not from its first packet on, but a single packet of a redirected flow takes
//! the stack where something has to be answered or done that only the stack does: it is out of hops, too
//! large, or carries options.

use crate::{
    address::Address,
    conntrack::{CtFlags, Redirect, Scope, Translation},
    engine::rewrite,
    header::ETHERNET_DESTINATION,
    network::{BridgePort, Network, UplinkFlags},
    packet::{NextHop, Packet},
    parse::{Ip, Trackable},
    reason::Reason,
    tables::{FamilyTables, Route, Tables},
};

/// Whether nothing about the packet needs the stack but, perhaps, its length.
#[inline(always)]
pub(super) fn may_skip_stack<A>(ip: &Ip<A>) -> bool {
    ip.ttl > 1 && !ip.has_options
}

/// Whether the frame is for the host to route, and not for a neighbour that may be a router too.
#[inline(always)]
pub(super) fn is_for_gateway<P: Packet>(packet: &P, network: &Network) -> bool {
    packet.load::<[u8; 6]>(ETHERNET_DESTINATION) == Some(network.bridge_mac)
}

/// Writes the link-layer addresses and hands the packet over to a container.
#[inline(always)]
pub(super) fn hand_over<P: Packet, T: Tables>(packet: &mut P, tables: &T, to: &Redirect) {
    packet.store(ETHERNET_DESTINATION, &to.macs);
    packet.redirect_peer(to.ifindex);
    tables.count_received(to.slot, packet.len_bytes());
}

/// From an uplink to a container, or to the stack translated.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn from_uplink<A, P, T>(
    packet: &mut P,
    tables: &T,
    tracked: &Trackable<'_, A>,
    to: &Translation<A>,
) -> Reason
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    // Without an Ethernet header there is no room for one.
    let is_redirected = to.redirect.is_some()
        && packet.network_offset() != 0
        && may_skip_stack(tracked.ip)
        && tracked.wire_len(packet) <= u32::from(to.mtu);
    let ttl = tracked.ip.ttl - u8::from(is_redirected);
    match rewrite::translate(packet, tables, Scope::Uplink, tracked, to, ttl) {
        Ok(reason) if is_redirected => {
            hand_over(packet, tables, &to.redirect);
            reason.redirected()
        }
        Ok(reason) | Err(reason) => reason,
    }
}

/// How a container's packet goes on.
enum Way<'a> {
    /// To another container.
    Container,
    /// Out of an uplink.
    Uplink { ifindex: u32, next_hop: &'a NextHop },
    /// To the stack, which answers with an ICMP error: it is given the packet as if it had been sent to
    /// the other container's own address, since it would not route one that comes from its own.
    Refused,
}

/// From a container, wherever its flow leads; `NotAnUplink` where the packet would leave untranslated.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn from_endpoint<A, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    tracked: &Trackable<'_, A>,
    to: &mut Translation<A>,
) -> Reason
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    match on_its_way(packet, tables, port, tracked, to) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn on_its_way<A, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    tracked: &Trackable<'_, A>,
    to: &mut Translation<A>,
) -> Result<Reason, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
    let Trackable { ip, transport } = tracked;
    let len = tracked.wire_len(packet);
    let way = if to.redirect.is_some() {
        if may_skip_stack(ip) && len <= u32::from(to.mtu) { Way::Container } else { Way::Refused }
    } else {
        match tables.route(network.bridge_ifindex, ip, len) {
            Route::Uplink { ifindex, flags, fits: true, next_hop }
                if to.flags & CtFlags::FAST != 0
                    && flags & UplinkFlags::ETHERNET != 0
                    && is_for_gateway(packet, network)
                    && may_skip_stack(ip) =>
            {
                Way::Uplink { ifindex, next_hop }
            }
            // Translated where it leaves.
            Route::Uplink { .. } | Route::Nowhere => return Ok(Reason::ContainerToOutside),
            Route::Elsewhere => return Err(Reason::NotAnUplink),
        }
    };
    let is_refused = matches!(way, Way::Refused);
    if is_refused {
        (to.src, to.sport) = (ip.src, transport.sport);
    }
    let ttl = ip.ttl - u8::from(!is_refused);
    let reason = rewrite::translate(packet, tables, Scope::Endpoint, tracked, to, ttl)?;
    match way {
        Way::Container => hand_over(packet, tables, &to.redirect),
        Way::Uplink { ifindex, next_hop } => packet.redirect_out(ifindex, next_hop),
        Way::Refused => {
            // A neighbour's reply is addressed to the neighbour; this one is the gateway's to answer.
            packet.store(ETHERNET_DESTINATION, &network.bridge_mac);
            return Ok(Reason::NotDeliverable);
        }
    }
    Ok(reason.redirected())
}
