//! What the stable toolchain lacks for eBPF: the standard library's source and bpf-linker.
//!
//! Every subcommand that compiles eBPF calls [`Toolchain::prepare`], so no setup step comes before
//! the first one. What is fetched goes to `target/`; the one exception is rustup's own component.

mod bpf_linker;
mod debian;
mod rust_src;

use std::{
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// Everything needed to build eBPF beside cargo and rustc.
pub(crate) struct Toolchain {
    pub(crate) bpf_linker: PathBuf,
    /// The standard library's `library` folder; `None` if cargo finds it in the sysroot.
    pub(crate) library: Option<PathBuf>,
}

impl Toolchain {
    /// Finds what is there and fetches what is not.
    ///
    /// # Errors
    /// Fails with everything that was tried if one of the two cannot be had.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let target = workspace.target();
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        // Two xtasks at once would unpack and install over each other. Dropping the file unlocks.
        let lock = File::create(target.join(".toolchain-lock")).context("cannot make a lock")?;
        lock.lock().context("cannot lock the toolchain")?;

        let library = rust_src::find(workspace)?;
        let bpf_linker = bpf_linker::find(workspace)?;
        Ok(Self { bpf_linker, library })
    }
}
