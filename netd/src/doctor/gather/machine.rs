//! The kernel, the file systems and the daemon.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{because, text_of};
use crate::{
    client::{Client, ClientError},
    config::{Config, DaemonConfig},
    daemon::netns_cookie,
    datapath::{self, DatapathError, Pins, probe},
    doctor::facts::{Bpffs, Cgroup2, Daemon, Known, Programs, Unknown},
    locks, mounts, netns, privileges,
};

pub(super) fn missing_capabilities() -> Known<Vec<String>> {
    let missing = privileges::missing().map_err(because)?;
    Ok(missing.iter().map(ToString::to_string).collect())
}

pub(super) fn release() -> Known<String> {
    let release = text_of("/proc/sys/kernel/osrelease")?;
    release.ok_or_else(|| Unknown("/proc/sys/kernel/osrelease is missing".to_owned()))
}

/// What the daemon could do says nothing of what another user could.
pub(super) fn needs_root(is_privileged: bool) -> Known<()> {
    if is_privileged { Ok(()) } else { Err(Unknown("only root can tell".to_owned())) }
}

pub(super) fn missing_features(is_privileged: bool) -> Known<Vec<&'static str>> {
    needs_root(is_privileged)?;
    probe::missing_features().map_err(because)
}

pub(super) fn programs(is_privileged: bool) -> Known<Programs> {
    needs_root(is_privileged)?;
    Ok(match probe::try_programs() {
        Ok(loaded) => Programs::Loaded(loaded),
        Err(error) => Programs::Refused(reason(&error)),
    })
}

/// Why a program is refused, without the verifier's log.
fn reason(error: &DatapathError) -> String {
    const LEN: usize = 200;
    Unknown::because(error).0.chars().take(LEN).collect()
}

pub(super) fn cgroup2() -> Known<Cgroup2> {
    Ok(match mounts::mounted_cgroup2().map_err(because)? {
        Some(path) => Cgroup2::At(path),
        None if has_file_system("cgroup2")? => Cgroup2::NotMounted,
        None => Cgroup2::Absent,
    })
}

/// Whether the kernel lists a kind of file system, each line's last word.
fn has_file_system(kind: &str) -> Known<bool> {
    let list = text_of("/proc/filesystems")?.unwrap_or_default();
    Ok(list.lines().any(|line| line.split_whitespace().last() == Some(kind)))
}

/// The bpffs of the daemon that runs, which may have mounts of its own; else the one that it would have.
pub(super) fn bpffs(config: &DaemonConfig, daemon: Option<&Daemon>) -> Known<Bpffs> {
    let seen = if daemon == Some(&Daemon::Here) { seen_by_daemon(config)? } else { None };
    let path = seen.as_deref().unwrap_or(&config.bpffs);
    let is_mounted = mounts::is_on_bpffs(path).map_err(because)?;
    let outlives = if is_mounted { mounts::is_shared_with_init(path) } else { mounts::are_inits() };
    Ok(Bpffs {
        is_supported: has_file_system("bpf")?,
        is_mounted,
        is_daemons: seen.is_some(),
        outlives: outlives.map_err(because),
        namespace: netns::name_of_own(),
        owner_error: owner_error(path),
    })
}

/// The way to the daemon's own pins, where its process can be seen from here.
fn seen_by_daemon(config: &DaemonConfig) -> Known<Option<PathBuf>> {
    let client = Client::connect(&config.socket).map_err(because)?;
    let Some(pid) = client.daemon_pid() else { return Ok(None) };
    let (root, below) = (format!("/proc/{pid}/root"), config.bpffs.strip_prefix("/"));
    // Whose mounts these are only root may ask.
    fs::read_link(&root).map_err(|error| Unknown(format!("{root}: {error}")))?;
    Ok(Some(Path::new(&root).join(below.unwrap_or(&config.bpffs))))
}

/// Whether the pins are those of another network namespace.
fn owner_error(path: &Path) -> Option<String> {
    let cookie = netns_cookie().ok()?;
    match datapath::check_owner(&Pins::new(path), cookie) {
        Err(DatapathError::ForeignPins { path }) => {
            Some(format!("{} has the pins of a netd in another network namespace", path.display()))
        }
        _ => None,
    }
}

/// What keeps the directory, or the nearest above it that is there, from being written.
pub(super) fn state_error(path: &Path, is_privileged: bool) -> Known<Option<String>> {
    needs_root(is_privileged)?;
    let nearest = mounts::nearest_existing(path);
    if !nearest.is_dir() {
        return Ok(Some(format!("{} is no directory", nearest.display())));
    }
    let refusal = access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).err();
    Ok(refusal.map(|errno| errno.desc().to_owned()))
}

pub(super) fn daemon(config: &Config) -> Known<Daemon> {
    let (socket, bpffs) = (&config.daemon.socket, &config.daemon.bpffs);
    let is_host_taken = locks::is_host_taken().map_err(because)?;
    Ok(match answers(socket)? {
        true if is_host_taken => Daemon::Here,
        true => Daemon::Elsewhere,
        false if is_host_taken => Daemon::Silent,
        false if is_no_socket(socket) => Daemon::NotASocket,
        false if locks::are_pins_taken(bpffs).map_err(because)? => Daemon::OnOurPins,
        false => Daemon::None,
    })
}

fn answers(socket: &Path) -> Known<bool> {
    match Client::connect(socket) {
        Ok(_) => Ok(true),
        Err(error @ ClientError::NotPermitted { .. }) => Err(Unknown::because(&error)),
        Err(_) => Ok(false),
    }
}

fn is_no_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket())
}
