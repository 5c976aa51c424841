//! Keeps the host's own programs off the ports that netd publishes, as a socket on each would: without a socket.

use aya_ebpf::{helpers::generated::bpf_set_retval, programs::SockAddrContext};
use netd_common::{
    address::{Address, Port, V4, V6},
    published::{PublishedFlags, kept_port},
    tables::FamilyTables,
};

use crate::{
    maps::KEPT_PORTS,
    sockets::{PROCEED, TABLES, context, is_ours, port_of, protocol},
    tables::KernelTables,
};

/// The kernel's error for a port that somebody else has.
const EADDRINUSE: i32 = 98;

/// Has the call fail, with what was set before.
const REFUSE: i32 = 0;

/// Handles bind() of an IPv4 socket.
#[inline(always)]
pub(crate) fn bind_v4(ctx: &SockAddrContext) -> i32 {
    let Some((protocol, port)) = asked_for_kept(ctx) else { return PROCEED };
    let asked = V4::from_wire(context(ctx).user_ip4);
    judge(asked == V4::UNSPECIFIED || is_kept(asked, protocol, port))
}

/// Handles bind() of an IPv6 socket. Where it takes every address it takes IPv4's too: whether it is told not to is
/// not known by then.
#[inline(always)]
pub(crate) fn bind_v6(ctx: &SockAddrContext) -> i32 {
    let Some((protocol, port)) = asked_for_kept(ctx) else { return PROCEED };
    let addr = context(ctx);
    let words = [addr.user_ip6[0], addr.user_ip6[1], addr.user_ip6[2], addr.user_ip6[3]];
    let asked = V6::from_wire(words);
    judge(match asked.to_mapped_v4() {
        Some(mapped) => mapped == V4::UNSPECIFIED || is_kept(mapped, protocol, port),
        None => asked == V6::UNSPECIFIED || is_kept(asked, protocol, port),
    })
}

/// The protocol and port that a socket of the host is to be bound to, where netd publishes it at some address.
#[inline(always)]
fn asked_for_kept(ctx: &SockAddrContext) -> Option<(u8, Port)> {
    let addr = context(ctx);
    let (protocol, port) = (protocol(addr)?, port_of(addr));
    let (word, bit) = kept_port(protocol, port.number())?;
    let is_kept = KEPT_PORTS.get(word).is_some_and(|bits| bits & bit != 0);
    (is_kept && is_ours(ctx)).then_some((protocol, port))
}

#[inline(always)]
fn is_kept<A: Address>(asked: A, protocol: u8, port: Port) -> bool
where
    KernelTables: FamilyTables<A>,
{
    let published = TABLES.find_published(&asked, protocol, port);
    published.is_some_and(|published| published.flags & PublishedFlags::KEPT != 0)
}

#[inline(always)]
fn judge(is_taken: bool) -> i32 {
    if !is_taken {
        return PROCEED;
    }
    // SAFETY: the helper takes a number, and programs of this type may call it.
    unsafe { bpf_set_retval(-EADDRINUSE) };
    REFUSE
}
