//! What goes over the socket: newline-delimited JSON, one request a line, a stream of lines back.
//!
//! ```text
//!   client  {"protocol":1,"request":{"command":"conntrack_list",...}}
//!   daemon  {"item":{"conntrack":{...}}}      any number of them, as they come
//!           {"item":{"conntrack":{...}}}
//!           "end"                             or {"error":{"message":"..."}}, which ends it as well
//! ```
//! An answer is a stream even where it is a single object, so that a million flows take the same way
//! as one network and neither side ever holds them all. A connection may carry several requests, one
//! after the other. The objects in `item` are what `--json` shows.

mod conntrack;
mod docker;
mod info;
mod state;

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use conntrack::{ConntrackFilter, ConntrackInfo, FlowTuple, TableInfo};
pub use docker::{Conflict, ConflictInfo, DockerInfo, DockerState};
pub use info::{
    DatapathInfo, EndpointInfo, EndpointStats, NetworkInfo, PortInfo, PortTraffic, StatRow,
    StatsAnswer, SubnetInfo,
};

pub use state::{ImportInfo, LeftOut, MAX_STATE_BYTES, StateText};

use crate::{
    model::{DatapathMode, GatewayMode, MacAddr, NatMode},
    port_spec::PortSpec,
};

/// The version of everything in this module. A daemon refuses other versions than its own.
pub const PROTOCOL_VERSION: u32 = 1;

/// A line from the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub protocol: u32,
    pub request: Request,
}

/// The part of an [`Envelope`] that every version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Hello {
    pub protocol: u32,
}

/// What the daemon is asked to do. The comment says which items the answer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The created network.
    NetworkCreate(NetworkCreate),
    /// Every network.
    NetworkList,
    /// The networks asked for, in that order.
    NetworkInspect { names: Vec<String> },
    /// The removed network's name.
    NetworkRemove { name: String },
    /// The names of the removed networks.
    NetworkPrune,
    /// The created endpoint.
    NetworkConnect(Connect),
    /// The removed endpoint's name.
    NetworkDisconnect { network: String, sandbox: String, force: bool },
    /// Nothing.
    NetworkAllow { a: String, b: String },
    /// Nothing.
    NetworkDisallow { a: String, b: String },
    /// Every endpoint.
    EndpointList,
    /// The endpoints asked for, in that order.
    EndpointInspect { names: Vec<String> },
    /// The rows that were made.
    PortAdd { endpoint: String, specs: Vec<PortSpec> },
    /// The rows that are gone. With `kill`, so are their flows.
    PortRemove { endpoint: String, specs: Vec<PortSpec>, kill: bool },
    /// The rows of one endpoint or of all.
    PortList { endpoint: Option<String> },
    /// The flows that match.
    ConntrackList { filter: ConntrackFilter },
    /// How many flows there are.
    ConntrackCount,
    /// How many flows were ended.
    ConntrackFlush { filter: ConntrackFilter },
    /// The counters.
    Stats,
    /// How things stand with Docker.
    DockerStatus,
    /// The desired state as a text.
    StateExport,
    /// What has come about. The text is the document that somebody has.
    StateImport { text: String },
    /// Nothing; then the daemon ends, which closes the connection. With `detach` it first takes every
    /// link, program, map and device of its own away.
    Stop { detach: bool },
}

/// The network that a user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCreate {
    pub name: String,
    pub subnets: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    pub ip_ranges: Vec<IpNet>,
    pub aux_addresses: BTreeMap<String, IpAddr>,
    pub ipv6: bool,
    pub internal: bool,
    pub icc: Option<bool>,
    pub masquerade: Option<bool>,
    pub snat_addresses: Vec<IpAddr>,
    pub gateway_mode: Option<GatewayMode>,
    pub datapath: Option<DatapathMode>,
    pub mtu: Option<u32>,
    pub bridge: Option<String>,
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    #[serde(default)]
    pub nat: Option<NatMode>,
    #[serde(default)]
    pub nptv6: Option<Ipv6Net>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// The endpoint that a user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    pub network: String,
    /// A name under `/run/netns`, an absolute path, or `pid:N`.
    pub sandbox: String,
    pub name: Option<String>,
    pub aliases: Vec<String>,
    pub ip: Option<std::net::Ipv4Addr>,
    pub ip6: Option<std::net::Ipv6Addr>,
    pub mac: Option<MacAddr>,
    pub ifname: Option<String>,
    pub gw_priority: i32,
    #[serde(default)]
    pub max_flows: Option<NonZeroU32>,
    pub ports: Vec<PortSpec>,
}

