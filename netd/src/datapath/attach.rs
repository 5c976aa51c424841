//! Puts the programs on devices and on the host's sockets.
//!
//! Classifiers go through clsact and not TCX: an attachment costs 0.1 ms where TCX waits 12 to 16 ms
//! for a grace period, it lives as long as the device without a pin, and it works on every kernel that
//! the rest works on. Fixed priority and handle make a filter ours to find and to replace in place.

use std::{fs::File, io, mem, path::Path};

use aya::programs::{
    CgroupAttachMode, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};
use netd_common::names;

use super::{
    DatapathError,
    load::program_error,
    pins::Pins,
    programs::{Programs, SOCKET_HOOKS, id_of},
};
use crate::fail_point;

/// Before the filters of others: what netd drops is nobody else's to see, and what it passes goes on to
/// them.
pub(crate) const PRIORITY: u16 = 1;
pub(crate) const HANDLE: u16 = 0x6e64;

/// The numbers of the programs that are our classifiers on a device, as far as it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) ingress: Option<u32>,
    pub(crate) egress: Option<u32>,
}

/// Which programs a device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It leads out, and its packets have an Ethernet header.
    Uplink,
    /// It leads out, and its packets have none.
    UplinkL3,
    /// It is the host's end of a container's veth pair.
    Endpoint,
    /// It is the bridge of a network.
    Bridge,
}

impl Side {
    /// The programs for what comes in and what goes out.
    fn programs(self) -> [(TcAttachType, &'static str); 2] {
        let [ingress, egress] = match self {
            Self::Uplink => [names::FROM_UPLINK, names::TO_UPLINK],
            Self::UplinkL3 => [names::FROM_UPLINK_L3, names::TO_UPLINK_L3],
            Self::Endpoint => [names::FROM_ENDPOINT, names::TO_ENDPOINT],
            Self::Bridge => [names::FROM_BRIDGE, names::TO_BRIDGE],
        };
        // What leaves first: no packet gets in that could not get out translated.
        [(TcAttachType::Egress, egress), (TcAttachType::Ingress, ingress)]
    }
}

/// Whether what a device carries are the programs of a side.
pub(super) fn is_attached(
    programs: &mut Programs,
    carried: Carried,
    side: Side,
) -> Result<bool, DatapathError> {
    for (hook, name) in side.programs() {
        let id = id_of(programs.hook(name)?).map_err(program_error(name))?;
        let found = match hook {
            TcAttachType::Egress => carried.egress,
            TcAttachType::Ingress | TcAttachType::Custom(_) => carried.ingress,
        };
        if found != Some(id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Attaches both programs, or replaces those that are there without a gap.
pub(super) fn attach(
    programs: &mut Programs,
    ifname: &str,
    side: Side,
) -> Result<(), DatapathError> {
    match qdisc_add_clsact(ifname) {
        Err(error) if !is_already_there(&error) => {
            return Err(DatapathError::Clsact { ifname: ifname.to_owned(), source: error });
        }
        _ => {}
    }
    for (hook, name) in side.programs() {
        fail_point::before_step();
        put(programs.hook(name)?, ifname, hook)
            .map_err(|source| DatapathError::Attach { ifname: ifname.to_owned(), source })?;
    }
    Ok(())
}

fn put(
    program: &mut SchedClassifier,
    ifname: &str,
    hook: TcAttachType,
) -> Result<(), ProgramError> {
    let ours = SchedClassifierLink::attached(ifname, hook, PRIORITY, handle(), None)?;
    let link = match program.attach_to_link(ours) {
        Ok(link) => link,
        Err(_) => {
            let options = NlOptions { priority: PRIORITY, handle: handle(), classid: None };
            program.attach_with_options(ifname, hook, TcAttachOptions::Netlink(options))?
        }
    };
    // A link that is dropped is detached; this one is to outlive the daemon.
    mem::forget(program.take_link(link)?);
    Ok(())
}

/// Whether the qdisc is there: the kernel's EEXIST.
fn is_already_there(error: &TcError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::AlreadyExists;
        }
        source = error.source();
    }
    false
}

/// Takes our classifiers off a device. One that is gone, or has none, is as it should be.
pub(super) fn detach(ifname: &str) {
    for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
        // Dropping the link is what detaches it.
        drop(SchedClassifierLink::attached(ifname, hook, PRIORITY, handle(), None));
    }
}

fn handle() -> TcHandle {
    TcHandle::new(0, HANDLE)
}

/// Hooks connect() at the root of the cgroup tree, unless that is done. The programs leave every network
/// namespace but the host's alone. New hooks are on before old ones go, which is harmless: what the first has
/// rewritten, the second does not match.
pub(super) fn hook_sockets(
    programs: &Programs,
    pins: &Pins,
    cgroup: &Path,
) -> Result<(), DatapathError> {
    let pin_error = |source| DatapathError::Pin { path: cgroup.to_owned(), source };
    let directory = File::open(cgroup).map_err(pin_error)?;
    pins.ensure_links()?;
    for (name, hook) in SOCKET_HOOKS {
        let mut program = programs.socket_hook(name, hook)?;
        let error = |source| DatapathError::Cgroup { path: cgroup.to_owned(), source };
        if is_hooked(pins, name, program.info()).map_err(error)? {
            continue;
        }
        // A link coexists with the programs of others, whatever aya calls the mode.
        let id = program.attach(&directory, CgroupAttachMode::Single).map_err(error)?;
        let link = program.take_link(id).map_err(error)?.try_into();
        keep(pins, name, link.map_err(|_| error(ProgramError::NotAttached))?)?;
    }
    Ok(())
}

/// Has the sockets of this network namespace found by our program, unless that is done. A new one is asked after the
/// old one, which has the same answers.
pub(super) fn hook_socket_lookup(programs: &Programs, pins: &Pins) -> Result<(), DatapathError> {
    let path = Path::new("/proc/self/ns/net");
    let netns =
        File::open(path).map_err(|source| DatapathError::Pin { path: path.to_owned(), source })?;
    let mut program = programs.to_socket()?;
    let error = program_error(names::TO_SOCKET);
    if is_hooked(pins, names::TO_SOCKET, program.info()).map_err(&error)? {
        return Ok(());
    }
    let id = program.attach(netns).map_err(&error)?;
    let link = program.take_link(id).map_err(&error)?;
    keep(pins, names::TO_SOCKET, link.into())
}

/// Whether the hook has the program already.
fn is_hooked(
    pins: &Pins,
    name: &str,
    program: Result<ProgramInfo, ProgramError>,
) -> Result<bool, ProgramError> {
    Ok(hooked(&pins.link(name)) == Some(program?.id()))
}

/// Pins a link in the place of the one before.
fn keep(pins: &Pins, name: &str, link: FdLink) -> Result<(), DatapathError> {
    let (path, new) = (pins.link(name), pins.link(&format!("{name}_new")));
    let _ = std::fs::remove_file(&new);
    let pin_error = |source| DatapathError::PinObject { path: path.clone(), source };
    link.pin(&new).map_err(pin_error)?;
    fail_point::before_step();
    std::fs::rename(&new, &path).map_err(|source| DatapathError::Pin { path, source })
}

/// The number of the program behind a pinned link.
fn hooked(path: &Path) -> Option<u32> {
    let link = FdLink::from(PinnedLink::from_pin(path).ok()?);
    Some(link.info().ok()?.program_id())
}
