//! One daemon for one host, one for one set of pins, and one user of a state directory.
//!
//! A lock lives as long as the process, however it ends. A daemon that has just been killed may still be
//! on its way out, so a lock that is taken is asked for a little longer.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use thiserror::Error;

/// The daemon's own network namespace. Its file is the same for everybody inside.
const HOST: &str = "/proc/self/ns/net";

/// How long a dying process may hold its lock.
const PATIENCE: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Why a lock cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("another netd runs in this network namespace: stop it first")]
    Host,
    #[error("another netd has its pins in {path}: stop it, or give another --bpffs")]
    Pins { path: PathBuf },
    #[error("another netd uses the state directory {path}: stop it, or give another --state-dir")]
    State { path: PathBuf },
    #[error("{path} cannot be locked")]
    Failed { path: PathBuf, source: io::Error },
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Locks the host: there is one daemon in a network namespace.
///
/// # Errors
/// Where another daemon runs here.
pub fn host() -> Result<Lock, LockError> {
    lock(Path::new(HOST), || LockError::Host)
}

/// Locks the folder of the pins.
///
/// # Errors
/// Where another daemon has its pins there.
pub fn pins(bpffs: &Path) -> Result<Lock, LockError> {
    lock(bpffs, || LockError::Pins { path: bpffs.to_owned() })
}

/// Locks a state directory.
///
/// # Errors
/// Where a daemon keeps its state there, or somebody just reads it.
pub fn state(state_dir: &Path) -> Result<Lock, LockError> {
    lock(state_dir, || LockError::State { path: state_dir.to_owned() })
}

/// Whether a daemon runs in this network namespace.
///
/// # Errors
/// Where that cannot be found out.
pub fn is_host_taken() -> Result<bool, LockError> {
    is_taken(Path::new(HOST))
}

/// Whether a daemon has its pins there.
///
/// # Errors
/// Where that cannot be found out.
pub fn are_pins_taken(bpffs: &Path) -> Result<bool, LockError> {
    Ok(bpffs.exists() && is_taken(bpffs)?)
}

/// Whether a daemon keeps its state there.
///
/// # Errors
/// Where that cannot be found out.
pub fn is_state_taken(state_dir: &Path) -> Result<bool, LockError> {
    Ok(state_dir.exists() && is_taken(state_dir)?)
}

/// Asks for a lock that it gives back at once; a daemon that starts meanwhile asks again.
fn is_taken(path: &Path) -> Result<bool, LockError> {
    let failed = |source| LockError::Failed { path: path.to_owned(), source };
    match Flock::lock(File::open(path).map_err(failed)?, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

fn lock(path: &Path, taken: impl Fn() -> LockError) -> Result<Lock, LockError> {
    let failed = |source| LockError::Failed { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    for _ in 0..PATIENCE {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Lock { _file: file }),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(failed(errno.into())),
        }
        thread::sleep(PAUSE);
    }
    Err(taken())
}
