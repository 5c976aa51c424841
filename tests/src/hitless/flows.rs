//! All lanes at once.

use super::{
    lane::{Ends, Lane},
    verdict::Verdict,
};
use crate::condition::{deadline, within};

/// The flows of a run, which go on.
#[derive(Debug)]
pub struct Flows(Vec<Lane>);

impl Flows {
    /// The flows of these lanes.
    pub fn new(lanes: Vec<Lane>) -> Self {
        Self(lanes)
    }

    /// Waits until every flow that has not broken has been asked and answered once more; says whether that
    /// came about.
    ///
    /// # Panics
    /// Where a process has ended.
    #[track_caller]
    pub fn go_on(&mut self) -> bool {
        // The round that is under way may have begun before.
        let until: Vec<u32> = self.0.iter_mut().map(|lane| lane.rounds() + 2).collect();
        let mut has_come =
            || self.0.iter_mut().zip(&until).all(|(lane, until)| lane.rounds() >= *until);
        within(deadline(), || has_come().then_some(())).is_some()
    }

    /// Ends all flows, and says what has become of them.
    ///
    /// # Panics
    /// Where a process does not tell.
    #[track_caller]
    pub fn end(self) -> Verdict {
        let ends: Vec<Ends> = self.0.into_iter().map(Lane::end).collect();
        Verdict::of(&ends)
    }
}
