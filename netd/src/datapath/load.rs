//! Loads the embedded object: maps from their pins where they exist, programs afresh.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError, MapInfo, ProgramArray},
    programs::{CgroupSockAddr, Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use netd_common::{engine::Part, names};
use tracing::warn;

use super::{DatapathError, map_error, pins::Pins};

/// The object, aligned as the ELF parser asks for.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netd-ebpf.o"));

/// The maps that are shared with the daemon before and after this one.
const PINNED: [&str; 38] = [
    "CONFIG",
    "NETWORKS",
    "BRIDGES",
    "BRIDGE_PORTS",
    "SLOTS",
    "TRUSTED_INTERFACES",
    "UPLINKS",
    "UPLINK_MACS",
    "RESERVED_PORTS",
    "HOST_FLOWS_SEEN",
    "ISOLATION_SETS",
    "GENERATIONS",
    names::PROGRAMS,
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

/// The hooks that every host needs. Those of uplinks without Ethernet header are loaded when there is one.
const HOOKS: [&str; 6] = [
    names::FROM_UPLINK,
    names::TO_UPLINK,
    names::FROM_ENDPOINT,
    names::TO_ENDPOINT,
    names::FROM_BRIDGE,
    names::TO_BRIDGE,
];

const SOCKET_HOOKS: [&str; 2] = [names::CONNECT_V4, names::CONNECT_V6];

/// Loads maps and programs, and pins what the connection table's expiry runs by itself.
pub(super) fn load(pins: &Pins, max_flows: u32) -> Result<Ebpf, DatapathError> {
    pins.create()?;
    let mut loader = EbpfLoader::new();
    for name in PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    // Two halves a flow.
    let entries = max_flows.saturating_mul(2);
    loader.map_max_entries("CONNTRACK_V4", entries).map_max_entries("CONNTRACK_V6", entries);
    say_kept_size(pins, entries);
    let mut ebpf = loader.load(OBJECT)?;
    forward_packet_log(&mut ebpf);
    for name in HOOKS {
        hook(&mut ebpf, name)?;
    }
    for name in SOCKET_HOOKS {
        socket_hook(&mut ebpf, name)?.load().map_err(program_error(name))?;
    }
    xdp(&mut ebpf, names::FROM_WIRE)?.load().map_err(program_error(names::FROM_WIRE))?;
    let expiry = names::EXPIRE_FLOWS;
    classifier(&mut ebpf, expiry)?.load().map_err(program_error(expiry))?;
    pin_expiry(&mut ebpf, pins)?;
    Ok(ebpf)
}

/// A hook's program for its device, loaded with all that it hands packets over to. These have their places
/// before it is attached; those of an earlier daemon are replaced one by one: all understand the same tables.
pub(super) fn hook<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    let parts = (0..).zip(names::PARTS).skip_while(|(_, part)| *part != name);
    for (place, part) in parts.take(Part::COUNT as usize) {
        let program = classifier(ebpf, part)?;
        if program.fd().is_err() {
            program.load().map_err(program_error(part))?;
            let program = program.fd().and_then(|fd| Ok(fd.try_clone()?));
            put_part(ebpf, place, &program.map_err(program_error(part))?)?;
        }
    }
    classifier(ebpf, name)
}

fn put_part(ebpf: &mut Ebpf, place: u32, program: &ProgramFd) -> Result<(), DatapathError> {
    let name = names::PROGRAMS;
    let error = |source| DatapathError::Map { name, source };
    let map = ebpf.map_mut(name).ok_or(DatapathError::NoMap { name })?;
    ProgramArray::try_from(map).and_then(|mut places| places.set(place, program, 0)).map_err(error)
}

/// How many flows the pinned tables have room for.
pub(super) fn held_flows(pins: &Pins) -> Result<u32, DatapathError> {
    let info = MapInfo::from_pin(pins.map("CONNTRACK_V4")).map_err(map_error("CONNTRACK_V4"))?;
    Ok(info.max_entries() / 2)
}

/// A table that holds flows keeps its size: `max_flows` is that of the next one.
fn say_kept_size(pins: &Pins, entries: u32) {
    let Ok(info) = MapInfo::from_pin(pins.map("CONNTRACK_V4")) else {
        return;
    };
    if info.max_entries() != entries {
        warn!(
            max_flows = info.max_entries() / 2,
            "the connection table keeps its size until `netd stop --detach`"
        );
    }
}

/// The expiry program, under a new name first: the pin is never missing.
fn pin_expiry(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), DatapathError> {
    let (path, new) = (pins.program(names::EXPIRE_FLOWS), pins.program("expire_flows_new"));
    let program = classifier(ebpf, names::EXPIRE_FLOWS)?;
    let _ = std::fs::remove_file(&new);
    let pin_error = |source| DatapathError::PinObject { path: path.clone(), source };
    program.pin(&new).map_err(pin_error)?;
    std::fs::rename(&new, &path).map_err(|source| DatapathError::Pin { path, source })
}

#[cfg(not(feature = "packet-log"))]
fn forward_packet_log(_: &mut Ebpf) {}

/// Hands the lines of a development build to the log.
#[cfg(feature = "packet-log")]
fn forward_packet_log(ebpf: &mut Ebpf) {
    super::packet_log::forward(ebpf);
}

/// A map by its name in the object.
pub(super) fn take_map<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DatapathError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(DatapathError::NoMap { name })?;
    map.try_into().map_err(|source| DatapathError::Map { name, source })
}

/// A map by its pin, for a reader of its own.
pub(super) fn pinned_map(pins: &Pins, name: &'static str) -> Result<MapData, DatapathError> {
    MapData::from_pin(pins.map(name)).map_err(|source| DatapathError::Map { name, source })
}

/// A classifier by its name in the object.
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    program(ebpf, name)?.try_into().map_err(program_error(name))
}

/// A socket hook by its name in the object.
pub(super) fn socket_hook<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, DatapathError> {
    program(ebpf, name)?.try_into().map_err(program_error(name))
}

/// An XDP program by its name in the object.
pub(super) fn xdp<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Xdp, DatapathError> {
    program(ebpf, name)?.try_into().map_err(program_error(name))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, DatapathError> {
    ebpf.program_mut(name).ok_or(DatapathError::NoProgram { name })
}

pub(super) fn program_error(name: &'static str) -> impl Fn(ProgramError) -> DatapathError {
    move |source| DatapathError::Program { name, source }
}
