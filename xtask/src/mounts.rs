//! Mounts that only this process and its children see, and that are gone with them.

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

const NOTHING: Option<&str> = None;

/// Keeps what is mounted from here on from everybody else, in a mount namespace of our own.
///
/// # Errors
/// Fails without the right to mount.
pub(crate) fn make_private() -> Result<()> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING)
        .context("cannot make the mounts private")
}

/// Mounts a new file system of a kind over a directory.
///
/// # Errors
/// Fails without the right to mount, or if the kernel does not know the kind.
pub(crate) fn mount_over(directory: &str, fstype: &str) -> Result<()> {
    // Where a kind knows no modes, it ignores them.
    mount(Some(fstype), directory, Some(fstype), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("cannot mount a {fstype} on {directory}"))
}
