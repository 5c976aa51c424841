//! File systems that a test has to itself, to be full or read-only.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system that is mounted as long as this lives: no longer than the world whose directory it hides.
#[derive(Debug)]
pub struct FileSystem {
    path: PathBuf,
}

impl FileSystem {
    /// A small disk.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    #[track_caller]
    pub fn disk(path: &Path) -> Self {
        Self::mount(path, "tmpfs", Some("size=4m"))
    }

    /// An empty bpffs.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    #[track_caller]
    pub fn bpffs(path: &Path) -> Self {
        Self::mount(path, "bpf", None)
    }

    #[track_caller]
    fn mount(path: &Path, fstype: &str, options: Option<&str>) -> Self {
        let made = fs::create_dir_all(path);
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mounted = mount(Some(fstype), path, Some(fstype), MsFlags::empty(), options);
        mounted.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned() }
    }

    /// Fills the disk to its last byte.
    ///
    /// # Panics
    /// Where not even a file can be made.
    #[track_caller]
    pub fn fill(&self) {
        let path = self.path.join("filler");
        let made = File::create(&path);
        let mut file = made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Makes room again.
    ///
    /// # Panics
    /// Where it is not full.
    #[track_caller]
    pub fn free(&self) {
        let path = self.path.join("filler");
        let removed = fs::remove_file(&path);
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Allows changes, or does not.
    ///
    /// # Panics
    /// Where it cannot be mounted anew.
    #[track_caller]
    pub fn make_read_only(&self, is_read_only: bool) {
        let read_only = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let flags = MsFlags::MS_REMOUNT | read_only;
        let mounted = mount(None::<&str>, &self.path, None::<&str>, flags, None::<&str>);
        mounted.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // Whoever still uses it keeps it.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
