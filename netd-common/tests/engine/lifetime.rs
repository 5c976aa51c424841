//! The life of a flow: how long it lasts, what ends it, and what may begin in its place.

use netd_common::{
    address::Port,
    conntrack::{CtKey, Scope},
    engine::{self, Expiry},
    reason::Reason,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, FIN, Kind, Message, RST, SYN},
    place::{At, INWARDS, OUTWARDS, slot, to_endpoint},
    scene::{DNS, Datapath, NET_A, Scene, UPLINK, WEB, WEB_SLOT},
};

in_both_datapaths! {
    each_state_has_its_timer,
    packets_of_either_direction_keep_a_flow_alive,
    a_flow_that_is_over_does_not_take_packets_whether_or_not_it_was_expired,
    a_syn_reopens_a_connection_that_has_closed,
    a_syn_does_not_disturb_a_connection_that_is_open,
    a_flow_ends_with_its_published_port_and_with_its_endpoint,
    the_reply_key_of_a_flow_that_is_over_is_given_again,
    a_lone_half_lives_five_seconds,
    expiry_tells_what_it_found,
}

fn web<A: Family>(flags: u8) -> Message<A> {
    Message::new(Kind::Tcp(flags), (A::outside(7), 40_000), (A::host(1), WEB))
}

fn call<A: Family>(kind: Kind) -> Message<A> {
    let dport = if kind == Kind::EchoRequest { 0 } else { 53 };
    Message::new(kind, (A::inside(NET_A, 2), 5000), (A::outside(9), dport))
}

/// The key of the original half that a message at an uplink or of a container has.
fn key<A: Family>(message: &Message<A>, scope: Scope) -> CtKey<A> {
    CtKey {
        src: message.src.0,
        dst: message.dst.0,
        sport: Port::new(message.src.1),
        dport: Port::new(message.dst.1),
        proto: message.proto(),
        scope: scope as u8,
        zone: 0,
    }
}

/// Sends the TCP flags of a connection to the published port: `>` from the client, `<` from the container.
fn converse<A: Family>(scene: &Scene, flags: &[(char, u8)]) {
    for &(direction, flags) in flags {
        if direction == '>' {
            scene.translated::<A>(INWARDS, &web(flags), Reason::Published);
        } else {
            let request = web::<A>(flags).to((A::inside(NET_A, 2), 80));
            let answer = request.reply().with_kind(Kind::Tcp(flags));
            scene.translated(OUTWARDS, &answer, Reason::PublishedReply);
        }
    }
}

const HANDSHAKE: [(char, u8); 3] = [('>', SYN), ('<', SYN | ACK), ('>', ACK)];

/// The kernel's values, `net/netfilter/nf_conntrack_proto_*.c`.
fn each_state_has_its_timer<A: Family>(datapath: Datapath) {
    let fin = [('<', FIN | ACK), ('>', ACK), ('>', FIN | ACK), ('<', ACK)];
    let open_twice = [('>', SYN), ('<', SYN), ('>', SYN | ACK)];
    let rows = [
        ("syn sent", HANDSHAKE[..1].to_vec(), 120),
        ("syn received", HANDSHAKE[..2].to_vec(), 60),
        ("established", HANDSHAKE.to_vec(), 432_000),
        ("syn sent by both", open_twice[..2].to_vec(), 120),
        ("syn sent by both, acknowledged by one", open_twice.to_vec(), 120),
        ("one side closed", [&HANDSHAKE[..], &fin[..1]].concat(), 120),
        ("one side closed, and the other knows", [&HANDSHAKE[..], &fin[..2]].concat(), 60),
        ("both sides closed", [&HANDSHAKE[..], &fin[..3]].concat(), 30),
        ("both sides closed, and both know", [&HANDSHAKE[..], &fin].concat(), 120),
        ("reset", [&HANDSHAKE[..], &[('<', RST)]].concat(), 10),
        ("picked up in the middle", vec![('>', ACK)], 300),
    ];
    for (row, flags, secs) in rows {
        let scene = Scene::on(datapath);
        converse::<A>(&scene, &flags);
        assert_lives::<A>(&scene, row, key(&web(SYN), Scope::Uplink), secs);
    }
    for (row, kind, is_answered, secs) in [
        ("udp", Kind::Udp, false, 30),
        ("udp, answered", Kind::Udp, true, 30),
        ("echo", Kind::EchoRequest, false, 30),
        ("echo, answered", Kind::EchoRequest, true, 30),
    ] {
        let scene = Scene::on(datapath);
        let outside = scene.translated::<A>(OUTWARDS, &call(kind), Reason::Masqueraded);
        if is_answered {
            scene.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
        }
        assert_lives::<A>(&scene, row, key(&call(kind), Scope::Endpoint), secs);
        if kind == Kind::Udp && is_answered {
            // More than a question and an answer.
            let outside = scene.translated::<A>(OUTWARDS, &call(kind), Reason::Masqueraded);
            scene.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
            scene.wait(3);
            scene.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
            assert_lives::<A>(&scene, "udp stream", key(&call(kind), Scope::Endpoint), 120);
        }
    }
}

