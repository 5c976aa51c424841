//! The in-kernel half of expiry: re-checks the flows whose keys the daemon hands over as packet data.
//!
//! The daemon scans the table and guesses which flows are over; a packet may refresh one between its
//! reading and its removal. So removal happens here, from the entry as it stands.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, programs::TcContext};
use netd_common::{
    address::{V4, V6},
    conntrack::CtKey,
    engine::{Expiry, expire},
    expiry::BatchHead,
    header::ETHERNET_LEN,
};

use crate::{steps::FamilySteps, tables::KernelTables};

const HEAD: usize = ETHERNET_LEN as usize;
const KEYS: usize = HEAD + size_of::<BatchHead>();

/// Looks at the next key of the batch.
#[inline(always)]
pub(crate) fn expire_next(ctx: &TcContext) -> i32 {
    let Ok(mut head) = ctx.load::<BatchHead>(HEAD) else {
        return TC_ACT_UNSPEC;
    };
    let expiry = if head.is_v6() { look_at::<V6>(ctx, &head) } else { look_at::<V4>(ctx, &head) };
    if expiry == Expiry::Removed {
        head.changed += 1;
    }
    head.next += 1;
    // The packet is the daemon's own, and the head was just read from it.
    let _ = ctx.store(HEAD, &head, 0);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn look_at<A: FamilySteps>(ctx: &TcContext, head: &BatchHead) -> Expiry {
    match ctx.load::<CtKey<A>>(KEYS + head.next as usize * size_of::<CtKey<A>>()) {
        Ok(key) => expire(&KernelTables::new(ctx.skb.skb), &key, head.is_forced()),
        Err(_) => Expiry::Gone,
    }
}
