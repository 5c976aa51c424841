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
use netd_common::{engine, header::ETHERNET_LEN, names::Hook};

use crate::{
    frame::XdpFrame,
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

/// Receives on an uplink with Ethernet header.
#[classifier]
pub(crate) fn from_uplink(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(
        &ctx,
        Hook::FromUplink,
        engine::from_uplink(&mut packet, &KernelTables::new(ctx.skb.skb)),
    )
}

/// Sends on an uplink with Ethernet header.
#[classifier]
pub(crate) fn to_uplink(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(&ctx, Hook::ToUplink, engine::to_uplink(&mut packet, &KernelTables::new(ctx.skb.skb)))
}

/// Receives on an uplink without link-layer header: a tun device for one.
#[classifier]
pub(crate) fn from_uplink_l3(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, 0);
    conclude(
        &ctx,
        Hook::FromUplink,
        engine::from_uplink(&mut packet, &KernelTables::new(ctx.skb.skb)),
    )
}

/// Sends on an uplink without link-layer header.
#[classifier]
pub(crate) fn to_uplink_l3(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, 0);
    conclude(&ctx, Hook::ToUplink, engine::to_uplink(&mut packet, &KernelTables::new(ctx.skb.skb)))
}

/// Receives from a container.
#[classifier]
pub(crate) fn from_endpoint(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(
        &ctx,
        Hook::FromEndpoint,
        engine::from_endpoint(&mut packet, &KernelTables::new(ctx.skb.skb)),
    )
}

/// Sends to a container.
#[classifier]
pub(crate) fn to_endpoint(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(
        &ctx,
        Hook::ToEndpoint,
        engine::to_endpoint(&mut packet, &KernelTables::new(ctx.skb.skb)),
    )
}

/// Receives on a bridge what its ports send to the host, or through it.
#[classifier]
pub(crate) fn from_bridge(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(
        &ctx,
        Hook::FromBridge,
        engine::from_bridge(&mut packet, &KernelTables::new(ctx.skb.skb)),
    )
}

/// Sends on a bridge to its ports.
#[classifier]
pub(crate) fn to_bridge(ctx: TcContext) -> i32 {
    let mut packet = SkbPacket::new(&ctx, ETHERNET_LEN);
    conclude(&ctx, Hook::ToBridge, engine::to_bridge(&mut packet, &KernelTables::new(ctx.skb.skb)))
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
