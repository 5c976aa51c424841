//! What a container sends: whether it may, by where it goes. Nothing is translated here.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{Steps, by_family, flow, from_uplink::refuse_loopback},
    network::{Network, NetworkFlags},
    packet::Packet,
    parse::{self, Ip, NoTransport},
    reason::Reason,
    tables::FamilyTables,
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
        if ip.dst.is_link_local() {
            return Ok(Some(Reason::LinkLocal));
        }
        let transport = parse::transport(packet, &ip);
        if !A::side(network).contains(ip.src) {
            // A neighbour is probed from the link-local address, at the address that is to be reached.
            let is_probe =
                ip.src.is_link_local() && matches!(transport, Err(NoTransport::Discovery));
            return if is_probe {
                Ok(Some(Reason::LinkLocal))
            } else {
                Err(Reason::SourceNotInSubnet)
            };
        }
        if let Ok(transport) = &transport
            && flow::exists(tables, &transport.key(&ip, Scope::Endpoint))
        {
            return Ok(Some(Reason::ContainerToOutside));
        }
        by_destination(tables, &ip, port.network, network).map(Some)
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
        None => Ok(Reason::ContainerToOutside),
    }
}
