//! Flows that begin: what their packets become, and where they are redirected to.

use core::hint::black_box;

use crate::{
    address::{Address, Port},
    conntrack::{CtEntry, CtFlags, Redirect, Scope},
    header::ETHERNET_SOURCE,
    network::{BridgePort, Endpoint, FamilyFlags, Network, NetworkFlags},
    packet::Packet,
    parse::Trackable,
    published::PublishedPort,
    reason::Reason,
    tables::{FamilyTables, HOST_NETNS},
};

/// The container that a flow is to reach.
#[derive(Clone, Copy)]
pub(super) struct Server<A> {
    addr: A,
    port: Port,
    /// Where the flow is counted.
    slot: u32,
    endpoint_slot: u32,
    /// The number of its network.
    network: u16,
    /// `DNAT`, `MAPPED`, or nothing where the client knows the container's own address.
    flags: u16,
}

impl<A: Address> Server<A> {
    /// Behind a published port.
    #[inline(always)]
    pub(super) fn published(published: &PublishedPort<A>, tracked: &Trackable<'_, A>) -> Self {
        Self {
            addr: published.addr,
            port: published.container_port(tracked.transport.dport),
            slot: published.slot,
            endpoint_slot: published.endpoint_slot,
            network: published.network,
            flags: CtFlags::DNAT,
        }
    }

    /// Behind a mapping, by its reply half.
    #[inline(always)]
    pub(super) fn mapped(mapping: &CtEntry<A>) -> Self {
        Self {
            addr: mapping.new_dst,
            port: mapping.new_dport,
            slot: mapping.slot,
            endpoint_slot: mapping.endpoint_slot,
            network: mapping.network,
            flags: CtFlags::MAPPED,
        }
    }

    /// Asked for by its own address.
    #[inline(always)]
    pub(super) fn direct<T: FamilyTables<A>>(
        tables: &T,
        tracked: &Trackable<'_, A>,
        network: u16,
    ) -> Self {
        let Trackable { ip, transport } = tracked;
        let slot = tables.endpoint(ip.dst).map_or(0, |endpoint| endpoint.slot);
        Self { addr: ip.dst, port: transport.dport, slot, endpoint_slot: slot, network, flags: 0 }
    }
}

/// Where a container's packets are redirected to, if its network's new flows are.
#[inline(always)]
fn to_container(network: &Network, endpoint: Option<Endpoint>, is_possible: bool) -> Redirect {
    match endpoint {
        Some(endpoint) if is_possible && network.has(NetworkFlags::FAST) => {
            Redirect::to_container(&endpoint, network.bridge_mac)
        }
        Some(_) | None => Redirect::none(),
    }
}

#[inline(always)]
fn fast(redirect: &Redirect) -> u16 {
    if redirect.is_some() { CtFlags::FAST } else { 0 }
}

/// `ENDPOINT_INDEPENDENT` if the network has its new flows' source ports given so.
#[inline(always)]
fn mapped(network: &Network, flags: u16) -> u16 {
    if flags & CtFlags::SNAT != 0 && network.has(NetworkFlags::ENDPOINT_INDEPENDENT) {
        CtFlags::ENDPOINT_INDEPENDENT
    } else {
        0
    }
}

/// From outside to a container (walk W1), past the stack where that is possible.
///
/// # Errors
/// `SpoofedSource` where it claims to be the host: the stack, which knows better, may never see it.
/// `UnknownPort` where the container's network has gone.
#[inline(always)]
pub(super) fn from_outside<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    server: &Server<A>,
    may_redirect: bool,
) -> Result<(), Reason> {
    if tables.is_host_address(tracked.ip.src) {
        return Err(Reason::SpoofedSource);
    }
    let network = tables.network(server.network).ok_or(Reason::UnknownPort)?;
    let redirect = to_container(network, tables.endpoint(server.addr), may_redirect);
    tables.describe_flow(|new| {
        new.key = tracked.key(Scope::Uplink);
        new.new_src = tracked.ip.src;
        new.new_dst = server.addr;
        new.new_dport = server.port;
        new.flags = server.flags | fast(&redirect);
        new.reply_scope = Scope::Endpoint as u8;
        new.slot = server.slot;
        new.endpoint_slot = server.endpoint_slot;
        new.network = server.network;
        new.client = HOST_NETNS;
        new.seen = tracked.transport.seen;
        new.wanted = tracked.transport.sport;
        new.original = redirect;
        new.original_mtu = network.mtu;
        new.reply = Redirect::none();
        new.reply_mtu = 0;
    });
    Ok(())
}

