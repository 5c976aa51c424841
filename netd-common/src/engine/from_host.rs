//! What the host itself sends, by an uplink or to a container, and which of it has to be known.
//!
//! What begins at a bridge's address is masqueraded like a container's packet ([`super::to_uplink`] does that,
//! and [`super::from_uplink`] knows who has asked there). And two kinds of flows that the host begins have
//! replies that could not be told apart from what they are not:
//!
//! * One may choose a source port that a container's flow to the same destination was given before. Linux's
//!   connection tracking, which sees the host's packets as well, gives the later one another port; so does
//!   this. The earlier case, where the host is first, is [`super::source_port`]'s.
//! * One of UDP may be from a port that is published, where the replies to a socket that is not connected look
//!   like requests. It keeps its port, and its replies are known, as with Linux.
//!
//! ICMP errors about what the host was given translated are translated back ([`super::icmp_error`]).
//!
//! The host's other packets cost one look-up of their source, and those that may begin a flow one in the
//! connection table; those of UDP one more among the published ports. Nothing is tracked until there is a clash;
//! from then on, for as long as such a flow may live, every packet of the host is looked up.

use crate::{
    address::{Address, Port, V4, V6},
    config::Timeout,
    conntrack::{CtFlags, CtKey, Seen},
    engine::{
        begin::{self, HostFlow},
        flow,
    },
    header::{IpHeader, proto},
    packet::Packet,
    parse::{self, Fields, Ip, Trackable},
    published::PublishedFlags,
    tables::{FamilyTables, Tables},
};

/// Where a TCP header has its own length, and then its flags.
const TCP_LEN_OFFSET: u32 = 12;
/// Where an ICMP echo has its identifier.
const ECHO_ID_OFFSET: u32 = 4;

/// Whether a packet of the host's own that leaves by an uplink may have to be known. Most do not, and end here.
#[inline(always)]
pub(super) fn leaves_changed<P, T>(packet: &P, tables: &T) -> bool
where
    P: Packet,
    T: FamilyTables<V4> + FamilyTables<V6>,
{
    match packet.ethertype() {
        V4::ETHERTYPE => may_leave_changed::<V4, P, T>(packet, tables),
        V6::ETHERTYPE => may_leave_changed::<V6, P, T>(packet, tables),
        _ => false,
    }
}

/// Not inlined: a stack frame that is gone before the steps begin.
#[inline(never)]
fn may_leave_changed<A, P, T>(packet: &P, tables: &T) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    let Ok(ip) = parse::ip::<A, P>(packet) else {
        return false;
    };
    tables.is_bridge_address(ip.src)
        || is_icmp_error(packet, &ip)
        || may_clash(packet, tables, &ip, HostFlow::ToWorld)
}

/// Whether a packet of the host's own to a container may have to be known.
///
/// Not inlined, as above.
#[inline(never)]
pub(super) fn enters_changed<A, P, T>(packet: &P, tables: &T) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    parse::ip::<A, P>(packet).is_ok_and(|ip| may_clash(packet, tables, &ip, HostFlow::ToContainer))
}

/// Whether a packet may be of a flow that is known, or begin one that has to be.
#[inline(always)]
fn may_clash<A, P, T>(packet: &P, tables: &T, ip: &Ip<A>, flow: HostFlow) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    if has_flows(tables) {
        return true;
    }
    let Some((sport, dport)) = first_ports(packet, ip) else {
        return false;
    };
    // The replies' key: whoever has it was here before.
    let key = CtKey {
        src: ip.dst,
        dst: ip.src,
        sport: dport,
        dport: sport,
        proto: ip.proto,
        scope: flow.reply_scope() as u8,
        zone: 0,
    };
    tables.flow(&key).is_some() || is_published(tables, ip, sport)
}

/// Whether replies would be taken for requests at a published port. Those of a TCP connection find its socket.
#[inline(always)]
fn is_published<A: Address, T: FamilyTables<A>>(tables: &T, ip: &Ip<A>, sport: Port) -> bool {
    ip.proto == proto::UDP
        && tables.is_host_address(ip.src)
        && tables
            .find_published(&ip.src, proto::UDP, sport)
            .is_some_and(|published| published.flags & PublishedFlags::FOR_HOST == 0)
}

/// Whether a packet is an ICMP error, which may be about a container's packet.
#[inline(always)]
fn is_icmp_error<A: Address, P: Packet>(packet: &P, ip: &Ip<A>) -> bool {
    matches!(ip.proto, proto::ICMP | proto::ICMPV6)
        && packet
            .load::<[u8; 2]>(ip.payload_offset)
            .is_some_and(|[kind, _]| parse::is_icmp_error::<A>(kind))
}

/// The ports of a packet that may be the first of its flow.
#[inline(always)]
fn first_ports<A: Address, P: Packet>(packet: &P, ip: &Ip<A>) -> Option<(Port, Port)> {
    if ip.fragment.offset != 0 {
        return None;
    }
    let at = ip.payload_offset;
    match ip.proto {
        proto::TCP => {
            // Two bytes: the verifier does not see the bounds of one.
            let [_, flags] = packet.load::<[u8; 2]>(at + TCP_LEN_OFFSET)?;
            if flags & Seen::TCP != Seen::SYN {
                return None;
            }
        }
        proto::UDP => {}
        proto::ICMP | proto::ICMPV6 => {
            let [kind, _] = packet.load::<[u8; 2]>(at)?;
            let is_request = parse::is_echo_request::<A>(kind);
            let id = packet.load(at + ECHO_ID_OFFSET)?;
            return is_request.then_some((id, Port::ZERO));
        }
        _ => return None,
    }
    let [sport, dport] = packet.load::<[Port; 2]>(at)?;
    Some((sport, dport))
}

/// Whether flows of the host's own that are translated may still be alive.
#[inline(always)]
fn has_flows<T: Tables>(tables: &T) -> bool {
    let seen = tables.host_flows_seen_secs();
    if seen == 0 {
        return false;
    }
    let longest = tables
        .timeout_secs(Timeout::TcpEstablished)
        .max(tables.timeout_secs(Timeout::UdpStream))
        .max(tables.timeout_secs(Timeout::Icmp));
    tables.now_secs().saturating_sub(seen) <= longest
}

/// Records that a flow of the host's own was seen.
#[inline(always)]
pub(super) fn record<T: Tables>(tables: &T) {
    let now = tables.now_secs();
    if tables.host_flows_seen_secs() != now {
        tables.set_host_flows_seen(now);
    }
}

/// Begins a flow for a packet of the host's own if its replies would be taken for something else; says whether
/// it does.
#[inline(always)]
pub(super) fn begin<A: Address, T: FamilyTables<A>>(
    tables: &T,
    tracked: &Trackable<'_, A>,
    flow: HostFlow,
) -> bool {
    let Trackable { ip, transport } = tracked;
    let begins =
        transport.is_syn() || transport.fields != Fields::Tcp && transport.may_begin_flow(tables);
    if !begins {
        return false;
    }
    let flags = if flow::is_answered(tables, flow.reply_scope(), tracked) {
        CtFlags::SNAT
    } else if is_published(tables, ip, transport.sport) {
        0
    } else {
        return false;
    };
    begin::of_host(tables, tracked, flow, flags);
    true
}
