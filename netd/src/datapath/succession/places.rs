//! Where the programs of another netd find ours.

use aya::maps::{Map, MapData, ProgramArray};
use netd_common::{engine::Part, names};

use super::super::{
    DatapathError,
    load::{open_map, program_error},
    map_error,
    pins::Pins,
    programs::Programs,
};
use crate::fail_point;

/// Puts the program of each hook into its place.
pub(super) fn fill(theirs: &Pins, programs: &mut Programs) -> Result<(), DatapathError> {
    let mut places: ProgramArray<MapData> = open_map(theirs, names::SUCCESSORS, Map::ProgramArray)?;
    for (place, hook) in (0..).zip(names::PARTS.iter().step_by(Part::COUNT as usize)) {
        let fd = programs.hook(hook)?.fd().map_err(program_error(hook))?;
        fail_point::before_step();
        places.set(place, fd, 0).map_err(map_error(names::SUCCESSORS))?;
    }
    Ok(())
}
