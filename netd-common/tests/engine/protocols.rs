//! SCTP, ICMP queries but echo, and the protocols of which the addresses alone are translated.

use netd_common::{address::V4, reason::Reason};

use crate::{
    checksums,
    family::{Family, in_both_datapaths},
    message::{ABORT, DATA, HEARTBEAT, INIT, Kind, Message},
    place::{INWARDS, OUTWARDS, from_endpoint},
    scene::{Datapath, INTERNAL, NET_A, NET_B, S1AP, SCTP_PORT, Scene},
};

in_both_datapaths! {
    sctp_reaches_a_published_port_and_comes_back,
    sctp_is_masqueraded_and_gets_another_port_where_its_own_is_taken,
    an_sctp_checksum_that_a_device_is_to_compute_is_left_alone,
    sctp_begins_with_an_init_or_a_heartbeat,
    an_sctp_hairpin_is_translated_both_ways,
    other_protocols_are_masqueraded_by_address,
    a_second_container_has_no_flow_of_the_same_protocol_to_the_same_remote,
    other_protocols_stay_in_their_network,
    ports_of_lesser_protocols_are_translated,
}

/// ESP, GRE, IPIP, 6in4, IPv6's no next header, and one that nobody has.
const PROTOCOLS: [u8; 6] = [50, 47, 4, 41, 59, 253];

fn sctp_reaches_a_published_port_and_comes_back<A: Family>(datapath: Datapath) {
    for host_port in [S1AP, SCTP_PORT] {
        let scene = Scene::on(datapath);
        let init =
            Message::<A>::new(Kind::Sctp(INIT), (A::outside(7), 40_000), (A::host(1), host_port));
        for request in
            [init.clone(), init.with_kind(Kind::Sctp(DATA)), init.with_kind(Kind::Sctp(ABORT))]
        {
            let inside = request.to((A::inside(NET_A, 2), SCTP_PORT));
            scene.becomes(INWARDS, &request, Reason::Published, &inside);
            let answer = inside.reply();
            let outside = answer.from((A::host(1), host_port));
            scene.becomes(OUTWARDS, &answer, Reason::PublishedReply, &outside);
        }
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

fn sctp_is_masqueraded_and_gets_another_port_where_its_own_is_taken<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let call = |n, port| {
        Message::<A>::new(Kind::Sctp(INIT), (A::inside(NET_A, n), port), (A::outside(9), 38_412))
    };
    let first = call(2, 5000).from((A::host(1), 5000));
    scene.becomes(OUTWARDS, &call(2, 5000), Reason::Masqueraded, &first);
    // A neighbour has the same port, and a published port is nobody's source.
    for taken in [call(3, 5000), call(2, S1AP)] {
        let outside = scene.translated(OUTWARDS, &taken, Reason::Masqueraded);
        assert_ne!(outside.src.1, taken.src.1);
        let inside = outside.reply().to(taken.src);
        scene.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &inside);
    }
}

/// A stack whose device computes checksums leaves the field zero.
fn an_sctp_checksum_that_a_device_is_to_compute_is_left_alone<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let request = Message::<A>::new(Kind::Sctp(INIT), (A::outside(7), 1), (A::host(1), S1AP));
    let inside = scene.translated(INWARDS, &request, Reason::Published);
    let mut packet = from_endpoint(NET_A, 2).packet(inside.reply().frame());
    let transport = if A::ICMP == 1 { 34 } else { 54 };
    packet.frame[transport + 8..transport + 12].fill(0);
    let at = from_endpoint(NET_A, 2);
    let reason = scene.judge(at.hook, &mut packet);
    if datapath == Datapath::Fast {
        assert_eq!(reason, Reason::PublishedReplyRedirected);
        assert_eq!(packet.frame[transport..transport + 2], S1AP.to_be_bytes());
    }
    assert_eq!(packet.frame[transport + 8..transport + 12], [0; 4]);
}

/// As Linux has it: what belongs to an association must be known.
fn sctp_begins_with_an_init_or_a_heartbeat<A: Family>(datapath: Datapath) {
    for chunk in 0..=20 {
        let scene = Scene::on(datapath);
        let begins = chunk == INIT || chunk == HEARTBEAT;
        let request = Message::<A>::new(Kind::Sctp(chunk), (A::outside(7), 1), (A::host(1), S1AP));
        let call =
            Message::<A>::new(Kind::Sctp(chunk), (A::inside(NET_A, 2), 7), (A::outside(9), 7));
        let (inwards, outwards) = if begins {
            (Reason::Published, Reason::Masqueraded)
        } else {
            (Reason::NotOurs, Reason::NoFlow)
        };
        assert_eq!(scene.run(INWARDS, &request).0, inwards, "{chunk}");
        assert_eq!(scene.run(OUTWARDS, &call).0, outwards, "{chunk}");
    }
}

fn an_sctp_hairpin_is_translated_both_ways<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for client in [(NET_A, 3), (NET_A, 2), (NET_B, 2)] {
        let own = (A::inside(client.0, client.1), 5000);
        let request = Message::<A>::new(Kind::Sctp(INIT), own, (A::host(1), S1AP));
        let (reason, inside) = scene.pass(from_endpoint(client.0, client.1), &request);
        assert_eq!(reason, Reason::PublishedRedirected);
        assert_eq!(inside.dst, (A::inside(NET_A, 2), SCTP_PORT));
        let (reason, answer) = scene.pass(from_endpoint(NET_A, 2), &inside.reply());
        assert_eq!(reason, Reason::PublishedReplyRedirected);
        assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    }
}

