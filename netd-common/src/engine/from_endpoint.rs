//! What a container sends: whether it may, by where it goes. Nothing is translated here.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{Steps, by_family, flow, from_uplink::refuse_loopback},
    network::{BridgePort, Network, NetworkFlags},
    packet::Packet,
    parse::{self, Ip, NoTransport},
    reason::Reason,
    tables::{FamilyTables, RouteVerdict},
};

/// Runs the hook.
#[inline(always)]
pub fn from_endpoint<P, T>(packet: &mut P, tables: &T) -> Reason
where
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    by_family::<FromEndpoint, P, T>(packet, tables)
}

struct FromEndpoint;

impl<P: Packet, T> Steps<P, T> for FromEndpoint {
    #[inline(always)]
    fn run<A: Address>(packet: &mut P, tables: &T) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let port = tables.bridge_port(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
        tables.count_sent(port.slot, packet.len_bytes());
        let ip = parse::ip::<A, P>(packet)?;
        refuse_loopback(&ip)?;
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        let transport = parse::transport(packet, &ip);
        if ip.src.is_link_local() {
            // It stays on the link. A neighbour is probed from it at whatever address is to be reached.
            let stays = ip.dst.is_link_local() || matches!(transport, Err(NoTransport::Discovery));
            return if stays {
                Ok(Some(Reason::LinkLocal))
            } else {
                Err(Reason::SourceNotInSubnet)
            };
        }
        if !A::side(network).contains(ip.src) && !is_of_sandbox(tables, ip.src, &port) {
            return Err(Reason::SourceNotInSubnet);
        }
        if ip.dst.is_link_local() {
            return Ok(Some(Reason::LinkLocal));
        }
        if let Ok(transport) = &transport
            && flow::exists(tables, &transport.key(&ip, Scope::Endpoint))
        {
            return to_the_world(tables, network, &ip).map(Some);
        }
        by_destination(tables, &ip, port.network, network).map(Some)
    }
}

/// Whether the address is that of the same container on another network: it answers by its default
/// route, whichever network it was asked on.
#[inline(always)]
fn is_of_sandbox<A: Address, T: FamilyTables<A>>(tables: &T, addr: A, port: &BridgePort) -> bool {
    tables.endpoint(addr).is_some_and(|endpoint| endpoint.sandbox == port.sandbox)
}

/// Out of the host, but only where the packet is translated on its way out.
#[inline(always)]
fn to_the_world<A: Address, T: FamilyTables<A>>(
    tables: &T,
    network: &Network,
    ip: &Ip<A>,
) -> Result<Reason, Reason> {
    match tables.leads_to_uplink(network.bridge_ifindex, ip) {
        RouteVerdict::Uplink | RouteVerdict::Nowhere => Ok(Reason::ContainerToOutside),
        RouteVerdict::Elsewhere => Err(Reason::NotAnUplink),
    }
}

#[inline(always)]
fn by_destination<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    number: u16,
    network: &Network,
) -> Result<Reason, Reason> {
    if A::side(network).contains(ip.dst) {
        let to_host = tables.is_host_address(ip.dst);
        return Ok(if to_host { Reason::ContainerToHost } else { Reason::SameNetwork });
    }
    if network.has(NetworkFlags::INTERNAL) {
        return Err(Reason::InternalNetwork);
    }
    if tables.is_host_address(ip.dst) {
        return Ok(Reason::ContainerToHost);
    }
    match tables.network_of(ip.dst) {
        Some(other) if tables.may_enter(number, other) => Ok(Reason::NetworksAllowed),
        Some(_) => Err(Reason::NetworksApart),
        None => to_the_world(tables, network, ip),
    }
}
