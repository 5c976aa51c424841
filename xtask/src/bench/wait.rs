//! Time, and waiting for things: always with a deadline, and ended by Ctrl-C.
//!
//! A signal only sets a flag. Whoever waits sees it and returns an error, and on the way out every
//! guard undoes what it stands for, as after any other failure.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const INTERVAL: Duration = Duration::from_millis(5);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the signals that ask us to end do no more than that.
///
/// # Errors
/// Fails if the kernel takes no handler.
pub(super) fn catch_signals() -> Result<()> {
    let handler = SigHandler::Handler(note_signal);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot catch {signal}"))?;
    }
    Ok(())
}

extern "C" fn note_signal(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether we were asked to end.
pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits until `look` finds something, and returns it.
///
/// # Errors
/// Fails as `look` does, after `limit`, or when we are asked to end.
pub(super) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = now();
    loop {
        if is_interrupted() {
            bail!("interrupted");
        }
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("still not after {} s: {what}", limit.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
