//! Between containers: published ports asked for from inside (docker-behaviour.md P12, P13 and P15), and
//! containers of other networks by their own addresses. Redirected in both data paths, and the same in
//! both.

use netd_common::{
    address::Port, engine::published_for_host, network::NetworkFlags, published::PublishedFlags,
    reason::Reason,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, End, Kind, Message, RST, SYN},
    place::{At, FROM_UPLINK, from_endpoint, mac, port},
    runs::plain,
    scene::{
        DNS, Datapath, FIXED, INTERNAL, NET_A, NET_B, OPEN, OWN, OWN_RANGE, PLAIN, QUIET, RANGE,
        ROUTED, SHY, SPECIFIC, Scene, WEB, WEB_TOO,
    },
    tables::published_key,
};

in_both_datapaths! {
    a_published_port_is_reached_from_inside,
    a_container_of_another_network_is_reached_where_that_one_allows_it,
    whom_nobody_may_reach_is_not_reached,
    without_icc_a_published_neighbour_is_reached_unless_icc_is_strict,
    only_the_host_is_led_to_a_container_of_the_other_family,
    an_internal_network_asks_for_no_published_port,
    what_begins_no_flow_is_the_hosts,
    a_source_port_that_is_taken_is_replaced_and_comes_back,
    a_connection_of_the_clients_own_with_the_container_keeps_its_port,
    a_client_with_an_address_of_its_own_choice_is_answered,
    without_an_address_to_stand_for_it_a_container_does_not_reach_itself,
    a_published_port_whose_container_has_gone_is_not_reached,
}

