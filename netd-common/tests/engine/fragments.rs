//! Datagrams in pieces: each is what the whole one would be, in order and out of it, at every hook.

use std::collections::BTreeSet;

use netd_common::{fragment::LIFE_SECS, reason::Reason};
use proptest::prelude::*;

use crate::{
    family::{Family, in_both_datapaths, in_both_families},
    message::{ACK, INIT, Kind, Message, SYN},
    packet::HostPacket,
    place::{At, FROM_UPLINK, TO_UPLINK, bridge, from_endpoint, port, to_endpoint},
    runs::plain,
    scene::{
        DNS, Datapath, NET_A, NET_B, OPEN, OWN_RANGE, PLAIN, QUIET, ROUTED, S1AP, SHY, SPECIFIC,
        Scene, UPLINK,
    },
};

in_both_datapaths! {
    every_piece_becomes_what_the_whole_does,
    a_reply_comes_back_in_pieces,
    a_piece_before_the_first_is_held_until_that_comes,
    inside_pieces_come_in_any_order,
    pieces_of_other_protocols_are_translated_where_their_checksum_allows,
    a_reply_comes_back_in_any_order,
}

in_both_families! {
    ports_are_remembered_at_the_hook_alone,
    ports_are_forgotten_in_time,
    pieces_for_the_host_are_left_to_it,
    what_is_refused_is_not_remembered,
    a_piece_without_its_first_enters_no_container,
    a_first_piece_too_short_for_its_ports_is_malformed,
    a_first_piece_twice_counts_as_it_comes,
    one_sender_has_one_share,
}

const ID: u32 = 0xbeef;
/// How a transport header and the payload are cut.
const CUTS: [usize; 4] = [0, 24, 48, 61];

/// A message whose transport header and payload are as long as the last cut says.
fn message<A: Family>(kind: Kind, src: (A, u16), dst: (A, u16)) -> Message<A> {
    let header_len = match kind {
        Kind::Tcp(_) => 20,
        Kind::Sctp(_) => 16,
        Kind::Other(_) => 0,
        Kind::Udp
        | Kind::UdpWithoutChecksum
        | Kind::EchoRequest
        | Kind::EchoReply
        | Kind::TimestampRequest
        | Kind::TimestampReply
        | Kind::Icmp(_) => 8,
    };
    let payload = (0..(CUTS[3] - header_len) as u8).collect();
    Message { payload, ..Message::new(kind, src, dst) }
}

/// The pieces of a message, in order.
fn pieces<A: Family>(message: &Message<A>) -> [Vec<u8>; 3] {
    [0, 1, 2].map(|i| message.part(ID, CUTS[i]..CUTS[i + 1], CUTS[i], i != 2))
}

/// Judges a piece; the reason without redirection, and the frame without Ethernet header.
#[track_caller]
fn judge(scene: &Scene, at: At, frame: Vec<u8>) -> (Reason, Vec<u8>) {
    let mut packet: HostPacket = at.packet(frame);
    let reason = scene.judge(at.hook, &mut packet);
    (plain(reason), packet.frame.split_off(14))
}

/// Sends a message in pieces: each has `reason`, and they are those of `expected`.
#[track_caller]
fn becomes<A: Family>(
    scene: &Scene,
    at: At,
    sent: &Message<A>,
    reason: Reason,
    expected: &Message<A>,
) {
    for (piece, expected) in pieces(sent).into_iter().zip(pieces(expected)) {
        let (actual, mut after) = judge(scene, at, piece);
        assert_eq!(actual, reason, "{sent:?} at {at:?}");
        let mut expected = expected[14..].to_vec();
        // One hop less where it is redirected, which the header's checksum shows.
        let (ttl, sum) = if A::ICMP == 1 { (8, 10..12) } else { (7, 0..0) };
        assert!([expected[ttl], expected[ttl] - 1].contains(&after[ttl]), "{after:02x?}");
        (after[ttl], expected[ttl]) = (0, 0);
        after[sum.clone()].fill(0);
        expected[sum].fill(0);
        assert_eq!(after, expected, "{sent:?} at {at:?}");
    }
}

const KINDS: [Kind; 3] = [Kind::Udp, Kind::UdpWithoutChecksum, Kind::EchoRequest];

