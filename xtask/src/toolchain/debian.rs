//! Debian's package of the standard library's source, for machines that reach a Debian mirror but
//! not rustup's servers.
//!
//! apt downloads it with lists, state and cache of its own under `target/apt`, so the host's
//! sources and its package database stay as they are, and any user may do it. The mirror is the one
//! that the host uses already.

mod apt_sources;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// One version of Debian's package `rust-src`.
pub(super) struct Package {
    rustc: &'static str,
    suite: &'static str,
    pub(super) version: &'static str,
    /// As in the suite's own index, which Debian signs.
    sha256: &'static str,
}

/// One row for the channel in `rust-toolchain.toml`: only the very same version compiles.
const PACKAGES: &[Package] = &[Package {
    rustc: "1.95.0",
    suite: "trixie-backports",
    version: "1.95.0+dfsg1-2~bpo13+1",
    sha256: "7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b",
}];

impl Package {
    /// The package that has the source of this rustc.
    pub(super) fn for_rustc(version: &str) -> Option<&'static Self> {
        PACKAGES.iter().find(|package| package.rustc == version)
    }
}

/// Downloads the package into `target/apt` and checks its SHA-256.
///
/// # Errors
/// Fails without apt, without a Debian mirror in its sources, or if no mirror has the package.
pub(super) fn download(workspace: &Workspace, package: &Package) -> Result<PathBuf> {
    let mirrors = apt_sources::debian_mirrors(Path::new("/etc/apt"));
    let mut reasons = vec![];
    for mirror in mirrors {
        match download_from(workspace, package, &mirror) {
            Ok(deb) => return Ok(deb),
            Err(error) => reasons.push(format!("{}: {error:#}", mirror.uri)),
        }
    }
    if reasons.is_empty() {
        bail!("apt's sources name no Debian mirror");
    }
    bail!("{}", reasons.join("; "))
}

/// Removes what [`download`] left behind.
///
/// # Errors
/// Fails if the folder cannot be removed.
pub(super) fn clean_up(workspace: &Workspace) -> Result<()> {
    let home = home(workspace);
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))
}

fn download_from(
    workspace: &Workspace,
    package: &Package,
    mirror: &apt_sources::Mirror,
) -> Result<PathBuf> {
    let home = home(workspace);
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    for folder in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(home.join(folder))?;
    }
    fs::write(home.join("status"), "")?;
    fs::write(home.join("apt.conf"), configuration(&home))?;
    fs::write(home.join("sources.list"), mirror.source_line(package.suite))?;

    process::output(apt_get(&home).arg("update"))?;
    let wanted = format!("rust-src={}", package.version);
    process::output(apt_get(&home).args(["download", &wanted]))?;
    let deb = downloaded(&home)?;
    check_sha256(&deb, package.sha256)?;
    Ok(deb)
}

/// apt-get that reads and writes nothing of the host but its configuration (a proxy, for example).
fn apt_get(home: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.current_dir(home).arg("-c").arg(home.join("apt.conf"));
    apt
}

/// Settings that apt reads after the host's own (apt.conf(5)).
fn configuration(home: &Path) -> String {
    let home = home.display();
    format!(
        r#"
Dir::Etc::SourceList "{home}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{home}";
Dir::State::Lists "{home}/lists";
Dir::State::Status "{home}/status";
Dir::Cache "{home}";
Dir::Cache::Archives "{home}/archives";
Acquire::Languages "none";
// A mirror that has stopped moving still has the package, whose hash is pinned.
Acquire::Check-Valid-Until "false";
// Otherwise a mirror that cannot be reached is a success.
APT::Update::Error-Mode "any";
// Root's apt would download as the user _apt, who may not write to a checkout.
APT::Sandbox::User "root";
// The host's hooks are for the host's lists and its cache, which images for containers empty.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}

fn downloaded(home: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(home)?.flatten().map(|entry| entry.path());
    let mut debs = files.filter(|file| file.extension().is_some_and(|ending| ending == "deb"));
    debs.next().context("apt-get download left no file")
}

fn check_sha256(file: &Path, expected: &str) -> Result<()> {
    let text = process::output(Command::new("sha256sum").arg(file))?;
    // A backslash in front says that the file's name is escaped.
    let sum = text.trim_start_matches('\\').split_whitespace().next().unwrap_or_default();
    if sum != expected {
        bail!("{} has SHA-256 {sum}, expected {expected}", file.display());
    }
    Ok(())
}

fn home(workspace: &Workspace) -> PathBuf {
    workspace.target().join("apt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_version_is_taken() {
        assert!(Package::for_rustc("1.95.0").is_some());
        assert!(Package::for_rustc("1.95.1").is_none());
    }

    #[test]
    fn a_package_with_another_hash_is_refused() {
        let file = std::env::temp_dir().join(format!("xtask-sha256-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        // FIPS 180-4's own example.
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check_sha256(&file, sum).unwrap();
        let error = check_sha256(&file, "00").unwrap_err().to_string();
        assert!(error.contains("expected 00"), "{error}");
        fs::remove_file(&file).unwrap();
    }
}
