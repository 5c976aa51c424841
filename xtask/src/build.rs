//! `cargo xtask build`: the eBPF object first, then `netd`, which embeds it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{ebpf, process, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimises, and leaves `target/release/netd` rather than `target/debug/netd`
    #[arg(long)]
    pub(crate) release: bool,
    /// Logs each packet's verdict (development only)
    #[arg(long)]
    pub(crate) packet_log: bool,
}

/// Builds everything a user needs and returns the path of the `netd` binary.
///
/// # Errors
/// Fails if the toolchain cannot be prepared or something does not compile.
pub(crate) fn build(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    ebpf::build(workspace, args.packet_log)?;

    let mut cargo = workspace.cargo_build("build");
    cargo.args(["--package", "netd"]);
    if args.release {
        cargo.arg("--release");
    }
    if args.packet_log {
        cargo.args(["--features", "packet-log"]);
    }
    process::run(&mut cargo)?;
    let netd = workspace.netd(args.release);
    if !args.packet_log {
        return Ok(netd);
    }
    // Under a name of its own: the next ordinary build takes the other one.
    let with_log = workspace.netd_with_packet_log(args.release);
    std::fs::copy(&netd, &with_log)
        .with_context(|| format!("cannot write {}", with_log.display()))?;
    Ok(with_log)
}
