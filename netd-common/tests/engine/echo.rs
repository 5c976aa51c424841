//! ICMP echo: the identifier is translated like a port, and a request is never taken for a reply.

use netd_common::reason::Reason;

use crate::{
    family::{Family, in_both_datapaths},
    message::{Kind, Message},
    place::{INWARDS, OUTWARDS, to_endpoint},
    scene::{Datapath, NET_A, Scene, UPLINK},
};

in_both_datapaths! {
    an_identifier_is_kept_and_not_clamped,
    identifier_zero_is_replaced_and_comes_back,
    a_request_from_outside_is_no_reply,
    a_container_answers_no_echo_that_it_was_not_sent,
}

fn ping<A: Family>(n: u8, id: u16) -> Message<A> {
    Message::new(Kind::EchoRequest, (A::inside(NET_A, n), id), (A::outside(9), 0))
}

fn an_identifier_is_kept_and_not_clamped<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for id in [1, 5, 1023, 65_535] {
        let outside = ping::<A>(2, id).from((A::host(1), id));
        scene.becomes(OUTWARDS, &ping(2, id), Reason::Masqueraded, &outside);
        let answer = outside.reply();
        let inside = answer.to((A::inside(NET_A, 2), id));
        scene.becomes(INWARDS, &answer, Reason::MasqueradeReply, &inside);
    }
}

fn identifier_zero_is_replaced_and_comes_back<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let outside = scene.translated::<A>(OUTWARDS, &ping(2, 0), Reason::Masqueraded);
    assert_ne!(outside.src.1, 0);
    let inside = outside.reply().to((A::inside(NET_A, 2), 0));
    scene.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &inside);
    scene.stays(to_endpoint(NET_A, 2, UPLINK), &inside, Reason::FlowToContainer);
}

fn a_request_from_outside_is_no_reply<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for id in [0, 7] {
        let outside = scene.translated::<A>(OUTWARDS, &ping(2, id), Reason::Masqueraded);
        // With the flow's identifier, and with the one that would stand where a reply has it.
        for id in [outside.src.1, 0] {
            let request = Message::new(Kind::EchoRequest, (A::outside(9), id), (A::host(1), 0));
            scene.stays(INWARDS, &request, Reason::NotOurs);
        }
    }
}

fn a_container_answers_no_echo_that_it_was_not_sent<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    scene.translated::<A>(OUTWARDS, &ping(2, 7), Reason::Masqueraded);
    let answer = Message::<A>::new(Kind::EchoReply, (A::inside(NET_A, 2), 0), (A::outside(9), 7));
    scene.stays(OUTWARDS, &answer, Reason::NoFlow);
}