fn every_piece_becomes_what_the_whole_does<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (client, own) = ((A::outside(7), 40_000), A::inside(NET_A, 2));
    for kind in [Kind::Udp, Kind::UdpWithoutChecksum] {
        let ask = message(kind, client, (A::host(1), DNS));
        let asked = ask.to((own, 53));
        becomes(&scene, FROM_UPLINK, &ask, Reason::Published, &asked);
        becomes(&scene, to_endpoint(NET_A, 2, UPLINK), &asked, Reason::FlowToContainer, &asked);
    }
    for kind in KINDS {
        let port = if kind == Kind::EchoRequest { 0 } else { 53 };
        let call = message(kind, (own, 5000), (A::outside(9), port));
        let called = call.from((A::host(1), 5000));
        let way = match datapath {
            Datapath::Stack => At { ingress: bridge(NET_A), ..TO_UPLINK },
            Datapath::Fast => from_endpoint(NET_A, 2),
        };
        becomes(&scene, way, &call, Reason::Masqueraded, &called);
    }
}

/// SCTP's checksum covers all the pieces, so it cannot follow other ports.
fn pieces_of_other_protocols_are_translated_where_their_checksum_allows<A: Family>(
    datapath: Datapath,
) {
    let scene = Scene::on(datapath);
    let way = match datapath {
        Datapath::Stack => At { ingress: bridge(NET_A), ..TO_UPLINK },
        Datapath::Fast => from_endpoint(NET_A, 2),
    };
    for (kind, port) in [(Kind::Other(50), 0), (Kind::Sctp(INIT), 5000)] {
        let call = message(kind, (A::inside(NET_A, 2), port), (A::outside(9), port));
        becomes(&scene, way, &call, Reason::Masqueraded, &call.from((A::host(1), port)));
    }
    let ask = message(Kind::Sctp(INIT), (A::outside(7), 40_000), (A::host(1), S1AP));
    let [first, ..] = pieces(&ask);
    assert_eq!(judge(&scene, FROM_UPLINK, first).0, Reason::Fragment);
}

fn a_reply_comes_back_in_pieces<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for kind in KINDS {
        let port = if kind == Kind::EchoRequest { 0 } else { 53 };
        let own = (A::inside(NET_A, 2), 5000);
        let call = Message::new(kind, own, (A::outside(9), port));
        scene.translated(crate::place::OUTWARDS, &call, Reason::Masqueraded);
        let answer = Message { payload: message(kind, own, own).payload, ..call.reply() };
        let answered = answer.to((A::host(1), answer.dst.1));
        becomes(&scene, FROM_UPLINK, &answered, Reason::MasqueradeReply, &answer);
    }
}

fn a_piece_before_the_first_is_held_until_that_comes<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let own = A::inside(NET_A, 2);
    let ask = message(Kind::Udp, (A::outside(7), 40_000), (A::host(1), DNS));
    let call = message(Kind::Udp, (own, 5000), (A::outside(9), 53));
    let leaves = match datapath {
        Datapath::Stack => Reason::ContainerToOutside,
        Datapath::Fast => Reason::Masqueraded,
    };
    // It may be the host's own, for all that is known, so the host gets it too.
    comes_backwards(&scene, FROM_UPLINK, &ask, Reason::FragmentToHost, Reason::Published);
    comes_backwards(&scene, from_endpoint(NET_A, 2), &call, Reason::FragmentHeld, leaves);
    // Straight to a container, where its network is routed.
    let own = message(Kind::Udp, (A::outside(7), 40_000), (A::inside(ROUTED, 2), OWN_RANGE));
    comes_backwards(&scene, FROM_UPLINK, &own, Reason::DirectRouting, Reason::Published);
}

