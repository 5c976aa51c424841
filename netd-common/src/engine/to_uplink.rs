//! What leaves by an uplink: replies of published ports, and what containers send to the world.
//!
//! Walks W2 and W3: the source is translated last, after the kernel has routed the packet. This is
//! also the leak guard: what has a container's source address is translated or does not leave.

use crate::{
    address::{Address, V4, V6},
    conntrack::{CtFlags, Scope},
    engine::{Steps, by_family, flow, rewrite},
    network::NetworkFlags,
    packet::Packet,
    parse::{self, Ip, NoTransport, Transport},
    reason::Reason,
    tables::FamilyTables,
};

/// Runs the hook.
#[inline(always)]
pub fn to_uplink<P, T>(packet: &mut P, tables: &T) -> Reason
where
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if packet.ingress_ifindex() == 0 {
        return Reason::HostTraffic;
    }
    by_family::<ToUplink, P, T>(packet, tables)
}

struct ToUplink;

impl<P: Packet, T> Steps<P, T> for ToUplink {
    #[inline(always)]
    fn run<A: Address>(packet: &mut P, tables: &T) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let ip = parse::ip::<A, P>(packet)?;
        let transport = parse::transport(packet, &ip);
        if let Ok(transport) = &transport {
            let key = transport.key(&ip, Scope::Endpoint);
            if let Some(to) = flow::find(packet, tables, &key, transport) {
                return rewrite::translate(packet, tables, &ip, transport, &to).map(Some);
            }
        }
        let Some(network) = tables.network_of(ip.src) else {
            return Ok(Some(Reason::NotOurs));
        };
        match transport {
            Ok(transport) => to_the_world(packet, tables, &ip, &transport, network),
            Err(NoTransport::Malformed) => Err(Reason::Malformed),
            Err(NoTransport::Fragment) => Err(Reason::Fragment),
            Err(NoTransport::IcmpError) => Err(Reason::IcmpError),
            Err(NoTransport::Discovery | NoTransport::Unsupported) => {
                Err(Reason::UnsupportedProtocol)
            }
        }
    }
}

/// Begins a flow for a container's packet.
#[inline(always)]
fn to_the_world<A, P, T>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
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
    if ip.dst.is_multicast() {
        return Err(Reason::UnsupportedProtocol);
    }
    if !transport.may_begin_flow() {
        return Err(Reason::NoFlow);
    }
    let (new_src, flags) = if network.has(NetworkFlags::MASQUERADE) {
        let fixed = A::side(network).snat_source;
        let source = if fixed == A::UNSPECIFIED {
            tables.masquerade_source(packet.ifindex(), ip.dst).ok_or(Reason::NoMasqueradeAddress)?
        } else {
            fixed
        };
        (source, CtFlags::SNAT)
    } else {
        // Tracked all the same: the entry is what lets the replies in.
        (ip.src, 0)
    };
    let slot = tables.endpoint(ip.src).map_or(0, |endpoint| endpoint.slot);
    tables.describe_flow(|new| {
        new.key = transport.key(ip, Scope::Endpoint);
        new.new_src = new_src;
        new.new_dst = ip.dst;
        new.new_dport = transport.dport;
        new.flags = flags;
        new.reply_scope = Scope::Uplink as u8;
        new.slot = slot;
        new.endpoint_slot = slot;
        new.network = number;
        new.seen = transport.seen;
    });
    Ok(None)
}
