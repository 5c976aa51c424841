//! What crosses a bridge device: the safety net for ports that carry no program yet.

use netd_common::reason::Reason;

use crate::{
    family::{Family, in_both_datapaths},
    message::{Kind, Message, SYN},
    place::{
        At, FROM_UPLINK, HOST_MAC, bridge, from_bridge, from_endpoint, mac, to_bridge, to_endpoint,
    },
    scene::{
        DNS, Datapath, INTERNAL, NET_A, NET_B, OPEN, PLAIN, QUIET, SECOND_UPLINK, Scene, UPLINK,
        WEB,
    },
    tables::HostRoute,
};

in_both_datapaths! {
    what_a_known_port_has_let_through_passes,
    an_unknown_port_sends_no_further_than_a_known_one,
    an_unknown_port_leaves_an_internal_network_by_no_way,
    a_container_on_two_networks_is_none_of_its_bridges,
    what_the_host_sends_itself_passes,
    a_known_container_is_left_to_its_port,
    an_unknown_container_receives_what_a_known_one_would,
    frames_that_are_not_plain_ip_pass,
}

/// A frame from this MAC address.
fn sent_by(frame: Vec<u8>, mac: [u8; 6]) -> Vec<u8> {
    [&HOST_MAC[..], &mac, &frame[12..]].concat()
}

fn judge(scene: &Scene, at: At, frame: Vec<u8>) -> Reason {
    let mut packet = at.packet(frame.clone());
    packet.frame = frame;
    scene.judge(at.hook, &mut packet)
}

/// Frames of every protocol, and of none.
fn frames<A: Family>(src: A, dst: A) -> Vec<Vec<u8>> {
    let kinds = [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest, Kind::Other(47)];
    let mut frames = kinds.map(|kind| Message::new(kind, (src, 5), (dst, 53)).frame()).to_vec();
    frames.push(Message::new(Kind::Udp, (src, 5), (dst, 53)).fragment());
    frames
}

/// Where it goes, and the reason for a container without a port that is known.
fn destinations<A: Family>() -> [(&'static str, A, Reason); 9] {
    [
        ("the gateway", A::inside(NET_A, 1), Reason::ContainerToHost),
        ("the host", A::host(1), Reason::ContainerToHost),
        ("another gateway", A::inside(NET_B, 1), Reason::ContainerToHost),
        ("a neighbour", A::inside(NET_A, 3), Reason::SameNetwork),
        ("an allowed network", A::inside(PLAIN, 2), Reason::NetworksAllowed),
        ("another network", A::inside(NET_B, 2), Reason::NetworksApart),
        ("an unprotected network", A::inside(OPEN, 2), Reason::NetworksApart),
        ("the world", A::outside(9), Reason::ContainerToOutside),
        ("a device without programs", A::outside(10), Reason::NotAnUplink),
    ]
}

fn scene<A: Family>(datapath: Datapath) -> Scene {
    let mut scene = Scene::on(datapath);
    scene.tables.isolation_sets.insert((NET_A, PLAIN));
    let routes = &mut A::store_mut(&mut scene.tables).routes;
    routes.insert((bridge(NET_A), A::outside(10)), HostRoute::Elsewhere);
    scene
}

fn what_a_known_port_has_let_through_passes<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    for (row, dst, _) in destinations() {
        for frame in frames(A::inside(NET_A, 2), dst) {
            let reason = judge(&scene, from_bridge(NET_A), sent_by(frame, mac(NET_A, 2)));
            assert_eq!(reason, Reason::JudgedByPort, "{row}");
        }
    }
    // What its port has asked the stack to answer.
    let own = (A::inside(NET_B, 2), 40_000);
    let request = Message::new(Kind::Tcp(SYN), own, (A::host(1), WEB));
    let at = from_endpoint(NET_B, 2);
    scene.pass(at, &request);
    let mut packet = at.packet(request.frame_with(1));
    assert_eq!(scene.judge(at.hook, &mut packet), Reason::NotDeliverable);
    assert_eq!(judge(&scene, from_bridge(NET_B), packet.frame), Reason::JudgedByPort);
}

