//! netd's eBPF programs: entry points only. The engine in `netd-common` decides; the files here give it
//! the kernel's packet and the kernel's maps.
//!
//! All directions are seen from the host: `from_uplink` is what the host receives from outside.
#![no_std]
#![no_main]
// The BPF target has no atomic addition in `core`; `atomic.rs` writes the instruction itself.
#![feature(asm_experimental_arch)]

mod atomic;
mod bind;
mod expire;
mod fragments;
mod frame;
mod inherit;
mod lookup;
mod maps;
mod packet;
mod repeat;
mod route;
mod sockets;
mod steps;
mod tables;
mod verdict;
mod words;

use core::arch::asm;

use aya_ebpf::{
    bindings::{bpf_func_id::BPF_FUNC_tail_call, xdp_action::XDP_PASS},
    macros::{cgroup_sock_addr, classifier, sk_lookup, xdp},
    programs::{SkLookupContext, SockAddrContext, TcContext, XdpContext},
};
use netd_common::{
    address::{V4, V6},
    engine::{self, Outcome, Part},
    header::ETHERNET_LEN,
    names::Hook,
    parse::{Common, Rare},
    reason::Reason,
};

use crate::{
    frame::XdpFrame,
    maps::{PROGRAMS, SUCCESSORS},
    packet::SkbPacket,
    tables::KernelTables,
    verdict::{conclude, conclude_frame},
};

/// Receives on an uplink with Ethernet header, in its driver. Frames of several buffers are taken, so that
/// a device keeps its large MTU.
#[xdp(frags)]
pub(crate) fn from_wire(ctx: XdpContext) -> u32 {
    match XdpFrame::new(&ctx) {
        Some(frame) => {
            conclude_frame(&ctx, &frame, engine::from_wire(&frame, &KernelTables::without_packet()))
        }
        None => XDP_PASS,
    }
}

