//! What a figure is worth nothing without: where and of what it was measured.

use std::{fs, process::Command, thread};

use serde_json::{Value, json};

use crate::{process, workspace::Workspace};

/// The machine and the versions.
pub(super) struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    /// What the machine was busy with before us, averaged over a minute.
    load: String,
    commit: String,
    iptables: Vec<String>,
}

impl Machine {
    /// Looks at the machine; what it does not tell is `unknown`.
    pub(super) fn look(workspace: &Workspace) -> Self {
        let mut git = workspace.command("git");
        git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
        let versions = ["iptables-nft-restore", "iptables-legacy-restore"];
        Self {
            kernel: first_line(fs::read_to_string("/proc/sys/kernel/osrelease").ok()),
            cpu: first_line(fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(model)),
            cores: thread::available_parallelism().map_or(1, usize::from),
            load: first_line(fs::read_to_string("/proc/loadavg").ok().as_deref().and_then(load)),
            commit: first_line(process::output(&mut git).ok()),
            iptables: versions.map(version).to_vec(),
        }
    }

    /// As lines for people.
    pub(super) fn text(&self) -> String {
        let Self { kernel, cpu, cores, load, commit, iptables } = self;
        format!(
            "netd {commit}, Linux {kernel}, {cpu}, {cores} cores, load before {load}\n{}\n",
            iptables.join(" and ")
        )
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let Self { kernel, cpu, cores, load, commit, iptables } = self;
        json!({
            "kernel": kernel, "cpu": cpu, "cores": cores, "load": load, "commit": commit,
            "iptables": iptables,
        })
    }
}

fn version(program: &str) -> String {
    first_line(process::output(Command::new(program).arg("--version")).ok())
}

fn load(loadavg: &str) -> Option<String> {
    loadavg.split_whitespace().next().map(str::to_owned)
}

fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(text: Option<String>) -> String {
    let line = text.as_deref().and_then(|text| text.lines().next());
    line.unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_by_its_model() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(model(cpuinfo).as_deref(), Some("AMD EPYC"));
        assert_eq!(first_line(model("processor : 0")), "unknown");
    }
}
