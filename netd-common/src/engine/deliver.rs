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

/// What of a packet is translated when it goes on.
pub(super) trait Translate<A: Address> {
    /// The packet's own IP header.
    fn ip(&self) -> &Ip<A>;
    /// The length of the largest IP packet that a device will make of it. Units: bytes.
    fn wire_len<P: Packet>(&self, packet: &P) -> u32;
    /// Makes a translation leave the source's address as it is, for the stack to answer to.
    fn keep_source(&self, to: &mut Translation<A>);
    /// Up to where the packet has to be writable.
    fn written_len<P: Packet>(&self, packet: &P) -> u32;
    /// Translates what is writable, leaves it `ttl` hops, and says what it was.
    fn translate<P: Packet, T: FamilyTables<A>>(
        &self,
        packet: &mut P,
        tables: &T,
        scope: Scope,
        to: &Translation<A>,
        ttl: u8,
    ) -> Reason;
}

impl<A: Address> Translate<A> for Trackable<'_, A> {
    #[inline(always)]
    fn ip(&self) -> &Ip<A> {
        self.ip
    }

    #[inline(always)]
    fn wire_len<P: Packet>(&self, packet: &P) -> u32 {
        Trackable::wire_len(self, packet)
    }

    /// The ports stay the other end's, so that what the answer quotes tells which flow it is about
    /// (`icmp_error.rs`).
    #[inline(always)]
    fn keep_source(&self, to: &mut Translation<A>) {
        to.src = self.ip.src;
        if to.flags & CtFlags::REPLY != 0 {
            (to.sport, to.dport) = (self.transport.sport, self.transport.dport);
        }
    }

    #[inline(always)]
    fn written_len<P: Packet>(&self, packet: &P) -> u32 {
        (self.transport.offset + rewrite::WRITTEN_LEN).min(packet.len_bytes())
    }

    #[inline(always)]
    fn translate<P: Packet, T: FamilyTables<A>>(
        &self,
        packet: &mut P,
        tables: &T,
        scope: Scope,
        to: &Translation<A>,
        ttl: u8,
    ) -> Reason {
        rewrite::translate(packet, tables, scope, self, to, ttl)
    }
}

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
#[inline(always)]
pub(super) fn from_uplink<A, M, P, T>(
    packet: &mut P,
    tables: &T,
    moved: &M,
    to: &Translation<A>,
) -> Reason
where
    A: Address,
    M: Translate<A>,
    P: Packet,
    T: FamilyTables<A>,
{
    // Without an Ethernet header there is no room for one.
    let is_redirected = to.redirect.is_some()
        && packet.network_offset() != 0
        && may_skip_stack(moved.ip())
        && moved.wire_len(packet) <= u32::from(to.mtu);
    if !packet.make_writable(moved.written_len(packet)) {
        return Reason::NoMemory;
    }
    if is_redirected {
        hand_over(packet, tables, &to.redirect);
    }
    let ttl = moved.ip().ttl - u8::from(is_redirected);
    let reason = moved.translate(packet, tables, Scope::Uplink, to, ttl);
    if is_redirected { reason.redirected() } else { reason }
}

/// On the way that the stack has chosen.
#[inline(always)]
pub(super) fn from_host<A, M, P, T>(
    packet: &mut P,
    tables: &T,
    moved: &M,
    to: &Translation<A>,
) -> Reason
where
    A: Address,
    M: Translate<A>,
    P: Packet,
    T: FamilyTables<A>,
{
    if !packet.make_writable(moved.written_len(packet)) {
        return Reason::NoMemory;
    }
    moved.translate(packet, tables, Scope::Endpoint, to, moved.ip().ttl)
}

/// How a container's packet goes on.
enum Way<'a> {
    /// To another container.
    Container,
    /// Out of an uplink.
    Uplink { ifindex: u32, next_hop: &'a NextHop },
    /// To the stack. The flow is the host's own; or it leads to another container, and the stack answers with an
    /// ICMP error: it is given the packet as if it had been sent to that one's own address, since it would not
    /// route one that comes from its own.
    Stack,
}

/// From a container, wherever its flow leads; `NotAnUplink` where the packet would leave untranslated.
#[inline(always)]
pub(super) fn from_endpoint<A, M, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    moved: &M,
    to: &mut Translation<A>,
) -> Reason
where
    A: Address,
    M: Translate<A>,
    P: Packet,
    T: FamilyTables<A>,
{
    match on_its_way(packet, tables, port, moved, to) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn on_its_way<A, M, P, T>(
    packet: &mut P,
    tables: &T,
    port: &BridgePort,
    moved: &M,
    to: &mut Translation<A>,
) -> Result<Reason, Reason>
where
    A: Address,
    M: Translate<A>,
    P: Packet,
    T: FamilyTables<A>,
{
    let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
    let ip = moved.ip();
    let len = moved.wire_len(packet);
    let way = if to.redirect.is_some() {
        if may_skip_stack(ip) && len <= u32::from(to.mtu) { Way::Container } else { Way::Stack }
    } else if to.flags & CtFlags::OF_HOST != 0 {
        Way::Stack
    } else {
        match tables.route(network.bridge_ifindex, ip, len) {
            Route::Uplink { ifindex, flags, fits: true, next_hop, .. }
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
    if !packet.make_writable(moved.written_len(packet)) {
        return Err(Reason::NoMemory);
    }
    // The way first: the verifier would walk the translation once for each.
    let is_redirected = !matches!(way, Way::Stack);
    match way {
        Way::Container => hand_over(packet, tables, &to.redirect),
        Way::Uplink { ifindex, next_hop } => packet.redirect_out(ifindex, next_hop),
        Way::Stack => {
            if to.redirect.is_some() {
                moved.keep_source(to);
            }
            // A neighbour's reply is addressed to the neighbour; this one is the gateway's to answer.
            packet.store(ETHERNET_DESTINATION, &network.bridge_mac);
        }
    }
    let ttl = ip.ttl - u8::from(is_redirected);
    let reason = moved.translate(packet, tables, Scope::Endpoint, to, ttl);
    Ok(if is_redirected {
        reason.redirected()
    } else if to.redirect.is_some() {
        Reason::NotDeliverable
    } else {
        reason
    })
}
