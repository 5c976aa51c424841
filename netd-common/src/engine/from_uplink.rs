//! What comes in on an uplink: replies to masqueraded flows, and requests to containers.
//!
//! Walks W1 and W4: the destination is translated, and the packet redirected or routed by the kernel.

use crate::{
    address::{Address, V4, V6},
    conntrack::Scope,
    engine::{
        Outcome, Steps, afterwards,
        begin::{self, HostFlow, Server},
        by_family, deliver, flow, icmp_error, mapping, prefix, published,
        step::step,
    },
    network::{FamilyFlags, NetworkFlags},
    packet::Packet,
    parse::{Fields, Ip, Kind, NoTransport, Trackable},
    reason::Reason,
    tables::{FamilyTables, Work},
};

/// Runs the hook.
#[inline(always)]
pub fn from_uplink<K, P, T>(packet: &mut P, tables: &T) -> Outcome
where
    K: Kind,
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if !packet.is_to_this_host() {
        return Outcome::Judged(Reason::OtherHost);
    }
    by_family::<FromUplink, K, P, T>(packet, tables)
}

struct FromUplink;

impl<P: Packet, T> Steps<P, T> for FromUplink {
    const MAY_MASQUERADE: bool = false;

    #[inline(always)]
    fn judge<A: Address, K: Kind>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<A>,
    ) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let parsed =
            super::read::<A, K, P, T>(packet, tables, &mut work.parsed, &mut work.remembered)?;
        let ip = &parsed.ip;
        refuse_loopback(ip)?;
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        if let Ok(tracked) = &parsed.trackable()
            && let Some(to) = step!(K, flow::find, tables, Scope::Uplink, tracked, &mut work.flow)
        {
            if K::IS_RARE
                && let Some(reason) =
                    afterwards::plan(tables, Scope::Uplink, tracked, to, &mut work.afterwards)
            {
                return Err(reason);
            }
            return Ok(Some(step!(K, deliver::from_uplink, packet, tables, tracked, to)));
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
        let (ip, tracked) = (&parsed.ip, parsed.trackable());
        // Nobody outside has a container's address.
        if tables.network_of(ip.src).is_some() {
            return Err(Reason::SpoofedSource);
        }
        if K::IS_RARE
            && parsed.missing == Some(NoTransport::IcmpError)
            && let Some(reason) = icmp_error::from_uplink(packet, tables, ip, error)
        {
            return Ok(Some(reason));
        }
        let is_hosts = tables.is_host_address(ip.dst);
        if !is_hosts && let Some(number) = tables.network_of(ip.dst) {
            if prefix::is_outside(tables, number, ip.dst) {
                return Ok(Some(prefix::enter::<A, K, P, T>(packet, tables, parsed, number)));
            }
            return to_container(packet, tables, &tracked, number);
        }
        to_host(packet, tables, ip, &tracked, is_hosts)
    }
}

/// 127.0.0.0/8 and ::1 never cross a device, whatever `route_localnet` says.
#[inline(always)]
pub(super) fn refuse_loopback<A: Address>(ip: &Ip<A>) -> Result<(), Reason> {
    if ip.src.is_loopback() || ip.dst.is_loopback() {
        return Err(Reason::LoopbackAddress);
    }
    Ok(())
}

/// To an address of the host, or to one that containers' packets get without its being the host's: a
/// published port, a mapping's, or nothing of ours.
#[inline(always)]
fn to_host<A, P, T>(
    packet: &P,
    tables: &T,
    ip: &Ip<A>,
    tracked: &Result<Trackable<'_, A>, NoTransport>,
    is_hosts: bool,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let tracked = match tracked {
        Ok(tracked) => tracked,
        Err(_) if !is_hosts => return Ok(Some(Reason::NotOurs)),
        Err(NoTransport::Malformed) => return Err(Reason::Malformed),
        Err(NoTransport::Fragment) => return Ok(Some(Reason::FragmentToHost)),
        Err(NoTransport::IcmpError) => return Ok(Some(Reason::IcmpErrorToHost)),
        Err(NoTransport::Discovery) => return Ok(Some(Reason::LinkLocal)),
        Err(NoTransport::Unsupported) => return Ok(Some(Reason::NotOurs)),
    };
    // A link-local client could not be answered from a translated address (Docker's `! -s fe80::/10`).
    if ip.src.is_link_local() {
        return Ok(Some(Reason::NotOurs));
    }
    let Some(server) = mapping::published_or_mapped(tables, tracked, is_hosts) else {
        return Ok(to_itself(tables, tracked));
    };
    begin::from_outside(tables, tracked, &server, packet.network_offset() != 0)?;
    Ok(None)
}

