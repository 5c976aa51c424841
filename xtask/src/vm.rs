//! `cargo xtask vm`: what depends on the kernel, tried in Debian's kernels. The verifier sees every program, and
//! some tests of the system layer run, among them those that ask for more than every kernel has.
//!
//! The machines are emulated, for hosts without KVM: about ten times slower, so nothing is measured in them.

mod kernel;
mod machine;

use std::{env, fmt::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    build,
    ebpf::{self, Flavour},
    process,
    programs::{self, Purpose},
    test,
    vm::kernel::{Kernel, Unpacked},
    workspace::Workspace,
};

/// The tests that run in each kernel: that packets come and go, that nothing is lost when the daemon dies or
/// another one takes over, and what other kernels have not got.
const TESTS: [&str; 7] = [
    "published_ports::",
    "outbound::",
    "restarts::",
    "upgrades::a_daemon_takes_over",
    "upgrades::other_layout::flows_keep_their_ports",
    "other_kernels::",
    "changing_hosts::vlans_and_bonds::",
];

/// How many times slower than usual the tests expect the machine to be.
const SLOWNESS: &str = "8";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels; 6.1, 6.12 and newest by default
    kernels: Vec<Kernel>,
    /// Runs only tests whose name contains one of these
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// The data path of the tests
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS, default_value = test::DATA_PATHS[0])]
    datapath: String,
}

/// Tries every kernel, all of them even if one fails.
///
/// # Errors
/// Fails if a kernel cannot be had or booted, refuses a program, or fails a test.
pub(crate) fn vm(workspace: &Workspace, args: &Args) -> Result<()> {
    programs::require(Purpose::Vm)?;
    if !process::is_root() {
        bail!("this needs root, for the guest's root to read all files: sudo -E cargo xtask vm");
    }
    let plain = build::Args::plain(false);
    build::build(workspace, &build::Args { other_layout: true, ..plain })?;
    build::build(workspace, &plain)?;
    let task = task(workspace, args)?;
    let kernels = if args.kernels.is_empty() { &Kernel::USUAL[..] } else { &args.kernels };
    let mut failed = Vec::new();
    for kernel in kernels {
        match try_kernel(workspace, *kernel, &task) {
            Ok(version) => eprintln!("xtask: Linux {version}: passed"),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// Runs the task in a kernel; its version.
fn try_kernel(workspace: &Workspace, kernel: Kernel, task: &str) -> Result<String> {
    let folder = kernel.folder(workspace);
    let unpacked = Unpacked::get(kernel, &folder)?;
    eprintln!("xtask: Linux {}", unpacked.version);
    match machine::run(&unpacked, &folder, task)? {
        0 => Ok(unpacked.version),
        code => bail!("Linux {}: the checks ended with {code}", unpacked.version),
    }
}

/// What a guest runs, for bash: the verifier's gate, then the tests.
fn task(workspace: &Workspace, args: &Args) -> Result<String> {
    let xtask = env::current_exe().context("cannot tell where xtask is")?;
    let object = ebpf::path(workspace, Flavour::Plain);
    let mut task = String::from("set -u; code=0\n");
    writeln!(task, "cd {}", quoted(&workspace.root().join("tests")))?;
    let verify = "verify --unbounded --through-sudo --object";
    writeln!(task, "{} {verify} {} || code=1", quoted(&xtask), quoted(&object))?;
    let netd = workspace.netd(false);
    writeln!(task, "export NETD_BIN={} NETD_EBPF_OBJECT={}", quoted(&netd), quoted(&object))?;
    let other = workspace.netd_in(Flavour::OtherLayout, false);
    writeln!(task, "export NETD_OTHER_LAYOUT_BIN={}", quoted(&other))?;
    writeln!(task, "export NETD_TEST_DATAPATH={} NETD_TEST_SLOWNESS={SLOWNESS}", args.datapath)?;
    let tests =
        if args.tests.is_empty() { TESTS.map(String::from).into() } else { args.tests.clone() };
    let program = test_program(workspace)?;
    let tests: Vec<String> = tests.iter().map(|test| quoted(Path::new(test))).collect();
    let how = "--include-ignored --test-threads 1";
    writeln!(task, "{} {how} {} || code=1", quoted(Path::new(&program)), tests.join(" "))?;
    task.push_str("exit $code\n");
    Ok(task)
}

/// Compiles the system tests; the path of their program.
fn test_program(workspace: &Workspace) -> Result<String> {
    let mut cargo: Command = workspace.cargo_build("test");
    cargo.args([
        "--package",
        "netd-tests",
        "--test",
        "system",
        "--no-run",
        "--message-format=json",
    ]);
    let messages = process::output(&mut cargo)?;
    let mut programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        // Beside it, cargo builds the programs that it runs.
        let is_tests = message["target"]["name"] == "system";
        message["executable"].as_str().filter(|_| is_tests).map(str::to_owned)
    });
    programs.next().context("cargo has made no test program")
}

/// A word of a shell's command line.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
