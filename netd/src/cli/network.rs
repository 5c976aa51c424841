//! `netd network`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use clap::{Args, Subcommand, ValueEnum, builder::BoolishValueParser};
use ipnet::{IpNet, Ipv6Net};

use super::{
    CliError, Session, all, items, key_value, one,
    output::{list, or_dash, short_id},
};
use crate::{
    api::{Connect, EndpointInfo, NetworkCreate, NetworkInfo, Request},
    model::{DatapathMode, GatewayMode, MacAddr, NatMode},
    port_spec::PortSpec,
};

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List networks
    #[command(alias = "list")]
    Ls,
    /// Show networks in detail
    Inspect {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove networks
    #[command(alias = "remove")]
    Rm {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove all networks without endpoints
    Prune,
    /// Connect a sandbox to a network
    Connect(Box<ConnectArgs>),
    /// Disconnect a sandbox from a network
    Disconnect {
        network: String,
        /// As it was given to connect
        sandbox: String,
        /// Also where the sandbox is gone or cannot be entered
        #[arg(long)]
        force: bool,
    },
    /// Let two networks exchange packets
    Allow { a: String, b: String },
    /// Keep two networks apart again
    Disallow { a: String, b: String },
}

/// `netd network create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The network's name
    name: String,
    /// A subnet, one of each family; the next free pool by default
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<IpNet>,
    /// The bridge's address in a subnet; the first one by default
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,
    /// The part of a subnet that endpoints get their addresses from
    #[arg(long = "ip-range", value_name = "CIDR")]
    ip_ranges: Vec<IpNet>,
    /// An address that belongs to somebody else on the bridge
    #[arg(long = "aux-address", value_name = "NAME=IP", value_parser = name_address)]
    aux_addresses: Vec<(String, IpAddr)>,
    /// Also give the network an IPv6 subnet
    #[arg(long)]
    ipv6: bool,
    /// The kind of network
    #[arg(long, value_name = "DRIVER", default_value = "bridge")]
    driver: Driver,
    /// Let nothing in or out but the host's own traffic
    #[arg(long)]
    internal: bool,
    /// Whether endpoints may talk to each other [default: true]
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    icc: Option<bool>,
    /// Whether what leaves gets the uplink's address [default: true]
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    masquerade: Option<bool>,
    /// The source address of what leaves, in place of the uplink's, one of each family
    #[arg(long = "snat-address", value_name = "IP")]
    snat_addresses: Vec<IpAddr>,
    /// How source ports are given; the daemon's choice by default
    #[arg(long, value_name = "MODE")]
    nat: Option<NatMode>,
    /// The prefix that the IPv6 subnet's is translated to, one for one and open both ways (RFC 6296)
    #[arg(long, value_name = "CIDR")]
    nptv6: Option<Ipv6Net>,
    /// How packets get in from outside [default: nat]
    #[arg(long, value_name = "MODE")]
    gateway_mode: Option<GatewayMode>,
    /// Which way packets take between uplinks and endpoints; the daemon's choice by default
    #[arg(long, value_name = "MODE")]
    datapath: Option<DatapathMode>,
    /// The MTU; by default that of the default route's device
    #[arg(long, value_name = "N")]
    mtu: Option<u32>,
    /// The most flows of its endpoints together; the daemon's default by default
    #[arg(long, value_name = "N")]
    max_flows: Option<NonZeroU32>,
    /// The bridge's name; br- and the beginning of the network's id by default
    #[arg(long, value_name = "IFNAME")]
    bridge: Option<String>,
    /// An option of Docker or Podman, such as com.docker.network.driver.mtu=1400
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = key_value)]
    options: Vec<(String, String)>,
    /// A label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
}

/// The kinds of networks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    Bridge,
}