/// To the host itself, which is nothing of ours. But what it sends from a bridge's address is masqueraded,
/// and its answers must not be: they are those of a flow.
#[inline(always)]
fn to_itself<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
) -> Option<Reason> {
    if !tables.is_bridge_address(tracked.ip.dst) || !tracked.transport.may_begin_flow(tables) {
        return Some(Reason::NotOurs);
    }
    begin::of_host(tables, tracked, HostFlow::FromWorld, 0);
    None
}

/// To a container by its own address, which its network must allow.
#[inline(always)]
fn to_container<A, P, T>(
    packet: &P,
    tables: &T,
    tracked: &Result<Trackable<'_, A>, NoTransport>,
    number: u16,
) -> Result<Option<Reason>, Reason>
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let is_trusted = tables.is_trusted(packet.ifindex(), number);
    match tracked {
        Ok(tracked) => match directly(tables, tracked, number, is_trusted) {
            Ok(server) => {
                begin::from_outside(tables, tracked, &server, packet.network_offset() != 0)?;
                Ok(None)
            }
            // The host's firewall may mark it on its way to the bridge, where it is judged again (row M7).
            Err(_) if is_trusted && may_be_marked::<A, T>(tables, number) => {
                Ok(Some(Reason::DirectlyRouted))
            }
            Err(reason) => Err(reason),
        },
        Err(_) if is_unprotected::<A, T>(tables, number) => Ok(Some(Reason::DirectlyRouted)),
        Err(_) => Err(Reason::DirectRouting),
    }
}

/// Whether a mark lets packets in. Where the prefix is translated, nobody would ask for the mark.
#[inline(always)]
fn may_be_marked<A: Address, T: FamilyTables<A>>(tables: &T, number: u16) -> bool {
    tables.accepted_mark(number).is_some()
        && tables
            .network(number)
            .is_some_and(|network| !A::side(network).has(FamilyFlags::PREFIX_TRANSLATED))
}

/// Whether a network's containers are reached by their own addresses, at every port.
#[inline(always)]
fn is_unprotected<A: Address, T: FamilyTables<A>>(tables: &T, number: u16) -> bool {
    tables.network(number).is_some_and(|network| {
        A::side(network).has(FamilyFlags::UNPROTECTED) && !network.has(NetworkFlags::INTERNAL)
    })
}

/// The container that a packet asks for by its own address (walk W13).
///
/// # Errors
/// `DirectRouting` where it may not be reached so.
#[inline(always)]
pub(super) fn directly<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    number: u16,
    is_trusted: bool,
) -> Result<Server<A>, Reason> {
    let network = tables.network(number).ok_or(Reason::UnknownPort)?;
    let side = A::side(network);
    if network.has(NetworkFlags::INTERNAL) || !tracked.transport.may_begin_flow(tables) {
        return Err(Reason::DirectRouting);
    }
    let is_routed = side.has(FamilyFlags::ROUTED);
    let is_echo = tracked.transport.fields == Fields::EchoRequest;
    if side.has(FamilyFlags::UNPROTECTED) || is_routed && is_echo {
        return Ok(Server::direct(tables, tracked, number));
    }
    if (is_routed || is_trusted)
        && let Some(published) = published::asked_for_directly(tables, tracked)
    {
        return Ok(Server::published(&published, tracked));
    }
    Err(Reason::DirectRouting)
}
