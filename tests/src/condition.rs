//! Waiting: for a condition and with a deadline, never for a time.

use std::{
    env, thread,
    time::{Duration, Instant},
};

/// How long a condition may take on a machine that is busy otherwise: far longer than it does.
const DEADLINE: Duration = Duration::from_secs(15);

/// How many times slower than that the machine is.
const SLOWNESS: &str = "NETD_TEST_SLOWNESS";

const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds.
///
/// # Panics
/// Where it does not within the [`deadline`]; `what` completes "still not: ...".
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    eventually_some(what, || holds().then_some(()));
}

/// Waits until there is something, and returns it.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn eventually_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match within(deadline(), look) {
        Some(found) => found,
        None => panic!("still not after {:?}: {what}", deadline()),
    }
}

/// How long a condition may take.
pub fn deadline() -> Duration {
    let slowness = env::var(SLOWNESS).ok().and_then(|slowness| slowness.parse().ok());
    DEADLINE * slowness.unwrap_or(1)
}

/// Waits until there is something, for as long as `limit`.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}

/// The time, for tests that measure.
#[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
pub fn now() -> Instant {
    Instant::now()
}
