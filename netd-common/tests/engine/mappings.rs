//! Source ports that are given independently of destinations, and who is let in by them.

use std::collections::HashMap;

use netd_common::{config::ConfigFlags, network::NetworkFlags, reason::Reason};
use proptest::prelude::*;

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, End, Kind, Message, SYN},
    place::{FROM_UPLINK, INWARDS, OUTWARDS, from_endpoint, slot},
    scene::{Datapath, FIXED, INTERNAL, NET_A, NET_B, PLAIN, Scene, WEB},
};

in_both_datapaths! {
    a_source_has_one_port_for_all_destinations,
    two_containers_with_one_port_get_two_and_keep_them,
    everybody_reaches_the_port_that_a_container_sends_from,
    only_what_may_begin_a_flow_gets_in,
    nobody_gets_in_by_a_port_that_is_not_mapped,
    an_echo_has_no_mapping,
    a_fixed_source_has_mappings_of_its_own,
    each_address_of_the_host_has_mappings_of_its_own,
    a_container_reaches_another_by_its_outside_port,
    a_container_reaches_itself_by_its_outside_port,
    networks_without_mappings_reach_an_outside_port_as_the_world_does,
    a_port_of_the_hosts_own_is_not_mapped,
    a_connection_of_the_hosts_makes_one_flow_differ,
    flows_of_others_keep_off_mapped_ports,
    a_mapping_keeps_off_a_port_that_its_first_flow_cannot_have,
    what_outsiders_begin_counts_for_the_container,
    the_other_cpus_mapping_wins,
    every_order_of_packets_keeps_mappings_and_replies,
}

/// A host on which the source ports of the first network, and of others, are given so.
pub(crate) fn scene(datapath: Datapath, networks: &[u16]) -> Scene {
    let mut scene = Scene::on(datapath);
    scene.tables.config.flags |= ConfigFlags::MAPPINGS;
    for &network in networks {
        scene.set(network, NetworkFlags::ENDPOINT_INDEPENDENT);
    }
    scene
}

const KINDS: [Kind; 3] = [Kind::Udp, Kind::Tcp(SYN), Kind::UdpWithoutChecksum];

pub(crate) fn call<A: Family>(kind: Kind, n: u8, port: u16) -> Message<A> {
    Message::new(kind, (A::inside(NET_A, n), port), (A::outside(9), 53))
}

/// Sends a packet out, lets the answer in, and returns the source that it left with.
#[track_caller]
pub(crate) fn source<A: Family>(scene: &Scene, message: &Message<A>) -> End<A> {
    let outside = scene.translated(OUTWARDS, message, Reason::Masqueraded);
    let answer = outside.reply();
    scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(message.src));
    outside.src
}

/// Somebody whom nobody has sent anything to.
pub(crate) fn stranger<A: Family>(kind: Kind, to: End<A>) -> Message<A> {
    Message::new(kind, (A::outside(77), 7777), to)
}

/// A stranger's packet gets in, and the answer out again.
#[track_caller]
pub(crate) fn gets_in<A: Family>(scene: &Scene, message: &Message<A>, to: End<A>) {
    let inside = message.to(to);
    scene.becomes(INWARDS, message, Reason::Mapped, &inside);
    let kind = if message.kind == Kind::Tcp(SYN) { Kind::Tcp(SYN | ACK) } else { message.kind };
    let answer = inside.reply().with_kind(kind);
    scene.becomes(OUTWARDS, &answer, Reason::MappedReply, &answer.from(message.dst));
}

/// RFC 4787 REQ-1, RFC 5382 REQ-1.
fn a_source_has_one_port_for_all_destinations<A: Family>(datapath: Datapath) {
    for kind in KINDS {
        let scene = scene(datapath, &[NET_A]);
        // Another container's, so that the port cannot be kept.
        source::<A>(&scene, &call(kind, 3, 5000));
        let given = source::<A>(&scene, &call(kind, 2, 5000));
        assert_ne!(given.1, 5000);
        assert!(given.1 >= 1024, "RFC 4787 REQ-3a");
        for dst in [(A::outside(9), 54), (A::outside(10), 53), (A::outside(11), 5000)] {
            assert_eq!(source(&scene, &call(kind, 2, 5000).to(dst)), given);
        }
        assert_eq!(source::<A>(&scene, &call(kind, 2, 5001)), (A::host(1), 5001));
    }
}

