//! Where the checkout is, and the one way to call cargo in it.
//!
//! `cargo xtask` may be called from any folder of the checkout, by a cargo with its own settings
//! for the target folder. The README promises `target/{debug,release}/netd`, so every inner cargo is
//! told its target folder and the settings that would move the result are taken away.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::ebpf::Flavour;

/// Settings that move cargo's output to another folder.
const MOVES_OUTPUT: &[&str] =
    &["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR", "CARGO_BUILD_TARGET"];

/// The checkout that xtask works on.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the checkout.
    ///
    /// # Errors
    /// Fails if xtask's own folder has no parent.
    pub(crate) fn locate() -> Result<Self> {
        // cargo sets the variable at run time, which also holds after the checkout was moved; the
        // value from compile time is for an xtask that was started through sudo.
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask's folder has no parent")?.to_owned();
        Ok(Self { root })
    }

    /// The checkout's top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that everything built goes to.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// `target/debug/netd` or `target/release/netd`.
    pub(crate) fn netd(&self, release: bool) -> PathBuf {
        self.target().join(if release { "release" } else { "debug" }).join("netd")
    }

    /// A build of another flavour, beside the ordinary one.
    pub(crate) fn netd_in(&self, flavour: Flavour, release: bool) -> PathBuf {
        self.netd(release).with_file_name(flavour.name("netd"))
    }

    /// `program`, started in the checkout's top folder: there rustup picks the pinned toolchain.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// A cargo subcommand that builds nothing, or nothing that matters where.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).arg(subcommand);
        for name in MOVES_OUTPUT {
            command.env_remove(name);
        }
        command
    }

    /// A cargo subcommand whose output goes to the checkout's `target`.
    pub(crate) fn cargo_build(&self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        command.arg("--target-dir").arg(self.target());
        command
    }
}
