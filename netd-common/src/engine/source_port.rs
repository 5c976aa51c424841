//! Which source port a flow gets: its own if it is free, else an unpredictable one of its class.

use crate::{
    address::{Address, Port},
    conntrack::{Candidates, CtKey, NewFlow},
    header::{ethertype, proto},
    network::UNKNOWN_NETNS,
    siphash::siphash13,
    tables::{FamilyTables, HOST_NETNS, Socket, SocketTuple},
};

/// How many ports are tried: the flow's own, and as many as Linux tries in its five rounds
/// (`nf_nat_l4proto_unique_tuple`: 128, 64, 32, 16 and 8). With a share `u` of all ports to one destination
/// in use, all are taken with probability `u` to this power: 0.0003 % at 19 in 20, 8 % at 99 in 100.
const ATTEMPTS: u32 = 1 + 248;

/// In so many last attempts a port is also taken from a connection that both sides have closed
/// (`NF_NAT_HARDER_THRESH`).
const HARDER_ATTEMPTS: u32 = 32;

/// How far apart neighbouring attempts are: a prime that divides no class's span, so no port is tried twice.
const STRIDE: u64 = 9973;

/// The ports that may be given in place of another, the first and how many. As Linux: well-known ports stay
/// well-known (RFC 4787 REQ-3a), and those that `bindresvport` picks from stay among themselves.
#[inline(always)]
const fn class<A: Address>(protocol: u8, wanted: u16) -> (u16, u16) {
    match (protocol, A::ETHERTYPE) {
        // An identifier has no classes, but zero is no identifier.
        (proto::ICMP, ethertype::IPV4) | (proto::ICMPV6, ethertype::IPV6) => (1, u16::MAX),
        // Without ports there is one flow from an address to another, as with Linux. The other family's ICMP
        // is such a protocol: nothing of it is read.
        _ if !proto::has_ports(protocol) => (0, 0),
        _ if wanted == 0 || wanted >= 1024 => (1024, u16::MAX - 1023),
        _ if wanted < 512 => (1, 511),
        _ => (600, 424),
    }
}

/// Fills in the candidates for a new flow: by a keyed hash of the tuple, so that who does not know
/// the key cannot guess them (RFC 6056 section 3.3.3), and of the time, so that a flow that got none has
/// others a second later.
#[inline(always)]
pub(super) fn choose_candidates<A: Address, T: FamilyTables<A>>(
    tables: &T,
    new: &NewFlow<A>,
    candidates: &mut Candidates,
    now_secs: u32,
) {
    let key = &new.key;
    let [a, b] = key.src.words();
    let [c, d] = key.dst.words();
    let rest = u64::from(now_secs & 0xffff) << 48
        | u64::from(key.sport.number()) << 32
        | u64::from(key.dport.number()) << 16
        | u64::from(key.proto);
    candidates.seed = siphash13(tables.secret(), [a, b, c, d, rest]);
    candidates.wanted = new.wanted;
    (candidates.first, candidates.span) = class::<A>(key.proto, key.sport.number());
}

/// How many ports are tried for a flow.
#[inline(always)]
pub(super) fn attempts(candidates: &Candidates) -> u32 {
    if candidates.span == 0 { 1 } else { ATTEMPTS }
}

/// The candidate of an attempt: first the flow's own port, unless it is zero, which no reply can be told
/// apart by.
#[inline(always)]
pub(super) fn candidate(candidates: &Candidates, attempt: u32) -> Port {
    if attempt == 0 && (candidates.wanted != Port::ZERO || candidates.span == 0) {
        return candidates.wanted;
    }
    let at = (candidates.seed >> 32) + u64::from(attempt) * STRIDE;
    // No span is zero here, but only so does the compiler leave out the panic.
    let offset = at.checked_rem(u64::from(candidates.span)).unwrap_or(0);
    Port::new(candidates.first.wrapping_add(offset as u16))
}

/// Whether an attempt may take the port of a connection that both sides have closed.
#[inline(always)]
pub(super) fn is_hard(attempt: u32) -> bool {
    attempt >= ATTEMPTS - HARDER_ATTEMPTS
}