/// A line from the daemon.
#[expect(clippy::large_enum_variant, reason = "nearly every reply is an item; boxing costs more")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Item(Item),
    /// The answer is complete.
    End,
    /// The request was refused or failed. What was streamed before stays true.
    Error {
        message: String,
    },
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Network(NetworkInfo),
    Endpoint(EndpointInfo),
    Port(PortInfo),
    Conntrack(ConntrackInfo),
    Table(TableInfo),
    Stats(StatsAnswer),
    State(StateText),
    Imported(ImportInfo),
    Docker(DockerInfo),
    Name(String),
    Count(u64),
    /// Something that the user should know about a request that was granted.
    Warning(String),
}

/// The daemon's answer to a request was of another kind than the request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the daemon answered something else than was asked: use the netd that the daemon is of")]
pub struct UnexpectedItem;

macro_rules! item_conversions {
    ($($variant:ident($ty:ty);)+) => {$(
        impl TryFrom<Item> for $ty {
            type Error = UnexpectedItem;

            fn try_from(item: Item) -> Result<Self, UnexpectedItem> {
                if let Item::$variant(value) = item { Ok(value) } else { Err(UnexpectedItem) }
            }
        }
    )+};
}

item_conversions! {
    Network(NetworkInfo);
    Endpoint(EndpointInfo);
    Port(PortInfo);
    Conntrack(ConntrackInfo);
    Table(TableInfo);
    Stats(StatsAnswer);
    State(StateText);
    Imported(ImportInfo);
    Docker(DockerInfo);
    Name(String);
    Count(u64);
}

#[cfg(test)]
mod tests {
    use super::{ConntrackFilter, Envelope, Item, PROTOCOL_VERSION, Reply, Request};

    #[track_caller]
    fn check_request(request: Request, expected: &str) {
        let envelope = Envelope { protocol: PROTOCOL_VERSION, request };
        let text = serde_json::to_string(&envelope).unwrap();
        assert_eq!(text, format!(r#"{{"protocol":1,"request":{expected}}}"#));
        assert_eq!(serde_json::from_str::<Envelope>(&text).unwrap(), envelope);
    }

    #[track_caller]
    fn check_reply(reply: Reply, expected: &str) {
        assert_eq!(serde_json::to_string(&reply).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Reply>(expected).unwrap(), reply);
    }

    #[test]
    fn requests_and_replies_keep_their_form() {
        check_request(Request::NetworkList, r#"{"command":"network_list"}"#);
        check_request(Request::Stop { detach: true }, r#"{"command":"stop","detach":true}"#);
        let specs = vec!["8080:80".parse().unwrap()];
        check_request(
            Request::PortAdd { endpoint: "web".to_owned(), specs },
            r#"{"command":"port_add","endpoint":"web","specs":[{"host_ip":"*","host_ports":[8080,8080],"ports":[80,80],"proto":"tcp"}]}"#,
        );
        check_request(
            Request::ConntrackList { filter: ConntrackFilter::default() },
            r#"{"command":"conntrack_list","filter":{}}"#,
        );
        check_reply(Reply::Item(Item::Count(7)), r#"{"item":{"count":7}}"#);
        check_reply(Reply::End, r#""end""#);
        check_reply(Reply::Error { message: "no".to_owned() }, r#"{"error":{"message":"no"}}"#);
    }
}
