//! The programs of this build: loaded once, and found by their pins by every later daemon of the same build.
//!
//! The verifier takes most of the time of a start, so what has been loaded is not loaded again. Whatever puts a
//! program somewhere finds it by its pin.

use std::collections::{BTreeMap, btree_map::Entry};

use aya::{
    Ebpf,
    maps::{Map, ProgramArray},
    programs::{
        CgroupSockAddr, CgroupSockAddrAttachType, ProgramError, SchedClassifier, SkLookup, Xdp,
    },
};
use aya_obj::programs::XdpAttachType;
use netd_common::{engine::Part, names};

use super::{
    DatapathError,
    load::{self, pinned_map, program_error},
    pins::Pins,
};
use crate::fail_point;

/// The hooks that every host needs. Those of uplinks without Ethernet header are loaded when there is one.
const HOOKS: [&str; 6] = [
    names::FROM_UPLINK,
    names::TO_UPLINK,
    names::FROM_ENDPOINT,
    names::TO_ENDPOINT,
    names::FROM_BRIDGE,
    names::TO_BRIDGE,
];

/// The socket hooks, and where they hook.
pub(super) const SOCKET_HOOKS: [(&str, CgroupSockAddrAttachType); 10] = {
    use CgroupSockAddrAttachType as At;
    let (
        [connect4, sendmsg4, recvmsg4, peer4, bind4],
        [connect6, sendmsg6, recvmsg6, peer6, bind6],
    ) = (names::SOCKET_HOOKS_V4, names::SOCKET_HOOKS_V6);
    [
        // What is shown comes first: whatever is sent elsewhere is shown as it was asked for.
        (recvmsg4, At::UDPRecvMsg4),
        (recvmsg6, At::UDPRecvMsg6),
        (peer4, At::GetPeerName4),
        (peer6, At::GetPeerName6),
        (connect4, At::Connect4),
        (connect6, At::Connect6),
        (sendmsg4, At::UDPSendMsg4),
        (sendmsg6, At::UDPSendMsg6),
        (bind4, At::Bind4),
        (bind6, At::Bind6),
    ]
};

/// What the daemon runs on the connection table.
const TABLE_PROGRAMS: [&str; 2] = [names::EXPIRE_FLOWS, names::INHERIT_FLOWS];

/// A development build's programs are loaded each time: the log's buffer goes with the daemon.
const ARE_KEPT: bool = !cfg!(feature = "packet-log");

/// Where the programs are.
pub(super) struct Programs {
    pins: Pins,
    max_flows: u32,
    /// Those at devices, as far as they have been asked for.
    hooks: BTreeMap<&'static str, SchedClassifier>,
}

impl Programs {
    /// Finds the programs and maps that an earlier daemon of this build has loaded, or loads them.
    ///
    /// Where there are no maps yet, `complete` brings them to what they are found with by another build.
    pub(super) fn open(
        pins: &Pins,
        max_flows: u32,
        complete: impl FnOnce(&Pins) -> Result<(), DatapathError>,
    ) -> Result<Self, DatapathError> {
        let mut this = Self { pins: pins.clone(), max_flows, hooks: BTreeMap::new() };
        pins.remove_parts()?;
        if !pins.have_maps() {
            let draft = pins.draft();
            let made = load_all(&draft, max_flows).and_then(|()| complete(&draft));
            made.and_then(|()| pins.publish(&draft)).inspect_err(|_| pins.discard(&draft))?;
        }
        load::check_maps(pins)?;
        if !(ARE_KEPT && load::are_maps_pinned(pins) && this.are_pinned()) {
            load_all(pins, max_flows)?;
        }
        // At hand from now on, whatever becomes of the pins: others would be over other maps.
        HOOKS.iter().try_for_each(|hook| this.hook(hook).map(|_| ()))?;
        Ok(this)
    }

    /// Whether nobody has taken any of them away.
    fn are_pinned(&self) -> bool {
        let sockets = SOCKET_HOOKS.iter().map(|(name, _)| name);
        let others = [names::FROM_WIRE, names::TO_SOCKET];
        let names = HOOKS.iter().chain(sockets).chain(&others).chain(&TABLE_PROGRAMS);
        self.pins.are_programs_current()
            && names.into_iter().all(|name| self.pins.program(name).exists())
    }

    /// A hook's program for its device.
    pub(super) fn hook(
        &mut self,
        name: &'static str,
    ) -> Result<&mut SchedClassifier, DatapathError> {
        match self.hooks.entry(name) {
            Entry::Occupied(program) => Ok(program.into_mut()),
            Entry::Vacant(place) => {
                let path = self.pins.program(name);
                if !path.exists() {
                    self.pins.check()?;
                    load_hook(&mut load::object(&self.pins, self.max_flows)?, &self.pins, name)?;
                }
                let program = SchedClassifier::from_pin(path);
                Ok(place.insert(program.map_err(program_error(name))?))
            }
        }
    }

