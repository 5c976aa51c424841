//! Docker: what the daemon says of it, or else what its process tells.

use super::{because, wanted::PATIENCE};
use crate::{
    api::{DockerInfo, DockerState, Request},
    client::Client,
    config::{Config, DockerMode},
    docker::follow,
    doctor::facts::{Daemon, Docker, Known, Unknown},
};

pub(super) async fn docker(config: &Config, daemon: Option<&Daemon>) -> Known<Docker> {
    if config.docker.enabled == DockerMode::Off {
        return Ok(Docker::default());
    }
    if daemon == Some(&Daemon::Here) {
        return ask(config);
    }
    let conflicts = follow::conflicts_here().await.map_err(because)?;
    Ok(Docker {
        is_here: conflicts.is_some(),
        conflicts: conflicts.unwrap_or_default(),
        faults: Vec::new(),
    })
}

fn ask(config: &Config) -> Known<Docker> {
    let mut client = Client::connect(&config.daemon.socket).map_err(because)?;
    client.set_patience(PATIENCE).map_err(because)?;
    let answer = client.request(Request::DockerStatus).map_err(because)?.next();
    let answer = answer.ok_or_else(|| Unknown("the daemon does not say".to_owned()))?;
    let info = DockerInfo::try_from(answer.map_err(because)?).map_err(because)?;
    Ok(Docker {
        is_here: matches!(info.state, DockerState::Followed | DockerState::LeftAlone),
        conflicts: info.conflicts.iter().map(|it| it.conflict).collect(),
        faults: info.faults,
    })
}
