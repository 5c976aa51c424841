//! `cargo xtask demo`: shows on any machine what netd does, and touches nothing of it.
//!
//! ```text
//!    client          the demo's host, netd           front: web
//!    eth0  --------  up0        bridges  ---------   back:  app
//! ```
//! Three processes, each the child of the one before: the user's builds and calls sudo; root's is
//! the one that signals reach (`isolation`); the innermost one is the demo's host. With that one the
//! kernel ends everything that the demo has made, so nothing has to be taken back, and nothing stays
//! however a demo ends.

mod check;
mod isolation;
mod report;
mod scenario;
mod server;
mod shell;
mod world;

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::ColorChoice;
use nix::{
    sys::{
        signal::{SigSet, Signal},
        termios::{FlushArg, tcflush},
    },
    unistd::pause,
};

use crate::{
    build, process,
    programs::{self, Purpose},
    workspace::Workspace,
};
use report::Report;
use scenario::{Act, Addresses};
use world::World;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leaves everything up at the end, until Enter or Ctrl-C, so that more can be tried
    #[arg(long)]
    keep: bool,
    /// How packets get from an uplink to a container: what `netd run` is told
    #[arg(long, value_name = "MODE", value_parser = ["auto", "fast", "stack"])]
    datapath: Option<String>,
    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    /// Shows this netd rather than building one
    #[arg(long, value_name = "FILE")]
    netd: Option<PathBuf>,
    /// Set where xtask calls itself through sudo, so that a sudo that gives no root ends there
    #[arg(long, hide = true)]
    through_sudo: bool,
    /// Set where xtask calls itself to be the demo's host
    #[arg(long, hide = true, requires = "netd")]
    inside: bool,
}

/// Builds in release mode and shows what works and what is refused.
///
/// # Errors
/// Fails if something is missing, cannot be built or set up. A surprise among what is shown is no
/// error but a failure by exit status.
pub(crate) fn demo(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.inside {
        let netd = args.netd.as_deref().context("which netd is to be shown?")?;
        return inside(netd, args);
    }
    programs::require(Purpose::Demo)?;
    let netd = match &args.netd {
        Some(netd) => {
            fs::canonicalize(netd).with_context(|| format!("cannot find {}", netd.display()))?
        }
        None => build::build(workspace, &build::Args::plain(true))?,
    };
    let xtask = env::current_exe().context("cannot tell where xtask is")?;
    if process::is_root() || args.through_sudo {
        let mut host = Command::new(xtask);
        host.args(args.again(&netd)).arg("--inside");
        return isolation::run(&mut host, !args.keep);
    }
    let mut again = process::as_root(xtask)?;
    again.args(args.again(&netd)).arg("--through-sudo");
    Err(process::replace_by(again))
}

impl Args {
    /// The command line for the next process, which takes up from here.
    fn again(&self, netd: &Path) -> Vec<String> {
        // sudo does not hand NO_COLOR on.
        let color = if self.is_colored() { "always" } else { "never" };
        let mut words = vec!["demo".to_owned(), "--netd".to_owned(), netd.display().to_string()];
        words.extend(["--color".to_owned(), color.to_owned()]);
        words.extend(self.datapath.iter().flat_map(|mode| ["--datapath".to_owned(), mode.clone()]));
        words.extend(self.keep.then(|| "--keep".to_owned()));
        words
    }

    fn is_colored(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stdout().is_terminal()
            }
        }
    }
}

/// What the demo's host does.
fn inside(netd: &Path, args: &Args) -> Result<ExitCode> {
    if std::process::id() != 1 {
        bail!("--inside is for the demo's own use: it would change the mounts of this machine");
    }
    isolation::end_with_parent()?;
    let mut report = Report::new(args.is_colored());
    let world = World::set_up(netd, args.datapath.as_deref(), &mut report)?;
    for act in scenario::acts(&world.addresses) {
        match act {
            Act::Title(title) => report.title(title)?,
            Act::Run(line) => {
                report.step(&line)?;
                shell::run(&line)?;
            }
            Act::Try(checks) => {
                for (check, finding) in check::run_all(&world, checks)? {
                    report.check(&check, &finding)?;
                }
            }
        }
    }
    report.title("What went through the published port, and why packets passed or were dropped")?;
    for line in ["netd port ls", "netd stats"] {
        report.step(line)?;
        report.answer(&shell::run(line)?)?;
    }
    let is_as_expected = report.sum_up()?;
    if args.keep {
        keep(&world.addresses, &mut report)?;
    }
    Ok(if is_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for Enter; Ctrl-C ends us anyway.
fn keep(addresses: &Addresses, report: &mut Report) -> Result<()> {
    // The machine's /proc is still ours, so this is the number that other terminals know.
    let pid = fs::read_link("/proc/self").context("cannot read /proc/self")?;
    report.invitation(&pid.to_string_lossy(), &scenario::suggestions(addresses))?;
    if wait_for_enter()? {
        return Ok(());
    }
    // Nobody can press it here.
    pause();
    bail!("a signal came that nobody sends")
}

/// Whether Enter was pressed; it is not where stdin is no terminal, or that of another job.
fn wait_for_enter() -> Result<bool> {
    // In the background the terminal is to answer with errors: it stops processes otherwise, and the
    // first one of a PID namespace cannot be stopped.
    let stops: SigSet = [Signal::SIGTTIN, Signal::SIGTTOU].into_iter().collect();
    stops.thread_block().context("cannot block a signal")?;
    let stdin = io::stdin();
    // What was typed while the demo ran is no answer. Where it cannot be discarded there is none.
    let _ = tcflush(&stdin, FlushArg::TCIFLUSH);
    let read = stdin.read_line(&mut String::new());
    Ok(read.is_ok_and(|len| len > 0 || stdin.is_terminal()))
}
