//! The archive with the static program, for systems without dpkg: unpacked over `/usr`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Release, require_file, tree};
use crate::process;

/// What archives are named after: the target without its vendor.
const PLATFORM: &str = "x86_64-linux-musl";

/// Makes the archive and returns its path.
///
/// # Errors
/// Fails if a file cannot be written, or without tar and xz.
pub(super) fn make(release: &Release, netd: &Path) -> Result<PathBuf> {
    let staging = release.staging("archive")?;
    let name = format!("netd-{}-{PLATFORM}", release.version);
    let top = staging.join(&name);
    tree::fill(release, netd, &top)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = fs::read(release.source(licence))?;
        tree::write(&top.join("share/doc/netd").join(licence), text)?;
    }
    tree::set_modes(&top)?;
    let archive = release.folder.join(format!("{name}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.arg(format!("--mtime=@{}", release.epoch)).arg("--xz").arg("-cf").arg(&archive);
    process::run(tar.arg("-C").arg(&staging).arg(&name))?;
    require_file(&archive)?;
    fs::remove_dir_all(&staging)?;
    Ok(archive)
}
