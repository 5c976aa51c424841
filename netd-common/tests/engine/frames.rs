//! What is decided before the IP header is read, or by its addresses alone.

use netd_common::reason::Reason;

use crate::{
    family::{Family, in_both_families},
    message::{Kind, Message, SYN},
    packet::HostPacket,
    place::{At, FROM_UPLINK, Hook, TO_UPLINK, bridge, from_endpoint, port, to_endpoint},
    scene::{NET_A, NET_B, QUIET, Scene, UPLINK, WEB},
};

in_both_families! {
    frames_that_are_not_plain_ip_are_never_touched,
    a_tagged_frame_is_switched_where_an_untagged_one_is,
}

fn frames_that_are_not_plain_ip_are_never_touched<A: Family>() {
    let scene = Scene::new();
    let message = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), WEB));
    let with_ethertype = |ethertype: [u8; 2]| {
        let mut frame = message.frame();
        frame[12..14].copy_from_slice(&ethertype);
        frame
    };
    let with_tag = |tag: [u8; 4]| {
        let mut frame = message.frame();
        frame.splice(12..12, tag);
        frame
    };
    let places =
        [FROM_UPLINK, TO_UPLINK, from_endpoint(NET_A, 2), to_endpoint(NET_A, 2, port(NET_A, 3))];
    for at in places {
        scene.judges(&[
            ("arp", at, with_ethertype([0x08, 0x06]), Reason::NotIp),
            ("lldp", at, with_ethertype([0x88, 0xcc]), Reason::NotIp),
            ("802.1Q", at, with_tag([0x81, 0x00, 0xa0, 0x05]), Reason::Vlan),
            ("802.1ad", at, with_tag([0x88, 0xa8, 0x0f, 0xff]), Reason::Vlan),
            // The kernel takes off both tags of two that name no VLAN; one it has taken off before.
            ("priority", at, with_tag([0x81, 0x00, 0xa0, 0x00]), Reason::Malformed),
            ("outer priority", at, with_tag([0x88, 0xa8, 0x00, 0x00]), Reason::Malformed),
            ("cut", at, with_tag([0x81, 0x00, 0, 5])[..15].to_vec(), Reason::Malformed),
        ]);
        let mut tagged = HostPacket::new(message.frame(), at.ifindex, at.ingress);
        tagged.has_vlan_tag = true;
        assert_eq!(scene.judge(at.hook, &mut tagged), Reason::Vlan);
    }
    let mut others = HostPacket::new(message.frame(), UPLINK, UPLINK);
    others.is_to_this_host = false;
    assert_eq!(scene.judge(Hook::FromUplink, &mut others), Reason::OtherHost);
    let rows = [
        ("loopback source", message.from((A::LOOPBACK, 1)), Reason::LoopbackAddress),
        ("loopback destination", message.to((A::LOOPBACK, 1)), Reason::LoopbackAddress),
        ("multicast", message.to((A::MULTICAST, 1)), Reason::Multicast),
    ];
    for (row, message, reason) in rows {
        scene.judges(&[(row, FROM_UPLINK, message.frame(), reason)]);
    }
}

fn a_tagged_frame_is_switched_where_an_untagged_one_is<A: Family>() {
    let mut scene = Scene::new();
    // A network that is being torn down.
    scene.tables.networks.remove(&NET_B);
    let message = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 3), 5), (A::inside(NET_A, 2), 53));
    let mut tagged = message.frame();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    let to_nobody = At { ifindex: 999, ..to_endpoint(NET_A, 2, port(NET_A, 3)) };
    for (row, at, reason) in [
        ("icc", to_endpoint(NET_A, 2, port(NET_A, 3)), Reason::Vlan),
        ("no icc", to_endpoint(QUIET, 2, port(QUIET, 3)), Reason::IccOff),
        ("another bridge's port", to_endpoint(NET_A, 2, port(QUIET, 2)), Reason::IccOff),
        ("the host", to_endpoint(NET_A, 2, 0), Reason::HostToContainer),
        ("the bridge", to_endpoint(NET_A, 2, bridge(NET_A)), Reason::UnknownPort),
        ("an uplink", to_endpoint(NET_A, 2, UPLINK), Reason::UnknownPort),
        ("an unknown port", to_endpoint(QUIET, 2, 999), Reason::UnknownPort),
        ("to an unknown port", to_nobody, Reason::UnknownPort),
        ("no network", to_endpoint(NET_B, 2, port(NET_B, 2)), Reason::UnknownPort),
    ] {
        scene.judges(&[(row, at, tagged.clone(), reason)]);
        let mut taken_off = HostPacket::new(message.frame(), at.ifindex, at.ingress);
        taken_off.has_vlan_tag = true;
        assert_eq!(scene.judge(at.hook, &mut taken_off), reason, "{row}");
    }
}
