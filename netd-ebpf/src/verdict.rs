//! Turns a reason into the hook's code, and counts it: the one way out of every classifier.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use netd_common::{
    names::Hook,
    reason::{Reason, Verdict},
};

use crate::maps::COUNTERS;

/// Counts the packet under its reason and returns the verdict.
///
/// A pass is `TC_ACT_UNSPEC`, which lets other programs on the hook have their say.
#[inline(always)]
pub(crate) fn conclude(ctx: &TcContext, hook: Hook, reason: Reason) -> i32 {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the element is this CPU's own, and programs are not migrated while they run.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(ctx.len());
    }
    log(ctx, hook, reason);
    match reason.verdict() {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
    }
}

#[cfg(not(feature = "packet-log"))]
#[inline(always)]
fn log(_: &TcContext, _: Hook, _: Reason) {}

/// Logs numbers only, the daemon names them: with texts of many lengths the verifier would follow each
/// of them through aya-log's copying.
#[cfg(feature = "packet-log")]
#[inline(always)]
fn log(ctx: &TcContext, hook: Hook, reason: Reason) {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    aya_log_ebpf::info!(ctx, "{} {} {} {}", hook as u32, reason as u32, ifindex, ctx.len());
}
