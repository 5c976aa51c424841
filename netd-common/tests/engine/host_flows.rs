//! The host's own connections beside the containers' flows: whoever is first keeps the port, and both go
//! on; and what the host sends from a bridge's address.

use std::collections::{HashMap, HashSet};

use netd_common::{config::Timeout, reason::Reason};
use proptest::prelude::*;

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, End, FIN, Kind, Message, RST, SYN},
    place::{At, FROM_UPLINK, INWARDS, OUTWARDS, TO_UPLINK, from_endpoint, to_endpoint},
    scene::{DNS, Datapath, INTERNAL, NET_A, PLAIN, SECOND_UPLINK, Scene, WEB},
};

in_both_datapaths! {
    a_later_connection_of_the_host_gets_another_port,
    an_earlier_connection_of_the_host_keeps_its_port,
    nothing_is_tracked_without_a_clash,
    a_clash_with_a_published_ports_client_is_one_too,
    what_is_no_first_packet_clashes_with_nothing,
    a_translated_connection_outlives_what_it_clashed_with,
    a_bridges_address_is_masqueraded_for_the_host_too,
    a_bridges_address_keeps_to_its_networks_rules,
    who_asked_at_a_bridges_address_is_answered_from_there,
    what_begins_nothing_leaves_with_a_bridges_address,
    every_order_of_connections_keeps_replies_apart,
    a_container_that_sees_the_gateway_tells_the_hosts_connection_from_its_own,
    replies_to_a_published_port_of_udp_are_the_hosts_that_asked,
    what_a_proxy_sends_for_others_is_left_alone,
}

/// The host's own packets on their way out.
const FROM_HOST: At = At { ingress: 0, ..TO_UPLINK };
/// The host's own packets on their way to a container.
const TO_CONTAINER: At = to_endpoint(NET_A, 2, 0);

const SERVER: u8 = 9;

fn server<A: Family>(kind: Kind) -> End<A> {
    (A::outside(SERVER), if kind == Kind::EchoRequest { 0 } else { 53 })
}

fn of_container<A: Family>(kind: Kind, n: u8, port: u16) -> Message<A> {
    Message::new(kind, (A::inside(NET_A, n), port), server(kind))
}

fn of_host<A: Family>(kind: Kind, port: u16) -> Message<A> {
    Message::new(kind, (A::host(1), port), server(kind))
}

const KINDS: [Kind; 3] = [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest];

fn a_later_connection_of_the_host_gets_another_port<A: Family>(datapath: Datapath) {
    for kind in KINDS {
        let scene = Scene::on(datapath);
        let (theirs, ours) = (of_container::<A>(kind, 2, 5000), of_host::<A>(kind, 5000));
        let outside = scene.translated(OUTWARDS, &theirs, Reason::Masqueraded);
        assert_eq!(outside.src, ours.src);

        let moved = scene.translated(FROM_HOST, &ours, Reason::Masqueraded);
        assert_eq!(moved, ours.from((A::host(1), moved.src.1)));
        assert_ne!(moved.src.1, 5000);
        let more = if kind == Kind::Tcp(SYN) { Kind::Tcp(ACK) } else { kind };
        for _ in 0..2 {
            let answer = moved.reply();
            scene.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &answer.to(ours.src));
            let next = ours.with_kind(more);
            let expected = next.from(moved.src);
            scene.becomes(FROM_HOST, &next, Reason::Masqueraded, &expected);
            // And the container's flow goes on.
            let answer = outside.reply();
            scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(theirs.src));
        }
        // A retransmission is no second flow.
        scene.becomes(FROM_HOST, &ours, Reason::Masqueraded, &moved);
        assert_eq!(scene.halves::<A>().len(), 4);
        // To anybody else the port is the host's own.
        scene.stays(FROM_HOST, &ours.to((A::outside(10), ours.dst.1)), Reason::HostTraffic);
    }
}

