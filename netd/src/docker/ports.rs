//! What a container publishes, as rows of ours. Pure.
//!
//! Docker tells one binding a port and family: 10,000 ports are 20,000 of them. Here they become rows again, a
//! range one row.

use std::net::IpAddr;

use crate::{
    docker::view::{Binding, Ports},
    model::{Family, HostIp, Proto, PublishedPort},
};

/// Which of a container's networks leads to it by IPv6, seen from the one that does by IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Way {
    /// The same.
    Here,
    /// Another one.
    Elsewhere,
    /// None: the container is reached by IPv4 only.
    Nowhere,
}

/// The part that an endpoint has in what its container publishes (row P19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub has_ipv4: bool,
    pub ipv6: Ipv6Way,
    /// The network's containers are reached at their own addresses, of every family that it has: row I7.
    pub is_routed: bool,
}

/// The rows of an endpoint, without slots, in order.
pub fn rows(ports: &Ports, part: Part) -> Vec<PublishedPort> {
    let mut rows: Vec<PublishedPort> = if part.is_routed {
        ports
            .opened
            .iter()
            .map(|&(proto, port)| row(proto, HostIp::Container, port, port))
            .collect()
    } else {
        let bound = ports.bindings.iter().filter(|binding| binding.host_port != 0);
        let own = bound.filter_map(|binding| {
            let host_ip = host_ip(binding, ports, part)?;
            Some(row(binding.proto, host_ip, binding.host_port, binding.port))
        });
        own.collect()
    };
    rows.sort_by(|a, b| order(a).cmp(&order(b)));
    rows.dedup();
    merge(rows)
}

/// The rows of what Docker does not bind, likewise.
pub fn unbound_rows(ports: &Ports, part: Part) -> Vec<PublishedPort> {
    if part.is_routed {
        return Vec::new();
    }
    rows(&Ports { bindings: ports.unbound.clone(), ..Ports::default() }, part)
}

/// What will be bound that is asked for without an address, on a network whose ports are bound at one
/// (`host_binding_ipv4`, or docker0's `--ip`).
pub fn bound_at(ports: &Ports, address: IpAddr) -> Ports {
    let bound = ports.bindings.iter().filter_map(|binding| {
        let host_ip = match binding.host_ip {
            named if !named.is_unspecified() => named,
            any => Some(address).filter(|it| Family::of(*it) == Family::of(any))?,
        };
        Some(Binding { host_ip, ..*binding })
    });
    Ports { bindings: bound.collect(), ..ports.clone() }
}

fn order(row: &PublishedPort) -> (Proto, &HostIp, u16, u16) {
    (row.proto, &row.host_ip, row.host_port, row.port)
}

fn row(proto: Proto, host_ip: HostIp, host_port: u16, port: u16) -> PublishedPort {
    let (host_port_end, port_end) = (host_port, port);
    PublishedPort { slot: 0, proto, host_ip, host_port, host_port_end, port, port_end }
}

/// Where the binding is published that this endpoint carries; none where another one does.
fn host_ip(binding: &Binding, ports: &Ports, part: Part) -> Option<HostIp> {
    let address = binding.host_ip;
    if !address.is_unspecified() {
        let is_carried = match Family::of(address) {
            Family::Ipv4 => part.has_ipv4,
            Family::Ipv6 => part.ipv6 == Ipv6Way::Here || is_for_ipv4_only(part),
        };
        return is_carried.then_some(HostIp::Address(address));
    }
    let is_everywhere = is_bound_in_both(binding, ports)
        || ports.everywhere.contains(&(binding.proto, binding.port));
    match (Family::of(address), part.ipv6) {
        (Family::Ipv4, Ipv6Way::Here | Ipv6Way::Nowhere) if part.has_ipv4 && is_everywhere => {
            Some(HostIp::Any)
        }
        (Family::Ipv4, _) => part.has_ipv4.then_some(HostIp::Address(address)),
        // The row of IPv4 stands for both.
        (Family::Ipv6, Ipv6Way::Here) if part.has_ipv4 && is_everywhere => {
            (!is_bound_in_both(binding, ports)).then_some(HostIp::Address(address))
        }
        (Family::Ipv6, Ipv6Way::Here) => Some(HostIp::Address(address)),
        (Family::Ipv6, Ipv6Way::Nowhere) if part.has_ipv4 => {
            (!is_bound_in_both(binding, ports)).then_some(HostIp::Address(address))
        }
        (Family::Ipv6, Ipv6Way::Elsewhere | Ipv6Way::Nowhere) => None,
    }
}