/// `netd network connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The network's name
    network: String,
    /// A name under /run/netns, an absolute path, or pid:N
    sandbox: String,
    /// The endpoint's name; the sandbox's by default
    #[arg(long)]
    name: Option<String>,
    /// Another name of the endpoint on this network
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// The IPv4 address; the next free one by default
    #[arg(long)]
    ip: Option<Ipv4Addr>,
    /// The IPv6 address; the next free one by default
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// The MAC address; a random one by default
    #[arg(long)]
    mac: Option<MacAddr>,
    /// The name of the device in the sandbox; the first free ethN by default
    #[arg(long, value_name = "IF")]
    ifname: Option<String>,
    /// The network with the highest priority is the sandbox's way out
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i32,
    /// The most flows that it may have; the daemon's default by default
    #[arg(long, value_name = "N")]
    max_flows: Option<NonZeroU32>,
    /// Publish a port: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]
    #[arg(short = 'p', long = "publish", value_name = "SPEC")]
    ports: Vec<PortSpec>,
}

impl CreateArgs {
    fn request(self) -> NetworkCreate {
        let Driver::Bridge = self.driver;
        NetworkCreate {
            name: self.name,
            subnets: self.subnets,
            gateways: self.gateways,
            ip_ranges: self.ip_ranges,
            aux_addresses: self.aux_addresses.into_iter().collect(),
            ipv6: self.ipv6,
            internal: self.internal,
            icc: self.icc,
            masquerade: self.masquerade,
            snat_addresses: self.snat_addresses,
            gateway_mode: self.gateway_mode,
            datapath: self.datapath,
            mtu: self.mtu,
            bridge: self.bridge,
            max_flows: self.max_flows,
            nat: self.nat,
            nptv6: self.nptv6,
            options: self.options.into_iter().collect(),
            labels: self.labels.into_iter().collect(),
        }
    }
}

impl ConnectArgs {
    fn request(self) -> Connect {
        Connect {
            network: self.network,
            sandbox: self.sandbox,
            name: self.name,
            aliases: self.aliases,
            ip: self.ip,
            ip6: self.ip6,
            mac: self.mac,
            ifname: self.ifname,
            gw_priority: self.gw_priority,
            max_flows: self.max_flows,
            ports: self.ports,
        }
    }
}

impl NetworkCommand {
    /// Makes the request and prints the answer.
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self {
            Self::Create(args) => create(session, *args),
            Self::Ls => ls(session),
            Self::Inspect { names } => inspect(session, names),
            Self::Rm { names } => rm(session, names),
            Self::Prune => {
                let names = all(&mut session.client, Request::NetworkPrune)?;
                print_names(session, &names)
            }
            Self::Connect(args) => connect(session, *args),
            Self::Disconnect { network, sandbox, force } => {
                let request = Request::NetworkDisconnect { network, sandbox, force };
                let names = all(&mut session.client, request)?;
                print_names(session, &names)
            }
            Self::Allow { a, b } => change_allowance(session, Request::NetworkAllow { a, b }),
            Self::Disallow { a, b } => change_allowance(session, Request::NetworkDisallow { a, b }),
        }
    }
}

fn create(session: &mut Session<'_>, args: CreateArgs) -> Result<(), CliError> {
    let network: NetworkInfo = one(&mut session.client, Request::NetworkCreate(args.request()))?;
    if session.output.json {
        Ok(session.output.json(&network)?)
    } else {
        Ok(session.output.line(&network.name)?)
    }
}

fn ls(session: &mut Session<'_>) -> Result<(), CliError> {
    let networks = items::<NetworkInfo>(&mut session.client, Request::NetworkList)?;
    if session.output.json {
        return session.output.json_array(networks);
    }
    let networks = networks.collect::<Result<Vec<_>, _>>()?;
    if session.output.quiet {
        for network in networks {
            session.output.line(network.name)?;
        }
        return Ok(());
    }
    let rows = networks.iter().map(|network| {
        [
            network.name.clone(),
            short_id(&network.id).to_owned(),
            network.driver.clone(),
            network.bridge.clone(),
            list(network.subnets.iter().map(|subnet| subnet.subnet)),
            network.endpoints.len().to_string(),
        ]
    });
    Ok(session.output.table(["NAME", "ID", "DRIVER", "BRIDGE", "SUBNETS", "ENDPOINTS"], rows)?)
}

