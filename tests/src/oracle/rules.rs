//! Rule sets that moby's tests do not have: theirs, with other published ports.

use std::fmt;

use super::{arrival::Edge, golden::Mode, places::Places};
use crate::family::Family;

/// The published ports of web and of app, as netd's command line has them.
pub type Specs = [String; 2];

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// `tcp` or `udp`.
    pub proto: &'static str,
    /// On the host.
    pub host: u16,
    /// At which of its addresses.
    pub at: At,
    /// Of the container.
    pub container: u16,
    /// Which container: web or app.
    pub edge: Edge,
}

/// The addresses of the host that a port is published at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// All of them.
    All,
    /// That of its uplink.
    Uplink,
    /// Another one.
    Other,
}

impl At {
    /// The address in a family, if it is one.
    fn address(self, places: Places) -> Option<std::net::IpAddr> {
        match self {
            Self::All => None,
            Self::Uplink => Some(places.host),
            Self::Other => Some(places.snat),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proto, host, container, .. } = self;
        let one = |address: Option<_>| match address {
            None => format!("{host}:{container}/{proto}"),
            Some(ip) => format!("{}:{container}/{proto}", std::net::SocketAddr::new(ip, *host)),
        };
        let of = |family| one(self.at.address(Places::of(family)));
        match self.at {
            At::All => f.write_str(&one(None)),
            At::Uplink | At::Other => f.write_str(&Family::BOTH.map(of).join(" ")),
        }
    }
}

/// The ports for netd's command line.
pub fn specs(ports: &[Port], mode: Mode) -> Specs {
    let one = |port: &Port| match mode {
        Mode::Routed => format!("{}/{}", port.container, port.proto),
        Mode::Nat | Mode::NatUnprotected => port.to_string(),
    };
    [Edge::Web, Edge::App].map(|edge| {
        let own = ports.iter().filter(|port| port.edge == edge);
        own.map(one).collect::<Vec<_>>().join(" ")
    })
}

/// The rules of both families with these ports in place of their own.
pub fn both_with_ports(texts: &[String; 2], ports: &[Port]) -> [String; 2] {
    [(Family::V4, 0), (Family::V6, 1)].map(|(family, at)| with_ports(&texts[at], family, ports))
}

/// A rule set with these ports in place of its own: each of its lines about that is there for each port,
/// those about web's address for each container that has one.
fn with_ports(text: &str, family: Family, ports: &[Port]) -> String {
    let places = Places::of(family);
    let web = places.web.to_string();
    let edges = [Edge::Web, Edge::App];
    let lines = text.lines().map(|line| {
        let copies: Vec<String> = if line.contains("--dport") {
            ports.iter().map(|port| with_port(line, places, *port)).collect()
        } else if line.contains(&web) {
            let is_used = |edge: &Edge| ports.iter().any(|port| port.edge == *edge);
            let own = edges.into_iter().filter(is_used);
            own.map(|edge| line.replace(&web, &places.of_edge(edge).to_string())).collect()
        } else {
            vec![line.to_owned()]
        };
        copies.iter().map(|line| format!("{line}\n")).collect::<String>()
    });
    lines.collect()
}

fn with_port(line: &str, places: Places, port: Port) -> String {
    let Port { proto, host, container, edge, at } = port;
    let line = line
        .replace("-p tcp -m tcp", &format!("-p {proto} -m {proto}"))
        .replace(&places.web.to_string(), &places.of_edge(edge).to_string());
    if !line.contains("--dport 8080") {
        return line.replace("--dport 80", &format!("--dport {container}"));
    }
    let line = line.replace("--dport 8080", &format!("--dport {host}"));
    let line = match at.address(places) {
        Some(ip) => line.replace("-A DOCKER ", &format!("-A DOCKER -d {ip} ")),
        None => line,
    };
    // Where it leads to the container, its port comes last.
    line.strip_suffix(":80").map_or(line.clone(), |start| format!("{start}:{container}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [Port; 2] = [
        Port { proto: "udp", host: 80, at: At::All, container: 5353, edge: Edge::Web },
        Port { proto: "tcp", host: 443, at: At::Uplink, container: 8443, edge: Edge::App },
    ];

    #[test]
    fn every_line_about_a_port_is_there_for_each() {
        let text = "*nat\n-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.0.2:80\n\
                    -A POSTROUTING -p tcp -m tcp --dport 80 -j MASQUERADE\n\
                    -A PREROUTING -d 192.168.0.2/32 -j DROP\nCOMMIT\n";
        let expected = "*nat\n-A DOCKER -p udp -m udp --dport 80 -j DNAT --to-destination 192.168.0.2:5353\n\
                        -A DOCKER -d 192.0.2.1 -p tcp -m tcp --dport 443 -j DNAT --to-destination 192.168.0.3:8443\n\
                        -A POSTROUTING -p udp -m udp --dport 5353 -j MASQUERADE\n\
                        -A POSTROUTING -p tcp -m tcp --dport 8443 -j MASQUERADE\n\
                        -A PREROUTING -d 192.168.0.2/32 -j DROP\n\
                        -A PREROUTING -d 192.168.0.3/32 -j DROP\nCOMMIT\n";
        assert_eq!(with_ports(text, Family::V4, &PORTS), expected);
    }

    #[test]
    fn netd_is_told_the_ports_of_each_container() {
        let told = ["80:5353/udp", "192.0.2.1:443:8443/tcp [2001:db8:1::1]:443:8443/tcp"];
        assert_eq!(specs(&PORTS, Mode::Nat), told);
        assert_eq!(specs(&PORTS, Mode::Routed), ["5353/udp", "8443/tcp"]);
    }
}
