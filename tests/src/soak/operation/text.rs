//! Operations as text: the command lines of requests, and a line of each for the reader of a failure.

use std::{fmt, net::IpAddr};

use super::{Connect, Kind, Meanwhile, Operation, Port, Request, WRONG};
use crate::{family::Family, topology};

impl Kind {
    fn options(self) -> &'static str {
        match self {
            Self::Ipv4 | Self::Open => "",
            Self::Internal => " --internal",
            Self::Apart => " --icc false",
            Self::Mapped => " --nat eim",
            Self::Strict => " --datapath stack -o strict_src=true",
        }
    }
}

impl Request {
    /// The command line, for a run whose sandboxes' names begin with `prefix`. `subnet` is the number of the
    /// connected network's subnet.
    pub fn line(&self, prefix: &str, subnet: Option<u8>) -> String {
        if let Self::Connect(connect) = self {
            connect.line(prefix, subnet)
        } else if let Self::Disconnect(network, sandbox) = self {
            format!("network disconnect {network} {prefix}{sandbox}")
        } else {
            self.to_string()
        }
    }
}

impl Connect {
    fn line(&self, prefix: &str, subnet: Option<u8>) -> String {
        let Self { network, sandbox, endpoint, ip, ports } = self;
        // An address of no network, where it is not known which one would be right.
        let ip = ip.map(|ip| format!(" --ip 10.77.{}.{ip}", subnet.unwrap_or(200)));
        let ports: String = ports.iter().map(|port| format!(" -p {port}")).collect();
        let ip = ip.unwrap_or_default();
        format!("network connect {network} {prefix}{sandbox} --name {endpoint}{ip}{ports}")
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        let last = self.len - 1;
        match last {
            0 => write!(f, "{}:{}", self.host_port, self.port)?,
            _ => write!(
                f,
                "{}-{}:{}-{}",
                self.host_port,
                self.host_port + last,
                self.port,
                self.port + last
            )?,
        }
        write!(f, "/{}", self.proto())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(network, kind, subnet) => {
                write!(f, "network create {network}{}", kind.options())?;
                match subnet {
                    None if kind.has(Family::V6) => write!(f, " --ipv6"),
                    None => Ok(()),
                    Some(n) => {
                        Family::BOTH.into_iter().filter(|family| kind.has(*family)).try_for_each(
                            |family| write!(f, " --subnet {}", topology::subnet(family, *n)),
                        )
                    }
                }
            }
            Self::Remove(network) => write!(f, "network rm {network}"),
            Self::Prune => write!(f, "network prune"),
            Self::Connect(connect) => f.write_str(&connect.line("", None)),
            Self::Disconnect(..) => f.write_str(&self.line("", None)),
            Self::Publish(endpoint, port) => write!(f, "port add {endpoint} {port}"),
            Self::Unpublish(endpoint, port) => write!(f, "port rm {endpoint} {port}"),
            Self::Allow(a, b) => write!(f, "network allow {a} {b}"),
            Self::Disallow(a, b) => write!(f, "network disallow {a} {b}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(sandbox) => write!(f, "make sandbox {sandbox}"),
            Self::End(sandbox) => write!(f, "delete sandbox {sandbox}"),
            Self::Ask(request) => write!(f, "netd {request}"),
            Self::Wrong(number) => write!(f, "netd {}", WRONG[*number].0),
            Self::Reload => write!(f, "SIGHUP"),
            Self::Tamper(tampering) => write!(f, "a stranger does {tampering:?}"),
            Self::Restart(ending, Meanwhile::Asked(request, micros)) => {
                write!(f, "{ending:?} {micros} us after netd {request}")
            }
            Self::Restart(ending, meanwhile) => write!(f, "{ending:?}, meanwhile {meanwhile:?}"),
        }
    }
}
