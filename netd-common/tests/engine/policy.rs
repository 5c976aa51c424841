//! Who may send what where: everything that is decided without a flow.

use netd_common::reason::Reason;

use crate::{
    family::{Family, in_both_families},
    message::{ACK, DATA, End, FIN, Kind, Message, RST, SYN},
    place::{At, FROM_UPLINK, Hook, TO_UPLINK, bridge, from_endpoint, port, to_endpoint},
    scene::{DNS, INTERNAL, NET_A, NET_B, QUIET, SECOND_UPLINK, SPECIFIC, Scene, UPLINK, WEB},
    tables::HostRoute,
};

in_both_families! {
    the_outside_neither_reaches_containers_nor_poses_as_one,
    what_is_the_hosts_own_is_left_alone,
    a_link_local_client_reaches_no_published_port,
    a_container_reaches_the_host_and_its_own_network,
    a_container_sends_with_its_own_address_only,
    a_container_may_answer_with_its_address_on_another_network,
    what_is_link_local_stays_on_the_link,
    a_container_leaves_by_uplinks_only,
    a_connection_of_the_host_on_a_published_port_goes_on,
    what_is_routed_back_into_its_network_is_judged_as_switched,
    networks_are_apart_in_every_protocol,
    networks_that_are_allowed_to_talk_do_in_one_direction,
    an_internal_network_is_closed_both_ways,
    a_quiet_network_keeps_its_containers_apart,
    a_container_receives_what_it_may,
    what_cannot_be_translated_does_not_leave,
}

/// One message of each protocol.
fn every_protocol<A: Family>(src: A, dst: A) -> Vec<Message<A>> {
    let kinds = [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest, Kind::Other(47), Kind::Other(50)];
    kinds
        .map(|kind| {
            let dport = if kind == Kind::EchoRequest { 0 } else { 80 };
            Message::new(kind, (src, 50_000), (dst, dport))
        })
        .to_vec()
}

/// D1: no direct routing, and no container's address from outside.
fn the_outside_neither_reaches_containers_nor_poses_as_one<A: Family>() {
    let scene = Scene::new();
    let (client, container) = (A::outside(7), A::inside(NET_A, 2));
    let rows = every_protocol(client, container).into_iter().flat_map(|message| {
        let spoofed = message.from((container, 50_000)).to((A::host(1), message.dst.1));
        let through = spoofed.to((A::outside(9), message.dst.1));
        [
            ("direct", FROM_UPLINK, message.frame(), Reason::DirectRouting),
            ("spoofed", FROM_UPLINK, spoofed.frame(), Reason::SpoofedSource),
            ("spoofed, for others", FROM_UPLINK, through.frame(), Reason::SpoofedSource),
        ]
    });
    scene.judges(&rows.collect::<Vec<_>>());

    // Nor the host's own.
    for own in [A::host(1), A::host(2)] {
        let posing = Message::<A>::new(Kind::Tcp(SYN), (own, 50_000), (A::host(1), WEB)).frame();
        scene.judges(&[("as the host", FROM_UPLINK, posing, Reason::SpoofedSource)]);
    }

    // An entry for the container's packets is no way in for what claims to be one.
    let own = Message::<A>::new(Kind::Udp, (container, 50_000), (A::outside(9), 53));
    scene.translated(TO_UPLINK, &own, Reason::Masqueraded);
    scene.stays(FROM_UPLINK, &own, Reason::SpoofedSource);
    // A fragment tells its addresses, and they are enough.
    let direct = Message::<A>::new(Kind::Udp, (client, 1), (container, 80)).fragment();
    scene.judges(&[("fragment", FROM_UPLINK, direct, Reason::DirectRouting)]);
}

