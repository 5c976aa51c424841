//! A run: flows from the first to the last, and what happens meanwhile.

use std::{fmt, time::Duration};

use super::{flows::Flows, stage::Stage, trouble::Trouble, verdict::Verdict};
use crate::condition::{now, within};

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Run {
    /// What has become of its flows.
    pub verdict: Verdict,
    /// How long they went on.
    pub took: Duration,
    /// How long the daemon has taken to be ready, each time.
    pub starts: Vec<Duration>,
    /// How many segments TCP has sent again.
    pub sent_again: u64,
}

impl Run {
    /// Makes one trouble after the other, each once all flows have gone on with the daemon and without it.
    /// It ends early where they do not.
    ///
    /// # Panics
    /// Where the daemon does not end or start as it should, or not every flow begins.
    #[track_caller]
    pub fn troubled(stage: &mut Stage, troubles: &[Trouble]) -> Self {
        Self::with(stage, |stage, flows| {
            let mut starts = Vec::new();
            for (number, trouble) in (1..).zip(troubles) {
                trouble.end(&mut stage.world.daemon);
                let have_gone_on = flows.go_on();
                let begun = now();
                stage.world.daemon.start();
                starts.push(begun.elapsed());
                if !have_gone_on || !flows.go_on() {
                    eprintln!("flows stand still since {trouble:?}, number {number}");
                    break;
                }
                if number % 10 == 0 {
                    eprintln!("the daemon has come and gone {number} of {} times", troubles.len());
                }
            }
            starts
        })
    }

    /// Leaves the daemon alone for some time.
    ///
    /// # Panics
    /// Where not every flow begins.
    #[track_caller]
    pub fn quiet(stage: &mut Stage, time: Duration) -> Self {
        Self::with(stage, |_, _| {
            within(time, || None::<()>);
            Vec::new()
        })
    }

    /// Does something while the flows go on; the answer is how long starts of the daemon have taken.
    ///
    /// # Panics
    /// Where not every flow begins, or as the closure does.
    #[track_caller]
    pub fn with(
        stage: &mut Stage,
        meanwhile: impl FnOnce(&mut Stage, &mut Flows) -> Vec<Duration>,
    ) -> Self {
        let sent_again = stage.sent_again();
        let mut flows = stage.begin();
        let begun = now();
        let mut starts = meanwhile(stage, &mut flows);
        let took = begun.elapsed();
        starts.sort_unstable();
        let verdict = flows.end();
        Self { verdict, took, starts, sent_again: stage.sent_again() - sent_again }
    }

    fn rows(&self) -> [(&'static str, String); 12] {
        let verdict = &self.verdict;
        let ready = |start: Option<&Duration>| start.map_or("-".to_owned(), |time| ms(*time));
        [
            ("flows", verdict.flows.to_string()),
            ("flows lost", verdict.lost.values().sum::<u32>().to_string()),
            ("flows reset", verdict.reset.to_string()),
            ("bytes sent", verdict.sent.to_string()),
            ("bytes lost", verdict.missing.to_string()),
            ("segments sent again", self.sent_again.to_string()),
            ("longest stall of half of the flows", ms(verdict.stall(50))),
            ("longest stall of 99 % of the flows", ms(verdict.stall(99))),
            ("longest stall of all", ms(verdict.stall(100))),
            ("starts of the daemon", self.starts.len().to_string()),
            ("ready after, median", ready(self.starts.get(self.starts.len() / 2))),
            ("ready after, at most", ready(self.starts.last())),
        ]
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Runs side by side.
#[derive(Debug)]
pub struct Table<'a>(pub [(&'static str, &'a Run); 2]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(one, a), (other, b)] = &self.0;
        writeln!(f, "{:36} {one:>20} {other:>20}", "")?;
        for ((name, a), (_, b)) in a.rows().iter().zip(b.rows()) {
            writeln!(f, "{name:36} {a:>20} {b:>20}")?;
        }
        Ok(())
    }
}
