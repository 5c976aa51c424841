//! How full the table is, and what that means for the timers of flows that give way.

/// How full the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Every timer holds.
    #[default]
    None,
    /// Three quarters: flows that give way have half their time.
    High,
    /// Nine tenths: flows that give way have [`Pressure::CRITICAL_SECS`] at most.
    Critical,
}

impl Pressure {
    /// How long a flow that gives way lives in a table that is nearly full: longer than a handshake takes
    /// across any path, and the second SYN of one whose first was lost.
    pub const CRITICAL_SECS: u32 = 5;

    /// The pressure of a table that has `live` of at most `max` flows.
    #[inline(always)]
    pub fn of(live: u32, max: u32) -> Self {
        let (live, max) = (u64::from(live), u64::from(max));
        if live * 10 >= max * 9 {
            Self::Critical
        } else if live * 4 >= max * 3 {
            Self::High
        } else {
            Self::None
        }
    }

    /// What is left of a timeout of a flow that gives way.
    #[inline(always)]
    pub fn shorten(self, secs: u32) -> u32 {
        match self {
            Self::None => secs,
            Self::High => secs.div_ceil(2),
            Self::Critical => secs.min(Self::CRITICAL_SECS),
        }
    }

    /// The word for it in `netd conntrack count --json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pressure;

    #[test]
    fn pressure_begins_at_three_quarters_and_at_nine_tenths() {
        for (live, expected) in [
            (0, Pressure::None),
            (749, Pressure::None),
            (750, Pressure::High),
            (899, Pressure::High),
            (900, Pressure::Critical),
            (1001, Pressure::Critical),
        ] {
            assert_eq!(Pressure::of(live, 1000), expected, "{live}");
        }
        assert_eq!(Pressure::of(u32::MAX, u32::MAX), Pressure::Critical);
        let shortened = [Pressure::None, Pressure::High, Pressure::Critical];
        assert_eq!(shortened.map(|pressure| pressure.shorten(25)), [25, 13, 5]);
        assert_eq!(shortened.map(|pressure| pressure.shorten(3)), [3, 2, 3]);
    }
}
