//! Containers that the outside reaches by their own addresses: gateway modes `routed` and
//! `nat-unprotected`, and trusted devices (walk W13, docker-behaviour.md I6, I7 and D1).

use netd_common::{
    address::Port,
    network::{AcceptedMark, FamilyFlags, NetworkFlags},
    published::PublishedPort,
    reason::Reason,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, End, Kind, Message, RST, SYN},
    place::{
        At, FROM_UPLINK, Hook, INWARDS, OUTWARDS, TO_UPLINK, bridge, from_endpoint, slot,
        to_endpoint,
    },
    scene::{
        Datapath, NET_A, NETWORKS, OPEN, OWN, OWN_RANGE, OWN_SLOT, ROUTED, SECOND_UPLINK, Scene,
        UPLINK, WEB,
    },
    tables::published_key,
};

in_both_datapaths! {
    a_routed_network_is_reached_at_its_published_ports_and_by_echo,
    an_unprotected_network_is_reached_at_every_port,
    what_may_not_be_reached_is_dropped,
    what_has_no_ports_reaches_an_unprotected_network_alone,
    a_trusted_device_reaches_published_ports_and_no_other_does,
    a_mark_lets_in_from_a_trusted_device_at_any_port,
    a_port_that_is_published_elsewhere_is_not_the_containers_own,
    an_internal_network_is_never_reached,
    nobody_outside_has_a_containers_address,
    traffic_is_counted_once,
}

const CLIENT_PORT: u16 = 40_000;

/// A request to a container's own address, and all that follows: nothing is translated.
#[track_caller]
fn converse<A: Family>(scene: &Scene, kind: Kind, dst: End<A>, reason: Reason) {
    let sport = if kind == Kind::EchoRequest { 7 } else { CLIENT_PORT };
    let request = Message::new(kind, (A::outside(7), sport), dst);
    let answer = if reason == Reason::Published { Reason::PublishedReply } else { reason };
    for _ in 0..2 {
        scene.stays(INWARDS, &request, reason);
        scene.stays(OUTWARDS, &request.reply(), answer);
    }
    assert_eq!(scene.halves::<A>().len(), 2);
    // Only those who have asked are answered.
    let stranger = Message::new(Kind::EchoReply, (dst.0, 0), (A::outside(8), sport));
    scene.stays(OUTWARDS, &stranger, Reason::NoFlow);
}

fn a_routed_network_is_reached_at_its_published_ports_and_by_echo<A: Family>(datapath: Datapath) {
    let own = A::inside(ROUTED, 2);
    for (kind, port, reason) in [
        (Kind::Tcp(SYN), OWN, Reason::Published),
        (Kind::Tcp(ACK), OWN, Reason::Published),
        (Kind::Udp, OWN_RANGE, Reason::Published),
        (Kind::UdpWithoutChecksum, OWN_RANGE + 9, Reason::Published),
        (Kind::EchoRequest, 0, Reason::Untranslated),
    ] {
        converse(&Scene::on(datapath), kind, (own, port), reason);
    }
    // What the container begins is tracked, and leaves with its own address.
    let scene = Scene::on(datapath);
    let call = Message::new(Kind::Udp, (own, 5000), (A::outside(9), 53));
    scene.stays(OUTWARDS, &call, Reason::Untranslated);
    scene.stays(INWARDS, &call.reply(), Reason::Untranslated);
}

fn an_unprotected_network_is_reached_at_every_port<A: Family>(datapath: Datapath) {
    let own = A::inside(OPEN, 2);
    for (kind, port) in
        [(Kind::Tcp(SYN), 22), (Kind::Tcp(ACK), 1), (Kind::Udp, 65_535), (Kind::EchoRequest, 0)]
    {
        converse(&Scene::on(datapath), kind, (own, port), Reason::Untranslated);
    }
    // What the container begins is masqueraded all the same, even from the port that was asked for.
    let scene = Scene::on(datapath);
    converse(&scene, Kind::Udp, (own, 53), Reason::Untranslated);
    let call = Message::new(Kind::Udp, (own, 53), (A::outside(9), 53));
    scene.becomes(OUTWARDS, &call, Reason::Masqueraded, &call.from((A::host(1), 53)));
}