fn an_unknown_port_sends_no_further_than_a_known_one<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    let at = from_bridge(NET_A);
    for (row, dst, reason) in destinations() {
        // An address that nobody has, and one that is another port's.
        for (src, mac) in
            [(A::inside(NET_A, 77), mac(NET_A, 77)), (A::inside(NET_A, 3), mac(NET_B, 9))]
        {
            for frame in frames(src, dst) {
                assert_eq!(judge(&scene, at, sent_by(frame, mac)), reason, "{row}");
            }
        }
        for src in [A::outside(7), A::host(1), A::inside(NET_B, 77), A::UNSPECIFIED] {
            for frame in frames(src, dst) {
                let reason = judge(&scene, at, sent_by(frame, mac(NET_A, 77)));
                assert_eq!(reason, Reason::SourceNotInSubnet, "{src:?} to {row}");
            }
        }
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn an_unknown_port_leaves_an_internal_network_by_no_way<A: Family>(datapath: Datapath) {
    let mut scene = scene::<A>(datapath);
    scene.tables.isolation_sets.insert((INTERNAL, PLAIN));
    for (dst, reason) in [
        (A::inside(INTERNAL, 1), Reason::ContainerToHost),
        (A::inside(INTERNAL, 2), Reason::SameNetwork),
        (A::host(1), Reason::InternalNetwork),
        (A::inside(PLAIN, 2), Reason::InternalNetwork),
        (A::outside(9), Reason::InternalNetwork),
    ] {
        for frame in frames(A::inside(INTERNAL, 77), dst) {
            let frame = sent_by(frame, mac(INTERNAL, 77));
            assert_eq!(judge(&scene, from_bridge(INTERNAL), frame), reason, "{dst:?}");
        }
    }
}

/// It answers by its default route, with an address and a MAC address of two networks.
fn a_container_on_two_networks_is_none_of_its_bridges<A: Family>(datapath: Datapath) {
    let mut scene = scene::<A>(datapath);
    scene.share_sandbox::<A>((NET_A, 2), (NET_B, 2));
    let answer = Message::new(Kind::Udp, (A::inside(NET_B, 2), 80), (A::outside(9), 5)).frame();
    let reason = judge(&scene, from_bridge(NET_A), sent_by(answer, mac(NET_A, 2)));
    assert_eq!(reason, Reason::ContainerToOutside);
}

fn what_the_host_sends_itself_passes<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    for src in [A::inside(NET_A, 1), A::host(1), A::outside(7)] {
        for dst in [A::inside(NET_A, 2), A::inside(NET_A, 77)] {
            for frame in frames(src, dst) {
                let reason = judge(&scene, to_bridge(NET_A, 0), frame);
                assert_eq!(reason, Reason::HostToContainer);
            }
        }
    }
}

fn a_known_container_is_left_to_its_port<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    for frame in frames(A::outside(7), A::inside(NET_A, 2)) {
        let reason = judge(&scene, to_bridge(NET_A, UPLINK), frame.clone());
        assert_eq!(reason, Reason::JudgedByPort);
        scene.judges(&[("its port", to_endpoint(NET_A, 2, UPLINK), frame, Reason::Unsolicited)]);
    }
}

fn an_unknown_container_receives_what_a_known_one_would<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    let unknown = |network| A::inside(network, 77);
    for (row, src, network, ingress, reason) in [
        ("outside", A::outside(7), NET_A, UPLINK, Reason::Unsolicited),
        ("a device without programs", A::outside(7), NET_A, SECOND_UPLINK, Reason::Unsolicited),
        ("unprotected", A::outside(7), OPEN, UPLINK, Reason::DirectlyRouted),
        ("internal", A::outside(7), INTERNAL, UPLINK, Reason::InternalNetwork),
        ("another network", A::inside(NET_B, 2), NET_A, bridge(NET_B), Reason::NetworksApart),
        ("an allowed network", A::inside(NET_A, 2), PLAIN, bridge(NET_A), Reason::NetworksAllowed),
        ("its own network", A::inside(NET_A, 3), NET_A, bridge(NET_A), Reason::SameNetwork),
        ("its own, without icc", A::inside(QUIET, 3), QUIET, bridge(QUIET), Reason::IccOff),
        ("another's container", A::outside(7), NET_B, UPLINK, Reason::Unsolicited),
    ] {
        for frame in frames(src, unknown(network)) {
            assert_eq!(judge(&scene, to_bridge(network, ingress), frame), reason, "{row}");
        }
    }
    // Another network's container behind this bridge is nobody's here.
    for frame in frames(A::outside(7), A::inside(NET_B, 2)) {
        assert_eq!(judge(&scene, to_bridge(NET_A, UPLINK), frame), Reason::Unsolicited);
    }
    let mut scene = scene;
    // A flow's packet goes on to a container whose endpoint has not been written.
    let store = A::store_mut(&mut scene.tables);
    store.endpoints.remove(&A::inside(NET_A, 2));
    let request = Message::<A>::new(Kind::Udp, (A::outside(7), 5), (A::host(1), DNS));
    let (reason, inside) = scene.pass(FROM_UPLINK, &request);
    assert_eq!(reason, Reason::Published);
    let entering = judge(&scene, to_bridge(NET_A, UPLINK), inside.frame());
    assert_eq!(entering, Reason::FlowToContainer);
}

fn frames_that_are_not_plain_ip_pass<A: Family>(datapath: Datapath) {
    let scene = scene::<A>(datapath);
    let message = Message::new(Kind::Udp, (A::inside(NET_A, 77), 5), (A::inside(NET_B, 2), 53));
    let mut arp = message.frame();
    arp[12..14].copy_from_slice(&[8, 6]);
    let multicast = message.to((A::MULTICAST, 53)).frame();
    let cut = message.frame()[..30].to_vec();
    for at in [from_bridge(NET_A), to_bridge(NET_A, UPLINK)] {
        assert_eq!(judge(&scene, at, arp.clone()), Reason::NotIp);
        assert_eq!(judge(&scene, at, multicast.clone()), Reason::Multicast);
        assert_eq!(judge(&scene, at, cut.clone()), Reason::Malformed);
        let elsewhere = At { ifindex: 999, ..at };
        assert_eq!(judge(&scene, elsewhere, message.frame()), Reason::UnknownPort);
    }
    if A::ICMP == 58 {
        for (src, dst) in
            [(A::LINK_LOCAL, A::inside(NET_A, 1)), (A::inside(NET_A, 77), A::LINK_LOCAL)]
        {
            let probe = Message::new(Kind::Icmp(135), (src, 0), (dst, 0)).frame();
            assert_eq!(judge(&scene, from_bridge(NET_A), probe), Reason::LinkLocal);
        }
    }
}
