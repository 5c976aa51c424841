//! `strict_src`: a container sends from the addresses and the MAC address that it was given.

use netd_common::{network::NetworkFlags, reason::Reason};

use crate::{
    family::{Family, in_both_datapaths},
    message::{Kind, Message, SYN},
    place::{At, from_endpoint, mac},
    runs::plain,
    scene::{Datapath, NET_A, NET_B, Scene, WEB},
};

in_both_datapaths! {
    only_its_own_addresses_are_a_containers,
    only_its_own_mac_address_is_a_containers,
    what_needs_no_address_is_sent_all_the_same,
}

const OWN: At = from_endpoint(NET_A, 2);

fn strict(datapath: Datapath) -> Scene {
    let mut scene = Scene::on(datapath);
    scene.set(NET_A, NetworkFlags::STRICT_SOURCE);
    scene
}

fn message<A: Family>(src: A, dst: A) -> Message<A> {
    Message::new(Kind::Tcp(SYN), (src, 5000), (dst, WEB))
}

fn only_its_own_addresses_are_a_containers<A: Family>(datapath: Datapath) {
    let mut scene = strict(datapath);
    scene.share_sandbox::<A>((NET_A, 2), (NET_B, 2));
    let everywhere = [A::outside(9), A::host(1), A::inside(NET_A, 1), A::inside(NET_A, 3)];
    for (row, src, is_own) in [
        ("own", A::inside(NET_A, 2), true),
        ("own, on another network", A::inside(NET_B, 2), true),
        ("a neighbour's", A::inside(NET_A, 3), false),
        ("nobody's", A::inside(NET_A, 77), false),
        ("the gateway's", A::inside(NET_A, 1), false),
        ("outside", A::outside(7), false),
        ("none", A::UNSPECIFIED, false),
    ] {
        for dst in everywhere {
            let (reason, after) = scene.pass(OWN, &message(src, dst));
            assert_eq!(reason != Reason::ForgedSource, is_own, "{row} to {dst:?}: {reason:?}");
            assert!(is_own || after == message(src, dst), "{row} to {dst:?}");
        }
        let fragment = message(src, A::outside(9)).with_kind(Kind::Udp).fragment();
        let expected = if is_own { Reason::FragmentHeld } else { Reason::ForgedSource };
        scene.judges(&[(row, OWN, fragment, expected)]);
    }
    // Nor does a flow that another has begun let it.
    let neighbours = message(A::inside(NET_A, 3), A::outside(9));
    let (begun, _) = scene.pass(from_endpoint(NET_A, 3), &neighbours);
    assert!([Reason::Masqueraded, Reason::ContainerToOutside].contains(&plain(begun)));
    scene.stays(OWN, &neighbours, Reason::ForgedSource);
    // Other networks are as they were.
    let unknown = message(A::inside(NET_B, 77), A::outside(9));
    scene.stays(from_endpoint(NET_B, 2), &unknown, Reason::ContainerToOutside);
}

fn only_its_own_mac_address_is_a_containers<A: Family>(datapath: Datapath) {
    for (scene, expected) in
        [(strict(datapath), Reason::ForgedSource), (Scene::on(datapath), Reason::SameNetwork)]
    {
        for forged in [mac(NET_A, 3), mac(NET_B, 2), [0; 6], [0xff; 6]] {
            let mut packet = OWN.packet(message(A::inside(NET_A, 2), A::inside(NET_A, 3)).frame());
            packet.frame[6..12].copy_from_slice(&forged);
            assert_eq!(scene.judge(OWN.hook, &mut packet), expected);
        }
    }
}

fn what_needs_no_address_is_sent_all_the_same<A: Family>(datapath: Datapath) {
    let scene = strict(datapath);
    let mut rows = vec![
        ("multicast", message(A::inside(NET_A, 2), A::MULTICAST), Reason::Multicast),
        ("from none", message(A::UNSPECIFIED, A::MULTICAST), Reason::Multicast),
        ("a neighbour's", message(A::inside(NET_A, 3), A::MULTICAST), Reason::ForgedSource),
        ("loopback", message(A::LOOPBACK, A::outside(9)), Reason::LoopbackAddress),
    ];
    if A::ICMP == 58 {
        let probe = message(A::LINK_LOCAL, A::inside(NET_A, 1)).with_kind(Kind::Icmp(135));
        rows.push((
            "discovery",
            Message { src: (A::LINK_LOCAL, 0), dst: (probe.dst.0, 0), ..probe },
            Reason::LinkLocal,
        ));
    }
    for (row, message, reason) in rows {
        scene.judges(&[(row, OWN, message.frame(), reason)]);
    }
}