/// From a container to the world (walk W3), by an uplink with or without Ethernet header.
///
/// # Errors
/// `NoMasqueradeAddress`.
#[inline(always)]
pub(super) fn to_world<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    number: u16,
    uplink: u32,
    has_ethernet: bool,
) -> Result<(), Reason> {
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    let side = A::side(network);
    let (new_src, flags) = if side.has(FamilyFlags::MASQUERADE) {
        let source = if side.snat_source == A::UNSPECIFIED {
            tables.masquerade_source(uplink, tracked.ip.dst).ok_or(Reason::NoMasqueradeAddress)?
        } else {
            side.snat_source
        };
        (source, CtFlags::SNAT)
    } else {
        // Tracked all the same: the entry is what lets the replies in.
        (tracked.ip.src, 0)
    };
    let endpoint = tables.endpoint(tracked.ip.src);
    let slot = endpoint.map_or(0, |endpoint| endpoint.slot);
    let flags = flags | mapped(network, flags);
    let redirect = to_container(network, endpoint, has_ethernet);
    tables.describe_flow(|new| {
        new.key = tracked.key(Scope::Endpoint);
        new.new_src = new_src;
        new.new_dst = tracked.ip.dst;
        new.new_dport = tracked.transport.dport;
        new.flags = flags | fast(&redirect);
        new.reply_scope = Scope::Uplink as u8;
        new.slot = slot;
        new.endpoint_slot = slot;
        new.network = number;
        new.client = HOST_NETNS;
        new.seen = tracked.transport.seen;
        new.wanted = tracked.transport.sport;
        new.original = Redirect::none();
        new.original_mtu = 0;
        new.reply = redirect;
        new.reply_mtu = network.mtu;
    });
    Ok(())
}

/// A flow of the host's own.
#[derive(Clone, Copy)]
pub(super) enum HostFlow {
    /// From it, by an uplink ([`super::from_host`]).
    ToWorld,
    /// To it, at a bridge's address, so that its answers are known for that.
    FromWorld,
    /// From it to a container ([`super::from_host`]).
    ToContainer,
}

impl HostFlow {
    /// Where its packets are seen.
    #[inline(always)]
    const fn scope(self) -> Scope {
        match self {
            Self::ToWorld | Self::ToContainer => Scope::Endpoint,
            Self::FromWorld => Scope::Uplink,
        }
    }

    /// Where its replies are seen.
    #[inline(always)]
    pub(super) const fn reply_scope(self) -> Scope {
        match self {
            Self::ToWorld => Scope::Uplink,
            Self::FromWorld | Self::ToContainer => Scope::Endpoint,
        }
    }
}

/// Of the host itself. With `SNAT` in `flags` it may get another source port.
#[inline(always)]
pub(super) fn of_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    flow: HostFlow,
    flags: u16,
) {
    let of_host = if matches!(flow, HostFlow::ToContainer) { CtFlags::OF_HOST } else { 0 };
    tables.describe_flow(|new| {
        new.key = tracked.key(flow.scope());
        new.new_src = tracked.ip.src;
        new.new_dst = tracked.ip.dst;
        new.new_dport = tracked.transport.dport;
        new.flags = flags | of_host;
        new.reply_scope = flow.reply_scope() as u8;
        // Nobody's: it is no container's flow.
        new.slot = 0;
        new.endpoint_slot = 0;
        new.network = 0;
        new.client = HOST_NETNS;
        new.seen = tracked.transport.seen;
        new.wanted = tracked.transport.sport;
        new.original = Redirect::none();
        new.original_mtu = 0;
        new.reply = Redirect::none();
        new.reply_mtu = 0;
    });
}

