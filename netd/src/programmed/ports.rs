//! Published ports as map entries: one for a single port, at most 30 for a range of any size.

use netd_common::{
    address::{Address, Port},
    header::proto,
    published::{self, PublishedPortKey, PublishedRangeKey, port_prefixes},
};

use super::{FamilyContents, HostFacts};
use crate::model::{Endpoint, HostIp, Proto, PublishedPort};

/// Adds the published ports of an endpoint whose address of this family is `addr`.
pub(super) fn publish<A: Address>(
    contents: &mut FamilyContents<A>,
    host: &HostFacts,
    endpoint: &Endpoint,
    addr: A,
    network: u16,
) {
    for port in &endpoint.ports {
        let value = published::PublishedPort {
            addr,
            port: Port::new(port.port),
            host_port: Port::new(port.host_port),
            network,
            reserved: 0,
            slot: port.slot,
            endpoint_slot: endpoint.slot,
        };
        for host_addr in host_addresses::<A>(host, &port.host_ip) {
            publish_on(contents, host_addr, port, value);
        }
    }
}

/// The addresses of this family that a port is published on; the unspecified one stands for all.
fn host_addresses<A: Address>(host: &HostFacts, host_ip: &HostIp) -> Vec<A> {
    match host_ip {
        HostIp::Any => vec![A::UNSPECIFIED],
        HostIp::Address(address) => A::from_ip(*address).into_iter().collect(),
        HostIp::Interface(name) => {
            let addresses = host.addresses.get(name).into_iter().flatten();
            addresses.filter_map(|&address| A::from_ip(address)).collect()
        }
    }
}

fn publish_on<A: Address>(
    contents: &mut FamilyContents<A>,
    addr: A,
    port: &PublishedPort,
    value: published::PublishedPort<A>,
) {
    let proto = number(port.proto);
    if port.host_port == port.host_port_end {
        let key = PublishedPortKey { addr, port: Port::new(port.host_port), proto, reserved: 0 };
        contents.published_ports.insert(key, value);
        return;
    }
    for (first, bits) in port_prefixes(port.host_port, port.host_port_end) {
        let key = PublishedRangeKey::new(addr, proto, first);
        contents.published_ranges.insert((PublishedRangeKey::<A>::HEAD_BITS + bits, key), value);
    }
}

/// The IP protocol number.
fn number(proto: Proto) -> u8 {
    match proto {
        Proto::Tcp => proto::TCP,
        Proto::Udp => proto::UDP,
    }
}