fn what_is_the_hosts_own_is_left_alone<A: Family>() {
    let scene = Scene::new();
    let client = (A::outside(7), 40_000);
    let to = |kind, dst: End<A>| Message::new(kind, client, dst);
    let host = A::host(1);
    let web = (host, WEB);
    scene.judges(&[
        ("ssh", FROM_UPLINK, to(Kind::Tcp(SYN), (host, 22)).frame(), Reason::NotOurs),
        ("echo", FROM_UPLINK, to(Kind::EchoRequest, (host, 0)).frame(), Reason::NotOurs),
        ("echo reply", FROM_UPLINK, to(Kind::EchoReply, (host, 9)).frame(), Reason::NotOurs),
        ("esp", FROM_UPLINK, to(Kind::Other(50), (host, 0)).frame(), Reason::NotOurs),
        ("forwarded", FROM_UPLINK, to(Kind::Udp, (A::outside(9), 53)).frame(), Reason::NotOurs),
        ("fragment", FROM_UPLINK, to(Kind::Udp, web).fragment(), Reason::FragmentToHost),
        // What cannot begin a connection gets the host's own answer, a reset.
        ("syn-ack", FROM_UPLINK, to(Kind::Tcp(SYN | ACK), web).frame(), Reason::NotOurs),
        ("rst", FROM_UPLINK, to(Kind::Tcp(RST), web).frame(), Reason::NotOurs),
        ("fin", FROM_UPLINK, to(Kind::Tcp(FIN | ACK), web).frame(), Reason::NotOurs),
        (
            "host's own, leaving",
            At { ingress: 0, ..TO_UPLINK },
            Message::new(Kind::Udp, (host, 1), client).frame(),
            Reason::HostTraffic,
        ),
        (
            "forwarded, leaving",
            TO_UPLINK,
            Message::new(Kind::Udp, (A::outside(9), 1), client).frame(),
            Reason::NotOurs,
        ),
    ]);
    let unreachable = if A::ICMP == 1 { 3 } else { 1 };
    let error = to(Kind::Icmp(unreachable), (host, 0)).frame();
    scene.judges(&[("icmp error", FROM_UPLINK, error, Reason::IcmpErrorToHost)]);
    if A::ICMP == 58 {
        let advertisement = to(Kind::Icmp(136), (host, 0)).frame();
        scene.judges(&[("neighbour", FROM_UPLINK, advertisement, Reason::LinkLocal)]);
    }
}

/// P5, and only IPv6 has such clients: 169.254.0.0/16 is translated like any other.
fn a_link_local_client_reaches_no_published_port<A: Family>() {
    let scene = Scene::new();
    let message = Message::<A>::new(Kind::Tcp(SYN), (A::LINK_LOCAL, 40_000), (A::host(1), WEB));
    let reason = if A::ICMP == 58 { Reason::NotOurs } else { Reason::Published };
    scene.translated(FROM_UPLINK, &message, reason);
}

