//! Where maps, programs and socket hooks are pinned.
//!
//! ```text
//! BPFFS/v5/maps/CONNTRACK_V4 ...       one folder for the version of the ABI
//!          progs/OBJECT/from_uplink ...   one folder an eBPF object
//!          progs/current -> OBJECT        whose programs are all loaded
//!          links/connect_v4, xdp_2 ...    hooks of sockets, and XDP by interface index
//!      v5_part                          what is being made or removed, and of no use to anybody
//! ```
//! Maps come and go together, by a rename: another version's netd finds them complete or not at all.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
};

use netd_common::ABI_VERSION;

use super::DatapathError;
use crate::fail_point;

/// What this build's object is told from others by: its programs have a folder of their own.
const OBJECT_ID: &str = env!("NETD_OBJECT_ID");

/// The folders below that of a version.
const MAPS: &str = "maps";
const PROGRAMS: &str = "progs";
const LINKS: &str = "links";

/// What the name of a folder that is being made or removed ends in. (A bpffs takes no dots.)
const PART: &str = "_part";

/// The folders of one daemon's pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins below `bpffs`, a folder on a mounted bpffs.
    pub(crate) fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.join(format!("v{ABI_VERSION}")) }
    }

    /// The folder of them all.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there are any, be they of another version.
    pub(crate) fn exist(&self) -> Result<bool, DatapathError> {
        Ok(!self.every_version()?.is_empty())
    }

    /// Those of another version that has maps, if there is one. Links alone are taken up by whoever comes.
    pub(super) fn other_version(&self) -> Result<Option<Self>, DatapathError> {
        let is_other = |root: &PathBuf| *root != self.root && root.join(MAPS).exists();
        let mut others = self.every_version()?.into_iter().filter(is_other);
        let other = others.next().map(|root| Self { root });
        match others.next() {
            Some(path) => Err(DatapathError::Version { path }),
            None => Ok(other),
        }
    }

    /// Whether there are maps.
    pub(super) fn have_maps(&self) -> bool {
        self.maps().exists()
    }

    /// Pins to make what nobody is to find yet.
    pub(super) fn draft(&self) -> Self {
        Self { root: self.part() }
    }

    /// Gives a draft of these pins its place. Last its maps: they are what others look for.
    pub(super) fn publish(&self, draft: &Self) -> Result<(), DatapathError> {
        remove(&self.programs(), |path| fs::remove_dir_all(path))?;
        create(self.links())?;
        let folders = [(draft.programs(), self.programs()), (draft.maps(), self.maps())];
        folders.into_iter().try_for_each(|(from, to)| rename(&from, &to))?;
        self.remove_parts()
    }

    /// Makes the folders.
    pub(super) fn create(&self) -> Result<(), DatapathError> {
        [self.maps(), self.programs(), self.links()].into_iter().try_for_each(create)
    }

    /// Makes the folder of links where a daemon that died while it took everything away has left the others.
    pub(super) fn ensure_links(&self) -> Result<(), DatapathError> {
        if self.links().is_dir() { Ok(()) } else { create(self.links()) }
    }

    /// Checks that nobody has removed them.
    pub(super) fn check(&self) -> Result<(), DatapathError> {
        let path = self.current();
        if path.is_symlink() { Ok(()) } else { Err(DatapathError::PinsGone { path }) }
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(OBJECT_ID).join(name)
    }

    /// Whether this build's programs are loaded, and those that packets are handed over to are its.
    pub(super) fn are_programs_current(&self) -> bool {
        fs::read_link(self.current()).is_ok_and(|object| object == Path::new(OBJECT_ID))
    }

    /// Makes an empty folder for this build's programs. Until [`Self::make_programs_current`] no build's are
    /// known to be complete.
    pub(super) fn renew_programs(&self) -> Result<(), DatapathError> {
        let folder = self.programs().join(OBJECT_ID);
        remove(&self.current(), |path| fs::remove_file(path))?;
        remove(&folder, |path| fs::remove_dir_all(path))?;
        create(folder)
    }

    /// Says that this build's programs are all there.
    pub(super) fn make_programs_current(&self) -> Result<(), DatapathError> {
        fail_point::before_step();
        let path = self.current();
        symlink(OBJECT_ID, &path).map_err(|source| DatapathError::Pin { path, source })
    }

    /// Removes the pins of other builds' programs.
    pub(super) fn remove_other_programs(&self) -> Result<(), DatapathError> {
        let kept = [self.programs().join(OBJECT_ID), self.current()];
        let entries = fs::read_dir(self.programs())
            .map_err(|source| DatapathError::Pin { path: self.programs(), source })?;
        let others = entries.flatten().map(|entry| entry.path());
        others.filter(|path| !kept.contains(path)).try_for_each(|path| {
            let is_folder = path.is_dir();
            remove(
                &path,
                |path| if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) },
            )
        })
    }

    /// The pin of a socket hook, or of XDP on a device.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// The folders of such pins of this version and every other, whether they exist or not.
    pub(super) fn links_of_every_version(&self) -> Result<Vec<PathBuf>, DatapathError> {
        Ok(self.every_version()?.into_iter().map(|root| root.join(LINKS)).collect())
    }

    /// The folders of this version and every other, as far as they exist.
    fn every_version(&self) -> Result<Vec<PathBuf>, DatapathError> {
        let bpffs = self.bpffs();
        let entries = match fs::read_dir(bpffs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(DatapathError::Pin { path: bpffs.to_owned(), source }),
        };
        let is_version = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix('v'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(is_version).collect())
    }

    /// Removes every pin of every version and its folders, links first, so that no program outlives its map.
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        self.every_version()?.into_iter().try_for_each(|root| Self { root }.retire())?;
        self.remove_parts()?;
        self.remove_bpffs_if_empty();
        Ok(())
    }

    /// Removes a draft of these pins that has failed: what is left of it would say nothing that the failure does not.
    pub(super) fn discard(&self, draft: &Self) {
        let _ = draft.retire();
        self.remove_bpffs_if_empty();
    }

    /// The folder may be the user's own.
    fn remove_bpffs_if_empty(&self) {
        let _ = fs::remove_dir(self.bpffs());
    }

    /// Removes every pin of this version.
    pub(super) fn retire(&self) -> Result<(), DatapathError> {
        for folder in [self.links(), self.programs()] {
            remove(&folder, |path| fs::remove_dir_all(path))?;
        }
        let part = self.part();
        if self.have_maps() {
            remove(&part, |path| fs::remove_dir_all(path))?;
            rename(&self.maps(), &part)?;
        }
        [part, self.root.clone()]
            .iter()
            .try_for_each(|folder| remove(folder, |path| fs::remove_dir_all(path)))
    }

    /// Removes what is left of other versions whose maps are gone.
    pub(super) fn remove_versions_without_maps(&self) -> Result<(), DatapathError> {
        let others = self.every_version()?.into_iter().filter(|root| *root != self.root);
        let mut others = others.map(|root| Self { root }).filter(|other| !other.have_maps());
        others.try_for_each(|other| other.retire())
    }

    /// Removes what daemons of any version were making or removing when they died.
    pub(super) fn remove_parts(&self) -> Result<(), DatapathError> {
        let is_part = |path: &PathBuf| path.to_string_lossy().ends_with(PART);
        let entries = fs::read_dir(self.bpffs()).into_iter().flatten().flatten();
        let mut parts = entries.map(|entry| entry.path()).filter(is_part);
        parts.try_for_each(|part| remove(&part, |path| fs::remove_dir_all(path)))
    }

    /// Where this version's pins are while they are being made or removed.
    fn part(&self) -> PathBuf {
        let mut path = self.root.clone().into_os_string();
        path.push(PART);
        path.into()
    }

    /// The folder of all versions.
    fn bpffs(&self) -> &Path {
        // Made by joining.
        self.root.parent().unwrap_or(&self.root)
    }

    fn maps(&self) -> PathBuf {
        self.root.join(MAPS)
    }

    fn programs(&self) -> PathBuf {
        self.root.join(PROGRAMS)
    }

    /// The link to the folder whose programs are all loaded.
    fn current(&self) -> PathBuf {
        self.programs().join("current")
    }

    fn links(&self) -> PathBuf {
        self.root.join(LINKS)
    }
}

fn create(folder: PathBuf) -> Result<(), DatapathError> {
    fail_point::before_step();
    let created = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    created.map_err(|source| DatapathError::Pin { path: folder, source })
}

fn rename(from: &Path, to: &Path) -> Result<(), DatapathError> {
    fail_point::before_step();
    fs::rename(from, to).map_err(|source| DatapathError::Pin { path: to.to_owned(), source })
}

/// Removes what may not be there.
fn remove(path: &Path, by: impl Fn(&Path) -> io::Result<()>) -> Result<(), DatapathError> {
    fail_point::before_step();
    match by(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
