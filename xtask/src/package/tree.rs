//! The files of netd as they lie below `/usr`, which both kinds of packages have.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use super::Release;
use crate::process;

/// What is copied as it is: from the checkout, below `/usr`.
const COPIED: [(&str, &str); 7] = [
    ("netd/packaging/netd.service", "lib/systemd/system/netd.service"),
    ("netd/packaging/netd.sysusers", "lib/sysusers.d/netd.conf"),
    ("netd/packaging/netd.tmpfiles", "lib/tmpfiles.d/netd.conf"),
    ("netd/packaging/netd.toml", "share/doc/netd/examples/netd.toml"),
    ("README.md", "share/doc/netd/README.md"),
    ("COMPLIANCE.md", "share/doc/netd/COMPLIANCE.md"),
    ("CHANGELOG.md", "share/doc/netd/CHANGELOG.md"),
];

/// The shells that have a folder for completions, and what each calls netd's.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/netd"),
    ("fish", "share/fish/vendor_completions.d/netd.fish"),
    ("zsh", "share/zsh/vendor-completions/_netd"),
];

/// Where the manual pages lie.
const PAGES: &str = "share/man/man1";

/// Puts the files of a program into `usr`. Completions and pages are what the program itself prints.
///
/// # Errors
/// Fails if the program cannot be run or a file not be written.
pub(super) fn fill(release: &Release, netd: &Path, usr: &Path) -> Result<()> {
    install_program(netd, &usr.join("bin/netd"))?;
    for (from, to) in COPIED {
        let bytes =
            fs::read(release.source(from)).with_context(|| format!("cannot read {from}"))?;
        write(&usr.join(to), bytes)?;
    }
    for (shell, to) in COMPLETIONS {
        let script = process::output(Command::new(netd).args(["completions", shell]))?;
        write(&usr.join(to), script)?;
    }
    let pages = usr.join(PAGES);
    process::run(Command::new(netd).arg("man").arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        compress(&page?.path())?;
    }
    Ok(())
}

/// Copies a program without what only debuggers read.
fn install_program(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    process::run(Command::new("strip").arg("-o").arg(to).arg(from))
}

/// Writes a file, with the folders that lead to it.
///
/// # Errors
/// Fails if it cannot be written.
pub(super) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    make_parent(path)?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file of a package has no folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Compresses a file as Debian wants it: at its best, without name and time.
///
/// # Errors
/// Fails without gzip.
pub(super) fn compress(path: &Path) -> Result<()> {
    process::run(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(path))
}

/// Gives every file and folder the mode that it has in a package, whatever the umask here is.
///
/// # Errors
/// Fails if something cannot be read or changed.
pub(super) fn set_modes(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_modes(&entry.path())?;
        } else {
            let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
