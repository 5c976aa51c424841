//! How long a source port stays that was given independently of destinations, and what takes it away.

use netd_common::{config::Timeout, reason::Reason};

use crate::{
    family::{Family, in_both_datapaths},
    mappings::{call, gets_in, scene, source, stranger},
    message::{ACK, FIN, Kind, Message, RST, SYN},
    place::{FROM_UPLINK, INWARDS, OUTWARDS, from_endpoint, slot},
    scene::{Datapath, NET_A, NET_B},
    tables::published_key,
};

in_both_datapaths! {
    a_mapping_lives_as_long_as_its_container_sends_by_it,
    a_mapping_of_an_established_connection_lives_as_long_as_that,
    a_mapping_ends_with_its_container,
    a_socket_that_the_host_opens_later_gets_what_is_new,
    a_port_that_is_published_or_reserved_later_is_given_up,
    without_a_free_port_there_is_no_mapping_until_one_is_idle,
    what_is_forgotten_leaves_nothing_behind,
}

/// RFC 4787 REQ-5 and REQ-6.
fn a_mapping_lives_as_long_as_its_container_sends_by_it<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let timer = scene.tables.config.timeout(Timeout::Mapping);
    assert!(timer >= 120);
    source::<A>(&scene, &call(Kind::Udp, 3, 5000));
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    // To anybody, and in a flow that is known as in a new one.
    for port in 1..40 {
        scene.wait(timer - 1);
        scene.expire::<A>();
        assert_eq!(source(&scene, &call.to((A::outside(10), 90 + port % 3))), given);
    }
    scene.wait(timer - 1);
    scene.expire::<A>();
    let stranger = stranger(Kind::Udp, given);
    gets_in(&scene, &stranger, call.src);
    // What it answers is what it sends, but what outsiders send keeps nothing alive.
    scene.wait(20);
    for _ in 0..10 {
        scene.becomes(INWARDS, &stranger, Reason::Mapped, &stranger.to(call.src));
        scene.wait(timer / 9);
    }
    scene.becomes(INWARDS, &stranger, Reason::Mapped, &stranger.to(call.src));
    scene.stays(FROM_UPLINK, &stranger.from((A::outside(78), 1)), Reason::NotOurs);
    // It is found to have ended, not only when somebody has looked.
    assert_ne!(source(&scene, &call.to((A::outside(11), 1))).1, 0);
    scene.wait(2 * timer);
    scene.expire::<A>();
    scene.expire::<A>();
    assert_eq!(scene.halves::<A>(), []);
}

/// RFC 5382 REQ-5.
fn a_mapping_of_an_established_connection_lives_as_long_as_that<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let timer = |timeout| scene.tables.config.timeout(timeout);
    let unknown =
        |n: u16| stranger::<A>(Kind::Tcp(SYN), (A::host(1), 5000)).from((A::outside(77), n));
    let syn = call::<A>(Kind::Tcp(SYN), 2, 5000);
    let sent = |flags| {
        let message = syn.with_kind(Kind::Tcp(flags));
        let outside = scene.translated(OUTWARDS, &message, Reason::Masqueraded);
        outside.reply()
    };
    let received = |flags| {
        let answer = sent(ACK).with_kind(Kind::Tcp(flags));
        scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(syn.src));
    };
    sent(SYN);
    let answer = sent(SYN).with_kind(Kind::Tcp(SYN | ACK));
    scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(syn.src));
    sent(ACK);
    scene.wait(timer(Timeout::TcpEstablished) - 1);
    scene.expire::<A>();
    scene.becomes(INWARDS, &unknown(1), Reason::Mapped, &unknown(1).to(syn.src));
    // One that was reset, or that the container has closed, is none.
    for (n, is_reset) in [(2, true), (4, false)] {
        if is_reset {
            received(RST | ACK);
        } else {
            sent(FIN | ACK);
        }
        scene.wait(timer(Timeout::Mapping) - 1);
        scene.becomes(INWARDS, &unknown(n), Reason::Mapped, &unknown(n).to(syn.src));
        scene.wait(1);
        scene.stays(FROM_UPLINK, &unknown(n + 1), Reason::NotOurs);
        sent(SYN);
    }
}

fn a_mapping_ends_with_its_container<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let given = source::<A>(&scene, &call(Kind::Udp, 2, 5000));
    scene.bump_generation(slot(NET_A, 2));
    scene.stays(FROM_UPLINK, &stranger(Kind::Udp, given), Reason::NotOurs);
    assert_eq!(source::<A>(&scene, &call(Kind::Udp, 3, 5000)), given);
    gets_in(&scene, &stranger(Kind::Udp, given), (A::inside(NET_A, 3), 5000));
}

