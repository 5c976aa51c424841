//! What reaches a published port from the host itself: from sockets that the socket hooks cannot send elsewhere.
//!
//! Those are bound to a loopback address, which no container could answer, or send single IPv6 datagrams to a
//! container that has IPv4 only, or belong to processes that the hooks do not see. They come to the proxy, whoever
//! else listens on the port.

use aya_ebpf::{
    bindings::{bpf_sk_lookup, sk_action::SK_PASS},
    programs::SkLookupContext,
};
use netd_common::{
    address::{Address as _, Port, V4, V6},
    header::proto,
    socket::ProxySocket,
    tables::FamilyTables as _,
};

use crate::{
    maps::PROXY_SOCKETS,
    sockets::{self, TABLES, published_v4},
};

/// The loopback device of every network namespace (the kernel's LOOPBACK_IFINDEX).
const LOOPBACK_IFINDEX: u32 = 1;

/// `AF_INET`.
const AF_INET: u32 = 2;

/// Goes on with the kernel's own look-up, or with the proxy's socket.
#[inline(always)]
pub(crate) fn to_socket(ctx: &SkLookupContext) -> u32 {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let lookup = unsafe { &*ctx.lookup };
    if let Some(socket) = proxy_socket(lookup) {
        // A proxy that is not there leaves everything as it would be without netd.
        let _ = PROXY_SOCKETS.redirect_sk_lookup(ctx, socket as u32, 0);
    }
    SK_PASS
}

/// Whether the host sends to itself. Its packets come by the loopback device, for which the kernel names the one that
/// has the address in IPv4 (`inet_iif`): there it takes no packet from elsewhere with a source of its own.
#[inline(always)]
fn is_own_v4(remote: V4) -> bool {
    remote.is_loopback() || TABLES.is_host_address(remote)
}

/// The same for IPv6, where anybody on a link could send from an address of the host's, but for the loopback address.
#[inline(always)]
fn is_own_v6(lookup: &bpf_sk_lookup, remote: V6) -> bool {
    remote.is_loopback() || lookup.ingress_ifindex == LOOPBACK_IFINDEX
}

#[inline(always)]
fn proxy_socket(lookup: &bpf_sk_lookup) -> Option<ProxySocket> {
    let protocol = lookup.protocol as u8;
    let port = Port::new(lookup.local_port as u16);
    let is_tcp = protocol == proto::TCP;
    if lookup.family == AF_INET {
        if !is_own_v4(V4::from_wire(lookup.remote_ip4)) {
            return None;
        }
        published_v4(V4::from_wire(lookup.local_ip4), protocol, port)?;
        return Some(if is_tcp { ProxySocket::TcpV4 } else { ProxySocket::UdpV4 });
    }
    let [a, b, c, d] = lookup.remote_ip6;
    if !is_own_v6(lookup, V6::from_wire([a, b, c, d])) {
        return None;
    }
    let [a, b, c, d] = lookup.local_ip6;
    sockets::find_v6(V6::from_wire([a, b, c, d]), protocol, port)?;
    Some(if is_tcp { ProxySocket::TcpV6 } else { ProxySocket::UdpV6 })
}