/// W9, and the way to neighbours.
fn a_container_reaches_the_host_and_its_own_network<A: Family>() {
    let scene = Scene::new();
    let rows = [
        ("gateway", A::inside(NET_A, 1), Reason::ContainerToHost),
        ("uplink's address", A::host(1), Reason::ContainerToHost),
        ("another bridge's address", A::inside(NET_B, 1), Reason::ContainerToHost),
        ("neighbour", A::inside(NET_A, 3), Reason::SameNetwork),
        ("nobody of the subnet", A::inside(NET_A, 99), Reason::SameNetwork),
        ("outside", A::outside(9), Reason::ContainerToOutside),
        ("multicast", A::MULTICAST, Reason::Multicast),
        ("loopback", A::LOOPBACK, Reason::LoopbackAddress),
    ];
    for (row, dst, reason) in rows {
        for message in every_protocol(A::inside(NET_A, 2), dst) {
            scene.judges(&[(row, from_endpoint(NET_A, 2), message.frame(), reason)]);
        }
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn a_container_sends_with_its_own_address_only<A: Family>() {
    let scene = Scene::new();
    let at = from_endpoint(NET_A, 2);
    let from = |src: A| Message::new(Kind::Udp, (src, 5), (A::outside(9), 53)).frame();
    let to_many = |src: A| Message::new(Kind::Udp, (src, 5), (A::MULTICAST, 53)).frame();
    for at in [at, At { hook: Hook::FromBridge, ifindex: bridge(NET_A), ..at }] {
        scene.judges(&[
            (
                "another network's to many",
                at,
                to_many(A::inside(NET_B, 77)),
                Reason::SourceNotInSubnet,
            ),
            ("an outside one to many", at, to_many(A::outside(7)), Reason::SourceNotInSubnet),
            ("nobody's to many", at, to_many(A::inside(NET_A, 77)), Reason::Multicast),
            ("none to many", at, to_many(A::UNSPECIFIED), Reason::Multicast),
        ]);
    }
    scene.judges(&[
        ("another network's", at, from(A::inside(NET_B, 2)), Reason::SourceNotInSubnet),
        ("an outside one", at, from(A::outside(7)), Reason::SourceNotInSubnet),
        ("the host's", at, from(A::host(1)), Reason::SourceNotInSubnet),
        ("none", at, from(A::UNSPECIFIED), Reason::SourceNotInSubnet),
        ("loopback", at, from(A::LOOPBACK), Reason::LoopbackAddress),
        ("a neighbour's", at, from(A::inside(NET_A, 77)), Reason::ContainerToOutside),
        // Neighbour discovery is the exception, below.
        ("link-local, IPv6's or not", at, from(A::LINK_LOCAL), Reason::SourceNotInSubnet),
        ("no port of netd's", At { ifindex: 999, ..at }, from(A::UNSPECIFIED), Reason::UnknownPort),
    ]);
    if A::ICMP == 58 {
        let probe =
            Message::<A>::new(Kind::Icmp(135), (A::LINK_LOCAL, 0), (A::inside(NET_A, 1), 0));
        scene.judges(&[("neighbour probe", at, probe.frame(), Reason::LinkLocal)]);
    }
}

/// It has one default route, and answers by it whichever network it was asked on.
fn a_container_may_answer_with_its_address_on_another_network<A: Family>() {
    let mut scene = Scene::new();
    scene.share_sandbox::<A>((NET_A, 2), (NET_B, 2));
    let (at, own) = (from_endpoint(NET_A, 2), (A::inside(NET_B, 2), 80));
    let answer = Message::new(Kind::Udp, own, (A::outside(7), 40_000));
    let quiet = answer.from((A::inside(QUIET, 2), 80));
    let from_other = from_endpoint(NET_A, 3);
    scene.judges(&[
        ("to the world", at, answer.frame(), Reason::ContainerToOutside),
        ("fragment", at, answer.fragment(), Reason::FragmentHeld),
        (
            "to another network",
            at,
            answer.to((A::inside(QUIET, 2), 1)).frame(),
            Reason::NetworksApart,
        ),
        ("another container", from_other, answer.frame(), Reason::SourceNotInSubnet),
        ("another container's", at, quiet.frame(), Reason::SourceNotInSubnet),
        ("nobody's", at, answer.from((A::inside(NET_B, 9), 80)).frame(), Reason::SourceNotInSubnet),
    ]);

    // The published port's whole way: in on one network, out on the other.
    let request =
        Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(2), SPECIFIC));
    let inside = request.to((A::inside(NET_B, 2), 90));
    scene.becomes(FROM_UPLINK, &request, Reason::Published, &inside);
    scene.stays(at, &inside.reply(), Reason::ContainerToOutside);
    let outside = inside.reply().from(request.dst);
    scene.becomes(TO_UPLINK, &inside.reply(), Reason::PublishedReply, &outside);
}

