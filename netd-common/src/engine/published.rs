//! Published ports: which one a packet or a socket asks for.

use crate::{
    address::{Address, Port},
    config::ConfigFlags,
    published::{PublishedPort, PublishedPortKey},
    tables::FamilyTables,
};

/// Finds the published port behind an address that belongs to the host.
///
/// The daemon lets no two published ports overlap, so the order of the look-ups decides nothing. Not
/// inlined: its keys would take the callers' stack.
#[inline(never)]
pub(super) fn find<A: Address, T: FamilyTables<A>>(
    tables: &T,
    addr: A,
    proto: u8,
    port: Port,
) -> Option<PublishedPort<A>> {
    let mut key = PublishedPortKey { addr, port, proto, reserved: 0 };
    let ranges = tables.is_configured(ConfigFlags::RANGES_PUBLISHED);
    for _ in 0..2 {
        if let Some(published) = tables.published(&key) {
            return Some(*published);
        }
        if ranges && let Some(published) = tables.published_range(&key) {
            return Some(*published);
        }
        key.addr = A::unspecified();
    }
    None
}

/// Where a socket of the host that connects to (`addr`, `port`) is to be sent instead: the container
/// behind the published port, if the address is the host's own.
#[inline(always)]
pub fn published_for_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    addr: A,
    proto: u8,
    port: Port,
) -> Option<(A, Port)> {
    // The kernel takes a connect to no address at all for one to the loopback address.
    let addr = if addr == A::UNSPECIFIED { A::loopback() } else { addr };
    if !addr.is_loopback() && !tables.is_host_address(addr) {
        return None;
    }
    begin_at(tables, find(tables, addr, proto, port)?, port)
}

/// The same for a port that is published on every address, whichever one was asked for.
#[inline(always)]
pub fn published_on_every_address<A: Address, T: FamilyTables<A>>(
    tables: &T,
    proto: u8,
    port: Port,
) -> Option<(A, Port)> {
    begin_at(tables, find(tables, A::unspecified(), proto, port)?, port)
}

/// The container's end of a connection that the host begins, counted as the published port's.
#[inline(always)]
fn begin_at<A: Address, T: FamilyTables<A>>(
    tables: &T,
    published: PublishedPort<A>,
    port: Port,
) -> Option<(A, Port)> {
    tables.count_flow(published.slot);
    Some((published.addr, published.container_port(port)))
}
