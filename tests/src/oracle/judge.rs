//! What is to be made of the differences of a run.

use std::collections::BTreeSet;

use super::{
    case::Draft,
    compare::Difference,
    known::{self, Known, Place, Status},
};
use crate::family::Family;

/// What a run has shown.
#[derive(Default)]
pub struct Verdict {
    /// Differences that nobody knows.
    pub unknown: Vec<String>,
    /// Differences that are known and do not show.
    pub stale: Vec<String>,
    /// The known ones that showed: their names, and whether they stay.
    pub shown: BTreeSet<(&'static str, bool)>,
    /// How many cases were tried.
    pub tried: usize,
    /// How many came out equal.
    pub equal: usize,
}

impl Verdict {
    /// Judges the cases of one rule set.
    pub fn add(
        &mut self,
        set: &str,
        place: impl Fn(Family) -> Place,
        drafts: &[Draft],
        found: &[Difference],
    ) {
        self.tried += drafts.len();
        self.equal += drafts.len() - found.len();
        for draft in drafts {
            let difference = found.iter().find(|found| found.is_of(draft));
            let known: Vec<&Known> = known::of(&draft.name, place(draft.family)).collect();
            let about = format!("{set}: {}, {}", draft.name, draft.family);
            match (difference, known.is_empty()) {
                (Some(found), true) => self.unknown.push(format!("{about}\n{}", shown(found))),
                (None, false) => self.stale.push(format!("{about}: not {}", known[0].id)),
                (Some(_), false) => {
                    self.shown.extend(
                        known.iter().map(|known| (known.id, known.status == Status::Chosen)),
                    );
                }
                (None, true) => {}
            }
        }
    }
}

fn shown(found: &Difference) -> String {
    let Difference { round, netd, iptables, .. } = found;
    format!("    round {round}\n    netd     {netd:?}\n    iptables {iptables:?}")
}
