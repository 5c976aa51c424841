//! `netd run --takeover`: ends the daemon that runs here, for this one to go on in its place.
//!
//! It is ended by a signal, which daemons of every version understand, and only where this one could read what it
//! leaves. Its data path stays meanwhile, as always.

pub(crate) mod mark;

use std::{
    fs,
    io::{self, Read as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use thiserror::Error;
use tracing::{debug, info};

use crate::{
    config::DaemonConfig,
    datapath::{self, DatapathError, Pins},
    locks::{self, LockError},
    store::{Store, StoreError},
};
use mark::Mark;

/// How long a daemon may take to finish what it is at.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Why the daemon that runs stays.
#[derive(Debug, Error)]
pub(crate) enum TakeoverError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Pins(Box<DatapathError>),
    #[error(
        "the netd of this network namespace does not answer at {path}: {source}; name its socket with --socket"
    )]
    NotReachable { path: PathBuf, source: io::Error },
    #[error(
        "the netd that answers at {path} is that of another network namespace: name the socket of this one's"
    )]
    Foreign { path: PathBuf },
    #[error(
        "no netd uses the state directory {path}: give the --state-dir of the one that runs, or its --config"
    )]
    OtherState { path: PathBuf },
    #[error(
        "no netd has its pins in {path}: give the --bpffs of the one that runs, or its --config"
    )]
    OtherPins { path: PathBuf },
    #[error("the netd that answers at {path} cannot be ended: {source}")]
    Signal { path: PathBuf, source: Errno },
    #[error("the netd that answered at {path} has been told to end and has not: see its log")]
    Stays { path: PathBuf },
}

/// Ends the daemon of this network namespace, if one runs, and waits until it has ended. Where one has, clients
/// wait for as long as the mark is kept.
///
/// # Errors
/// Where this netd could not go on with what the other leaves, or does not find it; it goes on running then.
pub(crate) fn end_other(config: &DaemonConfig) -> Result<Option<Mark>, TakeoverError> {
    if !locks::is_host_taken()? {
        return Ok(None);
    }
    check_directories(config)?;
    Store::check_schema(&config.state_dir)?;
    datapath::check_pins(&Pins::new(&config.bpffs))
        .map_err(|error| TakeoverError::Pins(Box::new(error)))?;
    let path = || config.socket.clone();
    let unreachable = |source| TakeoverError::NotReachable { path: path(), source };
    let stream = UnixStream::connect(&config.socket).map_err(unreachable)?;
    let peer = getsockopt(&stream, PeerCredentials).map_err(|e| unreachable(e.into()))?.pid();
    if !is_of_this_host(peer).map_err(unreachable)? {
        return Err(TakeoverError::Foreign { path: path() });
    }
    // Without it clients are told at once that nobody answers, as they are of a restart.
    let mark = Mark::set(&config.socket).inspect_err(|error| debug!(%error, "clients do not wait"));
    let signalled = kill(Pid::from_raw(peer), Signal::SIGTERM);
    signalled.map_err(|source| TakeoverError::Signal { path: path(), source })?;
    let is_gone = wait_until_closed(stream).is_ok() && wait_until_free(config)?;
    if !is_gone {
        return Err(TakeoverError::Stays { path: path() });
    }
    info!(pid = peer, "the daemon that ran has been told to end, this one goes on in its place");
    Ok(mark.ok())
}

/// What this one goes on with has to be the other's.
fn check_directories(config: &DaemonConfig) -> Result<(), TakeoverError> {
    if !locks::is_state_taken(&config.state_dir)? {
        return Err(TakeoverError::OtherState { path: config.state_dir.clone() });
    }
    if !locks::are_pins_taken(&config.bpffs)? {
        return Err(TakeoverError::OtherPins { path: config.bpffs.clone() });
    }
    Ok(())
}

/// Whether a process is in this network namespace.
fn is_of_this_host(pid: i32) -> io::Result<bool> {
    let namespace = |process: &str| fs::metadata(format!("/proc/{process}/ns/net"));
    let (own, other) = (namespace("self")?, namespace(&pid.to_string())?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// Waits until a daemon that ends holds no lock any more: the kernel takes its time to put away what a process had,
/// on a busy machine seconds. Says whether that has come about.
fn wait_until_free(config: &DaemonConfig) -> Result<bool, LockError> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        let is_taken = locks::is_host_taken()?
            || locks::is_state_taken(&config.state_dir)?
            || locks::are_pins_taken(&config.bpffs)?;
        if !is_taken {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    Ok(false)
}

/// A daemon closes its connections when it ends; it has said nothing, since it was asked nothing.
fn wait_until_closed(mut stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    match stream.read(&mut [0]) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
