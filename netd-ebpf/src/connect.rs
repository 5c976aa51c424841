//! The socket hooks: a connect of the host itself to a published port goes to the container at once.
//!
//! No packet is translated then: the socket's destination is, before the first packet is made. It holds
//! for `127.0.0.1`, `::1` and every address of the host, which is what curl on the host expects.

use aya_ebpf::{bindings::bpf_sock_addr, helpers::bpf_get_netns_cookie, programs::SockAddrContext};
use netd_common::{
    address::{Address, Port, V4, V6},
    engine::published_for_host,
    header::proto,
};

use crate::{maps::CONFIG, tables::KernelTables};

const TABLES: KernelTables = KernelTables::without_packet();

/// Lets the call go on; netd never refuses one.
const PROCEED: i32 = 1;

/// Whether this is a TCP socket of the host's own namespace.
#[inline(always)]
fn is_ours(ctx: &SockAddrContext) -> bool {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let addr = unsafe { &*ctx.sock_addr };
    if addr.protocol != u32::from(proto::TCP) {
        return false;
    }
    // SAFETY: the helper takes this program type's context.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    CONFIG.get(0).is_some_and(|config| config.netns_cookie == cookie)
}

/// Handles connect() of an IPv4 socket.
#[inline(always)]
pub(crate) fn connect_v4(ctx: &SockAddrContext) -> i32 {
    if !is_ours(ctx) {
        return PROCEED;
    }
    // SAFETY: as in `is_ours`; the context's fields may be written by programs of this type.
    let addr = unsafe { &mut *ctx.sock_addr };
    let target =
        published_for_host(&TABLES, V4::from_wire(addr.user_ip4), proto::TCP, port_of(addr));
    if let Some((container, port)) = target {
        addr.user_ip4 = container.to_wire();
        addr.user_port = u32::from(port.to_wire());
    }
    PROCEED
}

/// Handles connect() of an IPv6 socket. A container without IPv6 is reached by its mapped IPv4 address,
/// so that `[::1]:8080` works for it too.
#[inline(always)]
pub(crate) fn connect_v6(ctx: &SockAddrContext) -> i32 {
    if !is_ours(ctx) {
        return PROCEED;
    }
    // SAFETY: as in `is_ours`; the context's fields may be written by programs of this type.
    let addr = unsafe { &mut *ctx.sock_addr };
    let words = [addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]];
    let (asked, port) = (V6::from_wire(words), port_of(addr));
    if let Some((container, port)) = published_for_host(&TABLES, asked, proto::TCP, port) {
        redirect_v6(addr, container.to_wire(), port);
    } else if let Some((container, port)) = published_on_every_address(asked, port) {
        redirect_v6(addr, container.to_mapped_wire(), port);
    }
    PROCEED
}

/// A port that is published on every address, of a container that has IPv4 only.
#[inline(always)]
fn published_on_every_address(asked: V6, port: Port) -> Option<(V4, Port)> {
    use netd_common::tables::FamilyTables;

    if let Some(mapped) = asked.to_mapped_v4() {
        return published_for_host(&TABLES, mapped, proto::TCP, port);
    }
    if !asked.is_loopback() && asked != V6::UNSPECIFIED && !TABLES.is_host_address(asked) {
        return None;
    }
    netd_common::engine::published_on_every_address(&TABLES, proto::TCP, port)
}

#[inline(always)]
fn port_of(addr: &bpf_sock_addr) -> Port {
    Port::from_wire(addr.user_port as u16)
}

#[inline(always)]
fn redirect_v6(addr: &mut bpf_sock_addr, words: [u32; 4], port: Port) {
    addr.user_ip6[0] = words[0];
    addr.user_ip6[1] = words[1];
    addr.user_ip6[2] = words[2];
    addr.user_ip6[3] = words[3];
    addr.user_port = u32::from(port.to_wire());
}
