//! Turns a reason into the hook's code, and counts it: the one way out of every program that judges packets.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    programs::{TcContext, XdpContext},
};
use netd_common::{
    names::Hook,
    packet::Headers as _,
    reason::{Reason, Verdict},
};

use crate::{frame::XdpFrame, maps::COUNTERS};

/// Counts the packet under its reason and returns the verdict.
///
/// A pass is `TC_ACT_UNSPEC`, which lets other programs on the hook have their say.
#[inline(always)]
pub(crate) fn conclude(ctx: &TcContext, hook: Hook, reason: Reason) -> i32 {
    count(reason, ctx.len());
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    log(ctx, hook, reason, unsafe { (*ctx.skb.skb).ifindex }, ctx.len());
    match reason.verdict() {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Redirect => TC_ACT_REDIRECT,
        Verdict::Drop => TC_ACT_SHOT,
    }
}

/// Counts a frame that is dropped before it is a packet. One that goes on meets a classifier, which counts
/// it; so each is counted once.
#[inline(always)]
pub(crate) fn conclude_frame(
    ctx: &XdpContext,
    frame: &XdpFrame<'_>,
    judged: Result<(), Reason>,
) -> u32 {
    let Err(reason) = judged else {
        return XDP_PASS;
    };
    count(reason, frame.len_bytes());
    log(ctx, Hook::FromWire, reason, ctx.ingress_ifindex() as u32, frame.len_bytes());
    XDP_DROP
}

#[inline(always)]
fn count(reason: Reason, bytes: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(bytes);
    }
}

#[cfg(not(feature = "packet-log"))]
#[inline(always)]
fn log(_: &impl EbpfContext, _: Hook, _: Reason, _: u32, _: u32) {}

/// Logs numbers only, the daemon names them: with texts of many lengths the verifier would follow each
/// of them through aya-log's copying. Not inlined: its stack would lie under the engine's.
#[cfg(feature = "packet-log")]
#[inline(never)]
fn log(ctx: &impl EbpfContext, hook: Hook, reason: Reason, ifindex: u32, bytes: u32) {
    aya_log_ebpf::info!(ctx, "{} {} {} {}", hook as u32, reason as u32, ifindex, bytes);
}