#[track_caller]
fn assert_lives<A: Family>(scene: &Scene, row: &str, key: CtKey<A>, secs: u32) {
    scene.wait(secs - 1);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live, "{row}");
    scene.wait(1);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Removed, "{row}");
    assert_eq!(scene.halves::<A>().len(), 0, "{row}");
}

fn packets_of_either_direction_keep_a_flow_alive<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let outside = scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    for _ in 0..5 {
        scene.wait(29);
        scene.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
    }
    for _ in 0..5 {
        scene.wait(119);
        scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    }
    assert!(scene.halves::<A>().iter().all(|half| half.1.created_secs == 1_000));
}

fn a_flow_that_is_over_does_not_take_packets_whether_or_not_it_was_expired<A: Family>(
    datapath: Datapath,
) {
    let scene = Scene::on(datapath);
    let outside = scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    scene.wait(30);
    scene.stays(INWARDS, &outside.reply(), Reason::NotOurs);
    assert_eq!(scene.halves::<A>().len(), 0);

    scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    scene.wait(30);
    scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    assert!(scene.halves::<A>().iter().all(|half| half.1.created_secs == 1_060));
}

fn a_syn_reopens_a_connection_that_has_closed<A: Family>(datapath: Datapath) {
    let closed = [('<', FIN | ACK), ('>', FIN | ACK), ('<', ACK)];
    for end in [&closed[..2], &closed, &[('<', RST)], &[('>', RST | ACK)]] {
        let scene = Scene::on(datapath);
        converse::<A>(&scene, &[&HANDSHAKE[..], end].concat());
        converse::<A>(&scene, &HANDSHAKE);
        scene.wait(400_000);
        let key = key(&web::<A>(SYN), Scope::Uplink);
        assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live, "{end:?}");
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

fn a_syn_does_not_disturb_a_connection_that_is_open<A: Family>(datapath: Datapath) {
    for begun in 1..=3 {
        let scene = Scene::on(datapath);
        converse::<A>(&scene, &HANDSHAKE[..begun]);
        scene.wait(1);
        converse::<A>(&scene, &[('>', SYN)]);
        assert!(scene.halves::<A>().iter().all(|half| half.1.created_secs == 1_000));
    }
    // The container's own SYN on the connection's ports is no new one either.
    let scene = Scene::on(datapath);
    converse::<A>(&scene, &[&HANDSHAKE[..], &[('<', FIN | ACK), ('>', FIN | ACK)]].concat());
    scene.wait(1);
    converse::<A>(&scene, &[('<', SYN)]);
    assert!(scene.halves::<A>().iter().all(|half| half.1.created_secs == 1_000));
}

fn a_flow_ends_with_its_published_port_and_with_its_endpoint<A: Family>(datapath: Datapath) {
    for ending in [WEB_SLOT, slot(NET_A, 2)] {
        for wait in [0, 1] {
            let scene = Scene::on(datapath);
            converse::<A>(&scene, &HANDSHAKE);
            let inside = web::<A>(ACK).to((A::inside(NET_A, 2), 80));
            let entering = to_endpoint(NET_A, 2, UPLINK);
            scene.stays(entering, &inside, Reason::FlowToContainer);
            scene.bump_generation(ending);
            scene.wait(wait);
            scene.stays(entering, &inside, Reason::Unsolicited);
            let answer = inside.reply().with_kind(Kind::Tcp(FIN | ACK));
            scene.stays(OUTWARDS, &answer, Reason::NoFlow);
            assert_eq!(scene.halves::<A>().len(), 0);
            scene.stays::<A>(INWARDS, &web(FIN | ACK), Reason::NotOurs);
            // A port that is published again begins anew.
            converse::<A>(&scene, &HANDSHAKE);
        }
    }
    let scene = Scene::on(datapath);
    scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
    let answer = call::<A>(Kind::Udp).from((A::host(1), 5000)).reply();
    scene.bump_generation(slot(NET_A, 2));
    scene.stays(INWARDS, &answer, Reason::NotOurs);
}

fn the_reply_key_of_a_flow_that_is_over_is_given_again<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let first = call::<A>(Kind::Udp);
    let second = first.from((A::inside(NET_A, 3), 5000));
    scene.translated(OUTWARDS, &first, Reason::Masqueraded);
    scene.wait(29);
    let other = scene.translated(OUTWARDS, &second, Reason::Masqueraded);
    assert_ne!(other.src.1, 5000);
    // The first has ended; a third flow gets its port, and its packets.
    scene.wait(1);
    let third = first.from((A::inside(NET_A, 4), 5000));
    let outside = third.from((A::host(1), 5000));
    scene.becomes(OUTWARDS, &third, Reason::Masqueraded, &outside);
    let answer = outside.reply();
    scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(third.src));
    assert_eq!(scene.halves::<A>().len(), 4);
}