/// RFC 4787 REQ-3, which the same two containers would meet by chance without mappings.
fn two_containers_with_one_port_get_two_and_keep_them<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let (two, three) = (call::<A>(Kind::Udp, 2, 5000), call::<A>(Kind::Udp, 3, 5000));
    let of_two = source(&scene, &two);
    let of_three = source(&scene, &three.to((A::outside(10), 99)));
    assert_ne!(of_two, of_three);
    assert_eq!(source(&scene, &three), of_three);
    assert_eq!(source(&scene, &two.to((A::outside(10), 99))), of_two);
    gets_in(&scene, &stranger(Kind::Udp, of_two), two.src);
    gets_in(&scene, &stranger(Kind::Udp, of_three), three.src);
    // The other protocol's ports are others.
    let tcp = three.with_kind(Kind::Tcp(SYN));
    assert_eq!(source(&scene, &tcp).1, 5000);
}

/// RFC 4787 REQ-8, RFC 5382 REQ-3.
fn everybody_reaches_the_port_that_a_container_sends_from<A: Family>(datapath: Datapath) {
    for kind in KINDS {
        let scene = scene(datapath, &[NET_A]);
        let call = call::<A>(kind, 2, 5000);
        let given = source(&scene, &call);
        gets_in(&scene, &stranger(kind, given), call.src);
        gets_in(&scene, &stranger(kind, given).from((A::outside(9), 54)), call.src);
        // From whomever it was asked, the container's packets leave by the same port.
        let to_stranger = call.to((A::outside(78), 1));
        assert_eq!(source(&scene, &to_stranger), given);
    }
}

fn only_what_may_begin_a_flow_gets_in<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let given = source::<A>(&scene, &call(Kind::Tcp(SYN), 2, 5000));
    for flags in [ACK, SYN | ACK] {
        scene.stays(FROM_UPLINK, &stranger(Kind::Tcp(flags), given), Reason::NotOurs);
    }
    // Docker's `! -s fe80::/10`: it could not be answered.
    let near = stranger(Kind::Tcp(SYN), given).from((A::LINK_LOCAL, 7));
    if A::BITS == 128 {
        scene.stays(FROM_UPLINK, &near, Reason::NotOurs);
    }
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, given), Reason::NotOurs);
}

fn nobody_gets_in_by_a_port_that_is_not_mapped<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    source::<A>(&scene, &call(Kind::Udp, 2, 5000));
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, (A::host(1), 5001)), Reason::NotOurs);
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, (A::host(2), 5000)), Reason::NotOurs);
    // Nor by one of a network that has none.
    let other = call::<A>(Kind::Udp, 2, 6000).from((A::inside(NET_B, 2), 6000));
    let given = source(&scene, &other);
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, given), Reason::NotOurs);
}

fn an_echo_has_no_mapping<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let echo = call::<A>(Kind::EchoRequest, 2, 5000).to((A::outside(9), 0));
    assert_eq!(source(&scene, &echo).1, 5000);
    assert_eq!(scene.halves::<A>().len(), 2);
}

fn a_fixed_source_has_mappings_of_its_own<A: Family>(datapath: Datapath) {
    for is_hosts in [true, false] {
        let mut scene = scene(datapath, &[FIXED]);
        if !is_hosts {
            // Routed to the host, but nobody's.
            A::store_mut(&mut scene.tables).host_addresses.remove(&A::host(9));
        }
        let call = call::<A>(Kind::Udp, 2, 5000).from((A::inside(FIXED, 2), 5000));
        assert_eq!(source(&scene, &call), (A::host(9), 5000));
        gets_in(&scene, &stranger(Kind::Udp, (A::host(9), 5000)), call.src);
        scene.stays(FROM_UPLINK, &stranger(Kind::Udp, (A::host(9), 5001)), Reason::NotOurs);
        scene.stays(FROM_UPLINK, &stranger(Kind::Udp, (A::host(1), 5000)), Reason::NotOurs);
    }
}

fn each_address_of_the_host_has_mappings_of_its_own<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let near = call::<A>(Kind::Udp, 2, 5000);
    let far = near.to((A::outside(200), 53));
    assert_eq!(source(&scene, &near), (A::host(1), 5000));
    assert_eq!(source(&scene, &far), (A::host(2), 5000));
    for n in [1, 2] {
        let to = (A::host(n), 5000);
        gets_in(&scene, &stranger(Kind::Udp, to).from((A::outside(77), n.into())), near.src);
    }
}