fn what_is_link_local_stays_on_the_link<A: Family>() {
    let scene = Scene::new();
    let at = from_endpoint(NET_A, 2);
    let own = A::inside(NET_A, 2);
    // IPv4 has no such class: its addresses are routed like any other.
    let is_v6 = A::ICMP == 58;
    let pick = |v4, v6| if is_v6 { v6 } else { v4 };
    let on_link = pick(Reason::SourceNotInSubnet, Reason::LinkLocal);
    for (row, src, dst, reason) in [
        ("to a neighbour", A::LINK_LOCAL, A::LINK_LOCAL, on_link),
        ("to the gateway", A::LINK_LOCAL, A::inside(NET_A, 1), Reason::SourceNotInSubnet),
        ("to a global neighbour", A::LINK_LOCAL, A::inside(NET_A, 3), Reason::SourceNotInSubnet),
        ("to another network", A::LINK_LOCAL, A::inside(NET_B, 2), Reason::SourceNotInSubnet),
        ("to the world", A::LINK_LOCAL, A::outside(9), Reason::SourceNotInSubnet),
        ("own", own, A::LINK_LOCAL, pick(Reason::ContainerToOutside, Reason::LinkLocal)),
        ("the gateway's", A::inside(NET_A, 1), A::outside(9), Reason::ForgedSource),
        ("another's", A::inside(NET_B, 2), A::LINK_LOCAL, Reason::SourceNotInSubnet),
        ("an outside one", A::outside(7), A::LINK_LOCAL, Reason::SourceNotInSubnet),
        ("the host's", A::host(1), A::LINK_LOCAL, Reason::SourceNotInSubnet),
    ] {
        for message in every_protocol(src, dst) {
            scene.judges(&[(row, at, message.frame(), reason)]);
        }
    }
    if is_v6 {
        for dst in [A::LINK_LOCAL, A::inside(NET_A, 1), A::inside(NET_A, 3)] {
            let probe = Message::<A>::new(Kind::Icmp(135), (A::LINK_LOCAL, 0), (dst, 0)).frame();
            scene.judges(&[("discovery", at, probe, Reason::LinkLocal)]);
        }
        let foreign = (A::inside(NET_B, 2), 0);
        let probe = Message::<A>::new(Kind::Icmp(135), foreign, (A::LINK_LOCAL, 0)).frame();
        scene.judges(&[("another's discovery", at, probe, Reason::SourceNotInSubnet)]);
    }
}

/// What leaves by another device would not be translated.
fn a_container_leaves_by_uplinks_only<A: Family>() {
    let mut scene = Scene::new();
    let routes = &mut A::store_mut(&mut scene.tables).routes;
    routes.insert((bridge(NET_A), A::outside(9)), HostRoute::Elsewhere);
    routes.insert((bridge(NET_A), A::outside(10)), HostRoute::Nowhere);
    // Nobody asks about what is not on its way out.
    for dst in [A::host(1), A::inside(NET_A, 1), A::inside(NET_A, 3), A::inside(NET_B, 2)] {
        routes.insert((bridge(NET_A), dst), HostRoute::Elsewhere);
    }
    let own = A::inside(NET_A, 2);
    let at = from_endpoint(NET_A, 2);
    for (row, dst, reason) in [
        ("elsewhere", A::outside(9), Reason::NotAnUplink),
        ("nowhere", A::outside(10), Reason::ContainerToOutside),
        ("uplink", A::outside(11), Reason::ContainerToOutside),
        ("host", A::host(1), Reason::ContainerToHost),
        ("gateway", A::inside(NET_A, 1), Reason::ContainerToHost),
        ("neighbour", A::inside(NET_A, 3), Reason::SameNetwork),
        ("another network", A::inside(NET_B, 2), Reason::NetworksApart),
    ] {
        for message in every_protocol(own, dst) {
            scene.judges(&[(row, at, message.frame(), reason)]);
        }
        if dst != A::host(1) {
            let fragment = Message::new(Kind::Udp, (own, 5), (dst, 53)).fragment();
            // What cannot leave without ports waits for them.
            let is_leaving = reason == Reason::ContainerToOutside;
            let reason = if is_leaving { Reason::FragmentHeld } else { reason };
            scene.judges(&[(row, at, fragment, reason)]);
        }
    }
    // The way in from one bridge is not that from another.
    let other = Message::<A>::new(Kind::Udp, (A::inside(NET_B, 2), 5), (A::outside(9), 53));
    scene.stays(from_endpoint(NET_B, 2), &other, Reason::ContainerToOutside);
    // Nor does a flow's answer leave otherwise.
    let request = Message::<A>::new(Kind::Tcp(SYN), (A::outside(9), 40_000), (A::host(1), WEB));
    let inside = request.to((own, 80));
    scene.becomes(FROM_UPLINK, &request, Reason::Published, &inside);
    scene.stays(at, &inside.reply(), Reason::NotAnUplink);
}