fn what_may_not_be_reached_is_dropped<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let to = |kind, network, port| {
        let dst = (A::inside(network, 2), port);
        Message::new(kind, (A::outside(7), CLIENT_PORT), dst).frame()
    };
    let (tcp, udp) = (Kind::Tcp(SYN), Kind::Udp);
    let rows = [
        ("another port", to(tcp, ROUTED, OWN + 1)),
        ("another protocol", to(udp, ROUTED, OWN)),
        ("beyond the range", to(udp, ROUTED, OWN_RANGE + 10)),
        ("published by another address", to(tcp, ROUTED, WEB)),
        ("no flow's, to a routed port", to(Kind::Tcp(RST), ROUTED, OWN)),
        ("no flow's", to(Kind::Tcp(SYN | ACK), OPEN, 22)),
        ("an echo reply", to(Kind::EchoReply, OPEN, 0)),
        ("neither routed nor unprotected", to(tcp, NET_A, 80)),
        ("its echo", to(Kind::EchoRequest, NET_A, 0)),
    ];
    for (row, frame) in rows {
        scene.judges(&[(row, FROM_UPLINK, frame, Reason::DirectRouting)]);
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn what_has_no_ports_reaches_an_unprotected_network_alone<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let unreachable = if A::ICMP == 1 { 3 } else { 1 };
    let frames = |network| {
        let dst = (A::inside(network, 2), 53);
        let message = |kind| Message::new(kind, (A::outside(7), 5), dst);
        let kinds = [Kind::Icmp(200), Kind::Icmp(unreachable)];
        let mut frames = kinds.map(|kind| message(kind).frame()).to_vec();
        frames.push(message(Kind::Udp).fragment());
        frames
    };
    for (network, outside, entering) in [
        (OPEN, Reason::DirectlyRouted, Reason::DirectlyRouted),
        (ROUTED, Reason::DirectRouting, Reason::Unsolicited),
        (NET_A, Reason::DirectRouting, Reason::Unsolicited),
    ] {
        for frame in frames(network) {
            let at = to_endpoint(network, 2, UPLINK);
            scene.judges(&[("outside", FROM_UPLINK, frame.clone(), outside)]);
            scene.judges(&[("entering", at, frame.clone(), entering)]);
            // A device that is not an uplink has no program: the container's own judges.
            scene.judges(&[("another device", to_endpoint(network, 2, 999), frame, entering)]);
        }
    }
}

/// Publishes a port of the first network's container on an address.
fn publish<A: Family>(scene: &mut Scene, addr: A, host_port: u16, port: u16) {
    let leads_to = PublishedPort {
        addr: A::inside(NET_A, 2),
        port: Port::new(port),
        host_port: Port::new(host_port),
        network: NET_A,
        flags: 0,
        slot: 20,
        endpoint_slot: slot(NET_A, 2),
    };
    let published = &mut A::store_mut(&mut scene.tables).published;
    published.insert(published_key(addr, 6, host_port), leads_to);
}

fn a_trusted_device_reaches_published_ports_and_no_other_does<A: Family>(datapath: Datapath) {
    let own = A::inside(NET_A, 2);
    // On its own address, as the daemon publishes it, and on every address by the same number.
    for addr in [own, A::UNSPECIFIED] {
        let mut scene = Scene::on(datapath);
        publish(&mut scene, addr, 443, 443);
        let request = Message::new(Kind::Tcp(SYN), (A::outside(7), CLIENT_PORT), (own, 443));
        scene.stays(FROM_UPLINK, &request, Reason::DirectRouting);
        scene.tables.trusted.insert((UPLINK, NET_A));
        converse(&scene, Kind::Tcp(SYN), (own, 443), Reason::Published);
        let from_second = At { ifindex: SECOND_UPLINK, ingress: SECOND_UPLINK, ..FROM_UPLINK };
        let later = request.from((A::outside(7), CLIENT_PORT + 1));
        scene.stays(from_second, &later, Reason::DirectRouting);
        let echo = Message::new(Kind::EchoRequest, (A::outside(7), 5), (own, 0));
        scene.stays(FROM_UPLINK, &echo, Reason::DirectRouting);
        scene.stays(FROM_UPLINK, &request.to((own, 444)), Reason::DirectRouting);
    }
}

