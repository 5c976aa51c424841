//! The way from another netd's tables, whose layout is not this one's, without losing a flow.
//!
//! Of two netds' tables, new flows begin in those of one: the other's configuration says so
//! (`ConfigFlags::SUCCEEDED`). Ours say so until the way has been gone:
//!
//! ```text
//!   prepare    our maps are filled like theirs, and all their flows come into our table
//!   take over  no flow begins in their table; those that have begun meanwhile come into ours;
//!              their programs leave packets of no flow that they know to ours, and flows begin in our table
//!   attach     devices carry our programs, one after the other
//!   finish     our flows learn what theirs have seen last; their pins go
//! ```
//! So a flow may be in both tables, translated alike by both, and nobody is given its source port. A daemon that dies
//! in between leaves a data path on which every flow goes on, and the next one, of either layout, goes this way from
//! its beginning: whose flows begin where is known from the pins alone.

mod description;
mod flows;
mod places;
mod values;

use netd_common::address::{V4, V6};
use tracing::info;

use super::{DatapathError, pins::Pins, programs::Programs};
use crate::{clock, fail_point};
use description::Description;
use flows::{Flows, Wanted};
use values::{Settings, Values};

pub(super) use description::describe;

/// A flow's time is coarser than the clock, and read before the flow is in the table. Units: seconds.
const CLOCK_SLACK_SECS: u32 = 2;

/// The netd of another layout whose maps are pinned beside ours.
pub(super) struct Predecessor {
    pins: Pins,
    settings: Settings,
    values: Values,
    flows_v4: Flows<V4>,
    flows_v6: Flows<V6>,
}

impl Predecessor {
    /// Finds the netd of another layout that has maps there, if there is one.
    ///
    /// # Errors
    /// `Version` where there are several, or its tables cannot be read.
    pub(super) fn find(pins: &Pins) -> Result<Option<Self>, DatapathError> {
        let Some(pins) = pins.other_version()? else {
            return Ok(None);
        };
        let path = pins.root().to_owned();
        Self::open(pins).map(Some).ok_or(DatapathError::Version { path })
    }

    fn open(pins: Pins) -> Option<Self> {
        let description = Description::read(&pins)?;
        Some(Self {
            settings: Settings::open(&pins, &description)?,
            values: Values::open(&pins, &description)?,
            flows_v4: Flows::open(&pins, "CONNTRACK_V4", &description)?,
            flows_v6: Flows::open(&pins, "CONNTRACK_V6", &description)?,
            pins,
        })
    }

    /// Checks that it was a daemon of this network namespace.
    pub(super) fn check_owner(&self, netns_cookie: u64) -> Result<(), DatapathError> {
        let owner = self.settings.netns_cookie()?;
        if owner == 0 || owner == netns_cookie {
            return Ok(());
        }
        Err(DatapathError::ForeignPins { path: self.pins.root().to_owned() })
    }

    /// How many flows its tables have room for.
    pub(super) fn max_flows(&self) -> u32 {
        self.flows_v4.max_flows()
    }

    /// Copies what the maps that the daemon writes go on from: which slots are in use, and how often their flows
    /// have ended.
    pub(super) fn copy_slots(&self, pins: &Pins) -> Result<(), DatapathError> {
        self.values.copy_slots(pins)
    }

    /// Has all its flows in our table, and those that begin from now on begin there only. Our maps are complete by
    /// then, and no flow begins with our programs yet.
    pub(super) fn take_over(&self, pins: &Pins, programs: &Programs) -> Result<(), DatapathError> {
        let since_secs = clock::kernel_secs().saturating_sub(CLOCK_SLACK_SECS);
        self.copy_flows(programs, Wanted::All)?;
        self.values.copy_counters(pins)?;
        fail_point::before_step();
        self.settings.set_succeeded()?;
        self.copy_flows(programs, Wanted::BegunSince { since_secs })
    }

    /// Has its programs leave to ours what they do not know.
    pub(super) fn hand_down(
        &self,
        pins: &Pins,
        programs: &mut Programs,
    ) -> Result<(), DatapathError> {
        self.values.copy_host_flows(pins)?;
        self.settings.set_succeeded()?;
        places::fill(&self.pins, programs)
    }

    /// Lets our flows learn what theirs have seen last, and removes their pins: no device carries their programs any
    /// more.
    pub(super) fn finish(self, pins: &Pins, programs: &Programs) -> Result<(), DatapathError> {
        self.copy_flows(programs, Wanted::ToLearn)?;
        self.values.learn_host_flows(pins)?;
        info!(pins = %self.pins.root().display(), "the flows of another layout have been taken over");
        self.pins.retire()
    }

    fn copy_flows(&self, programs: &Programs, wanted: Wanted) -> Result<(), DatapathError> {
        let mut program = programs.inherit_flows()?;
        self.flows_v4.copy(&mut program, wanted)?;
        self.flows_v6.copy(&mut program, wanted)
    }
}