fn a_connection_of_the_host_on_a_published_port_goes_on<A: Family>() {
    let (client, other) = ((A::outside(7), 40_000), (A::outside(7), 40_001));
    for (proto, begin, next, port) in
        [(6, Kind::Tcp(SYN), Kind::Tcp(ACK), WEB), (17, Kind::Udp, Kind::Udp, DNS)]
    {
        let scene = Scene::new();
        let at = (A::host(1), port);
        let container = (A::inside(NET_A, 2), if proto == 6 { 80 } else { 53 });
        let store = A::store(&scene.tables);
        store.connected_sockets.borrow_mut().insert((proto, client, at));
        scene.stays(FROM_UPLINK, &Message::new(next, client, at), Reason::NotOurs);
        assert_eq!(scene.halves::<A>().len(), 0);
        // Another client's, or one to another address, is not the connection's.
        for message in
            [Message::new(next, other, at), Message::new(next, client, (A::host(2), port))]
        {
            scene.becomes(FROM_UPLINK, &message, Reason::Published, &message.to(container));
        }
        // A listener yields to the published port.
        store.host_sockets.borrow_mut().insert((proto, port));
        let third = Message::new(next, (A::outside(8), 1), at);
        scene.becomes(FROM_UPLINK, &third, Reason::Published, &third.to(container));
        // A flow that there is already is not taken from the container.
        store.connected_sockets.borrow_mut().insert((proto, third.src, at));
        scene.becomes(FROM_UPLINK, &third, Reason::Published, &third.to(container));
        if proto == 6 {
            // Who asks for a new connection has none any more.
            let request = Message::new(begin, (A::outside(6), 2), at);
            store.connected_sockets.borrow_mut().insert((proto, request.src, at));
            scene.becomes(FROM_UPLINK, &request, Reason::Published, &request.to(container));
        }
        // Neither is given away as a source port.
        let call = Message::<A>::new(begin, (A::inside(NET_A, 3), 5000), (A::outside(9), 443));
        let end = (A::host(1), 5000);
        store.connected_sockets.borrow_mut().insert((proto, call.dst, end));
        let outside = scene.translated(TO_UPLINK, &call, Reason::Masqueraded);
        assert_ne!(outside.src.1, 5000);
        let elsewhere = call.to((A::outside(10), 443));
        scene.becomes(TO_UPLINK, &elsewhere, Reason::Masqueraded, &elsewhere.from(end));
    }
}

/// Sent to the gateway's MAC address for the address of a neighbour.
fn what_is_routed_back_into_its_network_is_judged_as_switched<A: Family>() {
    let scene = Scene::new();
    for (network, reason) in [(NET_A, Reason::SameNetwork), (QUIET, Reason::IccOff)] {
        let at = |ingress| to_endpoint(network, 2, ingress);
        let (src, dst) = (A::inside(network, 3), A::inside(network, 2));
        for message in every_protocol(src, dst) {
            scene.judges(&[
                ("routed back", at(bridge(network)), message.frame(), reason),
                // Who is not on the bridge only claims to be in the network.
                ("no uplink", at(999), message.frame(), Reason::UnknownPort),
                ("uplink", at(UPLINK), message.frame(), Reason::UnknownPort),
                ("another bridge", at(bridge(NET_B)), message.frame(), Reason::UnknownPort),
            ]);
        }
        let fragment = Message::new(Kind::Udp, (src, 1), (dst, 2)).fragment();
        scene.judges(&[("fragment", at(bridge(network)), fragment, reason)]);
    }
}

