//! The mark beside the socket that says to clients: nobody answers for now, but somebody will.
//!
//! It is a lock and not the file, so one that was left by a process that died says nothing.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Says that a daemon is about to answer, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    _file: Flock<File>,
}

impl Mark {
    /// Sets the mark beside a socket that a daemon answers at, for those who may use it.
    ///
    /// # Errors
    /// Where the file cannot be made, or somebody else has locked it.
    pub(crate) fn set(socket: &Path) -> io::Result<Self> {
        let path = beside(socket);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o640).open(&path)?;
        fchown(&file, None, Some(fs::metadata(socket)?.gid()))?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let file = locked.map_err(|(_, errno)| io::Error::from(errno))?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // Without the lock it says nothing anyway.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a daemon is about to answer at a socket. A mark that cannot be read is none.
pub(crate) fn is_set(socket: &Path) -> bool {
    let Ok(file) = File::open(beside(socket)) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

fn beside(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".takeover");
    path.into()
}