/// M7: the firewall sees a packet only after the device's program, so the container's has the last word.
fn a_mark_lets_in_from_a_trusted_device_at_any_port<A: Family>(datapath: Datapath) {
    let own = A::inside(NET_A, 2);
    let entering = to_endpoint(NET_A, 2, UPLINK);
    for (kind, later, port) in [
        (Kind::Tcp(SYN), Kind::Tcp(ACK), 444),
        (Kind::Udp, Kind::Udp, 444),
        (Kind::EchoRequest, Kind::EchoRequest, 0),
        (Kind::Other(47), Kind::Other(47), 0),
    ] {
        let mut scene = Scene::on(datapath);
        let sport = if kind == Kind::Other(47) { 0 } else { CLIENT_PORT };
        let request = Message::new(kind, (A::outside(7), sport), (own, port));
        let marked = |mark| entering.packet(request.frame()).with_mark(mark);
        let enters = |scene: &Scene, mark| scene.judge(Hook::ToEndpoint, &mut marked(mark));
        scene.tables.accepted_marks.insert(NET_A, AcceptedMark { value: 2, mask: 3 });
        scene.stays(FROM_UPLINK, &request, Reason::DirectRouting);
        scene.tables.trusted.insert((UPLINK, NET_A));
        scene.stays(FROM_UPLINK, &request, Reason::DirectlyRouted);
        for mark in [0, 1, 3, 4] {
            assert_eq!(enters(&scene, mark), Reason::Unsolicited, "{kind:?} {mark}");
        }
        assert_eq!(scene.halves::<A>().len(), 0);
        assert_eq!(enters(&scene, 6), Reason::FlowToContainer, "{kind:?}");
        // What follows is of a flow, marked or not.
        let next = Message { kind: later, ..request.clone() };
        scene.stays(FROM_UPLINK, &next, Reason::Untranslated);
        assert_eq!(enters(&scene, 0), Reason::FlowToContainer, "{kind:?}");
        let answer = next.reply();
        assert_eq!(scene.pass(from_endpoint(NET_A, 2), &answer).0, Reason::ContainerToOutside);
        let leaving = At { ingress: bridge(NET_A), ..TO_UPLINK };
        scene.stays(leaving, &answer, Reason::Untranslated);
        assert_eq!(scene.halves::<A>().len(), 2);
    }
    // A device that is not trusted may be one without our programs.
    let mut scene = Scene::on(datapath);
    scene.tables.accepted_marks.insert(NET_A, AcceptedMark { value: 2, mask: 3 });
    let request = Message::new(Kind::Udp, (A::outside(7), CLIENT_PORT), (own, 444));
    let mut marked = entering.packet(request.frame()).with_mark(2);
    assert_eq!(scene.judge(Hook::ToEndpoint, &mut marked), Reason::Unsolicited);
    // What is of no flow that could be known is let in by no mark.
    scene.tables.trusted.insert((UPLINK, NET_A));
    let fragment = Message::new(Kind::Udp, (A::outside(7), 1), (own, 444)).fragment();
    scene.judges(&[("fragment", FROM_UPLINK, fragment.clone(), Reason::DirectRouting)]);
    let mut marked = entering.packet(fragment).with_mark(2);
    assert_eq!(scene.judge(Hook::ToEndpoint, &mut marked), Reason::Unsolicited);
}

fn a_port_that_is_published_elsewhere_is_not_the_containers_own<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.trusted.insert((UPLINK, NET_A));
    publish(&mut scene, A::UNSPECIFIED, 443, 444);
    publish(&mut scene, A::UNSPECIFIED, 25, 25);
    for (n, port) in [(2, 443), (2, 444), (3, 25), (2, WEB)] {
        let dst = (A::inside(NET_A, n), port);
        let request = Message::new(Kind::Tcp(SYN), (A::outside(7), CLIENT_PORT), dst);
        scene.stays(FROM_UPLINK, &request, Reason::DirectRouting);
    }
}

fn an_internal_network_is_never_reached<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    for network in [ROUTED, OPEN] {
        scene.set(network, NetworkFlags::INTERNAL);
        let own = A::inside(network, 2);
        for (kind, port) in [(Kind::Tcp(SYN), OWN), (Kind::EchoRequest, 0), (Kind::Other(47), 0)] {
            let message = Message::new(kind, (A::outside(7), 5), (own, port)).frame();
            let entering = to_endpoint(network, 2, UPLINK);
            scene.judges(&[
                ("outside", FROM_UPLINK, message.clone(), Reason::DirectRouting),
                ("entering", entering, message, Reason::InternalNetwork),
            ]);
        }
    }
}

fn nobody_outside_has_a_containers_address<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for network in NETWORKS {
        let claimed = (A::inside(network, 9), 5);
        let message = Message::new(Kind::Tcp(SYN), claimed, (A::inside(OPEN, 2), 80));
        scene.stays(FROM_UPLINK, &message, Reason::SpoofedSource);
        // From a device without program it is stopped at the container.
        let bridge = to_endpoint(OPEN, 2, bridge(99));
        let reason = if network == OPEN { Reason::UnknownPort } else { Reason::NetworksApart };
        scene.stays(bridge, &message, reason);
    }
}

fn traffic_is_counted_once<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    let network = scene.tables.networks.get_mut(&ROUTED).unwrap();
    // With masquerade too: it is about what the containers begin.
    network.v4.flags |= FamilyFlags::MASQUERADE;
    let request =
        Message::new(Kind::Tcp(SYN), (A::outside(7), CLIENT_PORT), (A::inside(ROUTED, 2), OWN));
    scene.stays(INWARDS, &request, Reason::Published);
    scene.stays(OUTWARDS, &request.reply(), Reason::PublishedReply);
    let traffic = scene.tables.traffic.borrow();
    for owner in [OWN_SLOT, slot(ROUTED, 2)] {
        let counted = traffic[&owner];
        assert_eq!((counted.received.packets, counted.sent.packets), (1, 1), "{owner}");
    }
}
