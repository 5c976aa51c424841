//! How many flows there are, as the programs count them.

use aya::maps::{Array, Map, MapData};
use netd_common::{
    conntrack::Pressure,
    counters::{FamilyCounts, FlowCount},
};

use super::{DatapathError, load::pinned_map, map_error, pins::Pins};

/// A reader of the counts.
pub(super) struct FlowCounts {
    counts: Array<MapData, u64>,
}

/// How full the table of one family is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fullness {
    pub(crate) live: u32,
    /// Flows that gave way while the table was full, since it was made.
    pub(crate) displaced: u64,
    pub(crate) pressure: Pressure,
}

impl FlowCounts {
    /// Opens the counts by their pin.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let counts = pinned_map(pins, "FLOW_COUNTS").map(Map::Array)?;
        Ok(Self { counts: counts.try_into().map_err(map_error("FLOW_COUNTS"))? })
    }

    /// IPv4's table and IPv6's, each of at most `max` flows.
    pub(super) fn fullness(&self, max: u32) -> Result<[Fullness; 2], DatapathError> {
        Ok([self.of(FlowCount::V4, max)?, self.of(FlowCount::V6, max)?])
    }

    fn of(&self, counts: FamilyCounts, max: u32) -> Result<Fullness, DatapathError> {
        let live = self.count(counts.live)? as u32;
        let displaced = self.count(counts.displaced)?;
        Ok(Fullness { live, displaced, pressure: Pressure::of(live, max) })
    }

    fn count(&self, index: u32) -> Result<u64, DatapathError> {
        self.counts.get(&index, 0).map_err(map_error("FLOW_COUNTS"))
    }
}
