//! The socket hooks: what the host itself sends to a published port goes to the container at once.
//!
//! No packet is translated then: the socket's destination is, before a packet is made. It holds for
//! `127.0.0.1`, `::1` and every address of the host, which is what curl on the host expects. What the socket
//! has asked for is remembered, and shown wherever the kernel would show the container.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use netd_common::{
    address::{Address as _, Port, V4, V6},
    engine::{ForHost, published_for_host},
    header::proto,
    socket::{Asked, AskedKey},
    tables::Tables as _,
};

use crate::{
    maps::{ASKED, CONFIG},
    tables::KernelTables,
};

pub(crate) const TABLES: KernelTables = KernelTables::without_packet();

/// Lets the call go on; netd never refuses one.
pub(crate) const PROCEED: i32 = 1;

/// Handles connect() of an IPv4 socket.
#[inline(always)]
pub(crate) fn connect_v4(ctx: &SockAddrContext) -> i32 {
    send_v4(ctx, |_| false)
}

/// Handles connect() of an IPv6 socket. A container without IPv6 is reached by its mapped IPv4 address,
/// so that `[::1]:8080` works for it too.
#[inline(always)]
pub(crate) fn connect_v6(ctx: &SockAddrContext) -> i32 {
    send_v6::<true>(ctx)
}

/// Handles a datagram with an address, of a socket that is not connected.
#[inline(always)]
pub(crate) fn sendmsg_v4(ctx: &SockAddrContext) -> i32 {
    // The datagram may have a source of its own.
    send_v4(ctx, |addr| is_loopback_v4(addr.msg_src_ip4))
}

/// The same for IPv6. The kernel takes no mapped address here (ENOTSUPP): for a container without IPv6 the
/// datagram goes to the loopback address, and so to the proxy.
#[inline(always)]
pub(crate) fn sendmsg_v6(ctx: &SockAddrContext) -> i32 {
    send_v6::<false>(ctx)
}

/// Handles a received datagram whose sender is shown.
#[inline(always)]
pub(crate) fn recvmsg_v4(ctx: &SockAddrContext) -> i32 {
    show_v4(ctx)
}

/// The same for IPv6 sockets.
#[inline(always)]
pub(crate) fn recvmsg_v6(ctx: &SockAddrContext) -> i32 {
    show_v6(ctx)
}

/// Handles getpeername().
#[inline(always)]
pub(crate) fn getpeername_v4(ctx: &SockAddrContext) -> i32 {
    show_v4(ctx)
}

/// The same for IPv6 sockets.
#[inline(always)]
pub(crate) fn getpeername_v6(ctx: &SockAddrContext) -> i32 {
    show_v6(ctx)
}

#[inline(always)]
fn send_v4(ctx: &SockAddrContext, has_loopback_source: impl Fn(&bpf_sock_addr) -> bool) -> i32 {
    let addr = context(ctx);
    let Some(protocol) = protocol(addr) else { return PROCEED };
    let (asked, port) = (V4::from_wire(addr.user_ip4), port_of(addr));
    if !is_ours(ctx) || has_loopback_source(addr) || is_bound_to_loopback_v4(addr) {
        return PROCEED;
    }
    if let Some(container) = published_v4(asked, protocol, port) {
        let (peer, asked) = (container.addr.to_mapped_wire(), asked.to_mapped_wire());
        remember(ctx, (peer, container.port), (asked, port), container.slot);
        addr.user_ip4 = container.addr.to_wire();
        addr.user_port = u32::from(container.port.to_wire());
    }
    PROCEED
}

#[inline(always)]
fn send_v6<const TAKES_MAPPED: bool>(ctx: &SockAddrContext) -> i32 {
    let addr = context(ctx);
    let Some(protocol) = protocol(addr) else { return PROCEED };
    let asked = [addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]];
    let port = port_of(addr);
    if !is_ours(ctx) || is_bound_to_loopback_v6(addr) {
        return PROCEED;
    }
    let (peer, port_there, slot) = match find_v6(V6::from_wire(asked), protocol, port) {
        Some(Container::V6(container)) => {
            (container.addr.to_wire(), container.port, container.slot)
        }
        Some(Container::V4(container)) if TAKES_MAPPED && !has_own_v6(addr) => {
            (container.addr.to_mapped_wire(), container.port, container.slot)
        }
        Some(Container::V4(container)) if is_led_from_loopback(protocol, port, container.slot) => {
            (V6::loopback().to_wire(), port, container.slot)
        }
        Some(Container::V4(_)) | None => return PROCEED,
    };
    remember(ctx, (peer, port_there), (asked, port), slot);
    set_v6(addr, peer, port_there);
    PROCEED
}

/// The container behind a published port that somebody on the host asks for.
#[inline(always)]
pub(crate) fn published_v4(asked: V4, protocol: u8, port: Port) -> Option<ForHost<V4>> {
    published_for_host(&TABLES, asked, protocol, port)
}

/// A container that is asked for by an IPv6 address.
pub(crate) enum Container {
    V4(ForHost<V4>),
    V6(ForHost<V6>),
}

/// The container that is asked for by an IPv6 address, or by an IPv4 address in one.
#[inline(always)]
pub(crate) fn find_v6(asked: V6, protocol: u8, port: Port) -> Option<Container> {
    if let Some(mapped) = asked.to_mapped_v4() {
        return published_v4(mapped, protocol, port).map(Container::V4);
    }
    let container = published_for_host(&TABLES, asked, protocol, port)?;
    Some(match container.addr.to_mapped_v4() {
        Some(addr) => Container::V4(ForHost { addr, port: container.port, slot: container.slot }),
        None => Container::V6(container),
    })
}