    /// The program that puts another netd's flows into the table.
    pub(super) fn inherit_flows(&self) -> Result<SchedClassifier, DatapathError> {
        let program = SchedClassifier::from_pin(self.pins.program(names::INHERIT_FLOWS));
        program.map_err(program_error(names::INHERIT_FLOWS))
    }

    /// The program of a socket hook.
    pub(super) fn socket_hook(
        &self,
        name: &'static str,
        hook: CgroupSockAddrAttachType,
    ) -> Result<CgroupSockAddr, DatapathError> {
        let program = CgroupSockAddr::from_pin(self.pins.program(name), hook);
        program.map_err(program_error(name))
    }

    /// The program that finds sockets.
    pub(super) fn to_socket(&self) -> Result<SkLookup, DatapathError> {
        let program = SkLookup::from_pin(self.pins.program(names::TO_SOCKET));
        program.map_err(program_error(names::TO_SOCKET))
    }

    /// The program in the drivers of uplinks.
    pub(super) fn xdp(&self) -> Result<Xdp, DatapathError> {
        let path = self.pins.program(names::FROM_WIRE);
        Xdp::from_pin(path, XdpAttachType::Interface).map_err(program_error(names::FROM_WIRE))
    }

    /// Lets go of what other builds have loaded.
    pub(super) fn forget_others(&self) -> Result<(), DatapathError> {
        self.pins.remove_other_programs()
    }
}

/// Loads all programs that every host needs, over the maps that are pinned there, which are made where they are
/// missing.
fn load_all(pins: &Pins, max_flows: u32) -> Result<(), DatapathError> {
    let mut ebpf = load::object(pins, max_flows)?;
    pins.renew_programs()?;
    let parts = HOOKS.iter().flat_map(|hook| parts_of(hook)).map(|(_, part)| part);
    let sockets = SOCKET_HOOKS.iter().map(|(name, _)| *name);
    let others = sockets.chain([names::FROM_WIRE, names::TO_SOCKET]).chain(TABLE_PROGRAMS);
    load::programs(&mut ebpf, &parts.chain(others).collect::<Vec<_>>())?;
    HOOKS.iter().try_for_each(|hook| place_hook(&mut ebpf, pins, hook))?;
    for (name, _) in SOCKET_HOOKS {
        let program: &mut CgroupSockAddr = load::program(&mut ebpf, name)?;
        pin(pins, name, |path| program.pin(path))?;
    }
    let program: &mut Xdp = load::program(&mut ebpf, names::FROM_WIRE)?;
    pin(pins, names::FROM_WIRE, |path| program.pin(path))?;
    let program: &mut SkLookup = load::program(&mut ebpf, names::TO_SOCKET)?;
    pin(pins, names::TO_SOCKET, |path| program.pin(path))?;
    for name in TABLE_PROGRAMS {
        let program: &mut SchedClassifier = load::program(&mut ebpf, name)?;
        pin(pins, name, |path| program.pin(path))?;
    }
    pins.make_programs_current()
}

/// Loads a hook's programs and gives them their places.
fn load_hook(ebpf: &mut Ebpf, pins: &Pins, hook: &'static str) -> Result<(), DatapathError> {
    let parts = parts_of(hook).into_iter().map(|(_, part)| part);
    load::programs(ebpf, &parts.collect::<Vec<_>>())?;
    place_hook(ebpf, pins, hook)
}

/// The program of a hook's device, then those that it hands packets over to, each with its place.
fn parts_of(hook: &str) -> Vec<(u32, &'static str)> {
    let parts = (0..).zip(names::PARTS).skip_while(|(_, part)| *part != hook);
    parts.take(Part::COUNT as usize).collect()
}

/// Gives a hook's programs their places, then pins them: those that packets are handed over to are there before the
/// device's own is attached. Those of an earlier daemon are replaced one by one: all understand the same tables.
/// The device's own is pinned last: it is there when all are.
fn place_hook(ebpf: &mut Ebpf, pins: &Pins, hook: &'static str) -> Result<(), DatapathError> {
    let places = pinned_map(pins, names::PROGRAMS).map(Map::ProgramArray)?;
    let map_error = |source| DatapathError::Map { name: names::PROGRAMS, source };
    let mut places = ProgramArray::try_from(places).map_err(map_error)?;
    for (place, part) in parts_of(hook).into_iter().rev() {
        let program: &mut SchedClassifier = load::program(ebpf, part)?;
        fail_point::before_step();
        places.set(place, program.fd().map_err(program_error(part))?, 0).map_err(map_error)?;
        pin(pins, part, |path| program.pin(path))?;
    }
    Ok(())
}

fn pin(
    pins: &Pins,
    name: &'static str,
    pin: impl FnOnce(&std::path::Path) -> Result<(), aya::pin::PinError>,
) -> Result<(), DatapathError> {
    let path = pins.program(name);
    // Left by a daemon that died half-way through a hook.
    let _ = std::fs::remove_file(&path);
    fail_point::before_step();
    pin(&path).map_err(|source| DatapathError::PinObject { path, source })
}

/// The kernel's number of a program.
pub(super) fn id_of(program: &SchedClassifier) -> Result<u32, ProgramError> {
    Ok(program.info()?.id())
}
