//! The standard library's source, which `-Z build-std` compiles `core` from.
//!
//! The first that works is taken: what `NETD_RUST_SRC` names, the sysroot, what an earlier call
//! unpacked, rustup's component, Debian's package. Archives are unpacked to `target/rust-src`, whose
//! stamp says what was unpacked; the path never changes, so cargo does not build `core` again.

use std::{
    env,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::{process, programs, workspace::Workspace};

const NAMED_BY: &str = "NETD_RUST_SRC";

/// How many folders deep an archive may hide `library` (rust-src's own tar archive: five).
const SEARCH_DEPTH: usize = 6;

/// Returns the `library` folder, or `None` if it is in the sysroot, where cargo looks by itself.
///
/// # Errors
/// Fails with everything that was tried.
pub(super) fn find(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let mut tried = Vec::new();
    if let Some(named) = env::var_os(NAMED_BY).filter(|value| !value.is_empty()) {
        match from_named(workspace, Path::new(&named)) {
            Ok(library) => return Ok(Some(library)),
            Err(error) => {
                let reason = format!("{NAMED_BY}={}: {error:#}", Path::new(&named).display());
                // Said at once: the user asked for this one and may get another.
                eprintln!("xtask: {reason}");
                tried.push(reason);
            }
        }
    }
    if in_sysroot(workspace)? {
        return Ok(None);
    }
    let rustc = rustc_version(workspace)?;
    let package = debian::Package::for_rustc(&rustc);
    if let Some(library) = package.and_then(|package| unpacked(workspace, package.version)) {
        return Ok(Some(library));
    }
    match add_component(workspace) {
        Ok(()) => return Ok(None),
        Err(error) => tried.push(format!("rustup component add rust-src: {error:#}")),
    }
    match from_debian(workspace, package, &rustc) {
        Ok(library) => return Ok(Some(library)),
        Err(error) => tried.push(format!("Debian's package rust-src: {error:#}")),
    }
    bail!(
        "the standard library's source of Rust {rustc} is missing; tried\n- the sysroot\n- {}\n\
         Set {NAMED_BY} to a folder or tar archive that has it, or give this machine access to \
         rustup's or Debian's servers.",
        tried.join("\n- ")
    )
}

fn from_named(workspace: &Workspace, named: &Path) -> Result<PathBuf> {
    // cargo runs in the checkout's top folder, so a relative path would lead it elsewhere.
    let named = named.canonicalize().context("cannot find it")?;
    let meta = named.metadata().context("cannot read it")?;
    if meta.is_dir() {
        return library_in(&named).context("no folder `library` with a `core` in it");
    }
    let stamp = archive_stamp(&named, &meta);
    if let Some(library) = unpacked(workspace, &stamp) {
        return Ok(library);
    }
    unpack(workspace, &stamp, |folder| {
        if named.extension().is_some_and(|extension| extension == "xz") {
            // tar only says that its child failed.
            programs::require(programs::Purpose::Toolchain)?;
        }
        let mut tar = Command::new("tar");
        tar.arg("--no-same-owner").arg("-xf").arg(&named).arg("-C").arg(folder);
        process::run(&mut tar)
    })
}

fn archive_stamp(archive: &Path, meta: &Metadata) -> String {
    format!("{} {} bytes {}", archive.display(), meta.len(), meta.mtime())
}

fn in_sysroot(workspace: &Workspace) -> Result<bool> {
    let sysroot = process::output(workspace.command("rustc").args(["--print", "sysroot"]))?;
    Ok(is_library(&Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library")))
}

fn rustc_version(workspace: &Workspace) -> Result<String> {
    let text = process::output(workspace.command("rustc").arg("--version"))?;
    let version = text.split_whitespace().nth(1).context("rustc --version says no version")?;
    Ok(version.to_owned())
}

fn add_component(workspace: &Workspace) -> Result<()> {
    if programs::find("rustup").is_none() {
        bail!("there is no rustup");
    }
    eprintln!("xtask: adding rustup's component rust-src");
    let mut rustup = workspace.command("rustup");
    // Its reason ends up in our message, which a backtrace would bury.
    rustup.args(["component", "add", "rust-src"]).env_remove("RUST_BACKTRACE");
    process::output(&mut rustup)?;
    if !in_sysroot(workspace)? {
        bail!("it succeeded, but the source is not in the sysroot of the rustc in use");
    }
    Ok(())
}

fn from_debian(
    workspace: &Workspace,
    package: Option<&debian::Package>,
    rustc: &str,
) -> Result<PathBuf> {
    let Some(package) = package else {
        bail!("none is known for Rust {rustc}");
    };
    eprintln!("xtask: fetching Debian's package rust-src {}", package.version);
    let deb = debian::download(workspace, package)?;
    let library = unpack(workspace, package.version, |folder| {
        process::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(folder))
    })?;
    debian::clean_up(workspace)?;
    Ok(library)
}

/// What an earlier call unpacked, if it was the same.
fn unpacked(workspace: &Workspace, stamp: &str) -> Option<PathBuf> {
    let home = home(workspace);
    let library = home.join("library");
    let same = fs::read_to_string(home.join(".stamp")).is_ok_and(|text| text == stamp);
    (same && is_library(&library)).then_some(library)
}

/// Lets `fill` unpack something into an empty folder and keeps the `library` found there.
fn unpack(
    workspace: &Workspace,
    stamp: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (home, staging) = (home(workspace), workspace.target().join("rust-src-unpacking"));
    empty(&staging)?;
    fill(&staging)?;
    let found = library_in(&staging).context("it has no folder `library` with a `core` in it")?;
    empty(&home)?;
    let library = home.join("library");
    fs::rename(found, &library)?;
    // Last, so that an interrupted call leaves nothing that looks complete.
    fs::write(home.join(".stamp"), stamp)?;
    fs::remove_dir_all(&staging)?;
    Ok(library)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn home(workspace: &Workspace) -> PathBuf {
    workspace.target().join("rust-src")
}

/// The shallowest `library` folder at or under `top`: the compiler's own tests contain mock ones.
fn library_in(top: &Path) -> Option<PathBuf> {
    if is_library(top) {
        return Some(top.to_owned());
    }
    let mut level = vec![top.to_owned()];
    for _ in 0..SEARCH_DEPTH {
        let candidates = level.iter().map(|folder| folder.join("library"));
        if let Some(library) = candidates.into_iter().find(|folder| is_library(folder)) {
            return Some(library);
        }
        level = level.iter().flat_map(|folder| subfolders(folder)).collect();
    }
    None
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// cargo reads the lock file first.
fn is_library(folder: &Path) -> bool {
    folder.join("Cargo.lock").is_file() && folder.join("core/src/lib.rs").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_library(folder: &Path) {
        fs::create_dir_all(folder.join("core/src")).unwrap();
        fs::write(folder.join("Cargo.lock"), "").unwrap();
        fs::write(folder.join("core/src/lib.rs"), "").unwrap();
    }

    #[test]
    fn the_shallowest_library_is_found() {
        let top = env::temp_dir().join(format!("xtask-rust-src-{}", std::process::id()));
        assert_eq!(library_in(&top), None);

        let deep = top.join("usr/src/rustc/src/mock/library");
        make_library(&deep);
        assert_eq!(library_in(&top), Some(deep));

        let shallow = top.join("usr/src/rustc/library");
        make_library(&shallow);
        assert_eq!(library_in(&top), Some(shallow.clone()));
        assert_eq!(library_in(&shallow), Some(shallow));
        fs::remove_dir_all(&top).unwrap();
    }
}
