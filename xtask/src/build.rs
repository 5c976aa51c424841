//! `cargo xtask build`: the eBPF object first, then `netd`, which embeds it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    ebpf::{self, Flavour},
    process,
    workspace::Workspace,
};

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Optimises, and leaves `target/release/netd` rather than `target/debug/netd`
    #[arg(long)]
    pub(crate) release: bool,
    /// Logs each packet's verdict (development only)
    #[arg(long)]
    pub(crate) packet_log: bool,
    /// Lays the connection table out in another way, for tests of upgrades (development only)
    #[arg(long, conflicts_with = "packet_log")]
    pub(crate) other_layout: bool,
}

impl Args {
    /// What users get, optimised or not.
    pub(crate) fn plain(release: bool) -> Self {
        Self { release, packet_log: false, other_layout: false }
    }

    fn flavour(&self) -> Flavour {
        match (self.packet_log, self.other_layout) {
            (true, _) => Flavour::PacketLog,
            (false, true) => Flavour::OtherLayout,
            (false, false) => Flavour::Plain,
        }
    }
}

/// Builds everything a user needs and returns the path of the `netd` binary.
///
/// # Errors
/// Fails if the toolchain cannot be prepared or something does not compile.
pub(crate) fn build(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    let flavour = args.flavour();
    ebpf::build(workspace, flavour)?;

    let mut cargo = workspace.cargo_build("build");
    cargo.args(["--package", "netd"]);
    if args.release {
        cargo.arg("--release");
        // What the profile asks for is for the object. The data path is not in this binary, which builds in half the
        // time without.
        cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
        cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    }
    if let Some(feature) = flavour.feature() {
        cargo.args(["--features", feature]);
    }
    process::run(&mut cargo)?;
    let netd = workspace.netd(args.release);
    if flavour == Flavour::Plain {
        return Ok(netd);
    }
    // Under a name of its own: the next ordinary build takes the other one.
    let other = workspace.netd_in(flavour, args.release);
    std::fs::copy(&netd, &other).with_context(|| format!("cannot write {}", other.display()))?;
    Ok(other)
}