fn an_earlier_connection_of_the_host_keeps_its_port<A: Family>(datapath: Datapath) {
    for kind in [Kind::Tcp(SYN), Kind::Udp] {
        let scene = Scene::on(datapath);
        let ours = of_host::<A>(kind, 5000);
        scene.stays(FROM_HOST, &ours, Reason::HostTraffic);
        let proto = if kind == Kind::Udp { 17 } else { 6 };
        let socket = (proto, server(kind), ours.src);
        A::store(&scene.tables).connected_sockets.borrow_mut().insert(socket);
        let theirs = of_container::<A>(kind, 2, 5000);
        let outside = scene.translated(OUTWARDS, &theirs, Reason::Masqueraded);
        assert_ne!(outside.src.1, 5000);
        scene.stays(FROM_HOST, &ours, Reason::HostTraffic);
        scene.stays(FROM_UPLINK, &ours.reply(), Reason::NotOurs);
    }
}

fn nothing_is_tracked_without_a_clash<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for kind in KINDS {
        scene.translated(OUTWARDS, &of_container::<A>(kind, 2, 5000), Reason::Masqueraded);
        let ours = of_host::<A>(kind, 5000);
        for other in [of_host(kind, 5001), ours.to((A::outside(10), ours.dst.1))] {
            scene.stays(FROM_HOST, &other, Reason::HostTraffic);
        }
    }
    assert_eq!(scene.halves::<A>().len(), 6);
    assert_eq!(scene.tables.host_flows_seen_secs.get(), 0);
}

fn a_clash_with_a_published_ports_client_is_one_too<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let client = (A::outside(7), 40_000);
    let request = Message::<A>::new(Kind::Udp, client, (A::host(1), DNS));
    let inside = request.to((A::inside(NET_A, 2), 53));
    scene.becomes(INWARDS, &request, Reason::Published, &inside);
    let ours = request.reply();
    let moved = scene.translated(FROM_HOST, &ours, Reason::Masqueraded);
    assert_ne!(moved.src.1, ours.src.1);
    scene.becomes(INWARDS, &request, Reason::Published, &inside);
}

fn what_is_no_first_packet_clashes_with_nothing<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    scene.translated(OUTWARDS, &of_container::<A>(Kind::Tcp(SYN), 2, 5000), Reason::Masqueraded);
    // Whether anything of the host's is looked up or not.
    for seen in [0, scene.tables.now_secs.get()] {
        scene.tables.host_flows_seen_secs.set(seen);
        for flags in [ACK, SYN | ACK, FIN | ACK] {
            scene.stays::<A>(FROM_HOST, &of_host(Kind::Tcp(flags), 5000), Reason::HostTraffic);
        }
        let ours = of_host::<A>(Kind::Tcp(SYN), 5000);
        let reply = ours.from((A::host(1), 0)).with_kind(Kind::EchoReply);
        scene.stays(FROM_HOST, &reply, Reason::HostTraffic);
        let mut fragment = FROM_HOST.packet(ours.with_kind(Kind::Udp).fragment());
        assert_eq!(scene.judge(FROM_HOST.hook, &mut fragment), Reason::HostTraffic);
    }
}

fn a_translated_connection_outlives_what_it_clashed_with<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (theirs, ours) = (of_container::<A>(Kind::Udp, 2, 5000), of_host::<A>(Kind::Udp, 5000));
    scene.translated(OUTWARDS, &theirs, Reason::Masqueraded);
    let moved = scene.translated(FROM_HOST, &ours, Reason::Masqueraded);
    let timeout = scene.tables.config.timeout(Timeout::Udp);
    let answer = moved.reply();
    for _ in 0..3 {
        scene.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &answer.to(ours.src));
        scene.wait(timeout - 1);
        scene.becomes(FROM_HOST, &ours, Reason::Masqueraded, &moved);
    }
    // When both have ended, the port is the host's again.
    scene.wait(scene.tables.config.timeout(Timeout::UdpStream));
    scene.becomes(FROM_HOST, &ours, Reason::Masqueraded, &ours);
    scene.wait(scene.tables.config.timeout(Timeout::TcpEstablished));
    A::store(&scene.tables).flows.borrow_mut().clear();
    scene.stays(FROM_HOST, &ours, Reason::HostTraffic);
}

fn a_bridges_address_is_masqueraded_for_the_host_too<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for kind in KINDS {
        let ours = of_host::<A>(kind, 5000).from((A::inside(NET_A, 1), 5000));
        let outside = ours.from((A::host(1), 5000));
        scene.becomes(FROM_HOST, &ours, Reason::Masqueraded, &outside);
        let answer = outside.reply();
        scene.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &answer.to(ours.src));
    }
    // Other sources of the host's are left alone, be they in a network's subnet or not.
    scene.stays::<A>(FROM_HOST, &of_container(Kind::Udp, 77, 5000), Reason::HostTraffic);
}

