//! What several CPUs write to at once. `AtomicU64` has no such methods for the BPF target; these are the
//! instructions themselves.

/// Adds to a word that other CPUs add to as well.
///
/// # Safety
/// `word` must point to an aligned word of map memory.
#[inline(always)]
pub(crate) unsafe fn atomic_add(word: *mut u64, value: u64) {
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value);
    }
}

/// Puts `new` in place of `old`, if that is what stands there: says whether it is.
///
/// # Safety
/// `word` must point to an aligned word of map memory.
#[inline(always)]
pub(crate) unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: by the contract above; the instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") found,
        );
    }
    found == old
}
