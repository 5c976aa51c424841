//! Published ports: which one a packet or a socket asks for.

use crate::{
    address::{Address, Port},
    config::ConfigFlags,
    header::proto,
    parse::Trackable,
    published::{PublishedFlags, PublishedPort, PublishedPortKey},
    tables::{FamilyTables, HOST_NETNS, Socket, SocketTuple},
};

/// Finds the published port behind an address that belongs to the host: at this address, or at every one.
///
/// The daemon lets no two published ports overlap, so the order of the look-ups decides nothing.
#[inline(always)]
pub fn find_published<A: Address, T: FamilyTables<A>>(
    tables: &T,
    addr: A,
    proto: u8,
    port: Port,
) -> Option<&PublishedPort<A>> {
    let mut key = PublishedPortKey { addr, port, proto, reserved: 0 };
    let ranges = tables.is_configured(ConfigFlags::RANGES_PUBLISHED);
    for _ in 0..2 {
        if let Some(published) = tables.published(&key) {
            return Some(published);
        }
        if ranges && let Some(published) = tables.published_range(&key) {
            return Some(published);
        }
        key.addr = A::unspecified();
    }
    None
}

/// The published port that a packet for an address of the host asks for.
#[inline(always)]
pub(super) fn asked_for<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
) -> Option<PublishedPort<A>> {
    let Trackable { ip, transport } = tracked;
    if !transport.may_begin_flow(tables) {
        return None;
    }
    let published = tables.find_published(&ip.dst, ip.proto, transport.dport)?;
    if published.flags & PublishedFlags::FOR_HOST != 0 {
        return None;
    }
    // The host may have a connection of its own on the port: one that it began, or that is older than
    // the published port.
    if !transport.is_syn() && host_socket(tables, tracked) == Some(Socket::Connected) {
        return None;
    }
    Some(published)
}

/// The published port of a container that is asked for by its own address: the daemon publishes it there
/// where the network is routed or trusts a device.
#[inline(always)]
pub(super) fn asked_for_directly<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
) -> Option<PublishedPort<A>> {
    let Trackable { ip, transport } = tracked;
    if !transport.may_begin_flow(tables) {
        return None;
    }
    let published = tables.find_published(&ip.dst, ip.proto, transport.dport)?;
    // Found on every address it may lead elsewhere: to another container, or to another port.
    let is_direct = published.addr == ip.dst && published.port == published.host_port;
    is_direct.then_some(published)
}

/// The socket of the host that takes the packet. Not inlined: its tuple has a frame of its own.
#[inline(never)]
pub(super) fn host_socket<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
) -> Option<Socket> {
    let Trackable { ip, transport } = tracked;
    if ip.proto == proto::SCTP {
        // Programs cannot look for SCTP's sockets.
        return None;
    }
    let tuple =
        SocketTuple { src: ip.src, dst: ip.dst, sport: transport.sport, dport: transport.dport };
    tables.socket(HOST_NETNS, ip.proto, &tuple)
}

/// The container's end of what the host sends to a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForHost<A> {
    /// The container's address.
    pub addr: A,
    /// The container's port.
    pub port: Port,
    /// The published port's slot.
    pub slot: u32,
}

/// Where a socket of the host that asks for (`addr`, `port`) is to be sent instead: the container
/// behind the published port, if the address is the host's own.
#[inline(always)]
pub fn published_for_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    addr: A,
    proto: u8,
    port: Port,
) -> Option<ForHost<A>> {
    // The kernel takes a connect to no address at all for one to the loopback address.
    let addr = if addr == A::UNSPECIFIED { A::loopback() } else { addr };
    if !addr.is_loopback() && !tables.is_host_address(addr) {
        return None;
    }
    let published = tables.find_published(&addr, proto, port)?;
    let port = published.container_port(port);
    Some(ForHost { addr: published.addr, port, slot: published.slot })
}
