//! What a container sends: whether it may be from there, and whether its flow is known.
//! [`destination`] judges what begins.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{
        Outcome, Steps, afterwards, by_family, deliver, destination, flow,
        from_uplink::refuse_loopback, icmp_error, step::step,
    },
    header::ETHERNET_SOURCE,
    network::{BridgePort, Network, NetworkFlags},
    packet::Packet,
    parse::{Ip, Kind, NoTransport},
    reason::Reason,
    tables::{Begun, FamilyTables, Work},
};

/// Runs the hook.
#[inline(always)]
pub fn from_endpoint<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    by_family::<FromEndpoint, K, P, T>(packet, tables).map(|reason| {
        // A port that no endpoint has is closed to ARP too.
        let is_unread = reason == Reason::NotIp || reason == Reason::Vlan;
        if is_unread && tables.bridge_port(packet.ifindex()).is_none() {
            Reason::UnknownPort
        } else {
            reason
        }
    })
}

struct FromEndpoint;

impl<P: Packet, T> Steps<P, T> for FromEndpoint {
    const MAY_MASQUERADE: bool = true;

    #[inline(always)]
    fn judge<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let port = tables.bridge_port(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
        if work.begun == Begun::Nothing {
            tables.count_sent(port.slot, packet.len_bytes());
        }
        let parsed =
            super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)?;
        let ip = &parsed.ip;
        refuse_loopback(ip)?;
        if needs_no_source(ip) {
            return Ok(Some(Reason::Multicast));
        }
        if ip.src.is_link_local() {
            // It stays on the link. A neighbour is probed from it at whatever address is to be reached.
            let stays = ip.dst.is_link_local() || parsed.missing == Some(NoTransport::Discovery);
            return if stays {
                Ok(Some(Reason::LinkLocal))
            } else {
                Err(Reason::SourceNotInSubnet)
            };
        }
        check_source(packet, tables, &port, network, ip.src)?;
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        if ip.dst.is_link_local() {
            return Ok(Some(Reason::LinkLocal));
        }
        if let Ok(tracked) = parsed.trackable()
            && let Some(to) =
                step!(K, flow::find, tables, Scope::Endpoint, &tracked, &mut work.flow)
        {
            if K::IS_RARE
                && let Some(reason) =
                    afterwards::plan(tables, Scope::Endpoint, &tracked, to, &mut work.afterwards)
            {
                return Err(reason);
            }
            return Ok(Some(step!(K, deliver::from_endpoint, packet, tables, &port, &tracked, to)));
        }
        Ok(None)
    }

    #[inline(always)]
    fn begin<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let Work { parsed, error, .. } = work;
        let port = &tables.bridge_port(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        if K::IS_RARE
            && parsed.missing == Some(NoTransport::IcmpError)
            && let Some(reason) = icmp_error::from_endpoint(packet, tables, port, &parsed.ip, error)
        {
            return Ok(Some(reason));
        }
        Ok(destination::judge::<A, K, P, T>(packet, tables, port, parsed))
    }
}

/// Whether a packet is for many and from an address of the link alone, or from none: who asks for an address, or
/// joins a group, may have no other yet (RFC 4862 section 5.4.2, RFC 3810 section 5.2.13). From any other address
/// it has to be the container's own: the host answers some of what is for many with an error to its source.
#[inline(always)]
pub(super) fn needs_no_source<A: Address>(ip: &Ip<A>) -> bool {
    ip.dst.is_multicast() && (ip.src.is_link_local() || ip.src == A::UNSPECIFIED)
}

/// Refuses sources that are not of the subnet, or, where sources are strict, not the container's own.
#[inline(always)]
pub(super) fn check_source<A, P, T>(
    packet: &P,
    tables: &T,
    port: &BridgePort,
    network: &Network,
    src: A,
) -> Result<(), Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if network.has(NetworkFlags::STRICT_SOURCE) {
        let is_own = is_of_sandbox(tables, src, port)
            && packet.load::<[u8; 6]>(ETHERNET_SOURCE) == Some(port.mac);
        return if is_own { Ok(()) } else { Err(Reason::ForgedSource) };
    }
    let side = A::side(network);
    if side.contains(src) && src == side.bridge_addr {
        // The host's own: it would get the answers to what the host has asked.
        return Err(Reason::ForgedSource);
    }
    if side.contains(src) || is_of_sandbox(tables, src, port) {
        Ok(())
    } else {
        Err(Reason::SourceNotInSubnet)
    }
}

/// Whether the address is the container's, be it on another network: it answers by its default route,
/// whichever network it was asked on.
#[inline(always)]
fn is_of_sandbox<A: Address, T: FamilyTables<A>>(tables: &T, addr: A, port: &BridgePort) -> bool {
    tables.endpoint(addr).is_some_and(|endpoint| endpoint.sandbox == port.sandbox)
}