fn other_protocols_are_masqueraded_by_address<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for proto in PROTOCOLS {
        let call =
            Message::<A>::new(Kind::Other(proto), (A::inside(NET_A, 2), 0), (A::outside(9), 0));
        // Nothing from outside begins a flow.
        let unasked = call.reply().to((A::host(1), 0));
        scene.stays(INWARDS, &unasked, Reason::NotOurs);
        let outside = call.from((A::host(1), 0));
        for _ in 0..2 {
            scene.becomes(OUTWARDS, &call, Reason::Masqueraded, &outside);
            let answer = outside.reply();
            scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(call.src));
        }
        // Another remote is another flow, which asks for itself.
        let stranger = unasked.from((A::outside(10), 0));
        scene.stays(INWARDS, &stranger, Reason::NotOurs);
    }
    assert_eq!(scene.halves::<A>().len(), 2 * PROTOCOLS.len());
}

/// Linux cannot tell the replies apart either, and drops what would begin.
fn a_second_container_has_no_flow_of_the_same_protocol_to_the_same_remote<A: Family>(
    datapath: Datapath,
) {
    let scene = Scene::on(datapath);
    let call = |n, proto| {
        Message::<A>::new(Kind::Other(proto), (A::inside(NET_A, n), 0), (A::outside(9), 0))
    };
    scene.translated(OUTWARDS, &call(2, 50), Reason::Masqueraded);
    assert_eq!(scene.run(OUTWARDS, &call(3, 50)).0, Reason::SourcePortsExhausted);
    scene.translated(OUTWARDS, &call(3, 47), Reason::Masqueraded);
    // Until the first is over.
    scene.wait(600);
    scene.translated(OUTWARDS, &call(3, 50), Reason::Masqueraded);
}

fn other_protocols_stay_in_their_network<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for proto in PROTOCOLS.into_iter().chain([33, 132, 136]) {
        let from = |network, dst| {
            let kind = if proto == 132 { Kind::Sctp(INIT) } else { Kind::Other(proto) };
            let message = Message {
                payload: vec![0; 16],
                ..Message::<A>::new(kind, (A::inside(network, 2), 0), (dst, 0))
            };
            (from_endpoint(network, 2), message.frame())
        };
        for ((at, frame), reason) in [
            (from(NET_A, A::inside(NET_B, 2)), Reason::NetworksApart),
            (from(INTERNAL, A::outside(9)), Reason::InternalNetwork),
            (from(INTERNAL, A::host(1)), Reason::InternalNetwork),
            (from(NET_A, A::inside(NET_A, 1)), Reason::ContainerToHost),
        ] {
            scene.judges(&[("from a container", at, frame, reason)]);
        }
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

/// UDP-Lite and DCCP have ports and a checksum where UDP has them.
fn ports_of_lesser_protocols_are_translated<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for proto in [33, 136] {
        let header = |sport: u16, dport: u16| {
            let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
            [&ports[..], &[0, 8, 0x12, 0x34, 0, 0, 0, 0, 1, 2, 3, 4]].concat()
        };
        let message = |n| Message {
            payload: header(5000, 7),
            ..Message::<A>::new(Kind::Other(proto), (A::inside(NET_A, n), 0), (A::outside(9), 0))
        };
        let first = scene.run(OUTWARDS, &message(2)).1;
        assert_eq!((first.src.0, &first.payload[..4]), (A::host(1), &header(5000, 7)[..4]));
        let second = scene.run(OUTWARDS, &message(3)).1;
        assert_ne!(second.payload[..2], first.payload[..2]);
        for (before, after) in [(message(2), first), (message(3), second)] {
            assert_eq!(sum(&before), sum(&after), "{proto}");
        }
    }
}

/// What the checksum covers, with the checksum: it does not change.
fn sum<A: Family>(message: &Message<A>) -> u64 {
    let (src, dst) = (bytemuck::bytes_of(&message.src.0), bytemuck::bytes_of(&message.dst.0));
    checksums::sum(&[src, dst, &message.payload])
}

#[test]
fn a_question_for_the_time_is_translated_like_an_echo() {
    for datapath in [Datapath::Stack, Datapath::Fast] {
        let scene = Scene::on(datapath);
        let own = |n| (V4::inside(NET_A, n), 7);
        // Three times of four bytes each.
        let times = |message: Message<V4>| Message { payload: vec![0; 12], ..message };
        let ask = |kind, n| times(Message::new(kind, own(n), (V4::outside(9), 0)));
        for kind in [Kind::EchoRequest, Kind::TimestampRequest] {
            // The same identifier for both is two flows.
            let outside = ask(kind, 2).from((V4::host(1), 7));
            scene.becomes(OUTWARDS, &ask(kind, 2), Reason::Masqueraded, &outside);
            let answer = times(outside.reply());
            scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(own(2)));
            // A neighbour's gets another.
            let other = scene.translated(OUTWARDS, &ask(kind, 3), Reason::Masqueraded);
            assert_ne!(other.src.1, 7);
            let answer = times(other.reply());
            scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &answer.to(own(3)));
        }
        // Nobody has asked for it.
        let answer =
            times(Message::new(Kind::TimestampReply, (V4::outside(10), 0), (V4::host(1), 7)));
        scene.stays(INWARDS, &answer, Reason::NotOurs);
    }
}
