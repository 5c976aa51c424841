//! The addresses of both hosts, equal on each.

use std::net::IpAddr;

use super::arrival::Edge;
use crate::family::Family;

/// The addresses of a family, those of the rule sets among them.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Which family.
    pub family: Family,
    /// The client.
    pub client: IpAddr,
    /// Somebody beyond the client.
    pub remote: IpAddr,
    /// The host on its uplink.
    pub host: IpAddr,
    /// The host on the bridge.
    pub gateway: IpAddr,
    /// The address of the host that containers get where one was chosen.
    pub snat: IpAddr,
    /// The container that publishes.
    pub web: IpAddr,
    /// Its neighbour.
    pub app: IpAddr,
}

impl Places {
    /// Those of a family.
    pub fn of(family: Family) -> Self {
        let parse = |v4: &str, v6: &str| -> IpAddr {
            family.pick(v4, v6).parse().unwrap_or_else(|_| panic!("no address: {v4} {v6}"))
        };
        Self {
            family,
            client: family.client(),
            remote: family.remote(),
            host: family.host(),
            gateway: parse("192.168.0.1", "fd49:efd7:54aa::ffff"),
            snat: parse("192.168.123.0", "fd34:d0d4:672f::123"),
            web: parse("192.168.0.2", "fd49:efd7:54aa::1"),
            app: parse("192.168.0.3", "fd49:efd7:54aa::3"),
        }
    }

    /// The network's subnet.
    pub fn subnet(self) -> &'static str {
        self.family.pick("192.168.0.0/24", "fd49:efd7:54aa::/64")
    }

    /// That of a station.
    pub fn of_edge(self, edge: Edge) -> IpAddr {
        match edge {
            Edge::Client => self.client,
            Edge::Web => self.web,
            Edge::App => self.app,
        }
    }
}