fn inspect(session: &mut Session<'_>, names: Vec<String>) -> Result<(), CliError> {
    let networks: Vec<NetworkInfo> = all(&mut session.client, Request::NetworkInspect { names })?;
    if session.output.json {
        return session.output.json_array(networks.into_iter().map(Ok));
    }
    for (i, network) in networks.iter().enumerate() {
        session.output.description(i == 0, &describe(network))?;
    }
    Ok(())
}

fn describe(network: &NetworkInfo) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("name", network.name.clone()),
        ("id", network.id.clone()),
        ("driver", network.driver.clone()),
        ("created", network.created.clone()),
        ("bridge", network.bridge.clone()),
    ];
    for subnet in &network.subnets {
        fields.push(("subnet", subnet.subnet.to_string()));
        fields.push(("  gateway", or_dash(subnet.gateway)));
        fields.push(("  gateway mode", subnet.gateway_mode.to_string()));
        fields.extend(subnet.ip_range.map(|range| ("  ip range", range.to_string())));
        let aux = subnet.aux_addresses.iter();
        fields.extend(aux.map(|(name, address)| ("  aux address", format!("{name}={address}"))));
    }
    let key_value = |(key, value): (&String, &String)| format!("{key}={value}");
    fields.extend([
        ("internal", network.internal.to_string()),
        ("icc", network.icc.to_string()),
        ("masquerade", network.masquerade.to_string()),
        ("nat", network.nat.to_string()),
        ("nptv6", or_dash(network.nptv6)),
        ("snat addresses", list(&network.snat_addresses)),
        ("mtu", network.mtu.to_string()),
        ("max flows", or_dash(network.max_flows)),
    ]);
    // Docker's alone have them.
    fields.extend(network.direct_routing.then(|| ("direct routing", "true".to_owned())));
    fields.extend(network.accept_mark.map(|mark| ("accept mark", mark.to_string())));
    fields.extend([
        ("datapath", format!("{}: {}", network.datapath.path, network.datapath.reason)),
        ("  asked for", network.datapath.asked.to_string()),
        ("endpoints", list(&network.endpoints)),
        ("allowed", list(&network.allowed)),
        ("options", list(network.options.iter().map(key_value))),
        ("labels", list(network.labels.iter().map(key_value))),
    ]);
    fields
}

/// Removes what can be removed, and then says what could not.
fn rm(session: &mut Session<'_>, names: Vec<String>) -> Result<(), CliError> {
    let (mut removed, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match one(&mut session.client, Request::NetworkRemove { name }) {
            Ok(name) => removed.push(name),
            Err(error) => errors.push(error),
        }
    }
    print_names(session, &removed)?;
    match errors.pop() {
        None => Ok(()),
        Some(error) if errors.is_empty() => Err(error),
        Some(error) => {
            errors.push(error);
            session.output.flush()?;
            Err(CliError::Several(errors))
        }
    }
}

fn connect(session: &mut Session<'_>, args: ConnectArgs) -> Result<(), CliError> {
    let request = Request::NetworkConnect(args.request());
    let endpoint: EndpointInfo = one(&mut session.client, request)?;
    if session.output.json {
        return Ok(session.output.json(&endpoint)?);
    }
    if session.output.quiet {
        return Ok(session.output.line(endpoint.name)?);
    }
    let ipv4 = endpoint.ipv4.map(|address| or_dash(Some(address)));
    let ipv6 = endpoint.ipv6.map(|address| or_dash(Some(address)));
    for address in [ipv4, ipv6].into_iter().flatten() {
        session.output.line(address)?;
    }
    Ok(())
}

fn print_names(session: &mut Session<'_>, names: &[String]) -> Result<(), CliError> {
    if session.output.json {
        return Ok(session.output.json(&names)?);
    }
    for name in names {
        session.output.line(name)?;
    }
    Ok(())
}

fn change_allowance(session: &mut Session<'_>, request: Request) -> Result<(), CliError> {
    let names: Vec<String> = all(&mut session.client, request)?;
    if session.output.json { Ok(session.output.json(&names)?) } else { Ok(()) }
}

/// Reads `NAME=IP`.
fn name_address(text: &str) -> Result<(String, IpAddr), Box<dyn std::error::Error + Send + Sync>> {
    let (name, address) = key_value(text)?;
    Ok((name, address.parse()?))
}
