//! Which source port a flow leaves with, and what is left behind when it gets none.

use std::{collections::BTreeSet, ops::RangeInclusive};

use netd_common::{config::Timeout, reason::Reason};

use crate::{
    family::{Family, in_both_datapaths},
    message::{End, Kind, Message, RST, SYN},
    place::{INWARDS, OUTWARDS, to_endpoint},
    scene::{Datapath, NET_A, RANGE, SPECIFIC, Scene, UPLINK, WEB, WEB_TOO},
};

in_both_datapaths! {
    a_free_port_is_kept_however_low,
    a_port_that_another_flow_has_is_not_given_again,
    a_port_is_taken_for_one_destination_only,
    a_port_of_the_hosts_own_is_not_given,
    another_port_is_of_the_same_class,
    a_reserved_port_is_not_given,
    every_port_of_a_small_pool_is_given_once,
    exhaustion_is_recovered_from_as_soon_as_flows_end,
    a_closed_connection_gives_way_where_ports_are_short,
    port_zero_is_never_given,
    other_secrets_give_other_ports,
    a_client_of_two_published_ports_of_one_container_keeps_both,
    without_a_free_port_the_packet_is_dropped_and_nothing_is_left,
    a_full_table_drops_the_packet_and_nothing_is_left,
    the_other_cpus_flow_wins,
    a_flow_that_is_gone_again_is_a_race_lost,
}

fn call<A: Family>(n: u8, sport: u16) -> Message<A> {
    Message::new(Kind::Udp, (A::inside(NET_A, n), sport), (A::outside(9), 53))
}

/// Sends a new flow's first packet and returns the source it leaves with.
#[track_caller]
fn source<A: Family>(scene: &Scene, message: &Message<A>) -> End<A> {
    let outside = scene.translated(OUTWARDS, message, Reason::Masqueraded);
    assert_eq!(outside.from(message.src), *message);
    // Whatever it is, the reply finds the way back.
    let answer = outside.reply();
    scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(message.src));
    outside.src
}

#[track_caller]
fn assert_other_port<A: Family>(scene: &Scene, message: &Message<A>) {
    let port = source(scene, message).1;
    assert_ne!(port, message.src.1);
    assert!(port >= 1024, "RFC 4787 REQ-3: {port}");
}

fn a_free_port_is_kept_however_low<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for port in [1, 53, 1023, 1024, 32_768, 65_535] {
        assert_eq!(source::<A>(&scene, &call(2, port)), (A::host(1), port));
    }
}

fn a_port_that_another_flow_has_is_not_given_again<A: Family>(datapath: Datapath) {
    for kind in [Kind::Udp, Kind::Tcp(SYN), Kind::EchoRequest] {
        let scene = Scene::on(datapath);
        let call = |n| {
            let message = call::<A>(n, 5000).with_kind(kind);
            if kind == Kind::EchoRequest { message.to((A::outside(9), 0)) } else { message }
        };
        assert_eq!(source(&scene, &call(2)).1, 5000);
        assert_other_port(&scene, &call(3));
        assert_eq!(scene.halves::<A>().len(), 4);
    }
}

fn a_port_is_taken_for_one_destination_only<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    assert_eq!(source::<A>(&scene, &call(2, 5000)).1, 5000);
    for dst in [(A::outside(9), 54), (A::outside(10), 53)] {
        assert_eq!(source::<A>(&scene, &call(3, 5000).to(dst)).1, 5000);
    }
    assert_eq!(source::<A>(&scene, &call(3, 5000).with_kind(Kind::Tcp(SYN))).1, 5000);
}

fn a_port_of_the_hosts_own_is_not_given<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    A::store(&scene.tables).host_sockets.borrow_mut().insert((17, 5000));
    assert_other_port::<A>(&scene, &call(2, 5000));
    // The socket's protocol alone.
    let tcp = Kind::Tcp(SYN);
    assert_eq!(source::<A>(&scene, &call(2, 5000).with_kind(tcp)).1, 5000);
    let echo = call::<A>(2, 5000).with_kind(Kind::EchoRequest).to((A::outside(9), 0));
    assert_eq!(source(&scene, &echo).1, 5000);

    assert_other_port::<A>(&scene, &call(2, WEB).with_kind(tcp));
    assert_other_port::<A>(&scene, &call(2, RANGE + 5));
    assert_eq!(source::<A>(&scene, &call(2, WEB)).1, WEB);
    // Published on the host's second address, which only the far half of the world sees.
    assert_eq!(source::<A>(&scene, &call(2, SPECIFIC).with_kind(tcp)).1, SPECIFIC);
    let far = call::<A>(2, SPECIFIC).with_kind(tcp).to((A::outside(200), 443));
    assert_other_port(&scene, &far);
    // A published port's client is seen by the container, not by the host's sockets.
    let client = Message::<A>::new(Kind::Udp, (A::outside(7), 5353), (A::host(1), 5353));
    A::store(&scene.tables).host_sockets.borrow_mut().insert((17, 5353));
    let inside = client.to((A::inside(NET_A, 2), 53));
    scene.becomes(INWARDS, &client, Reason::Published, &inside);
}

