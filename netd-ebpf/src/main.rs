//! netd's eBPF programs: entry points only. The engine in `netd-common` decides; the files here give it
//! the kernel's packet and the kernel's maps.
//!
//! All directions are seen from the host: `from_uplink` is what the host receives from outside.
#![no_std]
#![no_main]
// The BPF target has no atomic addition in `core`; `tables.rs` writes the one instruction itself.
#![feature(asm_experimental_arch)]

mod connect;
mod expire;
mod frame;
mod maps;
mod packet;
mod route;
mod tables;
mod verdict;

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
};
use netd_common::{
    engine::{self, Outcome},
    header::ETHERNET_LEN,
    names::Hook,
    parse::{Common, Rare},
    reason::Reason,
};

use crate::{
    frame::XdpFrame,
    maps::RARE_PROGRAMS,
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

/// A hook's two programs: the one that its device carries, and the one that takes over rare packets, which
/// has the same place in [`maps::RARE_PROGRAMS`] as in `names::RARE`.
macro_rules! hook {
    ($(#[doc = $doc:literal])+ $common:ident, $rare:ident = $place:literal, $hook:ident,
     $offset:expr, $judge:ident) => {
        $(#[doc = $doc])+
        #[classifier]
        pub(crate) fn $common(ctx: TcContext) -> i32 {
            let mut packet = SkbPacket::new(&ctx, $offset);
            match engine::$judge::<Common, _, _>(&mut packet, &KernelTables::new(ctx.skb.skb)) {
                Outcome::Judged(reason) => conclude(&ctx, Hook::$hook, reason),
                Outcome::Rare => {
                    hand_over(&ctx, $place);
                    conclude(&ctx, Hook::$hook, Reason::NoProgram)
                }
            }
        }

        /// The same for rare packets.
        #[classifier]
        pub(crate) fn $rare(ctx: TcContext) -> i32 {
            let mut packet = SkbPacket::new(&ctx, $offset);
            match engine::$judge::<Rare, _, _>(&mut packet, &KernelTables::new(ctx.skb.skb)) {
                Outcome::Judged(reason) => conclude(&ctx, Hook::$hook, reason),
                Outcome::Rare => conclude(&ctx, Hook::$hook, Reason::NoProgram),
            }
        }
    };
}

hook! {
    /// Receives on an uplink with Ethernet header.
    from_uplink, from_uplink_rare = 0, FromUplink, ETHERNET_LEN, from_uplink
}

hook! {
    /// Sends on an uplink with Ethernet header.
    to_uplink, to_uplink_rare = 1, ToUplink, ETHERNET_LEN, to_uplink
}

hook! {
    /// Receives on an uplink without link-layer header: a tun device for one.
    from_uplink_l3, from_uplink_l3_rare = 2, FromUplink, 0, from_uplink
}

hook! {
    /// Sends on an uplink without link-layer header.
    to_uplink_l3, to_uplink_l3_rare = 3, ToUplink, 0, to_uplink
}

hook! {
    /// Receives from a container.
    from_endpoint, from_endpoint_rare = 4, FromEndpoint, ETHERNET_LEN, from_endpoint
}

hook! {
    /// Sends to a container.
    to_endpoint, to_endpoint_rare = 5, ToEndpoint, ETHERNET_LEN, to_endpoint
}

hook! {
    /// Receives on a bridge what its ports send to the host, or through it.
    from_bridge, from_bridge_rare = 6, FromBridge, ETHERNET_LEN, from_bridge
}

hook! {
    /// Sends on a bridge to its ports.
    to_bridge, to_bridge_rare = 7, ToBridge, ETHERNET_LEN, to_bridge
}

/// Goes on in the program for rare packets; comes back only where there is none.
#[inline(always)]
fn hand_over(ctx: &TcContext, place: u32) {
    // SAFETY: the programs in the map are classifiers, as this one is, and nothing that lives on this
    // program's stack is of use to them.
    unsafe { RARE_PROGRAMS.tail_call(ctx, place) };
}

/// Looks again at a flow that the daemon names and removes it if it is over.
#[classifier]
pub(crate) fn expire_flows(ctx: TcContext) -> i32 {
    expire::expire_next(&ctx)
}

/// Sends connects of the host's own sockets to the container behind a published port.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect_v4(ctx: SockAddrContext) -> i32 {
    connect::connect_v4(&ctx)
}

/// As `connect_v4`, for IPv6 sockets.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect_v6(ctx: SockAddrContext) -> i32 {
    connect::connect_v6(&ctx)
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