/// Whether the proxy, which sees no other address, would lead to the same published port.
#[inline(always)]
fn is_led_from_loopback(protocol: u8, port: Port, slot: u32) -> bool {
    let container = published_for_host(&TABLES, V6::loopback(), protocol, port);
    container.is_some_and(|container| container.slot == slot)
}

/// Remembers what a socket has asked for, and counts what begins.
#[inline(always)]
fn remember(ctx: &SockAddrContext, peer: ([u32; 4], Port), asked: ([u32; 4], Port), slot: u32) {
    let key = key(ctx, peer);
    let asked = Asked { addr: asked.0, port: asked.1, reserved: 0 };
    if ASKED.get_ptr(key).is_none() {
        TABLES.count_flow(slot);
    }
    // A full map gives up what has not been used for longest; the socket then sees the container.
    let _ = ASKED.insert(key, asked, 0);
}

#[inline(always)]
fn show_v4(ctx: &SockAddrContext) -> i32 {
    // Containers' sockets do not pay for the look-up.
    if !is_ours(ctx) {
        return PROCEED;
    }
    let addr = context(ctx);
    let peer = (V4::from_wire(addr.user_ip4).to_mapped_wire(), port_of(addr));
    if let Some(asked) = asked(ctx, peer) {
        addr.user_ip4 = asked.addr[3];
        addr.user_port = u32::from(asked.port.to_wire());
    }
    PROCEED
}

#[inline(always)]
fn show_v6(ctx: &SockAddrContext) -> i32 {
    if !is_ours(ctx) {
        return PROCEED;
    }
    let addr = context(ctx);
    let peer = [addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]];
    if let Some(asked) = asked(ctx, (peer, port_of(addr))) {
        set_v6(addr, asked.addr, asked.port);
    }
    PROCEED
}

#[inline(always)]
fn asked(ctx: &SockAddrContext, peer: ([u32; 4], Port)) -> Option<Asked> {
    let asked = ASKED.get_ptr(key(ctx, peer))?;
    // SAFETY: the pointer is to an aligned element of the map.
    Some(unsafe { *asked })
}

#[inline(always)]
fn key(ctx: &SockAddrContext, (peer, port): ([u32; 4], Port)) -> AskedKey {
    // SAFETY: the helper takes this program type's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    AskedKey { cookie: [cookie as u32, (cookie >> 32) as u32], peer, port, reserved: 0 }
}

#[inline(always)]
pub(crate) fn context<'a>(ctx: &SockAddrContext) -> &'a mut bpf_sock_addr {
    // SAFETY: the kernel hands the program a valid context for as long as it runs, and lets programs of this type
    // write the fields that begin with `user_`.
    unsafe { &mut *ctx.sock_addr }
}

/// Whether this is a socket of the host's own namespace.
#[inline(always)]
pub(crate) fn is_ours(ctx: &SockAddrContext) -> bool {
    // SAFETY: the helper takes this program type's context.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    CONFIG.get(0).is_some_and(|config| config.netns_cookie == cookie)
}

/// The socket's protocol, where its ports can be published.
#[inline(always)]
pub(crate) fn protocol(addr: &bpf_sock_addr) -> Option<u8> {
    let protocol = addr.protocol;
    let is_known = protocol == u32::from(proto::TCP) || protocol == u32::from(proto::UDP);
    is_known.then_some(protocol as u8)
}

/// Whether the socket has a source that no container could answer.
#[inline(always)]
fn is_bound_to_loopback_v4(addr: &bpf_sock_addr) -> bool {
    // SAFETY: the context's socket is valid as long as the context is.
    let socket = unsafe { addr.__bindgen_anon_1.sk };
    // SAFETY: as above; none is a null pointer, which the verifier wants to be looked for.
    !socket.is_null() && is_loopback_v4(unsafe { (*socket).src_ip4 })
}

#[inline(always)]
fn is_bound_to_loopback_v6(addr: &bpf_sock_addr) -> bool {
    // SAFETY: the context's socket is valid as long as the context is.
    let socket = unsafe { addr.__bindgen_anon_1.sk };
    if socket.is_null() {
        return false;
    }
    // SAFETY: as above.
    let [a, b, c, d] = unsafe { (*socket).src_ip6 };
    let source = V6::from_wire([a, b, c, d]);
    source.is_loopback() || source.to_mapped_v4().is_some_and(|it| is_loopback_v4(it.to_wire()))
}

/// Whether the socket is bound to an IPv6 address, from which it cannot send to a mapped one.
#[inline(always)]
fn has_own_v6(addr: &bpf_sock_addr) -> bool {
    // SAFETY: the context's socket is valid as long as the context is.
    let socket = unsafe { addr.__bindgen_anon_1.sk };
    if socket.is_null() {
        return false;
    }
    // SAFETY: as above.
    let [a, b, c, d] = unsafe { (*socket).src_ip6 };
    let source = V6::from_wire([a, b, c, d]);
    source != V6::UNSPECIFIED && source.to_mapped_v4().is_none()
}

/// 127.0.0.0/8 (RFC 1122 section 3.2.1.3), in network order.
#[inline(always)]
fn is_loopback_v4(be: u32) -> bool {
    be & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be()
}

#[inline(always)]
pub(crate) fn port_of(addr: &bpf_sock_addr) -> Port {
    Port::from_wire(addr.user_port as u16)
}

#[inline(always)]
fn set_v6(addr: &mut bpf_sock_addr, words: [u32; 4], port: Port) {
    addr.user_ip6[0] = words[0];
    addr.user_ip6[1] = words[1];
    addr.user_ip6[2] = words[2];
    addr.user_ip6[3] = words[3];
    addr.user_port = u32::from(port.to_wire());
}
