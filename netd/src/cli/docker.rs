//! `netd docker`.

use clap::Subcommand;

use super::{
    CliError, Session, one,
    output::{list, or_dash},
};
use crate::api::{DockerInfo, Request};

/// The commands about Docker.
#[derive(Debug, Subcommand)]
pub enum DockerCommand {
    /// Say whether Docker's networks are netd's work, and if not, why
    Status,
}

impl DockerCommand {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Self::Status => status(session),
        }
    }
}

fn status(session: &mut Session<'_>) -> Result<(), CliError> {
    let info: DockerInfo = one(&mut session.client, Request::DockerStatus)?;
    let output = &mut session.output;
    if output.json {
        return Ok(output.json(&info)?);
    }
    if output.quiet {
        return Ok(output.line(serde_json::to_value(info.state).map_or_else(
            |_| String::new(),
            |state| state.as_str().unwrap_or_default().to_owned(),
        ))?);
    }
    let mut fields = vec![
        ("docker", info.state.meaning().to_owned()),
        ("version", or_dash(info.version)),
        ("socket", info.socket.display().to_string()),
    ];
    fields.extend(info.error.map(|error| ("error", error)));
    for conflict in info.conflicts {
        fields.push(("because", conflict.message));
        fields.push(("fix", conflict.fix));
    }
    fields.push(("networks", list(&info.networks)));
    fields.push(("endpoints", info.endpoints.to_string()));
    fields.push(("ports", info.ports.to_string()));
    fields.extend(info.faults.into_iter().map(|fault| ("fault", fault)));
    Ok(output.description(true, &fields)?)
}
