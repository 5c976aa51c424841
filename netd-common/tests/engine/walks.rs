//! The ways of a packet through the host, from end to end: published ports and masquerade, and back.

use netd_common::{
    conntrack::{CtFlags, FlowState, Scope},
    counters::Counter,
    reason::Reason,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, End, Kind, Message, SYN},
    place::{INWARDS, OUTWARDS, slot},
    scene::{
        DNS, Datapath, FIXED, NET_A, NET_B, PLAIN, RANGE, SPECIFIC, SPECIFIC_RANGE, Scene, WEB,
        WEB_SLOT,
    },
};

in_both_datapaths! {
    a_published_port_reaches_the_container_and_its_reply_the_client,
    every_kind_of_published_port_leads_to_its_container,
    a_container_reaches_the_world_and_the_reply_the_container,
    the_source_follows_the_destination_and_the_network,
    without_masquerade_packets_are_tracked_and_not_changed,
    a_published_container_that_calls_out_is_masqueraded,
    traffic_is_counted_where_it_belongs,
    both_halves_say_what_the_flow_is,
}

/// W1 and W2, for each protocol with ports.
fn a_published_port_reaches_the_container_and_its_reply_the_client<A: Family>(datapath: Datapath) {
    for (kind, host_port, container_port) in
        [(Kind::Tcp(SYN), WEB, 80), (Kind::Udp, DNS, 53), (Kind::UdpWithoutChecksum, DNS, 53)]
    {
        let scene = Scene::on(datapath);
        let request = Message::<A>::new(kind, (A::outside(7), 40_000), (A::host(1), host_port));
        let inside = request.to((A::inside(NET_A, 2), container_port));
        // The first packet, and the next one of the same flow.
        for _ in 0..2 {
            scene.becomes(INWARDS, &request, Reason::Published, &inside);
        }
        let answer = inside.reply();
        scene.becomes(
            OUTWARDS,
            &answer,
            Reason::PublishedReply,
            &answer.from((A::host(1), host_port)),
        );
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

/// What it shows, the kind of message, where it is sent, and where it leads.
type Row<A> = (&'static str, Kind, End<A>, Option<End<A>>);

fn every_kind_of_published_port_leads_to_its_container<A: Family>(datapath: Datapath) {
    let (a, b) = (A::inside(NET_A, 2), A::inside(NET_B, 2));
    let (tcp, udp) = (Kind::Tcp(SYN), Kind::Udp);
    let rows: [Row<A>; 12] = [
        ("single, first address", tcp, (A::host(1), WEB), Some((a, 80))),
        ("single, second address", tcp, (A::host(2), WEB), Some((a, 80))),
        ("single, a bridge's address", tcp, (A::inside(NET_B, 1), WEB), Some((a, 80))),
        ("single, other protocol", udp, (A::host(1), WEB), None),
        ("specific, its address", tcp, (A::host(2), SPECIFIC), Some((b, 90))),
        ("specific, another address", tcp, (A::host(1), SPECIFIC), None),
        ("range, first", udp, (A::host(2), RANGE), Some((a, 30_000))),
        ("range, last", udp, (A::host(1), RANGE + 99), Some((a, 30_099))),
        ("range, beyond", udp, (A::host(1), RANGE + 100), None),
        ("specific range", tcp, (A::host(1), SPECIFIC_RANGE + 5), Some((b, SPECIFIC_RANGE + 5))),
        ("specific range, another address", tcp, (A::host(2), SPECIFIC_RANGE + 5), None),
        ("not the host's address", tcp, (A::outside(9), WEB), None),
    ];
    for (row, kind, dst, leads_to) in rows {
        let scene = Scene::on(datapath);
        let message = Message::new(kind, (A::outside(7), 40_000), dst);
        let (reason, expected) = match leads_to {
            Some(container) => (Reason::Published, message.to(container)),
            None => (Reason::NotOurs, message.clone()),
        };
        assert_eq!(scene.run(INWARDS, &message), (reason, expected), "{row}");
    }
}

/// W3 and W4, for each protocol.
fn a_container_reaches_the_world_and_the_reply_the_container<A: Family>(datapath: Datapath) {
    for (kind, port) in [
        (Kind::Tcp(SYN), 443),
        (Kind::Tcp(ACK), 443),
        (Kind::Udp, 443),
        (Kind::UdpWithoutChecksum, 443),
        (Kind::EchoRequest, 0),
    ] {
        let scene = Scene::on(datapath);
        let own = (A::inside(NET_A, 2), 50_000);
        let request = Message::<A>::new(kind, own, (A::outside(9), port));
        let outside = request.from((A::host(1), 50_000));
        for _ in 0..2 {
            scene.becomes(OUTWARDS, &request, Reason::Masqueraded, &outside);
        }
        let answer = outside.reply();
        let inside = answer.to(own);
        scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &inside);
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

fn the_source_follows_the_destination_and_the_network<A: Family>(datapath: Datapath) {
    let rows = [
        ("default route", NET_A, A::outside(9), A::host(1)),
        ("a route of its own", NET_A, A::outside(200), A::host(2)),
        ("another network", NET_B, A::outside(200), A::host(2)),
        ("a fixed source", FIXED, A::outside(200), A::host(9)),
    ];
    for (row, network, dst, source) in rows {
        let scene = Scene::on(datapath);
        let message = Message::new(Kind::Udp, (A::inside(network, 2), 5000), (dst, 53));
        let expected = (Reason::Masqueraded, message.from((source, 5000)));
        assert_eq!(scene.run(OUTWARDS, &message), expected, "{row}");
    }
}

fn without_masquerade_packets_are_tracked_and_not_changed<A: Family>(datapath: Datapath) {
    for (kind, port) in [(Kind::Tcp(SYN), 443), (Kind::Udp, 53), (Kind::EchoRequest, 0)] {
        let scene = Scene::on(datapath);
        let request = Message::<A>::new(kind, (A::inside(PLAIN, 2), 50_000), (A::outside(9), port));
        scene.stays(OUTWARDS, &request, Reason::Untranslated);
        let answer = request.reply();
        scene.stays(INWARDS, &answer, Reason::Untranslated);
        // Only the flow's own replies come in.
        let stranger = answer.from((A::outside(10), port));
        scene.stays(INWARDS, &stranger, Reason::DirectRouting);
    }
}

fn a_published_container_that_calls_out_is_masqueraded<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    // From the published port itself to a client that has not called.
    let own = (A::inside(NET_A, 2), 53);
    let request = Message::<A>::new(Kind::Udp, own, (A::outside(7), 40_000));
    let outside = scene.translated(OUTWARDS, &request, Reason::Masqueraded);
    assert_eq!(outside, request.from((A::host(1), 53)));
    scene.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &outside.reply().to(own));
}

fn traffic_is_counted_where_it_belongs<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let request = Message::<A>::new(Kind::Udp, (A::outside(7), 1), (A::host(1), DNS));
    let inside = scene.translated(INWARDS, &request, Reason::Published);
    let answer = inside.reply();
    scene.translated(OUTWARDS, &answer, Reason::PublishedReply);
    let call = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 2), 9), (A::outside(9), 53));
    scene.translated(OUTWARDS, &call, Reason::Masqueraded);

    let traffic = scene.tables.traffic.borrow();
    let len = |message: &Message<A>| message.frame().len() as u64;
    let (received, sent) = (len(&request), len(&answer));
    let published = traffic[&3];
    assert_eq!(published.received, Counter { packets: 1, bytes: received });
    assert_eq!(published.sent, Counter { packets: 1, bytes: sent });
    assert_eq!(published.flows, 1);
    let endpoint = traffic[&slot(NET_A, 2)];
    assert_eq!(endpoint.received, Counter { packets: 1, bytes: received });
    assert_eq!(endpoint.sent, Counter { packets: 2, bytes: sent + len(&call) });
    assert_eq!(endpoint.flows, 1);
}

