//! Checks of networks and published ports against the host that they are on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Verdict, Verdicts, or_ok};
use crate::{
    doctor::facts::{Facts, Host, Listener, WantedNetwork, WantedPort},
    model::HostIp,
    uplinks::default_route_mtu,
};

pub(super) fn mtu(facts: &Facts) -> Verdicts<'_> {
    let host = facts.host.as_ref()?;
    let of_uplink = default_route_mtu(&host.links, &host.routes);
    let is_larger = |network: &&WantedNetwork| network.mtu > of_uplink && !network.has_mss_clamp;
    let found = facts.wanted.networks.iter().filter(is_larger).map(|network| {
        let (name, mtu) = (&network.name, network.mtu);
        let message = format!(
            "network {name} has MTU {mtu}, the default route's device {of_uplink}: connections hang where ICMP is \
             filtered"
        );
        let fix = format!(
            "netd network rm {name} && netd network create {name} --mtu {of_uplink}   # or with \
             -o mss_clamp=auto; give its other options too"
        );
        Verdict::finding(message, fix)
    });
    Ok(or_ok(found.collect(), format!("no network is above {of_uplink}, that of the way out")))
}

pub(super) fn subnets(facts: &Facts) -> Verdicts<'_> {
    let host = facts.host.as_ref()?;
    let networks = facts.wanted.networks.iter();
    let subnets =
        networks.flat_map(|network| network.subnets.iter().map(move |net| (network, net)));
    let found = subnets.filter_map(|(network, subnet)| overlap(host, network, subnet));
    Ok(or_ok(found.collect(), "no network overlaps with an address or a route of the host"))
}

/// The first address or route that is not the network's own.
fn overlap(host: &Host, network: &WantedNetwork, subnet: &IpNet) -> Option<Verdict> {
    let is_ours = |ifindex: u32| host.name_of(ifindex) == Some(network.bridge.as_str());
    let addresses = host.addresses.iter().map(|address| (address.ifindex, address.on_link()));
    let routes = host.routes.iter().filter(|route| route.destination.prefix_len() > 0);
    let routes = routes.filter_map(|route| Some((route.ifindex?, route.destination)));
    let (ifindex, net) = addresses.chain(routes).find(|(ifindex, net)| {
        !is_ours(*ifindex) && (net.contains(subnet) || subnet.contains(net))
    })?;
    let (name, device) = (&network.name, host.name_of(ifindex).unwrap_or("a device"));
    let message =
        format!("{subnet} of network {name} overlaps with {net}, to which {device} leads");
    let fix = format!(
        "netd network rm {name} && netd network create {name}   # with another --subnet, or the next free pool"
    );
    Some(Verdict::finding(message, fix))
}

pub(super) fn ports(facts: &Facts) -> Verdicts<'_> {
    let (listeners, host) = (facts.listeners.as_ref()?, facts.host.as_ref()?);
    let mut found = Vec::new();
    for wanted in &facts.wanted.ports {
        let clashing = listeners.iter().filter(|listener| clashes(host, wanted, listener));
        found.extend(clashing.map(|listener| clash(wanted, listener)));
    }
    Ok(or_ok(found, "no process of the host listens on a published port"))
}

fn clash(wanted: &WantedPort, listener: &Listener) -> Verdict {
    let (WantedPort { endpoint, port: published, .. }, proto, port) =
        (wanted, listener.socket.proto, listener.socket.port);
    let (who, or) = match &listener.process {
        Some((name, pid)) => (format!("{name} (pid {pid})"), format!("   # or: kill {pid}")),
        None => ("a process".to_owned(), String::new()),
    };
    let at = match listener.socket.address {
        IpAddr::V6(address) => format!("[{address}]:{port}"),
        IpAddr::V4(address) => format!("{address}:{port}"),
    };
    let message = format!(
        "{proto} port {port} is published for {endpoint}, and {who} listens on it at {at}: its clients reach \
         the container instead"
    );
    let fix = if wanted.is_dockers {
        format!(
            "docker rm -f {endpoint}   # and run it again with another port{}",
            or.replace("   # or:", ", or:")
        )
    } else {
        format!("netd port rm {endpoint} {published}{or}")
    };
    Verdict::finding(message, fix)
}

/// Whether packets for the listener go to the container.
fn clashes(host: &Host, wanted: &WantedPort, listener: &Listener) -> bool {
    let (port, socket) = (&wanted.port, &listener.socket);
    // dockerd holds what its containers publish, and takes no connection.
    if wanted.is_dockers && listener.process.as_ref().is_some_and(|(name, _)| name == "dockerd") {
        return false;
    }
    let shares_address = match &port.host_ip {
        HostIp::Any => true,
        HostIp::Address(address) if address.is_unspecified() => {
            socket.address.is_ipv4() == address.is_ipv4() || socket.takes(*address)
        }
        HostIp::Address(address) => socket.takes(*address),
        HostIp::Interface(ifname) => host
            .addresses
            .iter()
            .filter(|address| host.name_of(address.ifindex) == Some(ifname.as_str()))
            .any(|address| socket.takes(address.net.addr())),
        HostIp::Container => false,
    };
    port.proto == socket.proto
        && (port.host_port..=port.host_port_end).contains(&socket.port)
        && shares_address
}
