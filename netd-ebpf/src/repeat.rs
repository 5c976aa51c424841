//! Loops that the verifier checks once.

use core::{
    ffi::{c_long, c_void},
    ops::ControlFlow,
    ptr,
};

use aya_ebpf::helpers::bpf_loop;

/// Runs `step` by `bpf_loop`, whose body the verifier checks once.
#[inline(always)]
pub(crate) fn repeat<F: FnMut(u32) -> ControlFlow<()>>(times: u32, step: &mut F) {
    /// The helper's callback: 0 goes on, 1 ends the loop.
    unsafe extern "C" fn call<F: FnMut(u32) -> ControlFlow<()>>(
        index: u32,
        step: *mut c_void,
    ) -> c_long {
        // SAFETY: the helper passes on the pointer that it was given below, which outlives the loop.
        match unsafe { (*step.cast::<F>())(index) } {
            ControlFlow::Continue(()) => 0,
            ControlFlow::Break(()) => 1,
        }
    }
    let callback = call::<F> as unsafe extern "C" fn(u32, *mut c_void) -> c_long;
    // SAFETY: the callback has the helper's signature, and `step` is its own argument.
    unsafe { bpf_loop(times, callback as *mut c_void, ptr::from_mut(step).cast(), 0) };
}