fn both_halves_say_what_the_flow_is<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.config.flags |= netd_common::config::ConfigFlags::FLOW_ACCOUNTING;
    let request = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), WEB));
    let inside = scene.translated(INWARDS, &request, Reason::Published);
    scene.translated(OUTWARDS, &inside.reply(), Reason::PublishedReply);
    scene.translated(INWARDS, &request.with_kind(Kind::Tcp(ACK)), Reason::Published);

    let halves = scene.halves::<A>();
    let (replies, originals): (Vec<_>, Vec<_>) = halves.iter().partition(|half| half.1.is_reply());
    let ([(key, original)], [(reply_key, reply)]) = (&originals[..], &replies[..]) else {
        panic!("one flow: {halves:?}");
    };
    assert_eq!((key.scope, reply_key.scope), (Scope::Uplink as u8, Scope::Endpoint as u8));
    assert_eq!((original.peer_key(key), reply.peer_key(reply_key)), (*reply_key, *key));
    let flags = CtFlags::DNAT | if datapath == Datapath::Fast { CtFlags::FAST } else { 0 };
    assert_eq!((original.flags, reply.flags), (flags, flags | CtFlags::REPLY));
    for half in [original, reply] {
        assert_eq!((half.slot, half.endpoint_slot), (WEB_SLOT, slot(NET_A, 2)));
        assert_eq!((half.network, half.created_secs), (NET_A, 1_000));
    }
    assert_eq!(FlowState::of(6, original.seen, reply.seen), FlowState::Established);
    // From the IP header on.
    let bytes = |message: &Message<A>| message.frame().len() as u64 - 14;
    assert_eq!((original.packets, original.bytes), (2, 2 * bytes(&request)));
    assert_eq!((reply.packets, reply.bytes), (1, bytes(&inside.reply())));
}