/// From one container to another, or to itself (walks W6 to W8): redirected whatever the data path, since
/// the stack would take a packet from its own address for a forged one. Says why it may not begin:
/// `UnknownPort` where the other container has gone, `IccOff` or `NoMasqueradeAddress`.
///
/// Not inlined: a stack frame of its own.
#[inline(never)]
pub(super) fn between_containers<A, P, T>(
    packet: &P,
    tables: &T,
    port: &BridgePort,
    tracked: &Trackable<'_, A>,
    server: &Server<A>,
) -> Option<Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    describe_between(packet, tables, port, tracked, server).err()
}

#[inline(always)]
fn describe_between<A, P, T>(
    packet: &P,
    tables: &T,
    port: &BridgePort,
    tracked: &Trackable<'_, A>,
    server: &Server<A>,
) -> Result<(), Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let own = tables.network(port.network).ok_or(Reason::UnknownPort)?;
    let other = tables.network(server.network).ok_or(Reason::UnknownPort)?;
    let endpoint = tables.endpoint(server.addr).ok_or(Reason::UnknownPort)?;
    let is_itself = endpoint.ifindex == packet.ifindex() || server.addr == tracked.ip.src;
    let is_neighbour = server.network == port.network;
    let is_direct = server.flags == 0;
    if !is_direct && is_neighbour && !is_itself && own.has(NetworkFlags::ICC_STRICT) {
        return Err(Reason::IccOff);
    }
    // The client may use an address that nobody has given it, so it is known by where it sends from.
    let client = Endpoint {
        ifindex: packet.ifindex(),
        mac: packet.load(ETHERNET_SOURCE).ok_or(Reason::Malformed)?,
        slot: port.slot,
        network: port.network,
        sandbox: port.sandbox,
    };
    let (side, bridge_addr) = (A::side(own), &A::side(other).bridge_addr);
    let is_mapped = server.flags & CtFlags::MAPPED != 0
        && (server.addr != tracked.ip.src || server.port != tracked.transport.sport)
        && side.has(FamilyFlags::MASQUERADE);
    // Lent: an IPv6 address would take much of the stack.
    let new_src = if is_mapped && side.snat_source == A::UNSPECIFIED {
        // As the world would see it (RFC 4787 REQ-9a).
        &tracked.ip.dst
    } else if is_mapped {
        &side.snat_source
    } else if is_itself {
        // It would take its own address as a source for a forged one.
        bridge_addr
    } else if is_neighbour || !side.has(FamilyFlags::MASQUERADE) {
        &tracked.ip.src
    } else if side.snat_source != A::UNSPECIFIED {
        &side.snat_source
    } else {
        bridge_addr
    };
    let mut result = Ok(());
    tables.describe_flow(|new| {
        new.new_src = *new_src;
        new.flags = if is_mapped { CtFlags::MAPPED } else { 0 };
        // Read back as unknown: the verifier would walk what follows once for each source.
        let new = black_box(new);
        if new.new_src == A::UNSPECIFIED {
            result = Err(Reason::NoMasqueradeAddress);
            return;
        }
        let snat = if new.new_src == tracked.ip.src { 0 } else { CtFlags::SNAT };
        let mapped = if new.flags != 0 { mapped(own, snat) } else { 0 };
        new.key = tracked.key(Scope::Endpoint);
        new.new_dst = server.addr;
        new.new_dport = server.port;
        new.flags = server.flags | snat | mapped;
        new.reply_scope = Scope::Endpoint as u8;
        new.slot = server.slot;
        // The flow ends with the client; with the server its published ports end, and so does the slot.
        new.endpoint_slot = port.slot;
        new.network = server.network;
        // Who asks for the container's own address has the socket that would be found there.
        new.client = if snat == 0 && !is_direct { port.sandbox } else { HOST_NETNS };
        new.seen = tracked.transport.seen;
        new.wanted = tracked.transport.sport;
        new.original = Redirect::to_container(&endpoint, other.bridge_mac);
        new.original_mtu = other.mtu;
        new.reply = Redirect::to_container(&client, own.bridge_mac);
        new.reply_mtu = own.mtu;
    });
    result
}
