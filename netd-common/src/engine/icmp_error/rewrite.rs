//! Translating an ICMP error: what it quotes, the addresses around it, and every checksum.

use super::IcmpError;
use crate::{
    address::Address,
    checksum::Delta,
    conntrack::{Scope, Translation},
    engine::deliver::Translate,
    header::ethertype,
    packet::{ChecksumKind, Packet},
    parse::{Fields, IPV4_CHECKSUM, Ip, Quote},
    reason::Reason,
    tables::FamilyTables,
};

/// Where ICMP has its checksum.
const ICMP_CHECKSUM: u32 = 2;

/// Where an echo message has its identifier.
const ECHO_ID: u32 = 4;

/// Bytes of a transport header up to the end of what is rewritten: TCP's checksum, or the rest.
const TCP_WRITTEN: u32 = 18;
const OTHERS_WRITTEN: u32 = 8;

impl<A: Address> Translate<A> for IcmpError<'_, A> {
    #[inline(always)]
    fn ip(&self) -> &Ip<A> {
        self.ip
    }

    #[inline(always)]
    fn wire_len<P: Packet>(&self, packet: &P) -> u32 {
        packet.len_bytes() - self.ip.offset
    }

    #[inline(always)]
    fn keep_source(&self, to: &mut Translation<A>) {
        (to.src, to.sport) = (self.quote.ip.dst, self.quote.transport.dport);
    }

    #[inline(always)]
    fn written_len<P: Packet>(&self, _: &P) -> u32 {
        let transport_len =
            if self.quote.transport.fields == Fields::Tcp { TCP_WRITTEN } else { OTHERS_WRITTEN };
        self.quote.ip.payload_offset + transport_len
    }

    #[inline(always)]
    fn translate<P: Packet, T: FamilyTables<A>>(
        &self,
        packet: &mut P,
        _: &T,
        _: Scope,
        to: &Translation<A>,
        ttl: u8,
    ) -> Reason {
        self.rewrite(packet, to, ttl);
        Reason::IcmpErrorOfFlow
    }
}

impl<A: Address> IcmpError<'_, A> {
    /// Rewrites the quote, the addresses around it and all their checksums, for the way that `to` describes.
    #[inline(always)]
    fn rewrite<P: Packet>(&self, packet: &mut P, to: &Translation<A>, ttl: u8) {
        let Self { ip, quote } = self;
        let changes = rewrite_quote(packet, quote, to);
        packet.update_checksum(ip.payload_offset + ICMP_CHECKSUM, changes, ChecksumKind::Header);
        self.rewrite_addresses(packet, to, ttl);
    }

    /// Rewrites the error's own addresses. Who is in the flow's place to the receiver stands for whoever
    /// reports of it.
    #[inline(always)]
    fn rewrite_addresses<P: Packet>(&self, packet: &mut P, to: &Translation<A>, ttl: u8) {
        let Self { ip, quote } = self;
        let src = if to.src == quote.ip.dst { ip.src } else { to.src };
        A::rewrite(packet, ip, src, to.dst, ttl);
        if A::ETHERTYPE == ethertype::IPV6 {
            let addresses = Delta::of_address(ip.src, src).and(Delta::of_address(ip.dst, to.dst));
            let checksum = ip.payload_offset + ICMP_CHECKSUM;
            packet.update_checksum(checksum, addresses, ChecksumKind::PseudoHeader);
        }
    }
}

/// Rewrites a quoted packet, which goes the way opposite to that of `to`. The change that this makes to the
/// sum of all that is quoted.
#[inline(always)]
fn rewrite_quote<A: Address, P: Packet>(
    packet: &mut P,
    quote: &Quote<A>,
    to: &Translation<A>,
) -> Delta {
    let Quote { ip, .. } = quote;
    let addresses = Delta::of_address(ip.src, to.dst).and(Delta::of_address(ip.dst, to.src));
    // One by one, from where they lie: an array would have to be built on the stack.
    packet.store_far(ip.offset + A::SOURCE_OFFSET, &to.dst);
    packet.store_far(ip.offset + A::SOURCE_OFFSET + A::BITS / 8, &to.src);
    let changes = addresses.and(rewrite_transport(packet, quote, to, addresses));
    if A::ETHERTYPE == ethertype::IPV6 {
        return changes;
    }
    let checksum = addresses.apply(ip.checksum);
    packet.store_far(ip.offset + IPV4_CHECKSUM, &checksum);
    changes.and(Delta::of_word(ip.checksum, checksum))
}

/// Rewrites what is quoted of a transport header. A checksum that is there is kept as right or wrong as it is
/// (RFC 5508 REQ-3c).
#[inline(always)]
fn rewrite_transport<A: Address, P: Packet>(
    packet: &mut P,
    quote: &Quote<A>,
    to: &Translation<A>,
    addresses: Delta,
) -> Delta {
    let (offset, old) = (quote.ip.payload_offset, &quote.transport);
    let sport = Delta::of_port(old.sport, to.dport);
    let dport = Delta::of_port(old.dport, to.sport);
    let ports = match old.fields {
        Fields::Tcp | Fields::Udp | Fields::Ports | Fields::PortsWithin => {
            packet.store_far(offset, &[to.dport, to.sport]);
            sport.and(dport)
        }
        Fields::EchoRequest => {
            packet.store_far(offset + ECHO_ID, &to.dport);
            sport
        }
        Fields::EchoReply => {
            packet.store_far(offset + ECHO_ID, &to.sport);
            dport
        }
        Fields::None => Delta::default(),
    };
    let Some(checksum_offset) = old.fields.checksum_offset() else {
        return ports;
    };
    let covered = match old.fields.checksum_kinds::<A>().0 {
        Some(_) => ports.and(addresses),
        None => ports,
    };
    let checksum = match covered.apply(old.checksum) {
        // No checksum to UDP.
        0 if old.fields == Fields::Udp => u16::MAX,
        checksum => checksum,
    };
    packet.store_far(offset + checksum_offset, &checksum);
    ports.and(Delta::of_word(old.checksum, checksum))
}
