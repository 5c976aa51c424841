//! Elements of the connection table.

use core::{
    mem::offset_of,
    ptr::{self, NonNull},
};

use netd_common::{conntrack::CtEntry, tables::Flow};

use crate::{
    atomic::{atomic_add, compare_exchange},
    maps::FamilyMaps,
};

/// An element of the connection table.
#[derive(Clone, Copy)]
pub(crate) struct KernelFlow<A> {
    pub(super) entry: NonNull<CtEntry<A>>,
}

impl<A> KernelFlow<A> {
    /// The element that `entry` points to, which is in the map's memory for as long as the program runs.
    #[inline(always)]
    pub(crate) const fn new(entry: NonNull<CtEntry<A>>) -> Self {
        Self { entry }
    }
}

impl<A: FamilyMaps> Flow<A> for KernelFlow<A> {
    #[inline(always)]
    fn entry(&self) -> &CtEntry<A> {
        // SAFETY: the element is in the map's memory for as long as the program runs. A field may be
        // written meanwhile by another packet of the flow, as a whole word.
        unsafe { self.entry.as_ref() }
    }

    #[inline(always)]
    fn last_seen_secs(&self) -> u32 {
        // SAFETY: as for `entry`; the field is one aligned word.
        unsafe { ptr::read_volatile(&raw const (*self.entry.as_ptr()).last_seen_secs) }
    }

    #[inline(always)]
    fn replace_last_seen(&self, old: u32, new: u32) -> bool {
        // The time of creation is compared as well: it is another one if the kernel has given the memory to
        // another flow. And the assembler knows no instruction for less than a long word.
        const {
            assert!(offset_of!(CtEntry<A>, last_seen_secs).is_multiple_of(8));
            assert!(
                offset_of!(CtEntry<A>, created_secs) == offset_of!(CtEntry<A>, last_seen_secs) + 4
            );
        }
        let entry = self.entry.as_ptr();
        // SAFETY: as for `entry`; both fields are in one aligned long word of the element.
        unsafe {
            let created = u64::from((*entry).created_secs) << u32::BITS;
            let word = entry.byte_add(offset_of!(CtEntry<A>, last_seen_secs)).cast();
            compare_exchange(word, created | u64::from(old), created | u64::from(new))
        }
    }

    #[inline(always)]
    fn set_seen(&self, seen: u8) {
        // SAFETY: as for `entry`; the field is one byte.
        unsafe { ptr::write_volatile(&raw mut (*self.entry.as_ptr()).seen, seen) }
    }

    #[inline(always)]
    fn set_peer_seen(&self, seen: u8) {
        // SAFETY: as for `entry`; the field is one byte.
        unsafe { ptr::write_volatile(&raw mut (*self.entry.as_ptr()).peer_seen, seen) }
    }

    #[inline(always)]
    fn count(&self, bytes: u32) {
        let entry = self.entry.as_ptr();
        // SAFETY: both fields are aligned words of the element.
        unsafe {
            atomic_add(&raw mut (*entry).packets, 1);
            atomic_add(&raw mut (*entry).bytes, u64::from(bytes));
        }
    }
}
