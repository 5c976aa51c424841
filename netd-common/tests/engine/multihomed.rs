//! A container on two networks answers, and calls, by its one default route, whichever of its addresses it
//! uses: it is translated by that address, in both data paths alike.

use netd_common::{network::NetworkFlags, reason::Reason};

use crate::{
    family::{Family, in_both_datapaths},
    message::{Kind, Message, SYN},
    packet::Redirection,
    place::{At, FROM_UPLINK, TO_UPLINK, bridge, from_endpoint, port},
    runs::plain,
    scene::{Datapath, FIXED, INTERNAL, NET_A, NET_B, PLAIN, SPECIFIC, Scene},
};

in_both_datapaths! {
    a_call_is_translated_by_the_network_of_its_source,
    a_published_port_on_one_network_is_answered_by_the_other,
}

/// Sends a container's message by a port, through all hooks to the uplink.
fn leave<A: Family>(scene: &Scene, at: At, message: &Message<A>) -> (Reason, Message<A>) {
    let (reason, after) = scene.pass(at, message);
    if reason != Reason::ContainerToOutside {
        return (plain(reason), after);
    }
    scene.pass(At { ingress: bridge(NET_A), ..TO_UPLINK }, message)
}

fn a_call_is_translated_by_the_network_of_its_source<A: Family>(datapath: Datapath) {
    for (other, reason, source) in [
        (NET_B, Reason::Masqueraded, A::host(1)),
        (FIXED, Reason::Masqueraded, A::host(9)),
        (PLAIN, Reason::Untranslated, A::inside(PLAIN, 2)),
        (INTERNAL, Reason::InternalNetwork, A::inside(INTERNAL, 2)),
    ] {
        let mut scene = Scene::on(datapath);
        scene.share_sandbox::<A>((NET_A, 2), (other, 2));
        let call = Message::new(Kind::Udp, (A::inside(other, 2), 5000), (A::outside(9), 53));
        let at = from_endpoint(NET_A, 2);
        for _ in 0..2 {
            let expected = (reason, call.from((source, 5000)));
            assert_eq!(leave(&scene, at, &call), expected, "{other}");
        }
        assert!(scene.halves::<A>().iter().all(|half| half.1.network == other), "{other}");
    }
    // Nor does the data path of the one network count for the other.
    let mut scene = Scene::new();
    scene.set(NET_A, NetworkFlags::FAST);
    scene.share_sandbox::<A>((NET_A, 2), (FIXED, 2));
    let call = Message::new(Kind::Udp, (A::inside(FIXED, 2), 5000), (A::outside(9), 53));
    let expected = (Reason::Masqueraded, call.from((A::host(9), 5000)));
    assert_eq!(leave(&scene, from_endpoint(NET_A, 2), &call), expected);
}

fn a_published_port_on_one_network_is_answered_by_the_other<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.share_sandbox::<A>((NET_A, 2), (NET_B, 2));
    let request =
        Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(2), SPECIFIC));
    let mut packet = FROM_UPLINK.packet(request.frame());
    scene.judge(FROM_UPLINK.hook, &mut packet);
    let is_fast = datapath == Datapath::Fast;
    let expected = is_fast.then_some(Redirection::Peer(port(NET_B, 2)));
    assert_eq!(packet.redirection, expected);
    let answer = request.to((A::inside(NET_B, 2), 90)).reply();
    let expected = (Reason::PublishedReply, request.reply());
    assert_eq!(leave(&scene, from_endpoint(NET_A, 2), &answer), expected);
}
