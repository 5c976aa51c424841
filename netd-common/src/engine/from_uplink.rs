//! What comes in on an uplink: replies to masqueraded flows, and requests to published ports.
//!
//! Walks W1 and W4: the destination is translated and the kernel routes the packet on.

use crate::{
    address::{Address, V4, V6},
    conntrack::{CtFlags, Scope},
    engine::{Steps, by_family, flow, published, rewrite},
    packet::Packet,
    parse::{self, Ip, NoTransport, Transport},
    reason::Reason,
    tables::{FamilyTables, HostSocket, SocketTuple},
};

/// Runs the hook.
#[inline(always)]
pub fn from_uplink<P, T>(packet: &mut P, tables: &T) -> Reason
where
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    if !packet.is_to_this_host() {
        return Reason::OtherHost;
    }
    by_family::<FromUplink, P, T>(packet, tables)
}

struct FromUplink;

impl<P: Packet, T> Steps<P, T> for FromUplink {
    #[inline(always)]
    fn run<A: Address>(packet: &mut P, tables: &T) -> Result<Option<Reason>, Reason>
    where
        T: FamilyTables<A>,
    {
        let ip = parse::ip::<A, P>(packet)?;
        refuse_loopback(&ip)?;
        if ip.dst.is_multicast() {
            return Ok(Some(Reason::Multicast));
        }
        let transport = parse::transport(packet, &ip);
        if let Ok(transport) = &transport {
            let key = transport.key(&ip, Scope::Uplink);
            if let Some(to) = flow::find(packet, tables, &key, transport) {
                return rewrite::translate(packet, tables, &ip, transport, &to).map(Some);
            }
        }
        refuse_foreign(tables, &ip)?;
        if !tables.is_host_address(ip.dst) {
            return Ok(Some(Reason::NotOurs));
        }
        match transport {
            Ok(transport) => to_published_port(tables, &ip, &transport),
            Err(NoTransport::Malformed) => Err(Reason::Malformed),
            Err(NoTransport::Fragment) => Ok(Some(Reason::FragmentToHost)),
            Err(NoTransport::IcmpError) => Ok(Some(Reason::IcmpErrorToHost)),
            Err(NoTransport::Discovery) => Ok(Some(Reason::LinkLocal)),
            Err(NoTransport::Unsupported) => Ok(Some(Reason::NotOurs)),
        }
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

/// Nobody outside has a container's address, and nobody outside reaches one directly.
#[inline(always)]
fn refuse_foreign<A: Address, T: FamilyTables<A>>(tables: &T, ip: &Ip<A>) -> Result<(), Reason> {
    if tables.network_of(ip.src).is_some() {
        return Err(Reason::SpoofedSource);
    }
    // A bridge's own address lies in a container subnet, and is the host's.
    if tables.network_of(ip.dst).is_some() && !tables.is_host_address(ip.dst) {
        return Err(Reason::DirectRouting);
    }
    Ok(())
}

/// Whether a connected socket of the host takes the packet. Not inlined: its tuple has a frame of its own.
#[inline(never)]
fn belongs_to_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
) -> bool {
    let tuple =
        SocketTuple { src: ip.src, dst: ip.dst, sport: transport.sport, dport: transport.dport };
    tables.host_socket(ip.proto, &tuple) == Some(HostSocket::Connected)
}

#[inline(always)]
fn to_published_port<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    transport: &Transport,
) -> Result<Option<Reason>, Reason> {
    // A link-local client could not be answered from a translated address (Docker's `! -s fe80::/10`).
    if ip.src.is_link_local() || !transport.may_begin_flow() {
        return Ok(Some(Reason::NotOurs));
    }
    let Some(published) = published::find(tables, ip.dst, ip.proto, transport.dport) else {
        return Ok(Some(Reason::NotOurs));
    };
    // The host may have a connection of its own on the port: one that it began, or that is older than
    // the published port.
    if !transport.is_syn() && belongs_to_host(tables, ip, transport) {
        return Ok(Some(Reason::NotOurs));
    }
    tables.describe_flow(|new| {
        new.key = transport.key(ip, Scope::Uplink);
        new.new_src = ip.src;
        new.new_dst = published.addr;
        new.new_dport = published.container_port(transport.dport);
        new.flags = CtFlags::DNAT;
        new.reply_scope = Scope::Endpoint as u8;
        new.slot = published.slot;
        new.endpoint_slot = published.endpoint_slot;
        new.network = published.network;
        new.seen = transport.seen;
    });
    Ok(None)
}
