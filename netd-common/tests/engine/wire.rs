//! `from_wire` and the classifier behind it: what the one drops, the other would for the same reason.

use netd_common::{engine::from_wire, reason::Reason};

use crate::{
    family::{Family, in_both_families},
    message::{Kind, Message},
    packet::HostPacket,
    place::{FROM_UPLINK, INWARDS},
    scene::{DNS, NET_A, Scene},
};

in_both_families! {
    a_source_route_is_the_reason_whoever_sends_it,
    pieces_of_a_flow_older_than_the_network_are_left_to_the_classifier,
    what_stands_behind_more_headers_is_left_to_the_classifier,
}

/// Why a frame is dropped on the wire, which must be why it would be behind it.
#[track_caller]
fn dropped<A: Family>(scene: &Scene, frame: Vec<u8>) -> Option<Reason> {
    let mut packet: HostPacket = FROM_UPLINK.packet(frame);
    let dropped = from_wire(&packet, &scene.tables).err();
    let reason = scene.judge(FROM_UPLINK.hook, &mut packet);
    assert!(dropped.is_none_or(|dropped| dropped == reason), "{dropped:?}, and {reason:?}");
    dropped
}

/// The frame with what lists the way: an option of IPv4, a routing header of IPv6.
fn source_routed<A: Family>(message: &Message<A>) -> Vec<u8> {
    if A::ICMP == 1 {
        return message.with_ipv4_options(&[131, 7, 4, 198, 51, 100, 7, 0]);
    }
    with_header(message, 43, [0, 1])
}

/// The frame with an IPv6 extension header.
fn with_header<A: Family>(message: &Message<A>, kind: u8, body: [u8; 2]) -> Vec<u8> {
    let mut frame = message.frame();
    let next = std::mem::replace(&mut frame[20], kind);
    frame.splice(54..54, [next, 0, body[0], body[1], 0, 0, 0, 0]);
    frame[19] += 8;
    frame
}

fn a_source_route_is_the_reason_whoever_sends_it<A: Family>() {
    let scene = Scene::new();
    let to_host = Message::new(Kind::Udp, (A::outside(7), 40_000), (A::host(1), DNS));
    for src in [A::LOOPBACK, A::inside(NET_A, 2), A::outside(7)] {
        dropped::<A>(&scene, source_routed(&to_host.from((src, 40_000))));
    }
}

/// A flow of a client, and then a network that has the client's address.
fn with_an_old_flow<A: Family>() -> (Scene, Message<A>) {
    let mut scene = Scene::new();
    let payload = (0..64).collect();
    let ask = Message::new(Kind::Udp, (A::outside(7), 40_000), (A::host(1), DNS));
    let ask = Message { payload, ..ask };
    scene.translated(INWARDS, &ask, Reason::Published);
    let store = A::store_mut(&mut scene.tables);
    store.subnets.push((A::outside(7), A::mask(A::BITS), NET_A));
    (scene, ask)
}

fn pieces_of_a_flow_older_than_the_network_are_left_to_the_classifier<A: Family>() {
    let (scene, ask) = with_an_old_flow::<A>();
    for piece in [ask.part(1, 0..40, 0, true), ask.part(1, 40..72, 40, false)] {
        let mut packet = FROM_UPLINK.packet(piece.clone());
        assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::Published);
        assert_eq!(dropped::<A>(&scene, piece), None);
    }
}

fn what_stands_behind_more_headers_is_left_to_the_classifier<A: Family>() {
    let (scene, ask) = with_an_old_flow::<A>();
    let frame = if A::ICMP == 1 {
        ask.with_ipv4_options(&[1, 1, 1, 0])
    } else {
        with_header(&ask, 60, [1, 4])
    };
    let mut packet = FROM_UPLINK.packet(frame.clone());
    assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::Published);
    assert_eq!(dropped::<A>(&scene, frame), None);
}