fn a_bridges_address_keeps_to_its_networks_rules<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let from = |network| of_host::<A>(Kind::Udp, 5000).from((A::inside(network, 1), 5000));
    scene.stays(FROM_HOST, &from(PLAIN), Reason::Untranslated);
    scene.stays(FROM_HOST, &from(INTERNAL), Reason::InternalNetwork);
    let by_second = At { ifindex: SECOND_UPLINK, ..FROM_HOST };
    scene.stays(by_second, &from(NET_A), Reason::NoMasqueradeAddress);
}

fn who_asked_at_a_bridges_address_is_answered_from_there<A: Family>(datapath: Datapath) {
    for network in [NET_A, PLAIN, INTERNAL] {
        let scene = Scene::on(datapath);
        for kind in KINDS {
            let port = if kind == Kind::EchoRequest { 0 } else { 54 };
            let gateway = (A::inside(network, 1), port);
            let asked = Message::<A>::new(kind, (A::outside(SERVER), 5000), gateway);
            scene.stays(FROM_UPLINK, &asked, Reason::Untranslated);
            let answer = asked.reply();
            let answer = if kind == Kind::Tcp(SYN) {
                answer.with_kind(Kind::Tcp(SYN | ACK))
            } else {
                answer
            };
            scene.stays(FROM_HOST, &answer, Reason::Untranslated);
        }
    }
}

fn what_begins_nothing_leaves_with_a_bridges_address<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let of_kind = |kind| of_host::<A>(kind, 5000).from((A::inside(NET_A, 1), 5000));
    for kind in [Kind::Tcp(SYN | ACK), Kind::Tcp(RST)] {
        scene.stays(FROM_HOST, &of_kind(kind), Reason::HostTraffic);
    }
    let reply = of_kind(Kind::EchoReply).frame();
    scene.judges(&[("echo reply", FROM_HOST, reply, Reason::HostTraffic)]);
}

fn a_container_that_sees_the_gateway_tells_the_hosts_connection_from_its_own<A: Family>(
    datapath: Datapath,
) {
    for (kind, published, port) in [(Kind::Tcp(SYN), WEB, 80), (Kind::Udp, DNS, 53)] {
        let scene = Scene::on(datapath);
        let (container, gateway) = (A::inside(NET_A, 2), A::inside(NET_A, 1));
        // Its own published port shows it the gateway, with the port that it has sent from.
        let hairpin = Message::<A>::new(kind, (container, 5000), (A::host(1), published));
        let (_, seen) = scene.pass(from_endpoint(NET_A, 2), &hairpin);
        assert_eq!((seen.src, seen.dst), ((gateway, 5000), (container, port)));

        let ours = Message::<A>::new(kind, seen.src, seen.dst);
        let moved = scene.translated(TO_CONTAINER, &ours, Reason::Masqueraded);
        assert_eq!(moved, ours.from((gateway, moved.src.1)));
        assert_ne!(moved.src.1, 5000);
        let more = if kind == Kind::Tcp(SYN) { Kind::Tcp(ACK) } else { kind };
        for _ in 0..2 {
            let at = from_endpoint(NET_A, 2);
            let answer = moved.reply();
            scene.becomes(at, &answer, Reason::MasqueradeReply, &answer.to(ours.src));
            let next = ours.with_kind(more);
            scene.becomes(TO_CONTAINER, &next, Reason::Masqueraded, &next.from(moved.src));
            // And the container's own goes on.
            let (_, answer) = scene.pass(at, &seen.reply());
            assert_eq!(answer, hairpin.reply());
        }
        // From any other port the host needs nothing.
        let other = ours.from((gateway, 5001));
        scene.stays(TO_CONTAINER, &other, Reason::HostToContainer);
    }
}

