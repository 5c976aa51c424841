//! Says when flows find no source port: at once, and while it lasts once a minute.

use netd_common::reason::Reason;
use tracing::warn;

use super::{Controller, in_one_line};

/// How many looks there are between two warnings: a minute's.
const QUIET_LOOKS: u32 = 12;

/// What has been said of it.
#[derive(Debug, Default)]
pub(super) struct Exhaustion {
    /// The packets that have been spoken of; none before the first look, which tells what was before.
    said: Option<u64>,
    quiet: u32,
}

impl Exhaustion {
    /// Looks at the counter; how many packets are to be spoken of now, if any.
    fn look(&mut self, counted: u64) -> Option<u64> {
        self.quiet = self.quiet.saturating_sub(1);
        let said = *self.said.get_or_insert(counted);
        if counted <= said || self.quiet > 0 {
            return None;
        }
        (self.said, self.quiet) = (Some(counted), QUIET_LOOKS);
        Some(counted - said)
    }
}

impl Controller {
    /// Warns of packets that were dropped because all source ports to their destination were in use.
    pub(super) fn say_exhaustion(&mut self) {
        match self.datapath.counter(Reason::SourcePortsExhausted) {
            Ok(counter) => {
                if let Some(packets) = self.exhaustion.look(counter.packets) {
                    warn!(
                        packets,
                        "no free source port among those that are tried: too many flows go to one \
                         destination, `netd conntrack ls` shows which"
                    );
                }
            }
            Err(error) => warn!(error = in_one_line(&error), "a counter could not be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_is_said_at_once_and_then_once_a_minute() {
        let mut exhaustion = Exhaustion::default();
        // An earlier daemon's.
        assert_eq!(exhaustion.look(7), None);
        assert_eq!(exhaustion.look(7), None);
        assert_eq!(exhaustion.look(8), Some(1));
        for counted in 9..20 {
            assert_eq!(exhaustion.look(counted), None);
        }
        assert_eq!(exhaustion.look(20), Some(12));
        // Over, and then again.
        for _ in 0..QUIET_LOOKS {
            assert_eq!(exhaustion.look(20), None);
        }
        assert_eq!(exhaustion.look(21), Some(1));
    }
}
