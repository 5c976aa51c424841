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

/// Debian's releases with Docker 20.10, 26.1 and a current one, and what is in each of them besides Debian. Unstable's
/// changes as Debian goes on. Docker's client is a package of its own since trixie.
const SYSTEMS: [(&str, &str); 3] = [
    ("bookworm", "docker.io,iptables,mount"),
    ("trixie", "docker.io,docker-cli,iptables,mount"),
    ("sid", "docker.io,docker-cli,iptables,mount,firewalld,dbus-daemon"),
];

/// What a system was made of, in the system itself.
const MADE_OF: &str = "etc/netd-made-of";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the systems are.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("docker")
}

/// Makes the systems that are missing or were made of something else, all at once: most of it is waiting for packages.
///
/// # Errors
/// Fails if Debian's packages cannot be had.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    let is_made = |suite: &str, packages: &str| {
        fs::read_to_string(folder.join(suite).join(MADE_OF))
            .is_ok_and(|it| it.trim_end() == packages)
    };
    thread::scope(|scope| {
        let missing = SYSTEMS.iter().filter(|(suite, packages)| !is_made(suite, packages));
        let made: Vec<_> = missing
            .map(|(suite, packages)| scope.spawn(|| make(&folder, suite, packages)))
            .collect();
        made.into_iter().try_for_each(process::join)
    })
}

fn make(folder: &Path, suite: &str, packages: &str) -> Result<()> {
    let (partial, system) = (folder.join(format!("{suite}.partial")), folder.join(suite));
    remove(&partial)?;
    fs::create_dir_all(&partial)?;
    let mut mmdebstrap = process::as_root("mmdebstrap")?;
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=apt"]);
    mmdebstrap.arg(format!("--include={packages}"));
    mmdebstrap.arg(format!("--keyring={KEYRING}"));
    mmdebstrap.arg(format!("--customize-hook=echo {packages} > \"$1/{MADE_OF}\""));
    mmdebstrap.args([
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
    ]);
    process::run(mmdebstrap.arg(suite).arg(&partial))
        .with_context(|| format!("no Debian {suite} to run Docker in"))?;
    remove(&system)?;
    Ok(fs::rename(&partial, system)?)
}

/// Removes a system, whole or what an interrupted run has left of it.
fn remove(system: &Path) -> Result<()> {
    if system.exists() {
        process::run(process::as_root("rm")?.args(["-rf", "--one-file-system"]).arg(system))?;
    }
    Ok(())
}