/// RFC 4787 REQ-9, RFC 5382 REQ-8.
fn a_container_reaches_another_by_its_outside_port<A: Family>(datapath: Datapath) {
    for kind in KINDS {
        let scene = scene(datapath, &[NET_A, NET_B]);
        let server = call::<A>(kind, 3, 5000);
        let outside = source(&scene, &server);
        for network in [NET_A, NET_B] {
            let client = (A::inside(network, 2), 4000);
            let request = Message::new(kind, client, outside);
            let seen = scene.translated(
                from_endpoint(network, 2),
                &request,
                Reason::MasqueradedRedirected,
            );
            assert_eq!(seen.dst, server.src);
            // REQ-9a: as the world sees the client, and as it goes on to see it.
            assert_eq!(seen.src, source(&scene, &request.to((A::outside(9), 53))));
            gets_in(&scene, &stranger(kind, seen.src), client);
            let kind = if kind == Kind::Tcp(SYN) { Kind::Tcp(SYN | ACK) } else { kind };
            let answer = seen.reply().with_kind(kind);
            let back = request.reply().with_kind(kind);
            let reason = Reason::MasqueradeReplyRedirected;
            scene.becomes(from_endpoint(NET_A, 3), &answer, reason, &back);
        }
    }
}

fn a_container_reaches_itself_by_its_outside_port<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let (a, b) = (call::<A>(Kind::Udp, 2, 5000), call::<A>(Kind::Udp, 2, 5001));
    let outside = source(&scene, &a);
    let request = b.to(outside);
    let seen = scene.translated(from_endpoint(NET_A, 2), &request, Reason::MasqueradedRedirected);
    assert_eq!((seen.src, seen.dst), ((A::host(1), 5001), a.src));
    let reason = Reason::MasqueradeReplyRedirected;
    scene.becomes(from_endpoint(NET_A, 2), &seen.reply(), reason, &request.reply());
    // From the very same socket: it sees the gateway, as behind a published port.
    let request = a.to(outside);
    let seen = scene.translated(from_endpoint(NET_A, 2), &request, Reason::MasqueradedRedirected);
    assert_eq!((seen.src.0, seen.dst), (A::inside(NET_A, 1), a.src));
    scene.becomes(from_endpoint(NET_A, 2), &seen.reply(), reason, &request.reply());
}

fn networks_without_mappings_reach_an_outside_port_as_the_world_does<A: Family>(
    datapath: Datapath,
) {
    let scene = scene(datapath, &[NET_A]);
    let server = call::<A>(Kind::Udp, 3, 5000);
    let outside = source(&scene, &server);
    for (network, reason, src) in [
        (NET_B, Reason::MasqueradedRedirected, A::host(1)),
        (FIXED, Reason::MasqueradedRedirected, A::host(9)),
        (PLAIN, Reason::MappedRedirected, A::inside(PLAIN, 2)),
    ] {
        let request = Message::new(Kind::Udp, (A::inside(network, 2), 4000), outside);
        let seen = scene.translated(from_endpoint(network, 2), &request, reason);
        assert_eq!((seen.src, seen.dst), ((src, 4000), server.src));
        let reason = if network == PLAIN {
            Reason::MappedReplyRedirected
        } else {
            Reason::MasqueradeReplyRedirected
        };
        scene.becomes(from_endpoint(NET_A, 3), &seen.reply(), reason, &request.reply());
    }
    let request = Message::new(Kind::Udp, (A::inside(INTERNAL, 2), 4000), outside);
    scene.stays(from_endpoint(INTERNAL, 2), &request, Reason::InternalNetwork);
}

fn a_port_of_the_hosts_own_is_not_mapped<A: Family>(datapath: Datapath) {
    let mut scene = scene(datapath, &[NET_A]);
    A::store(&scene.tables).host_sockets.borrow_mut().insert((17, 5000));
    scene.tables.reserved_ports.insert(6000);
    for (kind, port) in [(Kind::Udp, 5000), (Kind::Udp, 6000), (Kind::Tcp(SYN), WEB)] {
        let call = call::<A>(kind, 2, port);
        let given = source(&scene, &call);
        assert_ne!(given.1, port);
        gets_in(&scene, &stranger(kind, given), call.src);
    }
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, (A::host(1), 5000)), Reason::NotOurs);
}

/// Where a packet could not be told from the host's own, the flow that it is of gets another port; or the
/// host's connection does, if it is the later one.
fn a_connection_of_the_hosts_makes_one_flow_differ<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    let peer = (A::outside(10), 99);
    A::store(&scene.tables).connected_sockets.borrow_mut().insert((17, peer, given));
    assert_ne!(source(&scene, &call.to(peer)), given);
    assert_eq!(source(&scene, &call.to((A::outside(11), 99))), given);
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, given).from(peer), Reason::NotOurs);
}

fn flows_of_others_keep_off_mapped_ports<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    let other = call.from((A::inside(NET_B, 2), 5000)).to((A::outside(10), 99));
    assert_ne!(source(&scene, &other).1, 5000);
    gets_in(&scene, &stranger(Kind::Udp, given).from(other.dst), call.src);
}