/// Whether packets with this reply key belong to the host: to a published port or to a socket; or whether
/// the administrator keeps the port from everybody (`ip_local_reserved_ports`).
#[inline(never)]
pub(super) fn is_taken_by_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    reply_key: &CtKey<A>,
) -> bool {
    if !matches!(reply_key.proto, proto::TCP | proto::UDP | proto::SCTP) {
        return false;
    }
    is_kept(tables, reply_key.dst, reply_key.proto, reply_key.dport)
        // Programs cannot look for SCTP's sockets.
        || reply_key.proto != proto::SCTP
            && tables.socket(HOST_NETNS, reply_key.proto, &SocketTuple::of(reply_key)).is_some()
}

/// Whether packets with this reply key belong to a connection of the client's own with the same container: one
/// that is switched, or routed without translation, so that no table knows it.
///
/// Not inlined: its tuple has a stack frame of its own.
#[inline(never)]
pub(super) fn is_taken_by_client<A: Address, T: FamilyTables<A>>(
    tables: &T,
    client: u32,
    reply_key: &CtKey<A>,
) -> bool {
    client < UNKNOWN_NETNS
        && matches!(reply_key.proto, proto::TCP | proto::UDP)
        && tables.socket(client, reply_key.proto, &SocketTuple::of(reply_key))
            == Some(Socket::Connected)
}

/// Whether a port is published, or reserved for the administrator.
#[inline(always)]
pub(super) fn is_kept<A: Address, T: FamilyTables<A>>(
    tables: &T,
    addr: A,
    proto: u8,
    port: Port,
) -> bool {
    tables.is_reserved(port) || tables.find_published(&addr, proto, port).is_some()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ops::RangeInclusive, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::address::{V4, V6};

    fn range(protocol: u8, wanted: u16) -> RangeInclusive<u16> {
        match wanted {
            _ if protocol == proto::ICMP => 1..=65_535,
            1..512 => 1..=511,
            512..1024 => 600..=1023,
            0 | 1024.. => 1024..=65_535,
        }
    }

    fn tried(protocol: u8, wanted: u16, seed: u64) -> Vec<u16> {
        let (first, span) = class::<V4>(protocol, wanted);
        let candidates =
            Candidates { seed, wanted: Port::new(wanted), first, span, takes_closing: 0 };
        (0..ATTEMPTS).map(|attempt| candidate(&candidates, attempt).number()).collect()
    }

    proptest! {
        #[test]
        fn candidates_are_of_the_ports_class_and_do_not_repeat(
            wanted in prop_oneof![any::<u16>(), 0..1100_u16],
            seed: u64,
            protocol in prop_oneof![Just(proto::TCP), Just(proto::UDP), Just(proto::ICMP)],
        ) {
            let tried = tried(protocol, wanted, seed);
            if wanted != 0 {
                prop_assert_eq!(tried[0], wanted);
            }
            let class = range(protocol, wanted);
            prop_assert!(tried[1..].iter().all(|port| class.contains(port)));
            let distinct: BTreeSet<_> = tried[1..].iter().collect();
            prop_assert_eq!(distinct.len(), tried.len() - 1);
        }
    }

    #[test]
    fn the_other_familys_icmp_has_no_identifiers_to_choose_from() {
        assert_eq!((class::<V4>(proto::ICMPV6, 0), class::<V6>(proto::ICMP, 0)), ((0, 0), (0, 0)));
        assert_eq!(class::<V4>(proto::ICMP, 7), class::<V6>(proto::ICMPV6, 7));
    }

    #[test]
    fn every_class_reaches_both_ends() {
        for wanted in [1, 600, 5000] {
            let given =
                (0..5_000).flat_map(|seed| tried(proto::TCP, wanted, seed << 32).split_off(1));
            let given: BTreeSet<u16> = given.collect();
            let range = range(proto::TCP, wanted);
            assert_eq!((given.first(), given.last()), (Some(range.start()), Some(range.end())));
        }
    }
}
