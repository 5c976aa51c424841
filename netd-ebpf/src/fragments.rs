//! Fragments that came before the first one of their datagram: copies of their frames, held in one array
//! that never grows.
//!
//! Whoever works on a place owns it meanwhile ([`Held::BUSY`]), so no frame is read while another CPU writes
//! it. Each function is a global one: the verifier checks it once, by itself.

use core::ops::ControlFlow;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM},
    helpers::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use netd_common::{
    fragment::{HELD_IN_SHARE, HELD_LEN, HELD_SECS, HELD_SHARES, Held},
    tables::Tables as _,
};

use crate::{
    maps::{HELD, HELD_FRAMES, HELD_NEXT, LENT_FRAME},
    repeat::repeat,
    tables::KernelTables,
};

/// Bytes of a frame, in map memory.
pub(crate) type Frame = [u64; HELD_LEN as usize / 8];

/// A length that the verifier can see to be that of a frame: one byte at least, and no more than there are.
#[inline(always)]
const fn bounded(len: u32) -> u32 {
    (len.wrapping_sub(1) & (HELD_LEN - 1)) + 1
}

/// Copies the packet into a share; 1 where that was done.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hold_fragment(skb: *mut __sk_buff, token: u64, share: u32) -> u32 {
    let share = share % HELD_SHARES;
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let len = unsafe { (*skb).len };
    let Some(next) = HELD_NEXT.get_ptr_mut(share) else { return 0 };
    // SAFETY: the pointer is to an aligned word of map memory.
    let turn = unsafe { fetch_add(next, 1) } as u32;
    let place = share * HELD_IN_SHARE + turn % HELD_IN_SHARE;
    let (Some(held), Some(frame)) = (HELD.get_ptr_mut(place), HELD_FRAMES.get_ptr_mut(place))
    else {
        return 0;
    };
    // SAFETY: the field is an aligned word of map memory.
    let owner = unsafe { (&raw mut (*held).owner).read_volatile() };
    if len > HELD_LEN || owner == Held::BUSY || !claim(held, owner) {
        return 0;
    }
    // SAFETY: the place is this program's own now, and the frame has room for the length.
    let result = unsafe {
        (*held).since_secs = KernelTables::without_packet().now_secs();
        (*held).len = len;
        bpf_skb_load_bytes(skb.cast(), 0, frame.cast(), bounded(len))
    };
    let is_held = result == 0;
    leave(held, if is_held { token } else { Held::FREE });
    u32::from(is_held)
}

/// Lets the fragments that are held of a datagram come in again on the packet's device; 0 where the packet
/// could not be restored.
///
/// The kernel makes no packet out of bytes, so this one lends itself: it becomes one fragment after the
/// other, of which the device is given clones, and is restored at the end. They wait in the device's queue
/// until the program is done.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn release_fragments(skb: *mut __sk_buff, token: u64, share: u32) -> u32 {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let (len, ifindex) = unsafe { ((*skb).len, (*skb).ifindex) };
    let Some(lent) = LENT_FRAME.get_ptr_mut(0) else { return 1 };
    if len > HELD_LEN || !is_any_held(token, share) {
        return 1;
    }
    // SAFETY: the frame has room for the length.
    if unsafe { bpf_skb_load_bytes(skb.cast(), 0, lent.cast(), bounded(len)) } != 0 {
        return 1;
    }
    let first = share % HELD_SHARES * HELD_IN_SHARE;
    repeat(HELD_IN_SHARE, &mut |turn| {
        let place = first + turn;
        if let (Some(held), Some(frame)) = (HELD.get_ptr_mut(place), HELD_FRAMES.get_ptr_mut(place))
            && is_of(held, token)
            && claim(held, token)
        {
            // SAFETY: the place is this program's own now.
            let len = unsafe { (*held).len };
            if become_frame(skb, frame, len) {
                // SAFETY: the context is valid, see above.
                unsafe { bpf_clone_redirect(skb, ifindex, u64::from(BPF_F_INGRESS)) };
            }
            leave(held, Held::FREE);
        }
        ControlFlow::Continue(())
    });
    u32::from(become_frame(skb, lent, len))
}

/// Whether a look at the frames is worth it.
#[inline(always)]
fn is_any_held(token: u64, share: u32) -> bool {
    let first = share % HELD_SHARES * HELD_IN_SHARE;
    let mut is_any = false;
    repeat(HELD_IN_SHARE, &mut |turn| {
        if let Some(held) = HELD.get_ptr_mut(first + turn)
            && is_of(held, token)
        {
            is_any = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    is_any
}

/// Whether a place holds a fragment of the datagram that is not too old.
#[inline(always)]
fn is_of(held: *mut Held, token: u64) -> bool {
    // SAFETY: both fields are aligned words of map memory.
    let (owner, since) = unsafe {
        ((&raw mut (*held).owner).read_volatile(), (&raw mut (*held).since_secs).read_volatile())
    };
    let now = KernelTables::without_packet().now_secs();
    owner == token && now.saturating_sub(since) < HELD_SECS
}

/// Gives the packet the length and the bytes of a frame.
#[inline(always)]
fn become_frame(skb: *mut __sk_buff, frame: *mut Frame, len: u32) -> bool {
    let (len, flags) = (bounded(len), BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
    // SAFETY: the context is valid for as long as the program runs, and the frame has the length.
    unsafe {
        bpf_skb_change_tail(skb, len, 0) == 0
            && bpf_skb_store_bytes(skb.cast(), 0, frame.cast(), len, u64::from(flags)) == 0
    }
}

/// Takes a place that has this owner.
#[inline(always)]
fn claim(held: *mut Held, owner: u64) -> bool {
    // SAFETY: the field is an aligned word of map memory.
    unsafe { compare_exchange(&raw mut (*held).owner, owner, Held::BUSY) == owner }
}

/// Gives a place to an owner, after all that has been written there.
#[inline(always)]
fn leave(held: *mut Held, owner: u64) {
    // SAFETY: the field is an aligned word of map memory.
    unsafe { compare_exchange(&raw mut (*held).owner, Held::BUSY, owner) };
}

/// Adds to a word that other CPUs add to as well, and returns what it was. The BPF target has no such
/// method in `core`.
///
/// # Safety
/// `word` must point to an aligned word of map memory.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    let before;
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
            word = in(reg) word, value = inlateout(reg) value => before);
    }
    before
}

/// Writes `new` where `old` is, and returns what was there.
///
/// # Safety
/// As for [`fetch_add`].
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let before;
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word, new = in(reg) new, inlateout("r0") old => before);
    }
    before
}
