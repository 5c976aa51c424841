//! Ends the daemon between two steps, as `kill -9` would. Debug builds only, and only where a test asks for it.
//!
//! Whatever can be seen from outside the process passes by here first: a request that changes something by
//! netlink, a write to a map, a pin, a classifier, a transaction of the store, a sysctl. `NETD_FAIL_POINT=start:N`
//! is the Nth of these steps before the daemon is ready, `request:N` the Nth after that. So every operation has
//! as many fail points as it has steps, without a list of them.

#[cfg(debug_assertions)]
use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

/// The point that was asked for: whether it comes after the start, and its number.
#[cfg(debug_assertions)]
static ASKED_FOR: LazyLock<Option<(bool, u32)>> = LazyLock::new(|| {
    let text = env::var("NETD_FAIL_POINT").ok()?;
    let (phase, number) = text.split_once(':')?;
    Some((phase == "request", number.parse().ok()?))
});

#[cfg(debug_assertions)]
static IS_STARTED: AtomicBool = AtomicBool::new(false);
#[cfg(debug_assertions)]
static PASSED: AtomicU32 = AtomicU32::new(0);

/// A step comes next.
pub(crate) fn before_step() {
    #[cfg(debug_assertions)]
    if let Some((after_start, number)) = *ASKED_FOR
        && after_start == IS_STARTED.load(Ordering::Relaxed)
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == number
    {
        // Nothing runs after this: no destructor, no buffer is written out.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// The start is over; steps are counted anew.
pub(crate) fn started() {
    #[cfg(debug_assertions)]
    {
        PASSED.store(0, Ordering::Relaxed);
        IS_STARTED.store(true, Ordering::Relaxed);
    }
}