/// An IPv6 address of the host may lead to a container that has IPv4 only (`decisions.md` 7).
fn is_for_ipv4_only(part: Part) -> bool {
    part.has_ipv4 && part.ipv6 == Ipv6Way::Nowhere
}

/// Whether the port is bound on every address of the other family too.
fn is_bound_in_both(binding: &Binding, ports: &Ports) -> bool {
    ports.bindings.iter().any(|other| {
        other.host_ip.is_unspecified()
            && other.host_ip.is_ipv4() != binding.host_ip.is_ipv4()
            && (other.proto, other.host_port, other.port)
                == (binding.proto, binding.host_port, binding.port)
    })
}

/// Makes one row of those that continue each other.
fn merge(rows: Vec<PublishedPort>) -> Vec<PublishedPort> {
    let mut merged: Vec<PublishedPort> = Vec::new();
    for row in rows {
        match merged.last_mut() {
            Some(last) if continues(last, &row) => {
                (last.host_port_end, last.port_end) = (row.host_port_end, row.port_end);
            }
            _ => merged.push(row),
        }
    }
    merged
}

fn continues(last: &PublishedPort, next: &PublishedPort) -> bool {
    (last.proto, &last.host_ip) == (next.proto, &next.host_ip)
        && last.host_port_end.checked_add(1) == Some(next.host_port)
        && last.port_end.checked_add(1) == Some(next.port)
}

#[cfg(test)]
mod tests {
    use super::{Ipv6Way, Part, rows};
    use crate::{
        docker::view::{Binding, Ports},
        model::Proto,
    };

    const BOTH: Part = Part { has_ipv4: true, ipv6: Ipv6Way::Here, is_routed: false };

    /// Bindings as `ADDRESS HOSTPORT PORT`.
    fn ports(bindings: &[(&str, u16, u16)], everywhere: &[u16]) -> Ports {
        let bindings = bindings.iter().map(|&(host_ip, host_port, port)| Binding {
            proto: Proto::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            port,
        });
        let everywhere: Vec<_> = everywhere.iter().map(|port| (Proto::Tcp, *port)).collect();
        let opened = everywhere.clone();
        Ports { bindings: bindings.collect(), opened, everywhere, ..Ports::default() }
    }

    #[track_caller]
    fn check(ports: &Ports, part: Part, expected: &[&str]) {
        let rows = rows(ports, part);
        let shown: Vec<String> = rows.iter().map(|row| format!("{} {row}", row.host_ip)).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_bound_in_both_families_is_one_row() {
        let both = ports(&[("0.0.0.0", 8080, 80), ("::", 8080, 80)], &[80]);
        check(&both, BOTH, &["* 8080:80/tcp"]);
        let ipv4_only = Part { ipv6: Ipv6Way::Nowhere, ..BOTH };
        check(&both, ipv4_only, &["* 8080:80/tcp"]);
        // Docker 28 does not say what it does not bind.
        check(&ports(&[("0.0.0.0", 8080, 80)], &[80]), ipv4_only, &["* 8080:80/tcp"]);
        check(&ports(&[("0.0.0.0", 8080, 80)], &[]), BOTH, &["0.0.0.0 0.0.0.0:8080:80/tcp"]);
    }

    #[test]
    fn each_family_is_carried_by_its_own_way() {
        let both = ports(&[("0.0.0.0", 8080, 80), ("::", 8080, 80)], &[80]);
        let ipv4 = Part { ipv6: Ipv6Way::Elsewhere, ..BOTH };
        check(&both, ipv4, &["0.0.0.0 0.0.0.0:8080:80/tcp"]);
        check(&both, Part { has_ipv4: false, ..BOTH }, &[":: [::]:8080:80/tcp"]);
        let none = Part { has_ipv4: false, ipv6: Ipv6Way::Elsewhere, is_routed: false };
        check(&both, none, &[]);
    }

    #[test]
    fn ports_that_follow_each_other_are_a_range() {
        let many: Vec<_> = (0..10_000).map(|i| ("0.0.0.0", 20_000 + i, 10_000 + i)).collect();
        let many = ports(&many, &(10_000..20_000).collect::<Vec<_>>());
        check(&many, BOTH, &["* 20000-29999:10000-19999/tcp"]);
        let crossed = ports(&[("192.0.2.1", 1, 12), ("192.0.2.1", 2, 11)], &[]);
        check(&crossed, BOTH, &["192.0.2.1 192.0.2.1:1:12/tcp", "192.0.2.1 192.0.2.1:2:11/tcp"]);
    }

    #[test]
    fn a_routed_network_opens_the_containers_ports() {
        let part = Part { is_routed: true, ..BOTH };
        check(&ports(&[("0.0.0.0", 0, 80)], &[80]), part, &["- 80/tcp"]);
    }
}
