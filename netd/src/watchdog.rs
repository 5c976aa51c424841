//! systemd's watchdog: the event loop says that it still turns, and is started again where it does not.
//!
//! The pings come from the loop itself, never from a thread beside it, which would go on while the loop hangs.

use std::{future, io};

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// When the next ping is due, if anybody waits for one.
#[derive(Debug)]
pub struct Watchdog {
    pings: Option<Interval>,
}

impl Watchdog {
    /// The watchdog that systemd has announced in the environment (sd_watchdog_enabled(3)).
    pub fn from_environment() -> Self {
        // Half of the time that a ping may take, as the manual recommends; an interval of zero is none.
        let period = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let pings = period.filter(|period| !period.is_zero()).map(|period| {
            let mut pings = interval(period);
            pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pings
        });
        Self { pings }
    }

    /// Waits until a ping is due; for ever where nobody watches.
    pub async fn due(&mut self) {
        match &mut self.pings {
            Some(pings) => pings.tick().await,
            None => future::pending().await,
        };
    }

    /// Says that the event loop turns.
    ///
    /// # Errors
    /// Where systemd's socket does not take the message.
    pub fn ping(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Watchdog])
    }
}