/// Who asks: a network and a number.
type Client = (u16, u8);
/// What it shows, who asks, with what, for what, whom it reaches, and as whom.
type Row<A> = (&'static str, Client, Kind, End<A>, (u16, u16), A);

/// A client's request to a container, and all that follows.
#[track_caller]
fn converse<A: Family>(
    scene: &Scene,
    (row, client, kind, dst, server, seen_as): &Row<A>,
) -> Reason {
    let own = (A::inside(client.0, client.1), if *kind == Kind::EchoRequest { 7 } else { 40_000 });
    let at = from_endpoint(client.0, client.1);
    let request = Message::new(*kind, own, *dst);
    let inside = request.from((*seen_as, own.1)).to((A::inside(server.0, 2), server.1));
    let (reason, after) = scene.pass(at, &request);
    assert_eq!(after, inside, "{row}: {reason:?}");
    assert_eq!(scene.pass(at, &request), (reason, inside.clone()), "{row}, again");
    // `pass` has seen to it that both were redirected to whom they are for.
    assert_ne!(plain(reason), reason, "{row}");
    let (answer_reason, answer) = scene.pass(from_endpoint(server.0, 2), &inside.reply());
    assert_eq!(answer, request.reply(), "{row}");
    let replies = [
        (Reason::Published, Reason::PublishedReply),
        (Reason::Masqueraded, Reason::MasqueradeReply),
        (Reason::Untranslated, Reason::Untranslated),
    ];
    let expected = replies.iter().find(|pair| pair.0 == plain(reason)).unwrap().1;
    assert_eq!(plain(answer_reason), expected, "{row}");
    assert_ne!(plain(answer_reason), answer_reason, "{row}");
    assert_eq!(scene.halves::<A>().len(), 2, "{row}");
    plain(reason)
}

fn a_published_port_is_reached_from_inside<A: Family>(datapath: Datapath) {
    let (tcp, udp) = (Kind::Tcp(SYN), Kind::Udp);
    let (web, dns) = ((NET_A, 80), (NET_A, 53));
    let gateway = A::inside(NET_A, 1);
    let rows: [Row<A>; 14] = [
        ("P12, its own", (NET_A, 2), tcp, (A::host(1), WEB), web, gateway),
        ("P12, by its gateway", (NET_A, 2), tcp, (gateway, WEB), web, gateway),
        ("P12, a range", (NET_A, 2), udp, (A::host(1), RANGE + 7), (NET_A, 30_007), gateway),
        (
            "P12, without checksum",
            (NET_A, 2),
            Kind::UdpWithoutChecksum,
            (gateway, DNS),
            dns,
            gateway,
        ),
        ("P13, a neighbour's", (NET_A, 3), tcp, (A::host(1), WEB), web, A::inside(NET_A, 3)),
        ("P13, by the gateway", (NET_A, 3), udp, (gateway, DNS), dns, A::inside(NET_A, 3)),
        ("P15, another network's", (NET_B, 2), tcp, (A::host(2), WEB), web, gateway),
        ("P15, mid-flow", (NET_B, 2), Kind::Tcp(ACK), (A::host(2), WEB), web, gateway),
        ("P15, by its own gateway", (NET_B, 2), udp, (A::inside(NET_B, 1), DNS), dns, gateway),
        ("P15, by the other's gateway", (NET_B, 2), udp, (gateway, DNS), dns, gateway),
        ("P15, without icc", (QUIET, 3), tcp, (A::host(1), WEB), web, gateway),
        ("P15, a fixed source", (FIXED, 2), tcp, (A::host(1), WEB), web, A::host(9)),
        ("P15, no masquerade", (PLAIN, 2), tcp, (A::host(1), WEB), web, A::inside(PLAIN, 2)),
        (
            "P15, published on one address",
            (NET_A, 2),
            tcp,
            (A::host(2), SPECIFIC),
            (NET_B, 90),
            A::inside(NET_B, 1),
        ),
    ];
    for row in &rows {
        assert_eq!(converse(&Scene::on(datapath), row), Reason::Published, "{}", row.0);
    }
}

fn a_container_of_another_network_is_reached_where_that_one_allows_it<A: Family>(
    datapath: Datapath,
) {
    let (tcp, udp, echo) = (Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest);
    let (routed, open) = (A::inside(ROUTED, 2), A::inside(OPEN, 2));
    let (at_routed, at_open) = (A::inside(ROUTED, 1), A::inside(OPEN, 1));
    let rows: [(Row<A>, Reason); 8] = [
        (
            ("published", (NET_A, 2), tcp, (routed, OWN), (ROUTED, OWN), at_routed),
            Reason::Published,
        ),
        (
            (
                "a range",
                (NET_A, 3),
                udp,
                (routed, OWN_RANGE + 9),
                (ROUTED, OWN_RANGE + 9),
                at_routed,
            ),
            Reason::Published,
        ),
        (
            ("not masqueraded", (PLAIN, 2), tcp, (routed, OWN), (ROUTED, OWN), A::inside(PLAIN, 2)),
            Reason::Published,
        ),
        (("echo", (NET_A, 2), echo, (routed, 0), (ROUTED, 0), at_routed), Reason::Masqueraded),
        (("any port", (NET_A, 2), tcp, (open, 9), (OPEN, 9), at_open), Reason::Masqueraded),
        (("any port, udp", (NET_A, 2), udp, (open, 9), (OPEN, 9), at_open), Reason::Masqueraded),
        (
            ("any port, fixed", (FIXED, 2), udp, (open, 9), (OPEN, 9), A::host(9)),
            Reason::Masqueraded,
        ),
        (("routed to open", (ROUTED, 2), echo, (open, 0), (OPEN, 0), routed), Reason::Untranslated),
    ];
    for (row, reason) in &rows {
        assert_eq!(converse(&Scene::on(datapath), row), *reason, "{}", row.0);
    }
}

fn whom_nobody_may_reach_is_not_reached<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let own = (A::inside(NET_A, 2), 40_000);
    let to = |kind, network, port| Message::new(kind, own, (A::inside(network, 2), port)).frame();
    let (tcp, udp, at) = (Kind::Tcp(SYN), Kind::Udp, from_endpoint(NET_A, 2));
    let apart = Reason::NetworksApart;
    let fragment = Message::new(udp, own, (A::inside(OPEN, 2), 53)).fragment();
    scene.judges(&[
        ("not published", at, to(tcp, ROUTED, OWN + 1), apart),
        ("another protocol", at, to(udp, ROUTED, OWN), apart),
        ("published by another address", at, to(tcp, ROUTED, WEB), apart),
        ("beyond the range", at, to(udp, ROUTED, OWN_RANGE + 10), apart),
        ("no flow's packet", at, to(Kind::Tcp(RST), OPEN, 9), apart),
        ("no flow's message", at, to(Kind::Icmp(200), OPEN, 0), apart),
        ("no port", at, to(Kind::Other(47), ROUTED, 0), apart),
        ("fragment", at, fragment, apart),
        ("neither routed nor open", at, to(tcp, NET_B, SPECIFIC), apart),
        ("internal", at, to(tcp, INTERNAL, 80), apart),
    ]);
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn without_icc_a_published_neighbour_is_reached_unless_icc_is_strict<A: Family>(
    datapath: Datapath,
) {
    let (tcp, dst, server) = (Kind::Tcp(SYN), (A::host(1), SHY), (QUIET, 80));
    let gateway = A::inside(QUIET, 1);
    let neighbour = ("neighbour", (QUIET, 3), tcp, dst, server, A::inside(QUIET, 3));
    let others: [Row<A>; 2] = [
        ("itself", (QUIET, 2), tcp, dst, server, gateway),
        ("another network", (NET_A, 2), tcp, dst, server, gateway),
    ];
    converse(&Scene::on(datapath), &neighbour);
    for row in &others {
        converse(&Scene::on(datapath), row);
        let mut strict = Scene::on(datapath);
        strict.set(QUIET, NetworkFlags::ICC_STRICT);
        converse(&strict, row);
    }
    let mut strict = Scene::on(datapath);
    strict.set(QUIET, NetworkFlags::ICC_STRICT);
    let request = Message::<A>::new(tcp, (A::inside(QUIET, 3), 40_000), dst);
    strict.stays(from_endpoint(QUIET, 3), &request, Reason::IccOff);
    assert_eq!(strict.halves::<A>().len(), 0);
}

/// From IPv6 to a container that has IPv4 only: sockets are led there, packets cannot be.
fn only_the_host_is_led_to_a_container_of_the_other_family<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    let published = &mut A::store_mut(&mut scene.tables).published;
    let web = published.get_mut(&published_key(A::UNSPECIFIED, 6, WEB)).unwrap();
    web.flags |= PublishedFlags::FOR_HOST;
    let from_inside =
        Message::<A>::new(Kind::Tcp(SYN), (A::inside(NET_A, 3), 1), (A::host(1), WEB));
    scene.stays(from_endpoint(NET_A, 3), &from_inside, Reason::ContainerToHost);
    let from_outside = from_inside.from((A::outside(7), 1));
    scene.stays(FROM_UPLINK, &from_outside, Reason::NotOurs);
    assert!(published_for_host(&scene.tables, A::host(1), 6, Port::new(WEB)).is_some());
}

