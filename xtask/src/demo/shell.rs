//! Commands as a person types them: one line, split at white space, and nothing of the user's own
//! settings, so that a demo looks the same everywhere.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::world::DIR;
use crate::{process, programs};

/// How often a condition is looked at before it is given up, and what lies between.
const LOOKS: u32 = 400;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a line to its end and returns what it wrote to stdout.
///
/// # Errors
/// Fails if it does not succeed.
pub(super) fn run(line: &str) -> Result<String> {
    process::output(&mut command(line)?)
}

/// Starts a line; what it writes can be read from its pipes.
///
/// # Errors
/// Fails if it cannot be started.
pub(super) fn start(line: &str) -> Result<Child> {
    process::spawn(command(line)?.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Starts a line that goes on in the background; what it writes goes to a file.
///
/// # Errors
/// Fails if it cannot be started or the file not be made.
pub(super) fn start_with_log(line: &str, log: &Path) -> Result<Child> {
    let out = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    let err = out.try_clone().context("cannot copy a file descriptor")?;
    process::spawn(command(line)?.stdout(out).stderr(err))
}

/// Waits until something holds.
///
/// # Errors
/// Fails if it does not in time, or as the look does; `what` completes "still not: ...".
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..LOOKS {
        if holds()? {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    bail!("still not: {what}")
}

fn command(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().context("no program to run")?);
    // The demo's netd comes first. Programs where only root looks for them are found too.
    let folders = [PathBuf::from(DIR)].into_iter().chain(programs::search_path());
    let path = env::join_paths(folders).context("PATH cannot be made")?;
    command.args(words).stdin(Stdio::null());
    // No proxy of the user's, and by the home folder no curlrc.
    command.env_clear().env("PATH", path).env("HOME", DIR).current_dir(DIR);
    // Ctrl-C goes to a terminal's whole group. Only the process that ends the demo is to see it,
    // else commands that it ends too would look like surprises.
    command.process_group(0);
    Ok(command)
}
