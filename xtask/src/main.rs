//! `cargo xtask`: everything that is done to this repository, in Rust and from one place.
//!
//! This file parses the command line and hands over; each subcommand has a file of its own. What
//! several of them share is named after the thing it is about: the workspace, the toolchain, the
//! eBPF object, system programs, processes.

#![expect(clippy::print_stdout, reason = "xtask is a command line program, stdout is its answer")]

mod bench;
mod build;
mod demo;
mod fuzz;
mod hitless;
mod hostile;
mod house_rules;
mod lint;
mod oracle;
mod package;
mod run;
mod scale;
mod setup;
mod soak;
mod test;
mod verify;
mod vm;

mod bpf_object;
mod docker;
mod ebpf;
mod flood;
mod mounts;
mod process;
mod programs;
mod stack_depth;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, runs and checks netd.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the eBPF object and `netd` with the object inside
    Build(build::Args),
    /// Builds in release mode and runs the daemon in the foreground
    Run(run::Args),
    /// Shows what works and what is refused, in network namespaces of its own
    Demo(demo::Args),
    /// Runs the tests, through sudo where they need root
    Test(test::Args),
    /// Attacks the walls between networks with every kind of packet
    Hostile(hostile::Args),
    /// Restarts and kills the daemon under thousands of connections, none of which may notice
    Hitless(hitless::Args),
    /// Floods a published port with SYNs until the connection table is full
    Flood(flood::Args),
    /// Does thousands of random operations and compares what exists with a model of it
    Soak(soak::Args),
    /// Measures starts of containers and published ports on a Docker host
    Docker(docker::measure::Args),
    /// Measures starts and requests on a host with a thousand containers
    Scale(scale::Args),
    /// Looks for inputs that break the engine, or a parser of the daemon
    Fuzz(fuzz::Args),
    /// Compares netd with iptables on packets and rule sets that are made up
    Oracle(oracle::Args),
    /// Writes the tables of COMPLIANCE.md anew from what the tests find
    Compliance,
    /// Checks formatting, clippy, house rules and, where installed, cargo-deny
    Lint,
    /// Loads every eBPF program into the running kernel and prints what it costs
    Verify(verify::Args),
    /// Measures netd beside iptables, plain routing and a bare veth pair
    Bench(bench::Args),
    /// Makes the Debian package, and an archive with a static program
    Package(package::Args),
    /// Tries programs and tests in other kernels, in virtual machines
    Vm(vm::Args),
    /// Installs the system programs that the other commands use
    Setup(setup::Args),
}

fn main() -> ExitCode {
    match run_task(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Not anyhow's own report: with RUST_BACKTRACE set, as developers have it, that buries
            // what to do under a backtrace of xtask.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(cli: Cli) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match cli.command {
        Task::Build(args) => build::build(&workspace, &args).map(|_netd| ()),
        Task::Run(args) => run::run(&workspace, &args),
        Task::Demo(args) => return demo::demo(&workspace, &args),
        Task::Test(args) => test::test(&workspace, &args),
        Task::Hostile(args) => hostile::hostile(&workspace, &args),
        Task::Hitless(args) => hitless::hitless(&workspace, &args),
        Task::Flood(args) => flood::flood(&workspace, &args),
        Task::Soak(args) => soak::soak(&workspace, &args),
        Task::Docker(args) => docker::measure::docker(&workspace, &args),
        Task::Scale(args) => scale::scale(&workspace, &args),
        Task::Fuzz(args) => fuzz::fuzz(&workspace, &args),
        Task::Oracle(args) => oracle::oracle(&workspace, &args),
        Task::Compliance => oracle::compliance(&workspace),
        Task::Lint => lint::lint(&workspace),
        Task::Verify(args) => verify::verify(&workspace, &args),
        Task::Bench(args) => bench::bench(&workspace, &args),
        Task::Package(args) => package::package(&workspace, &args),
        Task::Vm(args) => vm::vm(&workspace, &args),
        Task::Setup(args) => setup::setup(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