/// Sends a message's pieces, the last one first: the later ones have one reason before the first, and all
/// have the other one after it.
#[track_caller]
fn comes_backwards<A: Family>(
    scene: &Scene,
    at: At,
    sent: &Message<A>,
    early: Reason,
    reason: Reason,
) {
    let [first, second, third] = pieces(sent);
    for piece in [&third, &second] {
        let (actual, after) = judge(scene, at, piece.clone());
        let ttl = if A::ICMP == 1 { 8..12 } else { 7..8 };
        let (before, mut after) = (&piece[14..], after);
        after[ttl.clone()].copy_from_slice(&before[ttl]);
        assert_eq!((actual, &after[..]), (early, before), "{sent:?} at {at:?}");
    }
    assert_eq!(scene.tables.held.borrow().len(), 2, "{sent:?} at {at:?}");
    assert_eq!(judge(scene, at, first).0, reason, "{sent:?} at {at:?}");
    assert_eq!(*scene.tables.held.borrow(), []);
    // As they come in again.
    for piece in [third, second] {
        assert_eq!(judge(scene, at, piece).0, reason, "{sent:?} at {at:?}");
    }
    assert_eq!(*scene.tables.held.borrow(), []);
}

/// A published port is reached from its own container, a neighbour and another network, by the host's
/// address or the container's own.
fn inside_pieces_come_in_any_order<A: Family>(datapath: Datapath) {
    let apart = Reason::NetworksApart;
    for (client, dst, early) in [
        ((NET_A, 2), (A::host(1), DNS), Reason::ContainerToHost),
        ((NET_A, 3), (A::inside(NET_A, 1), DNS), Reason::ContainerToHost),
        ((NET_B, 2), (A::host(1), DNS), Reason::ContainerToHost),
        ((NET_A, 2), (A::inside(ROUTED, 2), OWN_RANGE), apart),
    ] {
        let at = from_endpoint(client.0, client.1);
        let ask = message(Kind::Udp, (A::inside(client.0, client.1), 40_000), dst);
        comes_backwards(&Scene::on(datapath), at, &ask, early, Reason::Published);
    }
}

/// A server answers a neighbour that it may not send to else, and one with its own address; the world
/// answers a container that is not masqueraded.
fn a_reply_comes_back_in_any_order<A: Family>(datapath: Datapath) {
    let (syn, udp) = (Kind::Tcp(SYN), Kind::Udp);
    for (client, kind, port, server, early) in [
        ((QUIET, 3), syn, SHY, (QUIET, 2), Reason::IccOff),
        ((NET_A, 3), udp, DNS, (NET_A, 2), Reason::SameNetwork),
        ((PLAIN, 2), udp, DNS, (NET_A, 2), Reason::NetworksApart),
        ((PLAIN, 2), syn, SPECIFIC, (NET_B, 2), Reason::NetworksAllowed),
        ((NET_B, 2), udp, DNS, (NET_A, 2), Reason::ContainerToHost),
    ] {
        let mut scene = Scene::on(datapath);
        scene.tables.isolation_sets.insert((NET_B, PLAIN));
        let own = (A::inside(client.0, client.1), 40_000);
        let host = if port == SPECIFIC { A::host(2) } else { A::host(1) };
        let ask = Message::new(kind, own, (host, port));
        let (reason, asked) = scene.pass(from_endpoint(client.0, client.1), &ask);
        assert_eq!(plain(reason), Reason::Published);
        let kind = if kind == syn { Kind::Tcp(SYN | ACK) } else { udp };
        let answer = message(kind, asked.dst, asked.src);
        let at = from_endpoint(server.0, server.1);
        comes_backwards(&scene, at, &answer, early, Reason::PublishedReply);
    }
    let scene = Scene::on(datapath);
    let call = Message::new(udp, (A::inside(PLAIN, 2), 5000), (A::outside(9), 53));
    scene.stays(crate::place::OUTWARDS, &call, Reason::Untranslated);
    let answer = message(udp, call.dst, call.src);
    comes_backwards(&scene, FROM_UPLINK, &answer, Reason::DirectRouting, Reason::Untranslated);
}