/// W10.
fn networks_are_apart_in_every_protocol<A: Family>() {
    let scene = Scene::new();
    for message in every_protocol(A::inside(NET_A, 2), A::inside(NET_B, 2)) {
        scene.judges(&[
            ("leaving", from_endpoint(NET_A, 2), message.frame(), Reason::NetworksApart),
            (
                "routed",
                to_endpoint(NET_B, 2, bridge(NET_A)),
                message.frame(),
                Reason::NetworksApart,
            ),
            // A cable between the bridges, or a frame for the other's MAC address.
            (
                "switched",
                to_endpoint(NET_B, 2, port(NET_A, 2)),
                message.frame(),
                Reason::NetworksApart,
            ),
        ]);
    }
}

fn networks_that_are_allowed_to_talk_do_in_one_direction<A: Family>() {
    let mut scene = Scene::new();
    scene.tables.isolation_sets.insert((NET_A, NET_B));
    let (a, b) = (A::inside(NET_A, 2), A::inside(NET_B, 2));
    for (there, back) in every_protocol(a, b).iter().zip(every_protocol(b, a)) {
        let entering = to_endpoint(NET_B, 2, bridge(NET_A));
        let returning = to_endpoint(NET_A, 2, bridge(NET_B));
        scene.judges(&[
            ("entering", entering, there.frame(), Reason::NetworksAllowed),
            ("returning", from_endpoint(NET_B, 2), back.frame(), Reason::NetworksApart),
            ("returned", returning, back.frame(), Reason::NetworksApart),
        ]);
        let leaving = from_endpoint(NET_A, 2);
        assert_eq!(scene.pass(leaving, there).0, Reason::NetworksAllowedRedirected);
        // Nobody has the address: the host looks for it on the other bridge.
        let to_nobody = there.to((A::inside(NET_B, 99), there.dst.1)).frame();
        scene.judges(&[("leaving, to nobody", leaving, to_nobody, Reason::NetworksAllowed)]);
    }
}

/// W12 and I9.
fn an_internal_network_is_closed_both_ways<A: Family>() {
    let scene = Scene::new();
    let own = A::inside(INTERNAL, 2);
    let to = |dst: A| Message::new(Kind::Udp, (own, 5), (dst, 53)).frame();
    let from = |src: A| Message::new(Kind::Udp, (src, 5), (own, 53)).frame();
    let (sending, uplink) = (from_endpoint(INTERNAL, 2), to_endpoint(INTERNAL, 2, UPLINK));
    let (host, routed) = (to_endpoint(INTERNAL, 2, 0), to_endpoint(INTERNAL, 2, bridge(NET_A)));
    scene.judges(&[
        ("to the gateway", sending, to(A::inside(INTERNAL, 1)), Reason::ContainerToHost),
        ("to a neighbour", sending, to(A::inside(INTERNAL, 3)), Reason::SameNetwork),
        ("to the uplink's address", sending, to(A::host(1)), Reason::InternalNetwork),
        ("to the world", sending, to(A::outside(9)), Reason::InternalNetwork),
        ("to another network", sending, to(A::inside(NET_A, 2)), Reason::InternalNetwork),
        ("leaving", TO_UPLINK, to(A::outside(9)), Reason::InternalNetwork),
        ("from the host", host, from(A::inside(INTERNAL, 1)), Reason::HostToContainer),
        ("from the world", uplink, from(A::outside(9)), Reason::InternalNetwork),
        ("from another network", routed, from(A::inside(NET_A, 2)), Reason::InternalNetwork),
    ]);
}

