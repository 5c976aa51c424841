//! `cargo xtask bench`: what netd's way to a container costs beside others.
//!
//! On a shared machine only ratios mean something, and only those of one run. So every peer has its
//! namespaces from the beginning to the end, and rounds go through all peers, each time from another
//! one on; what counts is the median over rounds. Nothing here passes or fails by a figure.

mod address;
mod child;
mod daemon;
mod docker_rules;
mod machine;
mod netns;
mod peer;
mod prototype;
mod report;
mod run;
mod scratch;
mod testbed;
mod wait;
mod workload;

use std::{env, fs, num::NonZeroU32, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

use self::{machine::Machine, peer::Peer, run::Run, workload::Workload};
use crate::{
    build, ebpf, process,
    programs::{self, Purpose},
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often everything is measured [default: 5]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// How long a measurement takes [default: 3]
    #[arg(long, value_name = "S")]
    seconds: Option<NonZeroU32>,
    /// One round of one second each: shows that everything works, the figures are rough
    #[arg(long)]
    quick: bool,
    /// Peers to measure
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    only: Vec<Peer>,
    /// What to measure
    #[arg(long = "workload", value_name = "WORKLOAD", value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// An earlier netd, measured in the same rounds
    #[arg(long, value_name = "NETD")]
    before: Option<PathBuf>,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Set where xtask calls itself through sudo, after it has built everything as the user
    #[arg(long, hide = true)]
    through_sudo: bool,
}

/// Builds netd in release mode, measures and prints.
///
/// # Errors
/// Fails if something is missing, does not compile, or a peer does not work.
pub(crate) fn bench(workspace: &Workspace, args: &Args) -> Result<()> {
    if !args.through_sudo {
        programs::require(Purpose::Bench)?;
        build::build(workspace, &build::Args::plain(true))?;
        ebpf::build_prototype(workspace)?;
    }
    if !process::is_root() && !args.through_sudo {
        let xtask = env::current_exe().context("cannot tell where xtask is")?;
        let mut again = process::as_root(xtask)?;
        let error = again.args(env::args_os().skip(1)).arg("--through-sudo").exec();
        return Err(error).context("cannot start xtask through sudo");
    }
    wait::catch_signals()?;
    let machine = Machine::look(workspace);
    print!("{}", machine.text());
    let run = Run::new(args)?;
    let measurements = run.measure(&run.testbeds(workspace)?)?;
    print!("\n{}{}", machine.text(), run.text());
    print!("{}", report::tables(&measurements));
    if let Some(file) = &args.json {
        let mut document = report::json(&measurements);
        document["machine"] = machine.json();
        document["run"] = run.json();
        fs::write(file, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