fn replies_to_a_published_port_of_udp_are_the_hosts_that_asked<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let own = (A::host(1), DNS);
    // Nobody is there to tell them by: the socket is not connected.
    let asked = Message::<A>::new(Kind::Udp, own, (A::outside(SERVER), 53));
    scene.stays(FROM_HOST, &asked, Reason::Untranslated);
    scene.stays(FROM_UPLINK, &asked.reply(), Reason::Untranslated);
    let inside = asked.to((A::inside(NET_A, 2), 53)).from((A::inside(NET_A, 1), DNS));
    scene.stays(TO_CONTAINER, &inside, Reason::Untranslated);
    scene.stays(from_endpoint(NET_A, 2), &inside.reply(), Reason::Untranslated);
    // Who was not asked asks.
    let client = Message::<A>::new(Kind::Udp, (A::outside(7), 53), own);
    let reached = client.to((A::inside(NET_A, 2), 53));
    scene.becomes(INWARDS, &client, Reason::Published, &reached);
}

fn what_a_proxy_sends_for_others_is_left_alone<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (outside, container) = ((A::outside(SERVER), 53), (A::inside(NET_A, 2), 53));
    // The same ports, so that the answer is that of a flow already.
    let theirs = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 3), 40_000), (A::host(1), DNS));
    scene.pass(from_endpoint(NET_A, 3), &theirs);
    for (at, src, dst, reason) in [
        (FROM_HOST, (A::outside(7), DNS), outside, Reason::HostTraffic),
        (TO_CONTAINER, (A::outside(7), DNS), container, Reason::HostToContainer),
        (TO_CONTAINER, (A::inside(NET_A, 3), DNS), container, Reason::HostToContainer),
        (TO_CONTAINER, (A::inside(NET_A, 3), 40_000), container, Reason::HostToContainer),
        // By way of a container.
        (TO_CONTAINER, (A::host(1), DNS), outside, Reason::HostToContainer),
    ] {
        scene.stays(at, &Message::new(Kind::Udp, src, dst), reason);
    }
    assert_eq!(scene.halves::<A>().len(), 2);
}

/// Who sends: a container, or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Container(u8),
    Host,
}

/// Who sends what in which order does not matter: no two of them ever have the same replies, and each
/// reply finds its way back.
fn every_order_of_connections_keeps_replies_apart<A: Family>(datapath: Datapath) {
    let sender = prop_oneof![Just(Sender::Host), (2..=3_u8).prop_map(Sender::Container)];
    let ports = prop_oneof![Just(5000_u16), Just(5001), Just(53), Just(700)];
    let steps = prop::collection::vec((sender, ports, prop::bool::ANY, 0..=1_u32), 1..40);
    proptest!(ProptestConfig::with_cases(32), |(steps in steps)| {
        let scene = Scene::on(datapath);
        let mut outside_of: HashMap<(Sender, u16, bool), Message<A>> = HashMap::new();
        for (sender, port, is_tcp, wait) in steps {
            let kind = if is_tcp { Kind::Tcp(SYN) } else { Kind::Udp };
            let (at, message) = match sender {
                Sender::Host => (FROM_HOST, of_host::<A>(kind, port)),
                Sender::Container(n) => (OUTWARDS, of_container(kind, n, port)),
            };
            if sender == Sender::Host {
                let proto = if is_tcp { 6 } else { 17 };
                let socket = (proto, server(kind), message.src);
                A::store(&scene.tables).connected_sockets.borrow_mut().insert(socket);
            }
            let (_, outside) = scene.run(at, &message);
            outside_of.insert((sender, port, is_tcp), outside);
            let distinct: HashSet<_> = outside_of.values().map(|m| (m.kind, m.src)).collect();
            prop_assert_eq!(distinct.len(), outside_of.len());
            for ((sender, port, is_tcp), outside) in &outside_of {
                let kind = if *is_tcp { Kind::Tcp(SYN) } else { Kind::Udp };
                let answer = outside.reply();
                match sender {
                    Sender::Host => {
                        let (_, back) = scene.run(FROM_UPLINK, &answer);
                        prop_assert_eq!(back, answer.to((A::host(1), *port)));
                    }
                    Sender::Container(n) => {
                        let theirs = of_container::<A>(kind, *n, *port);
                        let (_, back) = scene.run(INWARDS, &answer);
                        prop_assert_eq!(back, answer.to(theirs.src));
                    }
                }
            }
            // All together less than a connection that is not set up may live.
            scene.wait(wait);
        }
    });
}
