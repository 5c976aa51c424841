//! What a container is about to receive: whether it may, by where it comes from.
//!
//! The sender is known by the device that the packet came in on, not by its source address. So what
//! crosses ports of one bridge is judged here too, whatever MAC addresses it carries.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{
        Outcome, Steps,
        begin::{self, HostFlow, Server},
        by_family, deliver, flow, from_host, icmp_error,
        step::apart,
    },
    network::{BridgePort, FamilyFlags, NetworkFlags},
    packet::Packet,
    parse::{Kind, NoTransport, Parsed, Trackable},
    reason::Reason,
    tables::{FamilyTables, Tables, Work},
};

/// Runs the hook.
#[inline(always)]
pub fn to_endpoint<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    by_family::<ToEndpoint, K, P, T>(packet, tables).map(|reason| {
        if reason == Reason::Vlan {
            tagged(packet, tables)
        } else if reason == Reason::NotIp && tables.bridge_port(packet.ifindex()).is_none() {
            Reason::UnknownPort
        } else {
            reason
        }
    })
}

/// A tagged frame is switched like any other, so it must not get around icc=false.
#[inline(always)]
fn tagged<P: Packet, T: Tables>(packet: &P, tables: &T) -> Reason {
    if packet.ingress_ifindex() == 0 {
        return Reason::HostToContainer;
    }
    let (Some(port), Some(sender)) =
        (tables.bridge_port(packet.ifindex()), tables.bridge_port(packet.ingress_ifindex()))
    else {
        return Reason::UnknownPort;
    };
    match tables.network(port.network) {
        Some(network) if network.has(NetworkFlags::ICC) && sender.network == port.network => {
            Reason::Vlan
        }
        Some(_) => Reason::IccOff,
        None => Reason::UnknownPort,
    }
}

/// What lets anybody outside in: for these the programs of the uplinks have judged it.
const OPEN: u32 = FamilyFlags::UNPROTECTED | FamilyFlags::PREFIX_TRANSLATED;

struct ToEndpoint;

impl<P: Packet, T> Steps<P, T> for ToEndpoint {
    const MAY_MASQUERADE: bool = false;

    /// What is translated is the host's own, and rare ([`from_host`]).
    fn translates<K: Kind>() -> bool {
        K::IS_RARE
    }

    #[inline(always)]
    fn is_rare<A: Address>(packet: &P, tables: &T) -> bool
    where
        T: FamilyTables<A>,
    {
        match packet.ingress_ifindex() {
            0 => from_host::enters_changed::<A, P, T>(packet, tables),
            // Looked at here: most have none, and a call costs as much as half a look-up.
            _ => packet.mark() != 0 && has_accepted_mark(packet, tables),
        }
    }

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
        let parsed =
            super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)?;
        let is_error = K::IS_RARE && parsed.missing == Some(NoTransport::IcmpError);
        let reason = match packet.ingress_ifindex() {
            0 if is_error => icmp_error::to_endpoint(packet, tables, &parsed.ip, &mut work.error)
                .unwrap_or(Reason::HostToContainer),
            0 if K::IS_RARE
                && let Some(tracked) = of_host_itself(tables, parsed) =>
            {
                match apart!(flow::find, tables, Scope::Endpoint, &tracked, &mut work.flow) {
                    Some(to) => {
                        from_host::record(tables);
                        apart!(deliver::from_host, packet, tables, &tracked, to)
                    }
                    None => return Ok(None),
                }
            }
            0 => Reason::HostToContainer,
            ingress => match tables.bridge_port(ingress) {
                Some(sender) => from_neighbour(tables, parsed.missing, &sender, &port)?,
                None if is_error
                    && icmp_error::may_enter(packet, tables, &parsed.ip, &mut work.error) =>
                {
                    Reason::FlowToContainer
                }
                None => match from_beyond(packet, tables, parsed, port.network) {
                    Err(Reason::Unsolicited)
                        if K::IS_RARE && may_enter_by_mark(packet, tables, parsed) =>
                    {
                        return Ok(None);
                    }
                    judged => judged?,
                },
            },
        };
        tables.count_received(port.slot, packet.len_bytes());
        Ok(Some(reason))
    }

    /// Of the host's own packets, those that may belong to a flow; of others, those whose mark lets them in.
    #[inline(always)]
    fn begin<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let port = tables.bridge_port(packet.ifindex()).ok_or(Reason::UnknownPort)?;
        if let Ok(tracked) = work.parsed.trackable() {
            if packet.ingress_ifindex() != 0 {
                let server = Server::direct(tables, &tracked, port.network);
                // The firewall sees the next ones too.
                begin::from_outside(tables, &tracked, &server, false)?;
                return Ok(None);
            }
            if from_host::begin(tables, &tracked, HostFlow::ToContainer) {
                return Ok(None);
            }
        }
        tables.count_received(port.slot, packet.len_bytes());
        Ok(Some(Reason::HostToContainer))
    }
}

