//! The differences that are known: chosen, or not worked off yet. One that does not show any more where it
//! alone is expected is as much a failure as one that nobody knows.

mod table;

pub use table::KNOWN;

use super::golden::{Mode, Options};
use crate::family::Family;

/// Why a difference is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// netd is meant to do so.
    Chosen,
    /// netd is to do as iptables does, and does not yet.
    Open,
}

/// A difference.
pub struct Known {
    /// How it is called.
    pub id: &'static str,
    /// Whether it stays.
    pub status: Status,
    /// Why netd does as it does.
    pub why: &'static str,
    /// The cases that show it, and where they do.
    pub shows: &'static [Shown],
}

/// Cases, and where they show a difference.
pub type Shown = (&'static [&'static str], fn(Place) -> bool);

/// What a case is tried with.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The rule set's options.
    pub options: Options,
    /// The case's family.
    pub family: Family,
}

impl Place {
    /// Whether there is a network that leads somewhere.
    fn is_open(self) -> bool {
        self.options.has_network && !self.options.internal
    }

    fn is_internal(self) -> bool {
        self.options.has_network && self.options.internal
    }

    fn is_v6(self) -> bool {
        self.family == Family::V6
    }

    fn is_routed(self) -> bool {
        self.is_open() && self.options.mode == Mode::Routed
    }

    /// Whether the host's port 8080 leads to web by the rules.
    fn is_published(self) -> bool {
        self.is_open() && !self.options.bind_localhost
    }

    /// Whether netd has that port as well.
    fn is_translated(self) -> bool {
        self.is_published() && !self.is_routed()
    }

    /// Whether the rules drop what comes to web's own address, replies as well.
    fn is_deaf(self) -> bool {
        self.is_open() && self.options.mode == Mode::Nat && !self.options.masquerade
    }
}

/// The known differences of a case at a place.
pub fn of(case: &str, place: Place) -> impl Iterator<Item = &'static Known> {
    let is_shown = move |known: &&Known| {
        known.shows.iter().any(|(cases, when)| cases.contains(&case) && when(place))
    };
    KNOWN.iter().filter(is_shown)
}