fn a_socket_that_the_host_opens_later_gets_what_is_new<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    let old = stranger(Kind::Udp, given);
    gets_in(&scene, &old, call.src);
    A::store(&scene.tables).host_sockets.borrow_mut().insert((17, 5000));
    gets_in(&scene, &old, call.src);
    let new = old.from((A::outside(78), 1));
    scene.stays(FROM_UPLINK, &new, Reason::NotOurs);
    A::store(&scene.tables).host_sockets.borrow_mut().clear();
    gets_in(&scene, &new, call.src);
}

fn a_port_that_is_published_or_reserved_later_is_given_up<A: Family>(datapath: Datapath) {
    let mut scene = scene(datapath, &[NET_A]);
    let call = call::<A>(Kind::Udp, 2, 5000);
    let given = source(&scene, &call);
    let leads_to =
        A::store(&scene.tables).published[&published_key(A::UNSPECIFIED, 17, crate::scene::DNS)];
    let key = published_key(A::UNSPECIFIED, 17, 5000);
    A::store_mut(&mut scene.tables).published.insert(key, leads_to);
    let client = stranger(Kind::Udp, given);
    let (reason, _) = scene.run(INWARDS, &client);
    assert_eq!(reason, Reason::Published);
    // The flow that was there goes on; what is new has a mapping elsewhere.
    assert_eq!(source(&scene, &call), given);
    let moved = source(&scene, &call.to((A::outside(10), 99)));
    assert_ne!(moved, given);
    gets_in(&scene, &stranger(Kind::Udp, moved), call.src);
    scene.tables.reserved_ports.insert(moved.1);
    assert_ne!(source(&scene, &call.to((A::outside(11), 99))), moved);
    // And nothing is left when all have ended.
    scene.wait(scene.tables.config.timeout(Timeout::TcpEstablished));
    scene.expire::<A>();
    scene.wait(scene.tables.config.timeout(Timeout::Mapping));
    scene.expire::<A>();
    assert_eq!(scene.halves::<A>(), []);
}

/// RFC 4787 REQ-11: it does not fall back to another kind of mapping.
fn without_a_free_port_there_is_no_mapping_until_one_is_idle<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A]);
    // The smallest class of ports is every port that there is for one of them.
    for port in 1..=511 {
        assert_eq!(source::<A>(&scene, &call(Kind::Udp, 2, port)).1, port);
    }
    let late = call::<A>(Kind::Udp, 3, 80).to((A::outside(10), 99));
    scene.stays(OUTWARDS, &late, Reason::SourcePortsExhausted);
    scene.wait(scene.tables.config.timeout(Timeout::Udp) - 1);
    scene.stays(OUTWARDS, &late, Reason::SourcePortsExhausted);
    // What was not used for a while gives way.
    scene.wait(1);
    let given = source(&scene, &late);
    gets_in(&scene, &stranger(Kind::Udp, given), late.src);
    assert_eq!(scene.halves::<A>().iter().filter(|(key, _)| key.zone != 0).count(), 2 * 511);
}

fn what_is_forgotten_leaves_nothing_behind<A: Family>(datapath: Datapath) {
    let scene = scene(datapath, &[NET_A, NET_B]);
    let server = call::<A>(Kind::Udp, 3, 5000);
    let outside = source(&scene, &server);
    gets_in(&scene, &stranger(Kind::Udp, outside), server.src);
    let request = Message::new(Kind::Udp, (A::inside(NET_B, 2), 4000), outside);
    scene.translated(from_endpoint(NET_B, 2), &request, Reason::MasqueradedRedirected);
    let mapped = scene.halves::<A>().iter().filter(|(key, _)| key.zone != 0).count();
    assert_eq!((mapped, scene.halves::<A>().len()), (4, 10));
    let count = |slot| scene.tables.flow_counts.borrow()[&slot];
    assert_eq!((count(slot(NET_A, 3)), count(slot(NET_B, 2))), (3, 2));
    scene.wait(scene.tables.config.timeout(Timeout::Mapping));
    scene.expire::<A>();
    assert_eq!(scene.halves::<A>(), []);
    assert_eq!((count(slot(NET_A, 3)), count(slot(NET_B, 2))), (0, 0));
}
