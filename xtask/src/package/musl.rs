//! The program without libraries: linked with musl, whose standard library is a component of rustup's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use object::{
    Endianness,
    elf::{FileHeader64, PT_INTERP},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use crate::{
    ebpf::{self, Flavour},
    process, programs,
    workspace::Workspace,
};

/// What the program is built for.
pub(super) const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the static program and returns its path.
///
/// # Errors
/// Fails without musl's standard library, or if the result is not static or does not run.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    ebpf::build(workspace, Flavour::Plain)?;
    require_std(workspace)?;
    let mut cargo = workspace.cargo_build("build");
    process::run(cargo.args(["--package", "netd", "--release", "--target", TARGET]))?;
    let netd = workspace.target().join(TARGET).join("release/netd");
    let bytes = fs::read(&netd).with_context(|| format!("cannot read {}", netd.display()))?;
    if wants_interpreter(&bytes)? {
        bail!("{} is not static: it names an interpreter", netd.display());
    }
    process::output(Command::new(&netd).arg("--version"))?;
    Ok(netd)
}

/// Whether the kernel starts something else first, which loads the libraries.
fn wants_interpreter(program: &[u8]) -> Result<bool> {
    let header = FileHeader64::<Endianness>::parse(program).context("it is no program")?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, program)?;
    Ok(segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP))
}

/// Adds musl's standard library to the toolchain where it is not there.
fn require_std(workspace: &Workspace) -> Result<()> {
    if has_std(workspace)? {
        return Ok(());
    }
    if programs::find("rustup").is_none() {
        bail!("this toolchain has no standard library for {TARGET}, and there is no rustup");
    }
    eprintln!("xtask: adding rustup's target {TARGET}");
    process::run(workspace.command("rustup").args(["target", "add", TARGET]))
}

fn has_std(workspace: &Workspace) -> Result<bool> {
    let mut rustc = workspace.command("rustc");
    let folder = process::output(rustc.args(["--target", TARGET, "--print", "target-libdir"]))?;
    Ok(fs::read_dir(Path::new(folder.trim())).is_ok_and(|mut files| files.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::wants_interpreter;

    #[test]
    fn a_program_with_libraries_is_told_from_one_without() {
        // The test itself is linked with the C library.
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(wants_interpreter(&this).unwrap());
        assert!(wants_interpreter(b"no program").is_err());
    }
}
