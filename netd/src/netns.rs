//! Sandboxes: opening a container's network namespace and entering it.
//!
//! A thread made for it enters the namespace, never one of the daemon's: it does what has to be
//! done there and ends. Nothing outlives its call except [`Sandbox`] itself; while one is held, the
//! namespace cannot be destroyed.

pub mod link;
pub mod visit;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc,
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use serde::{Deserialize, Serialize};

/// Where `ip netns` keeps its names.
const NAMES_DIR: &str = "/run/netns";

/// NS_GET_NSTYPE of linux/nsfs.h: `_IO(0xb7, 0x3)`.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// A container's network namespace, held open.
#[derive(Debug)]
pub struct Sandbox {
    file: File,
    id: NamespaceId,
}

/// Tells namespaces apart while they exist; the kernel gives the numbers out again afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespaceId {
    pub dev: u64,
    pub ino: u64,
}

/// Why a sandbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("sandbox {text:?} is neither a name, nor an absolute path, nor pid:N")]
    Malformed { text: String },
    #[error("there is no network namespace named {name} below /run/netns; see `ip netns`")]
    UnknownName { name: String },
    #[error("there is no process {pid}")]
    UnknownProcess { pid: u32 },
    #[error("cannot open sandbox {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a network namespace", path.display())]
    NotANetworkNamespace { path: PathBuf },
    #[error("{} is the host's own network namespace; name a container's", path.display())]
    Host { path: PathBuf },
}

/// Why nothing could be done inside a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("cannot start a thread for the sandbox")]
    Thread(#[source] io::Error),
    #[error("cannot enter the sandbox's network namespace")]
    SetNs(#[source] Errno),
}

impl Sandbox {
    /// Opens a sandbox by what users call it: a name below `/run/netns`, an absolute path, or
    /// `pid:N`. The host's own namespace, the current thread's, is refused.
    pub fn open(text: &str) -> Result<Self, SandboxError> {
        let path = path_of(text)?;
        let file = open_namespace(&path).map_err(|source| missing(text, path.clone(), source))?;
        let open_error = |source| SandboxError::Open { path: path.clone(), source };
        if !is_network_namespace(&file).map_err(open_error)? {
            return Err(SandboxError::NotANetworkNamespace { path });
        }
        let id = namespace_id(&file).map_err(open_error)?;
        let host = File::open("/proc/thread-self/ns/net").and_then(|file| namespace_id(&file));
        if id == host.map_err(open_error)? {
            return Err(SandboxError::Host { path });
        }
        Ok(Self { file, id })
    }

    /// Returns what tells this namespace from others.
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// Borrows the descriptor of the namespace.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The name of the network namespace that this process is in, if `ip netns` knows one.
pub fn name_of_own() -> Option<String> {
    let id = |path: &Path| open_namespace(path).and_then(|file| namespace_id(&file)).ok();
    let own = id(Path::new("/proc/self/ns/net"))?;
    let names = fs::read_dir(NAMES_DIR).ok()?.flatten();
    let name = names.into_iter().find(|entry| id(&entry.path()) == Some(own))?;
    name.file_name().into_string().ok()
}

fn path_of(text: &str) -> Result<PathBuf, SandboxError> {
    let malformed = || SandboxError::Malformed { text: text.to_owned() };
    if let Some(pid) = text.strip_prefix("pid:") {
        let pid: u32 = pid.parse().map_err(|_| malformed())?;
        Ok(PathBuf::from(format!("/proc/{pid}/ns/net")))
    } else if text.starts_with('/') {
        Ok(PathBuf::from(text))
    } else if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        Err(malformed())
    } else {
        Ok(Path::new(NAMES_DIR).join(text))
    }
}

/// Opens without waiting (a FIFO) and without side effects (a terminal), since the path is the
/// user's.
fn open_namespace(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(path)
}

fn missing(text: &str, path: PathBuf, source: io::Error) -> SandboxError {
    let is_missing = source.kind() == io::ErrorKind::NotFound;
    match text.strip_prefix("pid:").map(str::parse) {
        Some(Ok(pid)) if is_missing => SandboxError::UnknownProcess { pid },
        None if is_missing && !text.starts_with('/') => {
            SandboxError::UnknownName { name: text.to_owned() }
        }
        _ => SandboxError::Open { path, source },
    }
}

fn is_network_namespace(file: &File) -> io::Result<bool> {
    if fstatfs(file)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: the descriptor is open, and NS_GET_NSTYPE takes no argument and touches no memory.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    Ok(kind == libc::CLONE_NEWNET)
}

fn namespace_id(file: &File) -> io::Result<NamespaceId> {
    let metadata = file.metadata()?;
    Ok(NamespaceId { dev: metadata.dev(), ino: metadata.ino() })
}

#[cfg(test)]
mod tests {
    use super::{Sandbox, SandboxError, path_of};

    #[track_caller]
    fn check(text: &str, path: Option<&str>) {
        assert_eq!(path_of(text).ok().as_deref(), path.map(std::path::Path::new));
    }

    #[test]
    fn users_name_sandboxes_in_three_ways() {
        check("web", Some("/run/netns/web"));
        check("/var/run/docker/netns/default", Some("/var/run/docker/netns/default"));
        check("pid:17", Some("/proc/17/ns/net"));
        check("pid:", None);
        check("pid:-1", None);
        check("pid:self", None);
        check("", None);
        check("..", None);
        check("../netns/web", None);
    }

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        assert_eq!(Sandbox::open(text).map(|_| ()).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_is_no_sandbox_is_refused_by_name() {
        check_refused("/proc/self/ns/uts", "/proc/self/ns/uts is not a network namespace");
        check_refused("/dev/null", "/dev/null is not a network namespace");
        check_refused("/", "/ is not a network namespace");
        check_refused("pid:4294967295", "there is no process 4294967295");
        let name = "netd-test-no-such-name";
        let unknown = format!("there is no network namespace named {name} below /run/netns");
        check_refused(name, &format!("{unknown}; see `ip netns`"));
        let own = Sandbox::open("/proc/thread-self/ns/net").map(|_| ()).unwrap_err();
        assert!(matches!(own, SandboxError::Host { .. }));
    }
}
