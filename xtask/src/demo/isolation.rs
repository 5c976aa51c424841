//! A command in namespaces of its own, of which nothing stays however it or we end.
//!
//! The command is the first process of a PID namespace: when it ends, the kernel kills all others in
//! there, and with the last of them go the network namespaces, their devices and the programs
//! attached to them, the mounts, and what was pinned or written on those.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::alarm,
};

use crate::process;

/// Far longer than a demo takes on a machine that is busy otherwise.
const LIMIT_SECS: u32 = 120;

/// What ends the command from outside.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGALRM];

/// Runs a command to its end, or to the first signal that asks us to end, or, if it is `limited`,
/// until it must have got stuck.
///
/// # Errors
/// Fails if the namespaces cannot be had or the command not be started.
pub(super) fn run(command: &mut Command, limited: bool) -> Result<ExitCode> {
    let mut signals: SigSet = ENDING.into_iter().collect();
    signals.add(Signal::SIGCHLD);
    // From here on they wait until they are asked for. The command starts with none blocked.
    signals.thread_block().context("cannot block signals")?;
    unshare(namespaces()).context("cannot make namespaces for the demo")?;
    let mut child = process::spawn(command)?;
    if limited {
        alarm::set(LIMIT_SECS);
    }
    loop {
        let signal = signals.wait().context("cannot wait for signals")?;
        if signal != Signal::SIGCHLD {
            child.kill().context("cannot end the demo")?;
            child.wait().context("cannot wait for the demo's end")?;
            eprintln!("\ndemo: {}", reason(signal));
            return Ok(ExitCode::from(of_signal(signal as i32)));
        }
        if let Some(status) = child.try_wait().context("cannot wait for the demo's end")? {
            return Ok(ExitCode::from(code(status)));
        }
    }
}

/// Lets the kernel kill the calling process when its parent is gone, also by `kill -9`.
///
/// A parent that was killed before this call goes unnoticed: the demo then runs to its end.
///
/// # Errors
/// Fails if the kernel refuses.
pub(super) fn end_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot be told of the parent's end")
}

fn namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
}

fn reason(signal: Signal) -> String {
    if signal == Signal::SIGALRM {
        return format!("not done after {LIMIT_SECS} seconds; everything is removed");
    }
    format!("ended by {signal}; everything is removed")
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or_else(|| status.signal().map_or(1, of_signal))
}

/// The exit status by which shells name a signal.
fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
