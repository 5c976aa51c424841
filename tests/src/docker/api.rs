//! What the program `docker` cannot ask for: dockerd's API itself, its files, and a start that fails.

use std::path::PathBuf;

use serde_json::Value;

use super::DockerHost;
use crate::{
    condition::eventually_some,
    process::{Outcome, Running, run_in},
};

/// What the API has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// Null where there is no body.
    pub body: Value,
}

impl Answer {
    /// The body of a request that was granted.
    ///
    /// # Panics
    /// Where it was not.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }
}

impl DockerHost {
    /// Sends dockerd's API a request, by a path that begins with the API's version.
    ///
    /// # Panics
    /// Where it is not answered, or by something else than JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let url = format!("http://docker/{path}");
        let socket = self.socket();
        let args = ["--silent", "--show-error", "--unix-socket", &socket, "--data", "@-"];
        let more = ["--header", "Content-Type: application/json", "--write-out", "\n%{http_code}"];
        let args: Vec<&str> = args.into_iter().chain(more).chain([url.as_str()]).collect();
        let curl = run_in(self.world.host.path(), "curl", &args, &body.to_string()).ok();
        let (text, status) = curl.rsplit_once('\n').unwrap_or_default();
        let status = status.parse().unwrap_or_else(|_| panic!("no status: {curl}"));
        let parsed = if text.trim().is_empty() { Ok(Value::Null) } else { text.parse() };
        Answer { status, body: parsed.unwrap_or_else(|error| panic!("{error}: {text}")) }
    }

    /// Writes a file where dockerd lives.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write_file(&self, path: &str, text: &str) {
        self.system.write(path, text);
    }

    /// Runs a line of a shell's where dockerd lives.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn run_line(&self, line: &str) -> Outcome {
        self.system.run(&["sh", "-c", line], "")
    }

    /// Where dockerd keeps what it knows of a container.
    ///
    /// # Panics
    /// Where there is no such container.
    #[track_caller]
    pub fn files_of(&self, container: &str) -> PathBuf {
        let id = self.inspect(container)["Id"].as_str().unwrap_or_default().to_owned();
        assert_ne!(id, "", "container {container}");
        self.directory().join("data/containers").join(id)
    }

    /// Runs a line of busybox's in a container.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> Outcome {
        self.docker(&format!("exec {container} /bin/busybox {line}"))
    }

    /// Starts a dockerd that is to end by itself, and returns what it has written.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn refused_docker(&self, flags: &str) -> String {
        let mut dockerd = self.spawn_docker(flags);
        let status = eventually_some("dockerd has ended", || dockerd.status());
        assert!(!status.success(), "{}", dockerd.log());
        dockerd.log()
    }

    /// Starts dockerd.
    #[track_caller]
    pub(super) fn spawn_docker(&self, flags: &str) -> Running {
        let host = format!("unix://{}", self.socket());
        let args = ["dockerd", "--host", &host, "--pidfile", "/run/docker.pid"].into_iter();
        self.system.start("dockerd", &args.chain(flags.split_whitespace()).collect::<Vec<_>>())
    }
}