/// The packet as one of the host's own that can belong to a flow: a proxy may send from a container's address,
/// or to the world by way of a container.
#[inline(always)]
fn of_host_itself<'a, A: Address, T: FamilyTables<A>>(
    tables: &T,
    parsed: &'a Parsed<A>,
) -> Option<Trackable<'a, A>> {
    let tracked = parsed.trackable().ok()?;
    let is_its_own =
        tables.is_host_address(tracked.ip.src) && tables.network_of(tracked.ip.dst).is_some();
    is_its_own.then_some(tracked)
}

/// Whether the host's firewall has marked a packet as one that may enter the network (row M7).
///
/// Not inlined, for its stack frame.
#[inline(never)]
fn has_accepted_mark<P: Packet, T: Tables>(packet: &P, tables: &T) -> bool {
    let mark = packet.mark();
    let Some(port) = tables.bridge_port(packet.ifindex()) else { return false };
    // Other devices may be without our programs.
    tables.accepted_mark(port.network).is_some_and(|accepted| accepted.is_on(mark))
        && tables.is_trusted(packet.ingress_ifindex(), port.network)
}

/// Whether such a packet may begin a flow.
#[inline(always)]
fn may_enter_by_mark<A: Address, P: Packet, T: FamilyTables<A>>(
    packet: &P,
    tables: &T,
    parsed: &Parsed<A>,
) -> bool {
    let tracked = parsed.trackable();
    tracked.is_ok_and(|tracked| tracked.transport.may_begin_flow(tables))
        && has_accepted_mark(packet, tables)
}

/// From a port of this bridge, switched and not routed.
#[inline(always)]
fn from_neighbour<T: Tables>(
    tables: &T,
    missing: Option<NoTransport>,
    sender: &BridgePort,
    port: &BridgePort,
) -> Result<Reason, Reason> {
    if sender.network != port.network {
        return Err(Reason::NetworksApart);
    }
    let network = tables.network(port.network).ok_or(Reason::UnknownPort)?;
    if network.has(NetworkFlags::ICC) {
        return Ok(Reason::SameNetwork);
    }
    // Like ARP, which is not IP, discovery is what reaching the gateway may need.
    if missing == Some(NoTransport::Discovery) {
        Ok(Reason::LinkLocal)
    } else {
        Err(Reason::IccOff)
    }
}

/// Routed here, from an uplink or from another network.
#[inline(always)]
pub(super) fn from_beyond<A, P, T>(
    packet: &P,
    tables: &T,
    parsed: &Parsed<A>,
    number: u16,
) -> Result<Reason, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    if network.has(NetworkFlags::INTERNAL) {
        return Err(Reason::InternalNetwork);
    }
    if let Ok(tracked) = parsed.trackable()
        && flow::is_answered(tables, Scope::Endpoint, &tracked)
    {
        return Ok(Reason::FlowToContainer);
    }
    match tables.network_of(parsed.ip.src) {
        // A port that is not known, or a source that is a lie.
        Some(own) if own == number && packet.ingress_ifindex() != network.bridge_ifindex => {
            Err(Reason::UnknownPort)
        }
        // Sent to the gateway to be routed back: what may not be switched may not be routed either.
        Some(own) if own == number => {
            if network.has(NetworkFlags::ICC) {
                Ok(Reason::SameNetwork)
            } else {
                Err(Reason::IccOff)
            }
        }
        Some(other) if tables.may_enter(other, number) => Ok(Reason::NetworksAllowed),
        Some(_) => Err(Reason::NetworksApart),
        None if A::side(network).flags & OPEN != 0 => Ok(Reason::DirectlyRouted),
        None => Err(Reason::Unsolicited),
    }
}
