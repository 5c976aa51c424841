//! Memory word by word. The compiler makes calls of memset and memmove of whole assignments, which go byte by
//! byte, and which the verifier walks through.

use core::{
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

/// A copy on the stack.
///
/// # Safety
/// `from` must point to a `T`, and that be a type that maps hold: words of any value, without padding.
#[inline(always)]
pub(crate) unsafe fn load<T>(from: NonNull<T>) -> T {
    let mut copied = MaybeUninit::uninit();
    // SAFETY: by the contract above; all words are written.
    unsafe {
        copy_words(from.as_ptr(), copied.as_mut_ptr());
        copied.assume_init()
    }
}

/// Copies a map's element.
///
/// # Safety
/// `T` must be a type that maps hold: words of any value, without padding.
#[inline(always)]
pub(crate) unsafe fn copy<T>(from: &T, to: &mut T) {
    // SAFETY: by the contract above.
    unsafe { copy_words(from, to) };
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn copy_words<T>(from: *const T, to: *mut T) {
    let (from, to) = (from.cast::<u32>(), to.cast::<u32>());
    for word in 0..words::<T>() {
        // SAFETY: both are of so many aligned words, by the contract above.
        unsafe { to.add(word).write(ptr::read_volatile(from.add(word))) };
    }
}

/// Writes one word all over.
///
/// # Safety
/// As above.
#[inline(always)]
pub(crate) unsafe fn fill<T>(to: &mut MaybeUninit<T>, with: u32) {
    let to = to.as_mut_ptr().cast::<u32>();
    for word in 0..words::<T>() {
        // SAFETY: as above.
        unsafe { to.add(word).write(with) };
    }
}

/// How many words a value has.
const fn words<T>() -> usize {
    const { assert!(align_of::<T>() == size_of::<u32>()) };
    size_of::<T>() / size_of::<u32>()
}
