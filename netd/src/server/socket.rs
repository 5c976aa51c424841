//! Making the socket: where it lies, whose it is, and that no other daemon answers there.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, chown},
};
use thiserror::Error;
use tokio::net::UnixListener;

/// The group whose members may give orders.
const GROUP: &str = "netd";

/// Why the daemon cannot answer on its socket.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("another netd answers at {path}: stop it, or give another --socket")]
    InUse { path: PathBuf },
    #[error("{path} exists and is no socket: remove it, or give another --socket")]
    NotASocket { path: PathBuf },
    #[error("the socket {path} cannot be made: {source}; check --socket")]
    Make { path: PathBuf, source: io::Error },
}

/// Makes the socket and listens on it. Missing directories are created, a socket that nobody answers
/// on is replaced.
///
/// # Errors
/// Where another daemon answers there, something else lies there, or the system refuses.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let error = |source| BindError::Make { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(error)?;
    give_to_group(path).map_err(|source| {
        // Nobody is to find it who could not use it.
        let _ = fs::remove_file(path);
        error(source)
    })?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let error = |source| BindError::Make { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(error(source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        // Nobody listens: the daemon of this socket ended without removing it.
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(error)
        }
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(source) => Err(error(source)),
    }
}

/// Mode 0660, root:netd; the group of root where there is none of that name. A daemon without root's
/// powers keeps what it has.
fn give_to_group(path: &Path) -> io::Result<()> {
    let group = match Group::from_name(GROUP) {
        // No list of groups is as good as no such group (getgrnam(3), "RETURN VALUE").
        Err(Errno::ENOENT | Errno::ESRCH) => None,
        found => found?,
    };
    let group = group.map_or(Gid::from_raw(0), |group| group.gid);
    if Uid::effective().is_root() {
        chown(path, Some(Uid::from_raw(0)), Some(group))?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o660))
}
