//! Commits a translation to the packet, which is writable by then: it cannot fail half way.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::{Address, Port},
    checksum::Delta,
    conntrack::{CtFlags, Scope, Translation},
    engine::flow,
    packet::Packet,
    parse::{Fields, Trackable, Transport},
    reason::Reason,
    tables::FamilyTables,
};

/// Bytes of the longest transport header part that is rewritten: TCP's checksum ends at 18.
pub(super) const WRITTEN_LEN: u32 = 20;

/// Translates a packet of a flow, leaves it `ttl` hops, counts it, and says what it was.
#[inline(always)]
pub(super) fn translate<A: Address, P: Packet, T: FamilyTables<A>>(
    packet: &mut P,
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    to: &Translation<A>,
    ttl: u8,
) -> Reason {
    rewrite(packet, tracked, to, ttl);
    flow::account(packet, tables, scope, tracked);
    let is_reply = to.flags & CtFlags::REPLY != 0;
    if to.flags & CtFlags::DNAT != 0 {
        return if is_reply {
            tables.count_sent(to.slot, packet.len_bytes());
            Reason::PublishedReply
        } else {
            tables.count_received(to.slot, packet.len_bytes());
            Reason::Published
        };
    }
    if to.flags & CtFlags::SNAT != 0 {
        return if is_reply { Reason::MasqueradeReply } else { Reason::Masqueraded };
    }
    if to.flags & CtFlags::MAPPED != 0 {
        return if is_reply { Reason::MappedReply } else { Reason::Mapped };
    }
    Reason::Untranslated
}

/// Rewrites addresses, ports and checksums.
#[inline(always)]
fn rewrite<A: Address, P: Packet>(
    packet: &mut P,
    tracked: &Trackable<'_, A>,
    to: &Translation<A>,
    ttl: u8,
) {
    let Trackable { ip, transport } = tracked;
    let ports = store_ports(packet, transport, to);
    A::rewrite(packet, ip, to.src, to.dst, ttl);
    let addresses = Delta::of_address(ip.src, to.src).and(Delta::of_address(ip.dst, to.dst));
    if let Some(offset) = transport.fields.checksum_offset() {
        let (for_addresses, for_ports) = transport.fields.checksum_kinds::<A>();
        let offset = transport.offset + offset;
        if let Some(kind) = for_addresses {
            packet.update_checksum(offset, addresses, kind);
        }
        if let Some(ports) = ports {
            packet.update_checksum(offset, ports, for_ports);
        }
    }
}

/// The ports of a TCP or UDP header, which lie side by side.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Ports {
    sport: Port,
    dport: Port,
}

/// Writes the ports or the echo identifier; `None` if they stay as they are.
#[inline(always)]
fn store_ports<A: Address, P: Packet>(
    packet: &mut P,
    transport: &Transport,
    to: &Translation<A>,
) -> Option<Delta> {
    let sport = Delta::of_port(transport.sport, to.sport);
    let dport = Delta::of_port(transport.dport, to.dport);
    if transport.sport == to.sport && transport.dport == to.dport {
        return None;
    }
    match transport.fields {
        Fields::Tcp | Fields::Udp | Fields::Ports | Fields::PortsWithin => {
            let ports = Ports { sport: to.sport, dport: to.dport };
            packet.store(transport.offset, &ports);
            Some(sport.and(dport))
        }
        Fields::EchoRequest => {
            packet.store(transport.offset + 4, &to.sport);
            Some(sport)
        }
        Fields::EchoReply => {
            packet.store(transport.offset + 4, &to.dport);
            Some(dport)
        }
        Fields::None => None,
    }
}
