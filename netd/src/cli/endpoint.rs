//! `netd endpoint`.

use clap::Subcommand;

use super::{
    CliError, Session, all, items,
    output::{list, or_dash},
};
use crate::api::{EndpointInfo, PortInfo, Request};

/// What can be done with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List endpoints
    #[command(alias = "list")]
    Ls,
    /// Show endpoints in detail
    Inspect {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

impl EndpointCommand {
    /// Makes the request and prints the answer.
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Self::Ls => ls(session),
            Self::Inspect { names } => inspect(session, names),
        }
    }
}

fn ls(session: &mut Session<'_>) -> Result<(), CliError> {
    let endpoints = items::<EndpointInfo>(&mut session.client, Request::EndpointList)?;
    if session.output.json {
        return session.output.json_array(endpoints);
    }
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
    if session.output.quiet {
        for endpoint in endpoints {
            session.output.line(endpoint.name)?;
        }
        return Ok(());
    }
    let rows = endpoints.iter().map(|endpoint| {
        [
            endpoint.name.clone(),
            endpoint.network.clone(),
            endpoint.sandbox.clone(),
            endpoint.ifname.clone(),
            or_dash(endpoint.ipv4),
            or_dash(endpoint.ipv6),
            list(endpoint.ports.iter().map(PortInfo::spec)),
        ]
    });
    let header = ["NAME", "NETWORK", "SANDBOX", "IFNAME", "IPV4", "IPV6", "PORTS"];
    Ok(session.output.table(header, rows)?)
}

fn inspect(session: &mut Session<'_>, names: Vec<String>) -> Result<(), CliError> {
    let endpoints: Vec<EndpointInfo> =
        all(&mut session.client, Request::EndpointInspect { names })?;
    if session.output.json {
        return session.output.json_array(endpoints.into_iter().map(Ok));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        session.output.description(i == 0, &describe(endpoint))?;
    }
    Ok(())
}

fn describe(endpoint: &EndpointInfo) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("name", endpoint.name.clone()),
        ("id", endpoint.id.clone()),
        ("network", endpoint.network.clone()),
        ("network id", endpoint.network_id.clone()),
        ("sandbox", endpoint.sandbox.clone()),
        ("ifname", endpoint.ifname.clone()),
        ("host ifname", endpoint.host_ifname.clone()),
        ("mac", endpoint.mac.to_string()),
        ("ipv4", or_dash(endpoint.ipv4)),
        ("ipv6", or_dash(endpoint.ipv6)),
        ("gateway", or_dash(endpoint.gateway)),
        ("gateway6", or_dash(endpoint.gateway6)),
        ("aliases", list(&endpoint.aliases)),
        ("gateway priority", endpoint.gw_priority.to_string()),
        ("max flows", or_dash(endpoint.max_flows)),
        ("ports", list(endpoint.ports.iter().map(PortInfo::spec))),
    ];
    // Docker's alone have them.
    fields.extend((!endpoint.links.is_empty()).then(|| ("links", list(&endpoint.links))));
    fields
}
