//! `netd port`.

use std::net::IpAddr;

use clap::Subcommand;

use super::{CliError, Session, items};
use crate::{
    api::{PortInfo, Request},
    model::HostIp,
    port_spec::PortSpec,
};

/// What can be done with published ports.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Publish ports of a running endpoint
    Add {
        endpoint: String,
        /// [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]
        #[arg(required = true, value_name = "SPEC")]
        specs: Vec<PortSpec>,
    },
    /// Unpublish ports
    #[command(alias = "remove")]
    Rm {
        endpoint: String,
        /// As it was given to add; without HOSTPORT every row of the container port
        #[arg(required = true, value_name = "SPEC")]
        specs: Vec<PortSpec>,
        /// Also end the flows of the ports
        #[arg(long)]
        kill: bool,
    },
    /// List published ports
    #[command(alias = "list")]
    Ls { endpoint: Option<String> },
}

impl PortCommand {
    /// Makes the request and prints the answer.
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Self::Add { endpoint, specs } => print(session, Request::PortAdd { endpoint, specs }),
            Self::Rm { endpoint, specs, kill } => {
                let request = Request::PortRemove { endpoint, specs, kill };
                print(session, request)
            }
            Self::Ls { endpoint } => print(session, Request::PortList { endpoint }),
        }
    }
}

fn print(session: &mut Session<'_>, request: Request) -> Result<(), CliError> {
    let ports = items::<PortInfo>(&mut session.client, request)?;
    if session.output.json {
        return session.output.json_array(ports);
    }
    let ports = ports.collect::<Result<Vec<_>, _>>()?;
    if session.output.quiet {
        for port in ports {
            session.output.line(port.spec())?;
        }
        return Ok(());
    }
    Ok(session.output.table(HEADER, ports.iter().map(row))?)
}

pub(super) const HEADER: [&str; 7] =
    ["ENDPOINT", "PROTO", "HOST", "PORT", "PACKETS", "BYTES", "FLOWS"];

pub(super) fn row(port: &PortInfo) -> [String; 7] {
    let range = |first: u16, last: u16| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let host_ports = range(port.host_port, port.host_port_end);
    let host = match &port.host_ip {
        HostIp::Container => "-".to_owned(),
        HostIp::Address(IpAddr::V6(address)) => format!("[{address}]:{host_ports}"),
        host_ip @ (HostIp::Any | HostIp::Address(_) | HostIp::Interface(_)) => {
            format!("{host_ip}:{host_ports}")
        }
    };
    [
        port.endpoint.clone(),
        port.proto.to_string(),
        host,
        range(port.port, port.port_end),
        port.packets.to_string(),
        port.bytes.to_string(),
        port.flows.to_string(),
    ]
}
