//! bpf-linker: LLVM bitcode in, one eBPF object out.
//!
//! It has to read the bitcode of our rustc, so its version, the feature that names rustc's LLVM and
//! the channel in `rust-toolchain.toml` change together. Linked to rustc's own LLVM it needs no LLVM
//! of the system.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{process, programs, workspace::Workspace};

const VERSION: &str = "0.10.3";

/// Rust 1.95 comes with LLVM 22 (`rustc --version --verbose`).
const LLVM_FEATURE: &str = "rust-llvm-22";

/// Takes the one on PATH if it has the right version, else the one in `target/tools`, which it
/// installs if need be.
///
/// # Errors
/// Fails if it cannot be installed.
pub(super) fn find(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(on_path) = programs::find("bpf-linker").filter(|file| is_right_version(file)) {
        return Ok(on_path);
    }
    let tools = workspace.target().join("tools");
    let ours = tools.join("bin/bpf-linker");
    if !is_right_version(&ours) {
        install(workspace, &tools)?;
    }
    Ok(ours)
}

fn install(workspace: &Workspace, tools: &Path) -> Result<()> {
    eprintln!("xtask: installing bpf-linker {VERSION} into {}", tools.display());
    let mut cargo = workspace.cargo("install");
    cargo.args(["--locked", "--force", "--root"]).arg(tools);
    cargo.args(["bpf-linker", "--version", VERSION]);
    cargo.args(["--no-default-features", "--features", LLVM_FEATURE]);
    // Flags meant for our code are none of a tool's business.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(&mut cargo).with_context(|| {
        format!("bpf-linker {VERSION} is neither on PATH nor could it be installed")
    })
}

fn is_right_version(file: &Path) -> bool {
    let answer = process::output(Command::new(file).arg("--version"));
    answer.is_ok_and(|text| version(&text) == Some(VERSION))
}

/// Reads `bpf-linker 0.10.3`.
fn version(text: &str) -> Option<&str> {
    text.trim().strip_prefix("bpf-linker ")?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_word() {
        assert_eq!(version("bpf-linker 0.10.3\n"), Some("0.10.3"));
        assert_eq!(version("bpf-linker 0.9.15 (LLVM 21)"), Some("0.9.15"));
        assert_eq!(version("ld 2.40"), None);
    }
}
