//! `--check`: the package in a Debian system of its own, with its own systemd as the first process.
//!
//! The system lives in memory and in namespaces that end with it; `isolation.sh` makes them, and
//! `steps.sh` is what is tried in there, by systemd's order.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Release;
use crate::process;

/// What the system has beside what every Debian has.
const PACKAGES: &str = "systemd,systemd-sysv,iproute2,curl,busybox-static";

/// Longer than the steps take on a machine that is busy otherwise, for timeout(1).
const LIMIT: &str = "5m";

/// Installs the package, upgrades it to the next, removes and purges it.
///
/// # Errors
/// Fails if no system can be made, or with the step that failed.
pub(super) fn check(release: &Release, deb: &Path, next: &Path) -> Result<()> {
    if !process::is_root() {
        bail!("this needs root, for namespaces: sudo -E cargo xtask package --check");
    }
    let system = system(release)?;
    let work = release.staging("check")?;
    fs::write(work.join("isolation.sh"), include_str!("check/isolation.sh"))?;
    fs::write(work.join("steps.sh"), include_str!("check/steps.sh"))?;
    fs::copy(deb, work.join("netd.deb"))?;
    fs::copy(next, work.join("next.deb"))?;
    let mut unshare = Command::new("timeout");
    unshare.args(["--kill-after=5", LIMIT, "unshare", "--mount", "--propagation=private", "sh"]);
    unshare.arg(work.join("isolation.sh")).arg("outside").arg(&work).arg(&system);
    let ended = process::run(&mut unshare);
    let log = fs::read_to_string(work.join("log")).unwrap_or_default();
    eprint!("{log}");
    ended?;
    // How systemd ends says less than the last line of what it ran.
    if log.lines().next_back() != Some("check: done") {
        bail!("the package does not do what it should: see above");
    }
    fs::remove_dir_all(&work).context("cannot remove what the check has made")
}

/// A Debian system as a tar archive, made once, of the release that this machine runs.
fn system(release: &Release) -> Result<PathBuf> {
    let suite = suite(&fs::read_to_string("/etc/os-release").unwrap_or_default())?;
    let archive = release.folder.join(format!("debian-{suite}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    let partial = archive.with_extension("partial.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={PACKAGES}")).arg(&suite).arg(&partial);
    process::run(&mut mmdebstrap)?;
    fs::rename(&partial, &archive)?;
    Ok(archive)
}

/// The release's name in os-release(5): a package built here may need its libraries.
fn suite(os_release: &str) -> Result<String> {
    let value =
        |key: &str| os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("ID") != Some("debian") {
        bail!("this needs Debian: the package is checked in the release that it is built on");
    }
    value("VERSION_CODENAME").map(str::to_owned).context("os-release names no release")
}

#[cfg(test)]
mod tests {
    use super::suite;

    #[test]
    fn the_release_is_read_and_must_be_debians() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=trixie\nID=debian\n";
        assert_eq!(suite(text).unwrap(), "trixie");
        assert!(suite("ID=fedora\nVERSION_CODENAME=x\n").is_err());
        assert!(suite("").is_err());
    }
}