/// RFC 4787 REQ-3a.
fn another_port_is_of_the_same_class<A: Family>(datapath: Datapath) {
    for (port, class) in [(53, 1..=511), (511, 1..=511), (600, 600..=1023), (1023, 600..=1023)] {
        for kind in [Kind::Udp, Kind::Tcp(SYN)] {
            let scene = Scene::on(datapath);
            let call = |n| call::<A>(n, port).with_kind(kind);
            assert_eq!(source(&scene, &call(2)).1, port);
            let other = source(&scene, &call(3)).1;
            assert!(other != port && class.contains(&other), "{port} became {other}");
        }
    }
}

fn a_reserved_port_is_not_given<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.reserved_ports.insert(5000);
    assert_other_port::<A>(&scene, &call(2, 5000));
    assert_other_port::<A>(&scene, &call(2, 5000).with_kind(Kind::Tcp(SYN)));
    // It is a matter of ports, and an echo has none.
    let echo = call::<A>(2, 5000).with_kind(Kind::EchoRequest).to((A::outside(9), 0));
    assert_eq!(source(&scene, &echo).1, 5000);
    // Nor of flows that are not masqueraded.
    let client = Message::<A>::new(Kind::Udp, (A::outside(7), 5000), (A::host(1), 5353));
    scene.becomes(INWARDS, &client, Reason::Published, &client.to((A::inside(NET_A, 2), 53)));
}

/// Leaves `scene` with some source ports only.
fn reserve_all_but(scene: &mut Scene, free: RangeInclusive<u16>) {
    scene.tables.reserved_ports = (0..=u16::MAX).filter(|port| !free.contains(port)).collect();
}

fn every_port_of_a_small_pool_is_given_once<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    reserve_all_but(&mut scene, 1..=40);
    let ends: Vec<_> = (0..400).map_while(|n| try_source::<A>(&scene, n, Kind::Udp)).collect();
    let ports: BTreeSet<u16> = ends.iter().map(|end| end.1).collect();
    assert_eq!(ports.len(), ends.len(), "a port was given twice");
    assert!(ports.len() > 25, "{ports:?}");
    assert!(ports.iter().all(|port| (1..=40).contains(port)));
}

/// A new flow from a low port, each from another one so that none is kept for being free.
fn try_source<A: Family>(scene: &Scene, n: u16, kind: Kind) -> Option<End<A>> {
    let own = 100 + n;
    let message = Message::<A>::new(kind, (A::inside(NET_A, 2), own), (A::outside(9), 53));
    let (reason, outside) = scene.run(OUTWARDS, &message);
    assert!(matches!(reason, Reason::Masqueraded | Reason::SourcePortsExhausted), "{reason:?}");
    (reason == Reason::Masqueraded).then_some(outside.src)
}

fn exhaustion_is_recovered_from_as_soon_as_flows_end<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    reserve_all_but(&mut scene, 1..=8);
    // Now and then none of the attempts hits one of the last; a second later they are others.
    let mut given = 0;
    for n in 0..200 {
        given += usize::from(try_source::<A>(&scene, n, Kind::Udp).is_some());
        scene.wait(u32::from(n % 50 == 0));
    }
    assert_eq!(given, 8);
    assert_eq!(try_source::<A>(&scene, 201, Kind::Udp), None);
    // Another destination has ports of its own.
    let elsewhere = call::<A>(2, 450).to((A::outside(9), 54));
    assert!((0..20).any(|_| {
        scene.wait(1);
        scene.run(OUTWARDS, &elsewhere).0 == Reason::Masqueraded
    }));
    scene.wait(scene.tables.config.timeout(Timeout::UdpStream));
    assert!((0..20).any(|_| {
        scene.wait(1);
        try_source::<A>(&scene, 300, Kind::Udp).is_some()
    }));
}