fn ports_are_remembered_at_the_hook_alone<A: Family>() {
    let scene = Scene::on(Datapath::Stack);
    let call = message(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let [first, second, _] = pieces(&call);
    let at = At { ingress: bridge(NET_A), ..TO_UPLINK };
    assert_eq!(judge(&scene, at, first).0, Reason::Masqueraded);
    assert_eq!(judge(&scene, at, second.clone()).0, Reason::Masqueraded);
    for elsewhere in [At { ingress: bridge(NET_B), ..at }, At { ifindex: 77, ..at }] {
        assert_eq!(judge(&scene, elsewhere, second.clone()).0, Reason::Fragment);
    }
    // Another datagram of the same ends.
    let other = call.part(ID + 1, CUTS[1]..CUTS[2], CUTS[1], true);
    assert_eq!(judge(&scene, at, other).0, Reason::Fragment);
}

fn ports_are_forgotten_in_time<A: Family>() {
    let scene = Scene::on(Datapath::Stack);
    let call = message(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let [first, second, third] = pieces(&call);
    assert_eq!(judge(&scene, TO_UPLINK, first).0, Reason::Masqueraded);
    scene.wait(LIFE_SECS - 1);
    assert_eq!(judge(&scene, TO_UPLINK, second).0, Reason::Masqueraded);
    scene.wait(1);
    assert_eq!(judge(&scene, TO_UPLINK, third).0, Reason::Fragment);
}

fn pieces_for_the_host_are_left_to_it<A: Family>() {
    let scene = Scene::new();
    let ask = message(Kind::Udp, (A::outside(7), 40_000), (A::host(1), 123));
    becomes(&scene, FROM_UPLINK, &ask, Reason::NotOurs, &ask);
    let own = message(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::host(1), 123));
    becomes(&scene, from_endpoint(NET_A, 2), &own, Reason::ContainerToHost, &own);
    assert_eq!(*scene.tables.held.borrow(), []);
}

fn what_is_refused_is_not_remembered<A: Family>() {
    let scene = Scene::new();
    let (own, world) = ((A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let (quiet, neighbour) = (A::inside(QUIET, 2), (A::inside(QUIET, 3), 53));
    for (row, at, sent, reason) in [
        ("forged", from_endpoint(NET_A, 2), (world, own), Reason::SourceNotInSubnet),
        ("spoofed", FROM_UPLINK, (own, (A::host(1), DNS)), Reason::SpoofedSource),
        ("icc off", from_endpoint(QUIET, 2), ((quiet, 5000), neighbour), Reason::IccOff),
        ("apart", from_endpoint(NET_A, 2), (own, (A::inside(NET_B, 2), 53)), Reason::NetworksApart),
        ("directly", FROM_UPLINK, (world, (A::inside(NET_A, 2), 53)), Reason::DirectRouting),
    ] {
        for piece in pieces(&message(Kind::Udp, sent.0, sent.1)) {
            assert_eq!(judge(&scene, at, piece).0, reason, "{row}");
        }
        assert!(A::store(&scene.tables).first_fragments.borrow().is_empty(), "{row}");
    }
}

fn a_piece_without_its_first_enters_no_container<A: Family>() {
    let scene = Scene::new();
    for (from, ingress) in [(A::inside(NET_B, 2), bridge(NET_B)), (A::outside(9), UPLINK)] {
        let call = message(Kind::Udp, (from, 5000), (A::inside(NET_A, 2), 53));
        for piece in pieces(&call) {
            let reason = judge(&scene, to_endpoint(NET_A, 2, ingress), piece).0;
            assert!([Reason::NetworksApart, Reason::Unsolicited].contains(&reason), "{reason:?}");
        }
    }
    let quiet = message(Kind::Udp, (A::inside(QUIET, 3), 5000), (A::inside(QUIET, 2), 53));
    for piece in pieces(&quiet) {
        let at = to_endpoint(QUIET, 2, port(QUIET, 3));
        assert_eq!(judge(&scene, at, piece).0, Reason::IccOff);
    }
    let open = message(Kind::Udp, (A::outside(9), 5000), (A::inside(OPEN, 2), 53));
    for piece in pieces(&open) {
        let (reason, _) = judge(&scene, FROM_UPLINK, piece);
        assert_eq!(reason, Reason::Untranslated);
    }
}

fn a_first_piece_too_short_for_its_ports_is_malformed<A: Family>() {
    let scene = Scene::new();
    let ask = message(Kind::Tcp(2), (A::outside(7), 40_000), (A::host(1), 8080));
    let tiny = ask.part(ID, 0..8, 0, true);
    assert_eq!(judge(&scene, FROM_UPLINK, tiny).0, Reason::Malformed);
    let call = message(Kind::Tcp(2), (A::inside(NET_A, 2), 5000), (A::outside(9), 80));
    assert_eq!(judge(&scene, TO_UPLINK, call.part(ID, 0..16, 0, true)).0, Reason::Malformed);
}

/// Each first piece is judged by itself, so the ports of the last one are no more than it could have had.
fn a_first_piece_twice_counts_as_it_comes<A: Family>() {
    let scene = Scene::new();
    let ask = message(Kind::Udp, (A::outside(7), 40_000), (A::host(1), DNS));
    let other = ask.to((A::host(1), 123));
    for (first, reason) in
        [(&ask, Reason::Published), (&ask, Reason::Published), (&other, Reason::NotOurs)]
    {
        let [first, second, _] = pieces(first);
        assert_eq!(judge(&scene, FROM_UPLINK, first).0, reason);
        for _ in 0..2 {
            assert_eq!(judge(&scene, FROM_UPLINK, second.clone()).0, reason);
        }
    }
    // A later piece is never one, wherever it says that it begins.
    let [_, second, _] = pieces(&ask);
    let overlapping = ask.part(ID, 0..24, 8, true);
    for piece in [second, overlapping] {
        assert_eq!(judge(&scene, FROM_UPLINK, piece).0, Reason::NotOurs);
    }
}

/// Whatever addresses it uses: a container its network's, a machine outside all of its IPv6 link.
fn one_sender_has_one_share<A: Family>() {
    let shares = |at: At, sources: &dyn Fn(u8) -> A| {
        let scene = Scene::new();
        for n in 2..34 {
            let sent = message(Kind::Udp, (sources(n), 40_000), (A::host(1), DNS));
            judge(&scene, at, pieces(&sent)[1].clone());
        }
        let held = scene.tables.held.borrow();
        assert_eq!(held.len(), 32);
        held.iter().map(|datagram| datagram.share).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(shares(from_endpoint(NET_A, 2), &|n| A::inside(NET_A, n)), 1);
    let outside = shares(FROM_UPLINK, &|n| A::outside(n));
    assert_eq!(outside == 1, A::ICMP == 58, "{outside} shares");
}

proptest! {
    /// However a datagram is cut, and in whatever order it comes, its pieces become those of the whole one.
    #[test]
    fn no_order_makes_a_difference(
        cuts in proptest::collection::btree_set(1_usize..40, 1..4),
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
        is_v4: bool,
    ) {
        if is_v4 {
            in_any_order::<netd_common::address::V4>(&cuts, &order)?;
        } else {
            in_any_order::<netd_common::address::V6>(&cuts, &order)?;
        }
    }
}

fn in_any_order<A: Family>(cuts: &BTreeSet<usize>, order: &[usize]) -> Result<(), TestCaseError> {
    let scene = Scene::on(Datapath::Stack);
    let ask = Message {
        payload: (0..=255).chain(0..=255).collect(),
        ..Message::<A>::new(Kind::Udp, (A::outside(7), 40_000), (A::host(1), DNS))
    };
    let asked = ask.to((A::inside(NET_A, 2), 53));
    let bounds: Vec<usize> =
        [0].into_iter().chain(cuts.iter().map(|cut| cut * 8)).chain([520]).collect();
    let part = |of: &Message<A>, i: usize| {
        of.part(ID, bounds[i]..bounds[i + 1], bounds[i], i + 2 != bounds.len())
    };
    let mut early = Vec::new();
    for &i in order.iter().filter(|i| **i < bounds.len() - 1) {
        let mut packet = FROM_UPLINK.packet(part(&ask, i));
        let reason = scene.judge(FROM_UPLINK.hook, &mut packet);
        if reason == Reason::FragmentToHost {
            early.push(i);
        } else {
            prop_assert_eq!(reason, Reason::Published);
            prop_assert_eq!(&packet.frame[14..], &part(&asked, i)[14..]);
        }
    }
    prop_assert_eq!(scene.tables.held.borrow().len(), 0);
    for i in early {
        let mut packet = FROM_UPLINK.packet(part(&ask, i));
        prop_assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::Published);
        prop_assert_eq!(&packet.frame[14..], &part(&asked, i)[14..]);
    }
    Ok(())
}