fn an_internal_network_asks_for_no_published_port<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let own = (A::inside(INTERNAL, 2), 40_000);
    for dst in [A::inside(INTERNAL, 1), A::host(1), A::inside(NET_A, 1)] {
        let request = Message::new(Kind::Tcp(SYN), own, (dst, WEB));
        scene.stays(from_endpoint(INTERNAL, 2), &request, Reason::InternalNetwork);
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn what_begins_no_flow_is_the_hosts<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (client, web) = ((A::inside(NET_B, 2), 40_000), (A::host(1), WEB));
    let at = from_endpoint(NET_B, 2);
    let to = |kind, dst: End<A>| Message::new(kind, client, dst);
    let host = Reason::ContainerToHost;
    scene.judges(&[
        ("rst", at, to(Kind::Tcp(RST), web).frame(), host),
        ("syn-ack", at, to(Kind::Tcp(SYN | ACK), web).frame(), host),
        ("fragment", at, to(Kind::Udp, (A::host(1), DNS)).fragment(), host),
        ("another protocol", at, to(Kind::Udp, web).frame(), host),
        ("another address", at, to(Kind::Tcp(SYN), (A::host(1), SPECIFIC)).frame(), host),
    ]);
    // Nor what belongs to a connection that the host has with the container.
    let sockets = &A::store(&scene.tables).connected_sockets;
    sockets.borrow_mut().insert((6, client, web));
    scene.stays(at, &to(Kind::Tcp(ACK), web), host);
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn a_source_port_that_is_taken_is_replaced_and_comes_back<A: Family>(datapath: Datapath) {
    let gateway = A::inside(NET_A, 1);
    let (tcp, server) = (Kind::Tcp(SYN), (A::inside(NET_A, 2), 80));
    // Two published ports of one container, and two clients behind one gateway's address.
    let rows = [
        ("one client", (NET_A, 3), WEB, (NET_A, 3), WEB_TOO),
        ("one client, itself", (NET_A, 2), WEB, (NET_A, 2), WEB_TOO),
        ("two networks", (NET_B, 2), WEB, (OPEN, 2), WEB),
        ("another network and itself", (NET_B, 2), WEB, (NET_A, 2), WEB),
    ];
    for (row, one, first_port, other, second_port) in rows {
        let scene = Scene::on(datapath);
        let request = |client: Client, port| {
            Message::<A>::new(tcp, (A::inside(client.0, client.1), 40_000), (A::host(1), port))
        };
        let (first, second) = (request(one, first_port), request(other, second_port));
        let (_, seen_first) = scene.pass(from_endpoint(one.0, one.1), &first);
        let (_, seen_second) = scene.pass(from_endpoint(other.0, other.1), &second);
        assert_eq!((seen_first.src.1, seen_first.dst), (40_000, server), "{row}");
        assert!(seen_second.src.1 != 40_000 && seen_second.src.1 >= 1024, "{row}: {seen_second:?}");
        assert_eq!(seen_second.src.0, seen_first.src.0, "{row}");
        for (request, seen) in [(first, seen_first), (second, seen_second)] {
            let (_, answer) = scene.pass(from_endpoint(NET_A, 2), &seen.reply());
            assert_eq!(answer, request.reply(), "{row}");
        }
        assert_eq!(scene.halves::<A>().len(), 4, "{row}");
    }
    // A socket of the host's on the gateway's address has the tuple.
    let scene = Scene::on(datapath);
    A::store(&scene.tables).host_sockets.borrow_mut().insert((6, 40_000));
    let request = Message::<A>::new(tcp, (A::inside(NET_B, 2), 40_000), (A::host(1), WEB));
    let (_, seen) = scene.pass(from_endpoint(NET_B, 2), &request);
    assert!(seen.src.0 == gateway && seen.src.1 != 40_000, "{seen:?}");
}

/// It would get the answers to it. The table knows nothing of what is switched.
fn a_connection_of_the_clients_own_with_the_container_keeps_its_port<A: Family>(
    datapath: Datapath,
) {
    let client = |network| (A::inside(network, 3), 40_000);
    let server = |port| (A::inside(NET_A, 2), port);
    for (kind, proto, host_port, own_port) in
        [(Kind::Tcp(SYN), 6, WEB, 80), (Kind::Udp, 17, DNS, 53)]
    {
        let published = Message::<A>::new(kind, client(NET_A), (A::host(1), host_port));
        let given = |sandbox| {
            let scene = Scene::on(datapath);
            let direct = (proto, server(own_port), client(NET_A));
            A::store(&scene.tables).container_sockets.borrow_mut().insert((sandbox, direct));
            let (reason, seen) = scene.pass(from_endpoint(NET_A, 3), &published);
            assert_eq!(reason, Reason::PublishedRedirected);
            assert_eq!((seen.src.0, seen.dst), (client(NET_A).0, server(own_port)));
            let (_, answer) = scene.pass(from_endpoint(NET_A, 2), &seen.reply());
            assert_eq!(answer, published.reply());
            seen.src.1
        };
        let own = Scene::on(datapath).tables.bridge_ports[&port(NET_A, 3)].sandbox;
        let other = Scene::on(datapath).tables.bridge_ports[&port(NET_A, 2)].sandbox;
        assert_ne!(given(own), 40_000);
        assert_eq!(given(other), 40_000);
    }
}

/// It may: sources are held to the subnet, unless they are strict.
fn a_client_with_an_address_of_its_own_choice_is_answered<A: Family>(datapath: Datapath) {
    let unknown = (A::inside(NET_A, 77), 40_000);
    let request = Message::new(Kind::Tcp(SYN), unknown, (A::host(1), WEB));
    for (n, seen_as) in [(3, unknown.0), (2, A::inside(NET_A, 1))] {
        let scene = Scene::on(datapath);
        let (reason, inside) = scene.pass(from_endpoint(NET_A, n), &request);
        assert_eq!((reason, inside.src.0), (Reason::PublishedRedirected, seen_as));
        let at: At = from_endpoint(NET_A, 2);
        let mut answer = at.packet(inside.reply().frame());
        assert_eq!(scene.judge(at.hook, &mut answer), Reason::PublishedReplyRedirected);
        assert_eq!(Message::read(&answer.frame), request.reply());
        let peer = crate::packet::Redirection::Peer(port(NET_A, n));
        assert_eq!((answer.redirection, &answer.frame[..6]), (Some(peer), &mac(NET_A, n)[..]));
    }
}

fn without_an_address_to_stand_for_it_a_container_does_not_reach_itself<A: Family>(
    datapath: Datapath,
) {
    let mut scene = Scene::on(datapath);
    let network = scene.tables.networks.get_mut(&NET_A).unwrap();
    network.v4.bridge_addr = netd_common::address::Address::UNSPECIFIED;
    network.v6.bridge_addr = netd_common::address::Address::UNSPECIFIED;
    for (client, reason) in [
        ((NET_A, 2), Reason::NoMasqueradeAddress),
        ((NET_B, 2), Reason::NoMasqueradeAddress),
        ((NET_A, 3), Reason::PublishedRedirected),
        ((FIXED, 2), Reason::PublishedRedirected),
    ] {
        let own = (A::inside(client.0, client.1), 40_000);
        let request = Message::new(Kind::Tcp(SYN), own, (A::host(1), WEB));
        assert_eq!(scene.pass(from_endpoint(client.0, client.1), &request).0, reason, "{client:?}");
    }
}

fn a_published_port_whose_container_has_gone_is_not_reached<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    let store = A::store_mut(&mut scene.tables);
    store.endpoints.remove(&A::inside(NET_A, 2));
    assert!(store.published.contains_key(&published_key(A::UNSPECIFIED, 6, WEB)));
    let request = Message::<A>::new(Kind::Tcp(SYN), (A::inside(NET_B, 2), 1), (A::host(1), WEB));
    scene.stays(from_endpoint(NET_B, 2), &request, Reason::UnknownPort);
    assert_eq!(scene.halves::<A>().len(), 0);
}