/// What a CPU leaves behind that ended between its two insertions, or a flush that came between.
fn a_lone_half_lives_five_seconds<A: Family>(datapath: Datapath) {
    for keeps_reply in [true, false] {
        let scene = Scene::on(datapath);
        let outside = scene.translated::<A>(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded);
        A::store(&scene.tables)
            .flows
            .borrow_mut()
            .retain(|_, half| half.get().is_reply() == keeps_reply);
        let (key, _) = scene.halves::<A>()[0];
        scene.wait(5);
        assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live);
        scene.wait(1);
        if keeps_reply {
            // Nobody's packets pass, and the port is free.
            scene.stays(INWARDS, &outside.reply(), Reason::NotOurs);
        } else {
            assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Removed);
        }
        assert_eq!(scene.halves::<A>().len(), 0);
        scene.becomes(OUTWARDS, &call(Kind::Udp), Reason::Masqueraded, &outside);
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

fn expiry_tells_what_it_found<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let key = key(&call::<A>(Kind::Udp), Scope::Endpoint);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Gone);
    let at = At { ingress: 11, ..OUTWARDS };
    scene.translated::<A>(at, &call(Kind::Udp), Reason::Masqueraded);
    scene.translated::<A>(
        INWARDS,
        &Message::new(Kind::Udp, (A::outside(7), 1), (A::host(1), DNS)),
        Reason::Published,
    );
    // Either half names the flow; the other flow stays.
    for (owner, reply) in [(3, true), (slot(NET_A, 2), false)] {
        let halves = scene.halves::<A>();
        let half =
            halves.iter().find(|(_, entry)| entry.is_reply() == reply && entry.slot == owner);
        let (key, _) = half.unwrap();
        assert_eq!(engine::expire(&scene.tables, key, false), Expiry::Live);
        scene.bump_generation(owner);
        assert_eq!(engine::expire(&scene.tables, key, false), Expiry::Removed);
        assert_eq!(engine::expire(&scene.tables, key, false), Expiry::Gone);
        assert_eq!(scene.halves::<A>().len(), halves.len() - 2);
    }
}
