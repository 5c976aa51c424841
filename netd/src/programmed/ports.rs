//! Published ports as map entries: one for a single port, at most 30 for a range of any size.

use std::net::IpAddr;

use netd_common::{
    address::{Address, Port},
    header::proto,
    published::{self, PublishedFlags, PublishedPortKey, PublishedRangeKey, port_prefixes},
};

use super::{FamilyContents, HostFacts};
use crate::model::{Endpoint, Family, GatewayMode, HostIp, Network, Proto, PublishedPort};

/// Adds the published ports of an endpoint whose address of this family is `addr`.
pub(super) fn publish<A: Address>(
    contents: &mut FamilyContents<A>,
    host: &HostFacts,
    network: &Network,
    endpoint: &Endpoint,
    addr: A,
) {
    let subnet = network.subnets.iter().find(|subnet| A::from_ip(subnet.subnet.addr()).is_some());
    let mode = subnet.map(|subnet| subnet.gateway_mode).unwrap_or_default();
    let is_trusting = host.trusts_every_uplink
        || network.direct_routing
        || !network.trusted_interfaces.is_empty();
    let is_direct = mode == GatewayMode::Routed || is_trusting;
    if !mode.translates() {
        publish_for_host(contents, host, network, endpoint);
    }
    for port in &endpoint.ports {
        let value = value(network, endpoint, port, addr);
        let host_ports = (port.host_port, port.host_port_end);
        for host_addr in host_addresses::<A>(host, &port.host_ip).filter(|_| mode.translates()) {
            publish_on(contents, (host_addr, port.proto), host_ports, value);
        }
        if is_direct && is_open_outside::<A>(&port.host_ip) {
            let value = published::PublishedPort { host_port: value.port, ..value };
            publish_on(contents, (addr, port.proto), (port.port, port.port_end), value);
        }
    }
}

/// Adds the published ports of an endpoint that has no address of this family, or one that is no part of it, as far as
/// the host itself can be led to its address of the other one: from IPv6 to IPv4.
pub(super) fn publish_for_host<A: Address>(
    contents: &mut FamilyContents<A>,
    host: &HostFacts,
    network: &Network,
    endpoint: &Endpoint,
) {
    let subnet = network.subnet(Family::Ipv4);
    let translates = subnet.is_some_and(|subnet| subnet.gateway_mode.translates());
    let mapped = endpoint.ipv4.map(|net| IpAddr::V6(net.addr().to_ipv6_mapped()));
    let Some(addr) = mapped.and_then(A::from_ip).filter(|_| translates) else { return };
    for port in &endpoint.ports {
        let value = value(network, endpoint, port, addr);
        let value =
            published::PublishedPort { flags: value.flags | PublishedFlags::FOR_HOST, ..value };
        for host_addr in host_addresses::<A>(host, &port.host_ip) {
            let host_ports = (port.host_port, port.host_port_end);
            publish_on(contents, (host_addr, port.proto), host_ports, value);
        }
    }
}

fn value<A: Address>(
    network: &Network,
    endpoint: &Endpoint,
    port: &PublishedPort,
    addr: A,
) -> published::PublishedPort<A> {
    published::PublishedPort {
        addr,
        port: Port::new(port.port),
        host_port: Port::new(port.host_port),
        network: network.number,
        flags: if network.manager.is_netd() { PublishedFlags::KEPT } else { 0 },
        slot: port.slot,
        endpoint_slot: endpoint.slot,
    }
}

/// Whether a port that is published there may also be open at the container's own address of this family.
/// A port of the loopback address is reached from the host alone (row P16), and one of a device from the
/// addresses of that device alone.
fn is_open_outside<A: Address>(host_ip: &HostIp) -> bool {
    match host_ip {
        HostIp::Any | HostIp::Container => true,
        HostIp::Address(address) => A::from_ip(*address).is_some() && !address.is_loopback(),
        HostIp::Interface(_) => false,
    }
}

/// The addresses of this family that a port is published on; the unspecified one stands for all.
pub(super) fn host_addresses<A: Address>(
    host: &HostFacts,
    host_ip: &HostIp,
) -> impl Iterator<Item = A> + use<A> {
    let addresses: Vec<A> = match host_ip {
        HostIp::Any => vec![A::UNSPECIFIED],
        HostIp::Container => Vec::new(),
        HostIp::Address(address) => A::from_ip(*address).into_iter().collect(),
        HostIp::Interface(name) => {
            let addresses = host.addresses.get(name).into_iter().flatten();
            addresses.filter_map(|&address| A::from_ip(address)).collect()
        }
    };
    addresses.into_iter()
}

fn publish_on<A: Address>(
    contents: &mut FamilyContents<A>,
    (addr, proto): (A, Proto),
    (first, last): (u16, u16),
    value: published::PublishedPort<A>,
) {
    let proto = number(proto);
    if first == last {
        let key = PublishedPortKey { addr, port: Port::new(first), proto, reserved: 0 };
        contents.published_ports.insert(key, value);
        return;
    }
    for (first, bits) in port_prefixes(first, last) {
        let key = PublishedRangeKey::new(addr, proto, first);
        contents.published_ranges.insert((PublishedRangeKey::<A>::HEAD_BITS + bits, key), value);
    }
}

/// The IP protocol number.
pub(super) fn number(proto: Proto) -> u8 {
    match proto {
        Proto::Tcp => proto::TCP,
        Proto::Udp => proto::UDP,
        Proto::Sctp => proto::SCTP,
    }
}
