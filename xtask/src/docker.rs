//! Debian systems with a dockerd in each, for the tests: of releases whose Docker is an old, a middle, and a new
//! one.
//!
//! Nothing is installed on this machine: a system is a folder below `target/docker`, made once.

pub(crate) mod measure;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result};

use crate::{process, workspace::Workspace};

/// Debian's releases with Docker 20.10, 26.1 and a current one. Unstable's changes as Debian goes on.
const SUITES: [&str; 3] = ["bookworm", "trixie", "sid"];

/// The client is a package of its own since trixie.
const PACKAGES: &str = "docker.io,docker-cli,iptables,mount";

const PACKAGES_BEFORE_TRIXIE: &str = "docker.io,iptables,mount";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the systems are.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("docker")
}

/// Makes the systems that are missing, all at once: most of it is waiting for packages.
///
/// # Errors
/// Fails if Debian's packages cannot be had.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    thread::scope(|scope| {
        let missing = SUITES.iter().filter(|suite| !folder.join(suite).is_dir());
        let made: Vec<_> = missing.map(|suite| scope.spawn(|| make(&folder, suite))).collect();
        made.into_iter().try_for_each(process::join)
    })
}

fn make(folder: &Path, suite: &str) -> Result<()> {
    let partial = folder.join(format!("{suite}.partial"));
    remove(&partial)?;
    fs::create_dir_all(&partial)?;
    let packages = if suite == "bookworm" { PACKAGES_BEFORE_TRIXIE } else { PACKAGES };
    let mut mmdebstrap = process::as_root("mmdebstrap")?;
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=apt"]);
    mmdebstrap.arg(format!("--include={packages}"));
    mmdebstrap.arg(format!("--keyring={KEYRING}"));
    mmdebstrap.args([
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
    ]);
    process::run(mmdebstrap.arg(suite).arg(&partial))
        .with_context(|| format!("no Debian {suite} to run Docker in"))?;
    Ok(fs::rename(&partial, folder.join(suite))?)
}

/// Removes what an interrupted run has left.
fn remove(partial: &PathBuf) -> Result<()> {
    if partial.exists() {
        process::run(process::as_root("rm")?.args(["-rf", "--one-file-system"]).arg(partial))?;
    }
    Ok(())
}
