//! Opens the embedded object, with its maps from their pins where they exist.

use std::{
    io,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread::{self, available_parallelism},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, MapError, MapInfo},
    programs::{Program, ProgramError, SchedClassifier},
};
use netd_common::names;
use tracing::warn;

use super::{DatapathError, layout, map_error, pins::Pins};

/// The object, aligned as the ELF parser asks for.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netd-ebpf.o"));

/// The maps that are shared with the daemon before and after this one.
const PINNED: [&str; 45] = [
    "CONFIG",
    "NETWORKS",
    "BRIDGES",
    "BRIDGE_PORTS",
    "SLOTS",
    "TRUSTED_INTERFACES",
    "ACCEPTED_MARKS",
    "LINKS",
    "UPLINKS",
    "UPLINK_MACS",
    "RESERVED_PORTS",
    "KEPT_PORTS",
    "HOST_FLOWS_SEEN",
    "ISOLATION_SETS",
    "GENERATIONS",
    names::PROGRAMS,
    names::SUCCESSORS,
    names::LAYOUT,
    "COUNTERS",
    "TRAFFIC",
    "FLOW_COUNTS",
    "FLOW_LIMITS",
    "YOUNG_FLOWS_V4",
    "YOUNG_FLOWS_V6",
    "CONNTRACK_V4",
    "CONNTRACK_V6",
    "FRAGMENTS_V4",
    "FRAGMENTS_V6",
    "HELD",
    "HELD_FRAMES",
    "HELD_NEXT",
    "ASKED",
    names::PROXY_SOCKETS,
    "PUBLISHED_PORTS_V4",
    "PUBLISHED_PORTS_V6",
    "PUBLISHED_RANGES_V4",
    "PUBLISHED_RANGES_V6",
    "HOST_ADDRESSES_V4",
    "HOST_ADDRESSES_V6",
    "SUBNETS_V4",
    "SUBNETS_V6",
    "ENDPOINTS_V4",
    "ENDPOINTS_V6",
    "MASQUERADE_SOURCES_V4",
    "MASQUERADE_SOURCES_V6",
];

/// Checks that the maps that are pinned are the object's.
pub(super) fn check_maps(pins: &Pins) -> Result<(), DatapathError> {
    layout::check(OBJECT, &PINNED, pins)
}

/// Whether all maps are there: programs that are loaded already know no other ones.
pub(super) fn are_maps_pinned(pins: &Pins) -> bool {
    PINNED.iter().all(|name| pins.map(name).exists())
}

/// Opens the object over the pinned maps, which are made where they are missing. No program is loaded yet.
pub(super) fn object(pins: &Pins, max_flows: u32) -> Result<Ebpf, DatapathError> {
    pins.create()?;
    let mut loader = EbpfLoader::new();
    for name in PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    let entries = entries(max_flows);
    loader.map_max_entries("CONNTRACK_V4", entries).map_max_entries("CONNTRACK_V6", entries);
    let mut ebpf = loader.load(OBJECT).map_err(|error| loading_error(error, max_flows))?;
    forward_packet_log(&mut ebpf);
    Ok(ebpf)
}

/// Says what takes the memory that there is not.
fn loading_error(error: EbpfError, max_flows: u32) -> DatapathError {
    if let EbpfError::MapError(MapError::CreateError { name, io_error }) = &error
        && io_error.kind() == io::ErrorKind::OutOfMemory
    {
        return DatapathError::NoMemory { name: name.clone(), max_flows };
    }
    error.into()
}

/// Two halves a flow.
fn entries(max_flows: u32) -> u32 {
    max_flows.saturating_mul(2)
}

/// How many flows the pinned tables have room for.
pub(super) fn held_flows(pins: &Pins) -> Result<u32, DatapathError> {
    let info = MapInfo::from_pin(pins.map("CONNTRACK_V4")).map_err(map_error("CONNTRACK_V4"))?;
    Ok(info.max_entries() / 2)
}

/// A table that holds flows keeps its size: `max_flows` is that of the next one.
pub(super) fn say_kept_size(pins: &Pins, max_flows: u32) {
    let Ok(info) = MapInfo::from_pin(pins.map("CONNTRACK_V4")) else {
        return;
    };
    if info.max_entries() != entries(max_flows) {
        warn!(
            max_flows = info.max_entries() / 2,
            "the connection table keeps its size until `netd stop --detach`"
        );
    }
}

#[cfg(not(feature = "packet-log"))]
fn forward_packet_log(_: &mut Ebpf) {}

/// Hands the lines of a development build to the log.
#[cfg(feature = "packet-log")]
fn forward_packet_log(ebpf: &mut Ebpf) {
    super::packet_log::forward(ebpf);
}

/// A map by its pin, for a reader of its own.
pub(super) fn pinned_map(pins: &Pins, name: &'static str) -> Result<MapData, DatapathError> {
    MapData::from_pin(pins.map(name)).map_err(|source| DatapathError::Map { name, source })
}

/// A map by its pin, as what it is.
pub(super) fn open_map<M>(
    pins: &Pins,
    name: &'static str,
    kind: fn(MapData) -> Map,
) -> Result<M, DatapathError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = kind(pinned_map(pins, name)?);
    map.try_into().map_err(|source| DatapathError::Map { name, source })
}

/// Loads programs, several side by side: verifying them takes most of the time of a start.
pub(super) fn programs(ebpf: &mut Ebpf, names: &[&'static str]) -> Result<(), DatapathError> {
    let wanted = ebpf.programs_mut().filter_map(|(name, program)| {
        let name = names.iter().find(|wanted| **wanted == name)?;
        Some((*name, program))
    });
    let waiting = Mutex::new(wanted.collect::<Vec<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let load_some = || -> Result<(), DatapathError> {
        while let Some((name, program)) = next() {
            load(program).map_err(program_error(name))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others = 1..available_parallelism().map_or(1, usize::from);
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, load_some).ok();
        // Where there are no more threads to be had, this one does it all.
        let others: Vec<_> = others.filter_map(spawn).collect();
        let own = load_some();
        let joined = others.into_iter().map(|it| it.join().unwrap_or_else(|it| resume_unwind(it)));
        joined.fold(own, Result::and)
    })
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    if let Program::Xdp(program) = program {
        program.load()
    } else if let Program::CgroupSockAddr(program) = program {
        program.load()
    } else if let Program::SkLookup(program) = program {
        program.load()
    } else {
        <&mut SchedClassifier>::try_from(program)?.load()
    }
}

/// A program by its name in the object.
pub(super) fn program<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(DatapathError::NoProgram { name })?;
    program.try_into().map_err(program_error(name))
}

pub(super) fn program_error(name: &'static str) -> impl Fn(ProgramError) -> DatapathError {
    move |source| DatapathError::Program { name, source }
}