/// The last attempts take the port of a connection that both sides have closed, as Linux's do.
fn a_closed_connection_gives_way_where_ports_are_short<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    reserve_all_but(&mut scene, 1..=511);
    let host = A::host(1);
    A::store(&scene.tables).host_sockets.borrow_mut().extend((9..=511).map(|port| (6, port)));
    let mut outside = Vec::new();
    for n in 0..400 {
        outside.extend(try_source::<A>(&scene, n, Kind::Tcp(SYN)).map(|end| (n, end)));
        scene.wait(u32::from(n % 40 == 0));
    }
    assert_eq!(outside.len(), 8);
    let is_given = |scene: &Scene| {
        (400..411).any(|n| {
            scene.wait(1);
            try_source::<A>(scene, n, Kind::Tcp(SYN)).is_some()
        })
    };
    assert!(!is_given(&scene), "live connections keep their ports");
    for (n, end) in &outside {
        let theirs =
            Message::<A>::new(Kind::Tcp(RST), (A::inside(NET_A, 2), 100 + n), (A::outside(9), 53));
        let reset = theirs.from((host, end.1)).reply();
        scene.becomes(INWARDS, &reset, Reason::MasqueradeReply, &reset.to(theirs.src));
    }
    assert!((0..40).any(|_| is_given(&scene)));
}

fn port_zero_is_never_given<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    assert_other_port::<A>(&scene, &call(2, 0));
}

fn other_secrets_give_other_ports<A: Family>(datapath: Datapath) {
    let ports = (0..20).map(|secret| {
        let mut scene = Scene::on(datapath);
        scene.tables.config.secret = [secret, 0];
        source::<A>(&scene, &call(2, 0)).1
    });
    assert!(ports.collect::<BTreeSet<_>>().len() > 15);
}

/// Both flows would have the same replies, so the container sees the client's port changed in one.
fn a_client_of_two_published_ports_of_one_container_keeps_both<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let container = (A::inside(NET_A, 2), 80);
    let first = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), WEB));
    let second = first.to((A::host(1), WEB_TOO));
    scene.becomes(INWARDS, &first, Reason::Published, &first.to(container));
    let inside = scene.translated(INWARDS, &second, Reason::Published);
    assert_eq!(inside, second.to(container).from((A::outside(7), inside.src.1)));
    assert_ne!(inside.src.1, 40_000);
    scene.stays(to_endpoint(NET_A, 2, UPLINK), &inside, Reason::FlowToContainer);
    for (request, seen) in [(&first, first.to(container)), (&second, inside)] {
        let answer = seen.reply();
        let outside = answer.from(request.dst).to(request.src);
        scene.becomes(OUTWARDS, &answer, Reason::PublishedReply, &outside);
    }
}

fn without_a_free_port_the_packet_is_dropped_and_nothing_is_left<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    A::store(&scene.tables).host_sockets.borrow_mut().extend((0..=u16::MAX).map(|p| (17, p)));
    scene.stays::<A>(OUTWARDS, &call(2, 5000), Reason::SourcePortsExhausted);
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn a_full_table_drops_the_packet_and_nothing_is_left<A: Family>(datapath: Datapath) {
    let published = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 1), (A::host(1), WEB));
    // No room for either half, and room for one.
    for capacity in [0, 1] {
        let scene = Scene::on(datapath);
        scene.tables.capacity.set(capacity);
        scene.stays::<A>(OUTWARDS, &call(2, 5000), Reason::ConntrackFull);
        scene.stays(INWARDS, &published, Reason::ConntrackFull);
        assert_eq!(scene.halves::<A>().len(), 0);
        assert!(scene.tables.traffic.borrow().values().all(|traffic| traffic.flows == 0));
        // Room comes back, and so does the flow.
        scene.tables.capacity.set(2);
        assert_eq!(source::<A>(&scene, &call(2, 5000)).1, 5000);
    }
}

fn the_other_cpus_flow_wins<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    // The same packet on another CPU, between this one's two insertions: it finds its own port's reply
    // half taken and is done first, with another port.
    *scene.tables.between_halves.borrow_mut() = Some(Box::new(|tables| {
        use netd_common::tables::FamilyTables;
        FamilyTables::<A>::insert_pair(tables).unwrap();
    }));
    let outside = scene.translated::<A>(OUTWARDS, &call(2, 5000), Reason::Masqueraded);
    assert_ne!(outside.src.1, 5000);
    assert_eq!(scene.halves::<A>().len(), 2);
    scene.becomes(OUTWARDS, &call(2, 5000), Reason::Masqueraded, &outside);
}

fn a_flow_that_is_gone_again_is_a_race_lost<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    *scene.tables.after_insertion.borrow_mut() =
        Some(Box::new(|tables| A::store(tables).flows.borrow_mut().clear()));
    scene.stays::<A>(OUTWARDS, &call(2, 5000), Reason::ConntrackRace);
    assert_eq!(scene.halves::<A>().len(), 0);
}
