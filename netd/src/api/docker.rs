//! The object of `netd docker status`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How things stand with Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerInfo {
    pub state: DockerState,
    /// Where its API is looked for.
    pub socket: PathBuf,
    /// Docker's own; null where it does not answer.
    pub version: Option<String>,
    /// Why it does not answer, where it does not.
    pub error: Option<String>,
    /// What it does itself, for which its networks are left alone.
    pub conflicts: Vec<ConflictInfo>,
    /// What could not be taken up, and why.
    pub faults: Vec<String>,
    /// The names of the networks that netd works for.
    pub networks: Vec<String>,
    /// How many endpoints they have, and published ports.
    pub endpoints: usize,
    pub ports: usize,
}

/// How things stand with a dockerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerState {
    /// Nobody wants it.
    Off,
    /// It does not answer.
    Away,
    /// It serves another network namespace.
    Elsewhere,
    /// It does netd's work itself.
    LeftAlone,
    /// Its networks are netd's work.
    Followed,
}

/// Something that dockerd does and netd would do again, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictInfo {
    pub conflict: Conflict,
    pub message: String,
    pub fix: String,
}

impl DockerState {
    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Off => "not followed, for the configuration says so",
            Self::Away => "does not answer; what was taken up stays",
            Self::Elsewhere => "serves another network namespace",
            Self::LeftAlone => "left alone, for it does netd's work itself",
            Self::Followed => "followed",
        }
    }
}

impl ConflictInfo {
    pub(crate) fn new(conflict: Conflict) -> Self {
        let (message, fix) = (conflict.message().to_owned(), conflict.fix().to_owned());
        Self { conflict, message, fix }
    }
}

/// Something that dockerd does and netd would do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    Iptables,
    UserlandProxy,
    Swarm,
}

impl Conflict {
    /// What dockerd does.
    pub fn message(self) -> &'static str {
        match self {
            Self::Iptables => "dockerd programs iptables for its networks",
            Self::UserlandProxy => "dockerd runs a proxy for each published port",
            Self::Swarm => "Swarm is active, which works by Docker's own rules",
        }
    }

    /// What to do for netd to take over.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Iptables => {
                "set \"iptables\": false and \"ip6tables\": false in /etc/docker/daemon.json, restart Docker, and \
                 remove its old rules or reboot"
            }
            Self::UserlandProxy => {
                "set \"userland-proxy\": false in /etc/docker/daemon.json, and restart Docker"
            }
            Self::Swarm => "docker swarm leave",
        }
    }
}
