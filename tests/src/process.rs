//! Programs: those that run to their end, and those that run until they are dropped.
//!
//! Each runs in a network namespace; `ip netns exec` would hide /sys/fs/bpf from it. No program outlives its test: the short ones have a time limit, the long ones are killed when
//! they are dropped, or by the kernel when the test's thread ends without that.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    condition::{self, eventually_some},
    netns,
};

/// The longest that a program which is run to its end may take, as many times as long as other conditions where the
/// machine is said to be slow.
const LIMIT: u32 = 4;

/// That limit as timeout(1) takes it.
fn limit() -> String {
    (condition::deadline() * LIMIT).as_secs().to_string()
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    line: String,
    /// The exit status, or `None` after a signal.
    pub status: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Returns what the program wrote to stdout.
    ///
    /// # Panics
    /// Where it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self}");
        self.stdout
    }

    /// Returns the JSON document that the program wrote to stdout.
    ///
    /// # Panics
    /// Where it failed or wrote something else.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(json) if self.status == Some(0) => json,
            _ => panic!("no JSON: {self}"),
        }
    }

    /// Whether the program succeeded.
    pub fn is_ok(&self) -> bool {
        self.status == Some(0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, status, stdout, stderr } = self;
        write!(f, "`{line}` ended with {status:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

/// Runs `program` with arguments to its end, in the network namespace at `netns`.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn run_in(netns: &Path, program: &str, args: &[&str], stdin: &str) -> Outcome {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &limit(), program]).args(args);
    netns::inside(netns, || run(&mut command, stdin))
}

/// Runs a command to its end.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn run(command: &mut Command, stdin: &str) -> Outcome {
    let line = line_of(command);
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("`{line}` cannot be run: {error}"));
    if let Some(mut pipe) = child.stdin.take() {
        // A program that has read enough may be gone; how it ended is for the caller to judge.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    let output = child.wait_with_output();
    let output = output.unwrap_or_else(|error| panic!("`{line}` cannot be waited for: {error}"));
    Outcome {
        line,
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program in the background. It and its children are killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `program` in the network namespace at `netns`. What it writes goes to the file `log`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn start(netns: &Path, log: &Path, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        // The thread whose end is the program's end is the caller's, which stays in its own namespace.
        command.args(["--pdeathsig=KILL", "nsenter"]);
        command.arg(format!("--net={}", netns.display())).arg("--");
        command.arg(program).args(args);
        let line = line_of(&command);
        let open = File::options().create(true).append(true).open(log);
        let out = open.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let err = out.try_clone().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        // A group of its own, so that children can be killed with it.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|error| panic!("`{line}` cannot be started: {error}"));
        Self { child, line, log: log.to_owned(), ended: None }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the program has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("`{}` has ended", self.line);
        eventually_some(&what, || self.status())
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        assert_eq!(self.status(), None, "`{}` has ended", self.line);
        if let Err(error) = kill(self.raw_pid(), signal) {
            panic!("`{}` cannot be sent {signal}: {error}", self.line);
        }
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // As long as nobody has seen it end, its number is its own.
        if self.status().is_none() {
            let _ = killpg(self.raw_pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.line, self.log());
        }
    }
}
