//! What leaves by an uplink through the host's stack: replies of published ports, and what containers,
//! and the host from a bridge's address, send to the world.
//!
//! Walks W2 and W3: the source is translated last, after the kernel has routed the packet. This is also
//! the leak guard: what has a container's source address is translated or does not leave.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{
        Outcome, Steps, afterwards,
        begin::{self, HostFlow},
        by_family, deliver, flow, from_host, give_up, icmp_error, prefix,
        step::step,
    },
    network::NetworkFlags,
    packet::Packet,
    parse::{self, Kind, NoTransport, Parsed, Trackable},
    reason::Reason,
    tables::{FamilyTables, Work},
};

/// Runs the hook.
#[inline(always)]
pub fn to_uplink<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if packet.ingress_ifindex() == 0 && !from_host::leaves_changed(packet, tables) {
        // What was a bridge's address when its flow began may have become any other.
        give_up::<K, T>(tables);
        return Outcome::Judged(Reason::HostTraffic);
    }
    by_family::<ToUplink, K, P, T>(packet, tables)
}

struct ToUplink;

impl<P: Packet, T> Steps<P, T> for ToUplink {
    const MAY_MASQUERADE: bool = true;

    #[inline(always)]
    fn glance<A: Address, K: Kind>(packet: &P, tables: &T) -> Option<Reason>
    where
        T: FamilyTables<A>,
    {
        // What was redirected here has the host's address already, if it got another one.
        let Some(source) = parse::source::<A, P>(packet) else {
            return Some(Reason::Malformed);
        };
        let network = tables.network_of(source);
        tables.with_work(|work| work.set_source_network(network));
        let is_foreign = match network {
            None => packet.ingress_ifindex() != 0,
            Some(number) => prefix::is_outside(tables, number, source),
        };
        is_foreign.then_some(Reason::NotOurs)
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
        let network = work.source_network();
        let is_hosts = network.is_none();
        let parsed =
            match super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)
            {
                Ok(parsed) => parsed,
                // The host's own, which it may send as it likes.
                Err(_) if is_hosts => return Ok(Some(Reason::HostTraffic)),
                Err(reason) => return Err(reason),
            };
        let scope = Scope::Endpoint;
        let Ok(tracked) = parsed.trackable() else {
            return Ok(None);
        };
        if is_redirected(packet, tables, &tracked) {
            return Ok(Some(Reason::NotOurs));
        }
        let Some(to) = step!(K, flow::find, tables, scope, &tracked, &mut work.flow) else {
            return Ok(None);
        };
        if is_hosts {
            from_host::record(tables);
        }
        if K::IS_RARE
            && let Some(reason) =
                afterwards::plan(tables, scope, &tracked, to, &mut work.afterwards)
        {
            return Err(reason);
        }
        Ok(Some(step!(K, deliver::from_host, packet, tables, &tracked, to)))
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
        let network = work.source_network();
        let Work { parsed, error, .. } = work;
        let parsed = &*parsed;
        match parsed.trackable() {
            Ok(tracked) => match network {
                Some(network) if prefix::is_translated::<A, T>(tables, network) => {
                    by_prefix::<A, K, P, T>(packet, tables, parsed, network)
                }
                Some(network) => to_the_world(packet, tables, &tracked, network),
                None => {
                    let begun = from_host::begin(tables, &tracked, HostFlow::ToWorld);
                    Ok(if begun { None } else { Some(Reason::HostTraffic) })
                }
            },
            Err(NoTransport::IcmpError) if K::IS_RARE => {
                match icmp_error::to_uplink(packet, tables, &parsed.ip, error) {
                    None => error_of_no_flow::<A, K, P, T>(packet, tables, parsed, network),
                    reason => Ok(reason),
                }
            }
            Err(_)
                if let Some(network) = network
                    && prefix::is_translated::<A, T>(tables, network) =>
            {
                by_prefix::<A, K, P, T>(packet, tables, parsed, network)
            }
            Err(_) if network.is_none() => Ok(Some(Reason::HostTraffic)),
            Err(NoTransport::Malformed) => Err(Reason::Malformed),
            Err(NoTransport::Fragment) => Err(Reason::Fragment),
            Err(NoTransport::IcmpError) => Err(Reason::IcmpError),
            Err(NoTransport::Discovery | NoTransport::Unsupported) => {
                Err(Reason::UnsupportedProtocol)
            }
        }
    }
}

/// Whether a packet whose source looks like a container's was redirected here, translated and counted: it
/// keeps the container's address, or was given that of a bridge that was asked. What the stack routes came
/// in on a bridge, not on one of its ports.
#[inline(always)]
fn is_redirected<A, P, T>(packet: &P, tables: &T, tracked: &Trackable<'_, A>) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    tables.bridge_port(packet.ingress_ifindex()).is_some()
        && flow::is_answered(tables, Scope::Uplink, tracked)
}

/// Translates the prefix of a container's packet.
#[inline(always)]
fn by_prefix<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed<A>,
    number: u16,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    prefix::leave::<A, K, P>(packet, network, parsed, parsed.ip.ttl)?;
    Ok(Some(Reason::PrefixTranslated))
}

/// An ICMP error that is about no flow, but perhaps about a packet whose prefix was translated.
#[inline(always)]
fn error_of_no_flow<A, K, P, T>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed<A>,
    network: Option<u16>,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    K: Kind,
    P: Packet,
    T: FamilyTables<A>,
{
    if packet.ingress_ifindex() == 0
        && let Some(reason) = prefix::error_of_host(packet, tables, parsed)
    {
        return Ok(Some(reason));
    }
    match network {
        Some(number) if prefix::is_translated::<A, T>(tables, number) => {
            by_prefix::<A, K, P, T>(packet, tables, parsed, number)
        }
        Some(_) => Err(Reason::IcmpError),
        None => Ok(Some(Reason::HostTraffic)),
    }
}

/// Begins a flow for a container's packet.
#[inline(always)]
fn to_the_world<A, P, T>(
    packet: &P,
    tables: &T,
    tracked: &Trackable<'_, A>,
    number: u16,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    if network.has(NetworkFlags::INTERNAL) {
        return Err(Reason::InternalNetwork);
    }
    if tracked.ip.dst.is_multicast() {
        return Err(Reason::UnsupportedProtocol);
    }
    if !tracked.transport.may_begin_flow(tables) {
        let is_hosts = packet.ingress_ifindex() == 0;
        return if is_hosts { Ok(Some(Reason::HostTraffic)) } else { Err(Reason::NoFlow) };
    }
    let has_ethernet = packet.network_offset() != 0;
    begin::to_world(tables, tracked, number, packet.ifindex(), has_ethernet)?;
    Ok(None)
}