fn a_mapping_keeps_off_a_port_that_its_first_flow_cannot_have<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let other = call.from((A::inside(NET_B, 2), 5000));
    assert_eq!(source(&scene, &other).1, 5000);
    let given = source(&scene, &call);
    assert_ne!(given.1, 5000);
    assert_eq!(source(&scene, &call.to((A::outside(10), 99))), given);
    gets_in(&scene, &stranger(Kind::Udp, given), call.src);
}

/// RFC 6888 REQ-4: nobody outside fills the table.
fn what_outsiders_begin_counts_for_the_container<A: Family>(datapath: Datapath) {
    let mut scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    scene.tables.flow_limits.insert(slot(NET_A, 2), 5);
    let results: Vec<Reason> = (1..10)
        .map(|port| scene.run(INWARDS, &stranger(Kind::Udp, given).from((A::outside(80), port))).0)
        .collect();
    assert_eq!(results[..3], [Reason::Mapped; 3]);
    assert_eq!(results[3..], [Reason::EndpointFlowLimit; 6]);
    // Others are not bothered.
    source::<A>(&scene, &call.from((A::inside(NET_A, 3), 5000)));
}

fn the_other_cpus_mapping_wins<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let (one, other) =
        (call::<A>(Kind::Udp, 2, 5000), call::<A>(Kind::Udp, 2, 5000).to((A::outside(10), 99)));
    let meanwhile = {
        let twin = self::scene(datapath, &[NET_A]);
        source(&twin, &call::<A>(Kind::Udp, 3, 5000));
        source(&twin, &other);
        twin.halves::<A>()
    };
    *scene.tables.between_halves.borrow_mut() = Some(Box::new(move |tables| {
        use netd_common::tables::FamilyTables as _;
        for (key, entry) in &meanwhile {
            let _ = tables.insert_flow(key, entry);
        }
    }));
    let given = source(&scene, &one);
    assert_ne!(given.1, 5000, "the twin's");
    assert_eq!(source(&scene, &other), given);
    gets_in(&scene, &stranger(Kind::Udp, given), one.src);
}

/// The outside port of a container's.
fn mapping<A: Family>(scene: &Scene, inside: End<A>) -> Option<u16> {
    let halves = scene.halves::<A>();
    let mut mappings = halves.iter().filter(|(key, entry)| key.zone != 0 && !entry.is_reply());
    let mapping = mappings.find(|(key, _)| (key.src, key.sport.number()) == inside);
    mapping.map(|(_, entry)| entry.new_sport.number())
}

/// Two containers with mappings and one without send from the same ports to the same places, and strangers
/// come between: replies find their way back, no two senders are one to anybody, nobody gets in without a
/// mapping, and a port has one, but to where somebody else had the tuple first.
fn every_order_of_packets_keeps_mappings_and_replies<A: Family>(datapath: Datapath) {
    let sender = prop_oneof![Just((NET_A, 2)), Just((NET_A, 3)), Just((NET_B, 2))];
    // In all less than any timer.
    let steps = prop::collection::vec((sender, 0..3_u16, 0..3_u8, 0..3_u32), 1..40);
    let unmapped = A::inside(NET_B, 2);
    proptest!(ProptestConfig::with_cases(48), |(steps in steps)| {
        let scene = scene(datapath, &[NET_A]);
        let mut outside_of: HashMap<(End<A>, End<A>), End<A>> = HashMap::new();
        for ((network, n), port, dst, wait) in steps {
            let inside = (A::inside(network, n), 5000 + port);
            let message = Message::new(Kind::Udp, inside, (A::outside(9 + dst), 53));
            let given = scene.translated(OUTWARDS, &message, Reason::Masqueraded).src;
            outside_of.insert((inside, message.dst), given);
            for (&(src, dst), &outside) in &outside_of {
                let is_same = |other: &&End<A>| **other == outside;
                let to_dst = outside_of.iter().filter(|((_, other), _)| *other == dst);
                prop_assert_eq!(to_dst.map(|(_, outside)| outside).filter(is_same).count(), 1);
                let answer = Message::new(Kind::Udp, dst, outside);
                prop_assert_eq!(scene.run(INWARDS, &answer).1, answer.to(src));
                let mapped = mapping(&scene, src).map(|port| (A::host(1), port));
                prop_assert_eq!(mapped.is_none(), src.0 == unmapped);
                if mapped.is_some_and(|mapped| mapped != outside) {
                    let mut others = outside_of.iter().filter(|((src, _), _)| src.0 == unmapped);
                    prop_assert!(others.any(|((_, to), &end)| *to == dst && Some(end) == mapped));
                }
            }
            let (_, got) = scene.run(INWARDS, &stranger(Kind::Udp, given));
            prop_assert_ne!(got.dst.0, unmapped);
            scene.wait(wait);
        }
    });
}
