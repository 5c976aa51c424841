//! The one place that reads the clock: everything else is told the time, so tests need not wait.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

/// The time in seconds since 1970; 0 on a clock that stands before.
pub fn unix_secs() -> u64 {
    since_1970().as_secs()
}

/// The same in nanoseconds.
pub fn unix_nanos() -> u128 {
    since_1970().as_nanos()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The monotonic clock of the kernel itself, which eBPF programs read. A time namespace that this process is in
/// has another one. Units: seconds.
pub fn kernel_secs() -> u32 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        let offsets = fs::read_to_string("/proc/self/timens_offsets");
        // A kernel without time namespaces has no such file.
        offsets.ok().and_then(|offsets| monotonic_offset(&offsets)).unwrap_or(0)
    });
    let own = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| time.tv_sec());
    (own - *OFFSET) as u32
}

/// Reads what a time namespace adds to the monotonic clock. Units: seconds.
/// Source: time_namespaces(7), lines of `CLOCK SECONDS NANOSECONDS`.
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
}

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Self { begun: Instant::now() }
    }

    /// How long it has been.
    pub fn elapsed(self) -> Duration {
        self.begun.elapsed()
    }
}

/// A time as RFC 3339 writes it, in UTC.
///
/// Source: the day count is H. Hinnant's `civil_from_days`, in years that begin with March, so that
/// the leap day comes last.
pub fn rfc3339(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400 + 719_468, unix_secs % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads a time as RFC 3339 writes it, in UTC, to the second. Units: seconds since 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if !(1..=12).contains(&month) || !text.ends_with('Z') {
        return None;
    }
    // As in `rfc3339`, the other way round.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::{monotonic_offset, parse_rfc3339, rfc3339};

    #[track_caller]
    fn check(unix_secs: u64, expected: &str) {
        assert_eq!(rfc3339(unix_secs), expected);
        assert_eq!(parse_rfc3339(expected), Some(unix_secs));
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let offsets = "monotonic     -864000         0\nboottime            7         0\n";
        assert_eq!(monotonic_offset(offsets), Some(-864_000));
        assert_eq!(monotonic_offset("boottime 7 0\n"), None);
    }

    #[test]
    fn times_are_written_as_rfc_3339_does() {
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(1_735_689_599, "2024-12-31T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }

    #[test]
    fn other_texts_are_no_times() {
        assert_eq!(parse_rfc3339("2026-11-21T04:40:31.947453225Z"), Some(1_795_236_031));
        for text in
            ["", "0001-01-01T00:00:00Z", "2026-13-21T04:40:31Z", "2026-11-21T04:40", "yesterday"]
        {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
