//! The in-kernel half of taking flows over: inserts those that the daemon hands over as packet data.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, programs::TcContext};
use netd_common::{
    address::{V4, V6},
    conntrack::{CtEntry, CtKey},
    engine::{Inherited, inherit},
    expiry::BatchHead,
    header::ETHERNET_LEN,
};

use crate::{steps::FamilySteps, tables::KernelTables};

const HEAD: usize = ETHERNET_LEN as usize;
const HALVES: usize = HEAD + size_of::<BatchHead>();

/// Inserts the next half of the batch.
#[inline(always)]
pub(crate) fn inherit_next(ctx: &TcContext) -> i32 {
    let Ok(mut head) = ctx.load::<BatchHead>(HEAD) else {
        return TC_ACT_UNSPEC;
    };
    match if head.is_v6() { insert::<V6>(ctx, &head) } else { insert::<V4>(ctx, &head) } {
        Inherited::New => head.changed += 1,
        Inherited::Known => {}
        Inherited::Refused => head.refused += 1,
    }
    head.next += 1;
    // The packet is the daemon's own, and the head was just read from it.
    let _ = ctx.store(HEAD, &head, 0);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn insert<A: FamilySteps>(ctx: &TcContext, head: &BatchHead) -> Inherited {
    let (key_len, entry_len) = (size_of::<CtKey<A>>(), size_of::<CtEntry<A>>());
    let at = HALVES + head.next as usize * (key_len + entry_len);
    let Ok(key) = ctx.load::<CtKey<A>>(at) else { return Inherited::Refused };
    // One after the other: asked for both together, the compiler reads the key before it knows that there is one,
    // which the verifier of Linux 6.1 does not let pass.
    let Ok(entry) = ctx.load::<CtEntry<A>>(at + key_len) else { return Inherited::Refused };
    inherit(&KernelTables::new(ctx.skb.skb), &key, &entry, head.only_learns())
}
