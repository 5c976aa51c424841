//! Puts the XDP program on devices.
//!
//! By a link that is pinned under the device's index: it outlives the daemon, its program is replaced
//! without a gap, nobody else can replace it, and removing the pin detaches it. Only in the driver: in the
//! kernel's generic mode a frame has cost more by then than the classifier would.
//!
//! A device carries one program, whatever the version of the daemon, so links are found below the pins of
//! every version.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aya::{
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
    },
    sys::SyscallError,
};
use nix::libc;
use thiserror::Error;

use super::{DatapathError, pins::Pins, programs::Programs};

/// Why a device does not carry the program.
#[derive(Debug, Error)]
pub(crate) enum XdpError {
    #[error("its driver has no native XDP")]
    NotNative,
    #[error("it carries another XDP program, which is left alone")]
    Taken,
    #[error("the driver or the kernel refuses")]
    Attach(#[source] ProgramError),
    #[error("the kernel gives no link")]
    Link(#[from] LinkError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What the names of the pins begin with; the interface index follows.
const PIN_PREFIX: &str = "xdp_";

/// Attaches the program, or replaces the one that an earlier daemon has left.
pub(super) fn attach(programs: &Programs, pins: &Pins, ifindex: u32) -> Result<(), XdpError> {
    let mut program = programs.xdp()?;
    let path = pins.link(&format!("{PIN_PREFIX}{ifindex}"));
    if let Some((_, found)) = pinned(pins)?.into_iter().find(|(index, _)| *index == ifindex) {
        fs::rename(&found, &path)
            .map_err(|source| DatapathError::Pin { path: path.clone(), source })?;
        if replace(&mut program, &path)? {
            return Ok(());
        }
    }
    let id = program.attach_to_if_index(ifindex, XdpMode::Driver).map_err(refusal)?;
    let link: FdLink = program.take_link(id).map_err(XdpError::Attach)?.try_into()?;
    link.pin(&path).map_err(|source| DatapathError::PinObject { path, source })?;
    Ok(())
}

/// Puts the program into the link pinned here, if it is one to a device still. One whose device is gone,
/// or that somebody has detached, is cleared away.
fn replace(program: &mut Xdp, path: &Path) -> Result<bool, XdpError> {
    let link = FdLink::from(PinnedLink::from_pin(path)?);
    match program.attach_to_link(link.try_into()?) {
        Ok(id) => {
            // The pin holds the link; this is one more reference.
            drop(program.take_link(id).map_err(XdpError::Attach)?);
            Ok(true)
        }
        Err(error) if errno(&error) == Some(libc::ENOLINK) => {
            remove(path)?;
            Ok(false)
        }
        Err(error) => Err(XdpError::Attach(error)),
    }
}

/// Takes the program off every device but these; the indices of those that it was on.
pub(super) fn detach_others(pins: &Pins, kept: &BTreeSet<u32>) -> Result<Vec<u32>, DatapathError> {
    let mut others = pinned(pins)?;
    others.retain(|(ifindex, _)| !kept.contains(ifindex));
    others.iter().try_for_each(|(_, path)| remove(path))?;
    Ok(others.into_iter().map(|(ifindex, _)| ifindex).collect())
}

/// The links that there are, by interface index.
fn pinned(pins: &Pins) -> Result<Vec<(u32, PathBuf)>, DatapathError> {
    let mut found = Vec::new();
    for folder in pins.links_of_every_version()? {
        let Ok(entries) = fs::read_dir(&folder) else {
            // Not every version has one.
            continue;
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let index = |name: &str| name.strip_prefix(PIN_PREFIX)?.parse().ok();
        found.extend(names.filter_map(|name| Some((index(&name)?, folder.join(name)))));
    }
    Ok(found)
}

/// The numbers of the programs that are on devices.
pub(super) fn programs(pins: &Pins) -> Result<Vec<u32>, XdpError> {
    let links = pinned(pins)?.into_iter();
    let program = |(_, path): (u32, PathBuf)| {
        Ok(FdLink::from(PinnedLink::from_pin(path)?).info()?.program_id())
    };
    links.map(program).collect()
}

fn remove(path: &Path) -> Result<(), DatapathError> {
    fs::remove_file(path).map_err(|source| DatapathError::Pin { path: path.to_owned(), source })
}

/// What the kernel's answer means. A link never takes the place of another owner's program.
fn refusal(error: ProgramError) -> XdpError {
    match errno(&error) {
        Some(libc::EOPNOTSUPP) => XdpError::NotNative,
        // In the driver, or in the kernel's generic mode or on the bond above.
        Some(libc::EBUSY | libc::EEXIST) => XdpError::Taken,
        _ => XdpError::Attach(error),
    }
}

pub(super) fn errno(error: &ProgramError) -> Option<i32> {
    if let ProgramError::SyscallError(SyscallError { io_error, .. }) = error {
        io_error.raw_os_error()
    } else {
        None
    }
}
