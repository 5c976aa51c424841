//! Where maps, programs and socket hooks are pinned.
//!
//! ```text
//! BPFFS/v1/maps/CONNTRACK_V4 ...       one folder a version of the ABI
//!          progs/expire_flows
//!          links/connect_v4, xdp_2 ...    socket hooks, and XDP by interface index
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use netd_common::ABI_VERSION;

use super::DatapathError;

/// The folder of links, below that of a version.
const LINKS: &str = "links";

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
    pub(super) fn exist(&self) -> Result<bool, DatapathError> {
        Ok(!self.links_of_every_version()?.is_empty())
    }

    /// Makes the folders.
    pub(super) fn create(&self) -> Result<(), DatapathError> {
        for folder in [self.maps(), self.programs(), self.links()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| DatapathError::Pin { path: folder, source })?;
        }
        Ok(())
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The pin of a socket hook, or of XDP on a device.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// The folders of such pins of this version and every other, whether they exist or not.
    pub(super) fn links_of_every_version(&self) -> Result<Vec<PathBuf>, DatapathError> {
        let Some(bpffs) = self.root.parent() else {
            return Ok(vec![self.links()]);
        };
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
        let folders = entries.flatten().map(|entry| entry.path()).filter(is_version);
        Ok(folders.map(|folder| folder.join(LINKS)).collect())
    }

    /// Removes every pin and its folders, links first, so that no program outlives its map.
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        for folder in [self.links(), self.programs(), self.maps(), self.root.clone()] {
            match fs::remove_dir_all(&folder) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(DatapathError::Pin { path: folder, source });
                }
                _ => {}
            }
        }
        // The user's own folder, or one that another version still uses: gone only if it is empty.
        let _ = self.root.parent().map(fs::remove_dir);
        Ok(())
    }

    fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn programs(&self) -> PathBuf {
        self.root.join("progs")
    }

    fn links(&self) -> PathBuf {
        self.root.join(LINKS)
    }
}
