//! A lane: one process that asks and one that answers, and the flows between them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::report::Report;
use crate::{condition::within, netns::Namespace, process::Running};

/// How long a process may take to tell of its flows: it waits for those that are lost.
const ENDING: Duration = Duration::from_secs(60);

/// Where the flows of a lane lead from and to.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// What is said of it.
    pub name: &'static str,
    /// Who asks.
    pub from: &'a Namespace,
    /// Who answers.
    pub to: &'a Namespace,
    /// The port at which that one answers.
    pub port: u16,
    /// By which addresses it is reached, in turns.
    pub by: [SocketAddr; 2],
}

/// A lane whose flows go on. They end when it is dropped.
#[derive(Debug)]
pub struct Lane {
    /// What is said of it.
    pub name: &'static str,
    /// How many flows it has.
    pub flows: u32,
    asks: Running,
    answers: Running,
    dir: PathBuf,
}

/// What the two ends of a lane's flows have seen.
#[derive(Debug)]
pub struct Ends {
    /// What is said of the lane.
    pub name: &'static str,
    /// How many flows there have been.
    pub flows: u32,
    /// Those of the process that asks.
    pub asking: Vec<Report>,
    /// Those of the process that answers.
    pub answering: Vec<Report>,
}

impl Lane {
    /// Starts the processes, of which `program` is the file.
    ///
    /// # Panics
    /// Where one of them cannot be started.
    #[track_caller]
    pub fn begin(program: &Path, course: Course<'_>, flows: u32, pace: Duration) -> Self {
        let Course { name, from, to, port, by } = course;
        let dir = std::env::temp_dir().join(format!("{}-{}-{port}", from.name(), to.name()));
        let made = fs::create_dir_all(&dir);
        made.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let run = |namespace: &Namespace, log: &str, args: &[&str]| {
            Running::start(namespace.path(), &dir.join(log), &program.to_string_lossy(), args)
        };
        let answers = run(to, "answers", &["answer", &port.to_string()]);
        to.wait_for_listener("tcp6", port);
        let [flow_count, pace] = [flows.to_string(), pace.as_millis().to_string()];
        let [one, other] = by.map(|address| address.to_string());
        let asks = run(from, "asks", &["ask", &flow_count, &pace, &one, &other]);
        Self { name, flows, asks, answers, dir }
    }

    /// How many times all of its flows have been answered.
    ///
    /// # Panics
    /// Where the process that asks has ended.
    #[track_caller]
    pub fn rounds(&mut self) -> u32 {
        let log = self.asks.log();
        assert_eq!(self.asks.status(), None, "{}: {log}", self.name);
        let mut rounds = log.lines().filter_map(|line| line.strip_prefix("round ")?.parse().ok());
        rounds.next_back().unwrap_or_default()
    }

    /// Ends its flows.
    ///
    /// # Panics
    /// Where a process does not tell what it has seen.
    #[track_caller]
    pub fn end(mut self) -> Ends {
        // First who asks: what that one has closed, the other has seen to the end.
        let asking = reports(&mut self.asks);
        let answering = reports(&mut self.answers);
        Ends { name: self.name, flows: self.flows, asking, answering }
    }
}

#[track_caller]
fn reports(process: &mut Running) -> Vec<Report> {
    process.signal(Signal::SIGTERM);
    let status = within(ENDING, || process.status());
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    process.log().lines().filter_map(|line| line.parse().ok()).collect()
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
