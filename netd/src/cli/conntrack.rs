//! `netd conntrack`, in the words of conntrack(8).

use std::{fmt, net::IpAddr};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use ipnet::IpNet;
use netd_common::conntrack::FlowState;
use serde_json::json;

use super::{CliError, Session, items, one};
use crate::api::{ConntrackFilter, ConntrackInfo, FlowTuple, Request, TableInfo};

/// What can be done with the connection table.
#[derive(Debug, Subcommand)]
pub enum ConntrackCommand {
    /// List flows, a line each
    #[command(alias = "list")]
    Ls(Box<FilterArgs>),
    /// Count all flows
    Count,
    /// End flows: all, or those that match
    Flush(Box<FilterArgs>),
}

/// Which flows are meant.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// The protocol
    #[arg(short = 'p', long, value_parser = ["tcp", "udp", "sctp", "icmp", "icmpv6"])]
    proto: Option<String>,
    /// The source of the original direction: an address or a prefix
    #[arg(short = 's', long, value_name = "ADDRESS", visible_alias = "src", value_parser = prefix)]
    orig_src: Option<IpNet>,
    /// The destination of the original direction: an address or a prefix
    #[arg(short = 'd', long, value_name = "ADDRESS", visible_alias = "dst", value_parser = prefix)]
    orig_dst: Option<IpNet>,
    /// The source port of the original direction
    #[arg(long, value_name = "PORT", visible_alias = "orig-port-src")]
    sport: Option<u16>,
    /// The destination port of the original direction
    #[arg(long, value_name = "PORT", visible_alias = "orig-port-dst")]
    dport: Option<u16>,
    /// The container's network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// The container's endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// The state
    #[arg(long, ignore_case = true, value_parser = states())]
    state: Option<String>,
}

impl From<FilterArgs> for ConntrackFilter {
    fn from(args: FilterArgs) -> Self {
        Self {
            proto: args.proto,
            orig_src: args.orig_src,
            orig_dst: args.orig_dst,
            sport: args.sport,
            dport: args.dport,
            network: args.network,
            endpoint: args.endpoint,
            state: args.state,
        }
    }
}

impl ConntrackCommand {
    /// Makes the request and prints the answer.
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Self::Ls(args) => ls(session, (*args).into()),
            Self::Count => {
                let table: TableInfo = one(&mut session.client, Request::ConntrackCount)?;
                if session.output.json {
                    return Ok(session.output.json(&table)?);
                }
                Ok(session.output.line(table.count)?)
            }
            Self::Flush(args) => flush(session, (*args).into()),
        }
    }
}

fn ls(session: &mut Session<'_>, filter: ConntrackFilter) -> Result<(), CliError> {
    let request = Request::ConntrackList { filter };
    let flows = items::<ConntrackInfo>(&mut session.client, request)?;
    if session.output.json {
        return session.output.json_array(flows);
    }
    for flow in flows {
        session.output.line(Line(&flow?))?;
    }
    Ok(())
}

fn flush(session: &mut Session<'_>, filter: ConntrackFilter) -> Result<(), CliError> {
    let flushed: u64 = one(&mut session.client, Request::ConntrackFlush { filter })?;
    if session.output.json {
        Ok(session.output.json(&json!({ "flushed": flushed }))?)
    } else if session.output.quiet {
        Ok(session.output.line(flushed)?)
    } else {
        let flows = if flushed == 1 { "flow" } else { "flows" };
        Ok(session.output.line(format_args!("{flushed} {flows} ended"))?)
    }
}

/// A flow in the form of `conntrack -L`.
struct Line<'a>(&'a ConntrackInfo);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.0;
        write!(f, "{:<8} {} {} ", flow.proto, flow.timeout_secs, flow.state)?;
        write_tuple(f, &flow.orig)?;
        write_tuple(f, &flow.reply)?;
        if let (Some(packets), Some(bytes)) = (flow.packets, flow.bytes) {
            write!(f, "packets={packets} bytes={bytes} ")?;
        }
        let (endpoint, network) = (flow.endpoint.as_deref(), flow.network.as_deref());
        write!(f, "endpoint={} network={}", endpoint.unwrap_or("-"), network.unwrap_or("-"))
    }
}

fn write_tuple(f: &mut fmt::Formatter<'_>, tuple: &FlowTuple) -> fmt::Result {
    let FlowTuple { src, dst, sport, dport } = tuple;
    write!(f, "src={src} dst={dst} sport={sport} dport={dport} ")
}

/// Reads the name of a state.
fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(FlowState::ALL.iter().map(|state| state.name()))
}

/// Reads a prefix, or an address as the prefix that holds nothing else.
fn prefix(text: &str) -> Result<IpNet, ipnet::AddrParseError> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse())
}

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser;
    use netd_common::conntrack::FlowState;

    use super::{Line, prefix};
    use crate::api::ConntrackInfo;

    #[test]
    fn an_address_is_a_prefix_of_its_own() {
        assert_eq!(prefix("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(prefix("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert_eq!(prefix("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
        assert!(prefix("localhost").is_err());
    }

    #[test]
    fn every_state_can_be_asked_for() {
        let states = super::states();
        for state in FlowState::ALL {
            let found = TypedValueParser::possible_values(&states);
            let names: Vec<_> = found.into_iter().flatten().collect();
            assert!(names.iter().any(|name| name.get_name() == state.name()));
        }
    }

    #[test]
    fn a_flow_reads_as_in_conntrack() {
        let json = r#"{"proto":"tcp","state":"SYN_SENT","orig":{"src":"198.51.100.7","sport":4,"dst":"192.0.2.1","dport":80},
            "reply":{"src":"172.17.0.2","sport":8080,"dst":"198.51.100.7","dport":4},"endpoint":"web","network":null,"timeout_secs":9}"#;
        let flow: ConntrackInfo = serde_json::from_str(json).unwrap();
        let expected = "tcp      9 SYN_SENT src=198.51.100.7 dst=192.0.2.1 sport=4 dport=80 \
            src=172.17.0.2 dst=198.51.100.7 sport=8080 dport=4 endpoint=web network=-";
        assert_eq!(Line(&flow).to_string(), expected);
    }
}