/// A hook's programs: the one that its device carries, which judges plain IPv4 packets, and those that it
/// hands other packets over to. All stand in `names::PARTS`, behind those of the hooks before.
macro_rules! hook {
    ($(#[doc = $doc:literal])+ $place:literal: $v4:ident, $v6:ident, $rare_v4:ident, $rare_v6:ident,
     $hook:ident, $offset:expr, $judge:ident) => {
        hook! { @program $(#[doc = $doc])+ $v4: Common<V4>, $place, $hook, $offset, $judge }
        hook! { @program #[doc = "The same for IPv6."] $v6: Common<V6>, $place, $hook, $offset, $judge }
        hook! {
            @program #[doc = "The same for rare packets."]
            $rare_v4: Rare<V4>, $place, $hook, $offset, $judge
        }
        hook! {
            @program #[doc = "The same for rare packets of IPv6."]
            $rare_v6: Rare<V6>, $place, $hook, $offset, $judge
        }
    };
    (@program $(#[doc = $doc:literal])+ $name:ident: $kind:ty, $place:literal, $hook:ident,
     $offset:expr, $judge:ident) => {
        $(#[doc = $doc])+
        #[classifier]
        pub(crate) fn $name(ctx: TcContext) -> i32 {
            let mut packet = SkbPacket::new::<$kind>(ctx.skb.skb, $offset);
            let tables = KernelTables::new(ctx.skb.skb);
            let reason = match engine::$judge::<$kind, _, _>(&mut packet, &tables) {
                Outcome::Judged(reason) => return conclude(&ctx, Hook::$hook, reason),
                Outcome::Elsewhere(part) => {
                    hand_over::<$place>(&ctx, part);
                    Reason::NoProgram
                }
                Outcome::Again => {
                    hand_over::<$place>(&ctx, Part::judging::<$kind>());
                    engine::give_up::<$kind, _>(&tables);
                    Reason::NoProgram
                }
                Outcome::Successors(reason) => {
                    hand_down::<$place>(&ctx);
                    reason
                }
            };
            conclude(&ctx, Hook::$hook, reason)
        }
    };
}

hook! {
    /// Receives on an uplink with Ethernet header.
    0: from_uplink, from_uplink_v6, from_uplink_rare_v4, from_uplink_rare_v6, FromUplink, ETHERNET_LEN, from_uplink
}

hook! {
    /// Sends on an uplink with Ethernet header.
    1: to_uplink, to_uplink_v6, to_uplink_rare_v4, to_uplink_rare_v6, ToUplink, ETHERNET_LEN, to_uplink
}

hook! {
    /// Receives on an uplink without link-layer header: a tun device for one.
    2: from_uplink_l3, from_uplink_l3_v6, from_uplink_l3_rare_v4, from_uplink_l3_rare_v6, FromUplink, 0, from_uplink
}

hook! {
    /// Sends on an uplink without link-layer header.
    3: to_uplink_l3, to_uplink_l3_v6, to_uplink_l3_rare_v4, to_uplink_l3_rare_v6, ToUplink, 0, to_uplink
}

hook! {
    /// Receives from a container.
    4: from_endpoint, from_endpoint_v6, from_endpoint_rare_v4, from_endpoint_rare_v6, FromEndpoint, ETHERNET_LEN, from_endpoint
}

hook! {
    /// Sends to a container.
    5: to_endpoint, to_endpoint_v6, to_endpoint_rare_v4, to_endpoint_rare_v6, ToEndpoint, ETHERNET_LEN, to_endpoint
}

hook! {
    /// Receives on a bridge what its ports send to the host, or through it.
    6: from_bridge, from_bridge_v6, from_bridge_rare_v4, from_bridge_rare_v6, FromBridge, ETHERNET_LEN, from_bridge
}

hook! {
    /// Sends on a bridge to its ports.
    7: to_bridge, to_bridge_v6, to_bridge_rare_v4, to_bridge_rare_v6, ToBridge, ETHERNET_LEN, to_bridge
}

/// Goes on in a program of the hook, be it this one; comes back only where there is none.
#[inline(always)]
fn hand_over<const PLACE: u32>(ctx: &TcContext, part: Part) {
    match part {
        Part::CommonV4 => tail_call::<PLACE, { Part::CommonV4 as u32 }>(ctx),
        Part::CommonV6 => tail_call::<PLACE, { Part::CommonV6 as u32 }>(ctx),
        Part::RareV4 => tail_call::<PLACE, { Part::RareV4 as u32 }>(ctx),
        Part::RareV6 => tail_call::<PLACE, { Part::RareV6 as u32 }>(ctx),
    }
}

/// One call for each index, which the compiler cannot make one of: the kernel makes a jump of a call whose
/// index is always the same, and of any other one an indirect jump, which costs tens of nanoseconds where the
/// processor is kept from guessing (`do_misc_fixups` in `kernel/bpf/verifier.c`, retpolines).
#[inline(always)]
fn tail_call<const PLACE: u32, const PART: u32>(ctx: &TcContext) {
    // SAFETY: these are the arguments of `bpf_tail_call` and the registers that a helper may change. The
    // programs in the map are classifiers, as this one is, and nothing that lives on this program's stack is
    // of use to them.
    unsafe {
        asm!(
            "r3 = {index}",
            "call {helper}",
            index = const PLACE * Part::COUNT + PART,
            helper = const BPF_FUNC_tail_call,
            inout("r1") ctx.skb.skb => _,
            inout("r2") &raw const PROGRAMS => _,
            out("r0") _,
            out("r3") _,
            out("r4") _,
            out("r5") _,
        );
    }
}

/// Goes on in the program that the netd which comes after has at this hook; comes back only where there is none.
#[inline(always)]
fn hand_down<const PLACE: u32>(ctx: &TcContext) {
    // SAFETY: the programs in the map are classifiers, as this one is, and nothing that lives on this
    // program's stack is of use to them.
    unsafe { SUCCESSORS.tail_call(ctx, PLACE) };
}

/// Looks again at a flow that the daemon names and removes it if it is over.
#[classifier]
pub(crate) fn expire_flows(ctx: TcContext) -> i32 {
    expire::expire_next(&ctx)
}

/// Takes over a half of a flow that the daemon has found in another netd's table.
#[classifier]
pub(crate) fn inherit_flows(ctx: TcContext) -> i32 {
    inherit::inherit_next(&ctx)
}

/// Sends a connect of the host's own socket to the container behind a published port.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect_v4(ctx: SockAddrContext) -> i32 {
    sockets::connect_v4(&ctx)
}

/// As `connect_v4`, for IPv6 sockets.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect_v6(ctx: SockAddrContext) -> i32 {
    sockets::connect_v6(&ctx)
}

/// Sends a datagram of the host's own socket to the container behind a published port.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg_v4(ctx: SockAddrContext) -> i32 {
    sockets::sendmsg_v4(&ctx)
}

/// As `sendmsg_v4`, for IPv6 sockets.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg_v6(ctx: SockAddrContext) -> i32 {
    sockets::sendmsg_v6(&ctx)
}

/// Shows a datagram to be from whom the socket has asked.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn recvmsg_v4(ctx: SockAddrContext) -> i32 {
    sockets::recvmsg_v4(&ctx)
}

/// As `recvmsg_v4`, for IPv6 sockets.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn recvmsg_v6(ctx: SockAddrContext) -> i32 {
    sockets::recvmsg_v6(&ctx)
}

/// Shows a socket to be connected with whom it has asked for.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername_v4(ctx: SockAddrContext) -> i32 {
    sockets::getpeername_v4(&ctx)
}

/// As `getpeername_v4`, for IPv6 sockets.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername_v6(ctx: SockAddrContext) -> i32 {
    sockets::getpeername_v6(&ctx)
}

/// Keeps the host's own programs off ports that netd publishes.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind_v4(ctx: SockAddrContext) -> i32 {
    bind::bind_v4(&ctx)
}

/// As `bind_v4`, for IPv6 sockets.
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind_v6(ctx: SockAddrContext) -> i32 {
    bind::bind_v6(&ctx)
}

/// Finds the proxy's socket for what a process of the host sends to a published port by the loopback device.
#[sk_lookup]
pub(crate) fn to_socket(ctx: SkLookupContext) -> u32 {
    lookup::to_socket(&ctx)
}

/// `cargo xtask lint` shows that no panic is left to get here.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives the helpers used here to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
