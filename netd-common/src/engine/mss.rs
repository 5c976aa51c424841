//! The MSS that the ends of a TCP connection tell each other, lowered to what the way between them takes:
//! what iptables calls `-j TCPMSS`.
//!
//! It is only ever lowered. A SYN without the option stays without: its receiver takes the default, which
//! every way takes (RFC 9293 section 3.7.1).

use core::ops::ControlFlow;

use crate::{
    address::Address,
    checksum::Delta,
    config::ConfigFlags,
    conntrack::{Scope, Seen, Translation},
    header::TcpHeader,
    network::Network,
    packet::{ChecksumKind, Headers, Packet},
    parse::{Fields, Ip, Trackable},
    tables::{FamilyTables, Route, Tables},
};

/// Kinds of TCP options (RFC 9293 section 3.2).
const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// The length of that option, kind and length included.
const MSS_OPTION_LEN: u8 = 4;

/// A header has room for so many options of one byte.
const MAX_OPTIONS: u32 = 40;

/// Whether a packet is one whose MSS may have to be lowered, which the program for rare packets does. All
/// that it costs others is a look at TCP's flags.
#[inline(always)]
pub(super) fn is_for_clamp<A, P, T>(packet: &P, tables: &T) -> bool
where
    A: Address,
    P: Packet,
    T: FamilyTables<A>,
{
    A::is_syn(packet, packet.network_offset()) && is_wanted(tables)
}

/// Whether any network asks for it.
///
/// Not inlined: the map's key would stay on the caller's stack, and the verifier would walk all that follows
/// once with it and once without.
#[inline(never)]
fn is_wanted<T: Tables>(tables: &T) -> bool {
    tables.is_configured(ConfigFlags::MSS_CLAMPED)
}

/// The largest MSS that a SYN or SYN-ACK may carry between a container and an uplink, where its network asks
/// for one; `tracked` is what was read of the packet before it is translated.
#[inline(always)]
pub(super) fn limit_of<A: Address, T: FamilyTables<A>>(
    tables: &T,
    scope: Scope,
    tracked: &Trackable<'_, A>,
    to: &Translation<A>,
) -> Option<u16> {
    let Trackable { ip, transport } = tracked;
    let is_syn = transport.fields == Fields::Tcp && transport.seen & Seen::SYN != 0;
    if !is_syn || !is_wanted(tables) {
        return None;
    }
    match scope {
        Scope::Uplink => limit(tables, ip, &to.dst, &ip.src),
        // Not what goes to another container.
        Scope::Endpoint if to.redirect.is_some() => None,
        Scope::Endpoint => limit(tables, ip, &ip.src, &ip.dst),
    }
}

/// Lowers the MSS in the options of a TCP header of `len` bytes that begins at `offset`.
#[inline(always)]
pub fn lower_mss<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    offset: u32,
    len: u32,
    limit: u16,
) {
    // Where there is no memory for a copy, the packet goes as it is.
    if !packet.make_writable(offset + len) {
        return;
    }
    let options = offset + size_of::<TcpHeader>() as u32;
    let Some(at) = find_option(packet, tables, options, offset + len) else {
        return;
    };
    let Some(old) = packet.load::<[u8; 2]>(at).filter(|old| u16::from_be_bytes(*old) > limit)
    else {
        return;
    };
    let new = limit.to_be_bytes();
    packet.store(at, &new);
    let delta = if (at - offset).is_multiple_of(2) {
        Delta::of_bytes(old, new)
    } else {
        // The high byte is a low one to the checksum.
        Delta::of_bytes([old[1], old[0]], [new[1], new[0]])
    };
    packet.update_checksum(offset + CHECKSUM_OFFSET, delta, ChecksumKind::Header);
}

/// Where a TCP header has its checksum.
const CHECKSUM_OFFSET: u32 = 16;

/// The largest MSS between a container and somebody outside.
#[inline(always)]
fn limit<A: Address, T: FamilyTables<A>>(
    tables: &T,
    ip: &Ip<A>,
    container: &A,
    remote: &A,
) -> Option<u16> {
    let network = tables.network(tables.network_of(*container)?)?;
    match network.mss_clamp {
        0 => None,
        Network::MSS_OF_ROUTE => {
            // Asked for a single byte, the kernel says how many would fit.
            let outwards = Ip { src: *container, dst: *remote, ..*ip };
            let Route::Uplink { mtu, .. } = tables.route(network.bridge_ifindex, &outwards, 1)
            else {
                return None;
            };
            mtu.min(network.mtu).checked_sub(A::HEADER_LEN + size_of::<TcpHeader>() as u16)
        }
        bytes => Some(bytes),
    }
}

/// Where the value of the MSS option is, among the options from `first` to `end`.
#[inline(always)]
fn find_option<P: Headers, T: Tables>(packet: &P, tables: &T, first: u32, end: u32) -> Option<u32> {
    let (mut at, mut found) = (first, None);
    tables.repeat(MAX_OPTIONS, |_| {
        // One byte alone would be no option of use.
        let Some([kind, len]) = packet.load::<[u8; 2]>(at).filter(|_| at < end) else {
            return ControlFlow::Break(());
        };
        if kind == NO_OPERATION {
            at += 1;
            return ControlFlow::Continue(());
        }
        if kind == END_OF_LIST || len < 2 || at + u32::from(len) > end {
            return ControlFlow::Break(());
        }
        if kind == MAXIMUM_SEGMENT_SIZE {
            found = (len == MSS_OPTION_LEN).then_some(at + 2);
            return ControlFlow::Break(());
        }
        at += u32::from(len);
        ControlFlow::Continue(())
    });
    found
}