/// W11.
fn a_quiet_network_keeps_its_containers_apart<A: Family>() {
    let scene = Scene::new();
    let at = to_endpoint(QUIET, 2, port(QUIET, 3));
    let (src, dst) = (A::inside(QUIET, 3), A::inside(QUIET, 2));
    for message in every_protocol(src, dst) {
        scene.judges(&[("switched", at, message.frame(), Reason::IccOff)]);
        // The addresses may lie; the port does not.
        let claims = message.from((A::outside(9), 1)).frame();
        scene.judges(&[("claims to be from outside", at, claims, Reason::IccOff)]);
    }
    let datagram = Message::new(Kind::Udp, (src, 1), (dst, 2));
    scene.judges(&[("fragment", at, datagram.fragment(), Reason::IccOff)]);
    let host = to_endpoint(QUIET, 2, 0);
    scene.judges(&[("the host", host, datagram.frame(), Reason::HostToContainer)]);
    if A::ICMP == 58 {
        let solicitation = Message::new(Kind::Icmp(135), (src, 0), (dst, 0)).frame();
        scene.judges(&[("neighbour discovery", at, solicitation, Reason::LinkLocal)]);
        for kind in [133, 134, 137] {
            let lie = Message::new(Kind::Icmp(kind), (src, 0), (dst, 0)).frame();
            scene.judges(&[("router discovery", at, lie, Reason::IccOff)]);
        }
    }
}

fn a_container_receives_what_it_may<A: Family>() {
    let scene = Scene::new();
    let own = A::inside(NET_A, 2);
    for message in every_protocol(A::outside(7), own) {
        let neighbour = message.from((A::inside(NET_A, 3), 1)).frame();
        let at = |ingress| to_endpoint(NET_A, 2, ingress);
        scene.judges(&[
            ("from outside", at(UPLINK), message.frame(), Reason::Unsolicited),
            ("from the host", at(0), message.frame(), Reason::HostToContainer),
            ("from a neighbour", at(port(NET_A, 3)), neighbour, Reason::SameNetwork),
            // A port that netd does not know sits on the bridge.
            ("from an unknown port", at(999), message.frame(), Reason::Unsolicited),
            (
                "to an unknown port",
                At { ifindex: 999, ..at(UPLINK) },
                message.frame(),
                Reason::UnknownPort,
            ),
        ]);
    }
}

fn what_cannot_be_translated_does_not_leave<A: Family>() {
    let scene = Scene::new();
    let own = (A::inside(NET_A, 2), 50_000);
    let to = |kind| Message::new(kind, own, (A::outside(9), 443));
    let unreachable = if A::ICMP == 1 { 3 } else { 1 };
    let multicast = Message::new(Kind::Udp, own, (A::MULTICAST, 5353)).frame();
    let on_second = At { ifindex: SECOND_UPLINK, ..TO_UPLINK };
    scene.judges(&[
        ("icmp", TO_UPLINK, to(Kind::Icmp(200)).frame(), Reason::UnsupportedProtocol),
        ("sctp data", TO_UPLINK, to(Kind::Sctp(DATA)).frame(), Reason::NoFlow),
        ("error", TO_UPLINK, to(Kind::Icmp(unreachable)).frame(), Reason::IcmpError),
        ("fragment", TO_UPLINK, to(Kind::Udp).fragment(), Reason::Fragment),
        ("multicast", TO_UPLINK, multicast, Reason::UnsupportedProtocol),
        ("syn-ack", TO_UPLINK, to(Kind::Tcp(SYN | ACK)).frame(), Reason::NoFlow),
        ("fin", TO_UPLINK, to(Kind::Tcp(FIN | ACK)).frame(), Reason::NoFlow),
        ("rst", TO_UPLINK, to(Kind::Tcp(RST)).frame(), Reason::NoFlow),
        ("no address", on_second, to(Kind::Udp).frame(), Reason::NoMasqueradeAddress),
    ]);
    let answer = Message::new(Kind::EchoReply, (own.0, 0), (A::outside(9), 5)).frame();
    scene.judges(&[("echo reply", TO_UPLINK, answer, Reason::NoFlow)]);
    assert_eq!(scene.halves::<A>().len(), 0);
}
