//! Programs that run beside us: waited for with a deadline, and never left behind.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::wait;
use crate::process::{cannot_start, line};

/// A running program, killed when it is dropped.
pub(super) struct Child {
    child: process::Child,
    line: String,
    output: PathBuf,
}

impl Child {
    /// Starts a program that writes stdout and stderr to the file `output`.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub(super) fn start(command: &mut Command, output: &Path) -> Result<Self> {
        let file =
            File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
        let stderr = file.try_clone().context("cannot duplicate a file descriptor")?;
        // A group of its own: Ctrl-C is for us, who end the programs in the right order.
        command.stdin(Stdio::null()).stdout(file).stderr(stderr).process_group(0);
        let child = command.spawn().map_err(|error| cannot_start(command, error))?;
        Ok(Self { child, line: line(command), output: output.to_owned() })
    }

    /// What it has written until now.
    pub(super) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub(super) fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for `{}`", self.line))
    }

    /// Waits for its end and returns what it wrote.
    ///
    /// # Errors
    /// Fails if it does not succeed within `limit`.
    pub(super) fn finish(mut self, limit: Duration) -> Result<String> {
        let what = format!("`{}` has ended", self.line);
        let status = wait::until(&what, limit, || self.status())?;
        if !status.success() {
            bail!("`{}` failed: {status}\n{}", self.line, self.output().trim());
        }
        Ok(self.output())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // As long as nobody has seen it end, its number is its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
