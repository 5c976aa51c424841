//! Single packets of a redirected flow that take the host's stack, which alone can do with them what is
//! to be done: an ICMP error, fragments, options.

use netd_common::reason::Reason;

use crate::{
    checksums,
    family::{Family, in_both_families},
    message::{ACK, Kind, Message, NO_OPERATION},
    packet::{HostPacket, Redirection},
    place::{At, FROM_UPLINK, Hook, TO_UPLINK, bridge, from_endpoint, port},
    runs::plain,
    scene::{Datapath, MTU, NET_A, Scene, UPLINK, WEB},
    tables::{HostRoute, Uplink},
};

in_both_families! {
    what_only_the_stack_can_do_goes_through_it,
    the_first_packet_may_take_the_stack_and_the_next_one_need_not,
    a_reply_that_does_not_fit_the_uplink_takes_the_stack,
    a_device_without_ethernet_header_is_never_redirected_to_or_from,
    a_flow_may_change_to_an_uplink_without_ethernet_header,
}

const TCP_HEADER_LEN: usize = 20;

fn ip_header_len<A: Family>() -> usize {
    if A::ICMP == 1 { 20 } else { 40 }
}

/// What a message becomes before it is sent.
type Change<A> = fn(&Message<A>) -> HostPacket;

fn packet(frame: Vec<u8>) -> HostPacket {
    HostPacket::new(frame, 0, 0)
}

/// An IP packet of this length.
fn sized<A: Family>(message: &Message<A>, len: usize) -> HostPacket {
    let payload = vec![0x55; len - ip_header_len::<A>() - TCP_HEADER_LEN];
    packet(Message { payload, ..message.clone() }.frame())
}

/// Several packets merged into one, the largest of this length.
fn merged<A: Family>(message: &Message<A>, len: usize) -> HostPacket {
    let mut packet = sized(message, 5 * len);
    packet.segment_len = (len - ip_header_len::<A>() - TCP_HEADER_LEN) as u32;
    packet
}

fn with_options<A: Family>(message: &Message<A>) -> HostPacket {
    packet(message.with_ipv4_options(&NO_OPERATION))
}

/// What it shows, how the packet looks, and whether it may be redirected.
type Row<A> = (&'static str, Change<A>, bool);

fn rows<A: Family>() -> Vec<Row<A>> {
    const LEN: usize = MTU as usize;
    let mut rows: Vec<Row<A>> = vec![
        ("as usual", |message| packet(message.frame()), true),
        ("two hops to go", |message| packet(message.frame_with(2)), true),
        ("the last hop", |message| packet(message.frame_with(1)), false),
        ("no hop left", |message| packet(message.frame_with(0)), false),
        ("the largest", |message| sized(message, LEN), true),
        ("too large", |message| sized(message, LEN + 1), false),
        ("merged of the largest", |message| merged(message, LEN), true),
        ("merged of what is too large", |message| merged(message, LEN + 1), false),
    ];
    if A::ICMP == 1 {
        rows.push(("options", with_options, false));
    }
    rows
}

/// Sends a packet to one hook, and holds its bytes to what may change.
#[track_caller]
fn judge<A: Family>(scene: &Scene, at: At, packet: &HostPacket) -> (Reason, HostPacket) {
    let segment_len = packet.segment_len;
    let mut packet = at.packet(packet.frame.clone());
    packet.segment_len = segment_len;
    let ttl_at = if A::ICMP == 1 { 22 } else { 21 };
    let before = packet.frame[ttl_at];
    let reason = scene.judge(at.hook, &mut packet);
    let hops = u8::from(packet.redirection.is_some());
    assert_eq!(packet.frame[ttl_at], before - hops, "{reason:?}");
    assert!(checksums::of_ip_header(&packet.frame), "{reason:?}");
    assert!(checksums::of_transport(&packet.frame), "{reason:?}");
    (reason, packet)
}

fn web<A: Family>() -> Message<A> {
    Message::new(Kind::Tcp(ACK), (A::outside(7), 40_000), (A::host(1), WEB))
}

fn call<A: Family>() -> Message<A> {
    Message::new(Kind::Tcp(ACK), (A::inside(NET_A, 2), 5000), (A::outside(9), 443))
}

const OWN: At = from_endpoint(NET_A, 2);
const CONTAINER: Option<Redirection> = Some(Redirection::Peer(port(NET_A, 2)));

fn what_only_the_stack_can_do_goes_through_it<A: Family>() {
    let mut scene = Scene::on(Datapath::Fast);
    // The uplink takes what the containers do, so that the same rows hold for both ways.
    let uplink = Uplink { mtu: MTU.into(), ..Uplink::ethernet(UPLINK, A::outside(1)) };
    A::store_mut(&mut scene.tables).default_route = HostRoute::Uplink(uplink);
    let answer = web::<A>().to((A::inside(NET_A, 2), 80)).reply();
    scene.pass::<A>(FROM_UPLINK, &web());
    scene.pass::<A>(OWN, &call());
    for (row, change, is_redirected) in rows::<A>() {
        let (reason, packet) = judge::<A>(&scene, FROM_UPLINK, &change(&web()));
        assert_eq!(plain(reason), Reason::Published, "{row}");
        assert_eq!(packet.redirection, CONTAINER.filter(|_| is_redirected), "{row}");
        for (message, expected) in
            [(&answer, Reason::PublishedReply), (&call(), Reason::Masqueraded)]
        {
            let (reason, packet) = judge::<A>(&scene, OWN, &change(message));
            if is_redirected {
                assert_eq!(plain(reason), expected, "{row}");
                let way_out = Redirection::Out(UPLINK, uplink.next_hop);
                assert_eq!(packet.redirection, Some(way_out), "{row}");
                continue;
            }
            // Untouched so far; translated where it leaves.
            assert_eq!(reason, Reason::ContainerToOutside, "{row}");
            let (reason, _) = judge::<A>(&scene, TO_UPLINK, &packet);
            assert_eq!(reason, expected, "{row}");
        }
    }
    assert_eq!(scene.halves::<A>().len(), 4);
}

fn the_first_packet_may_take_the_stack_and_the_next_one_need_not<A: Family>() {
    for (row, change, is_redirected) in rows::<A>() {
        let scene = Scene::on(Datapath::Fast);
        let (reason, _) = judge::<A>(&scene, FROM_UPLINK, &change(&web()));
        assert_eq!(reason == Reason::PublishedRedirected, is_redirected, "{row}");
        assert_eq!(scene.pass::<A>(FROM_UPLINK, &web()).0, Reason::PublishedRedirected, "{row}");

        let scene = Scene::on(Datapath::Fast);
        let packet = change(&call());
        if judge::<A>(&scene, OWN, &packet).0 == Reason::ContainerToOutside {
            assert_eq!(judge::<A>(&scene, TO_UPLINK, &packet).0, Reason::Masqueraded, "{row}");
        }
        assert_eq!(scene.pass::<A>(OWN, &call()).0, Reason::MasqueradedRedirected, "{row}");
        assert_eq!(scene.halves::<A>().len(), 2, "{row}");
    }
}

fn a_reply_that_does_not_fit_the_uplink_takes_the_stack<A: Family>() {
    let mut scene = Scene::on(Datapath::Fast);
    let narrow = Uplink { mtu: 1280, ..Uplink::ethernet(UPLINK, A::outside(1)) };
    A::store_mut(&mut scene.tables).default_route = HostRoute::Uplink(narrow);
    scene.pass::<A>(FROM_UPLINK, &web());
    let answer = web::<A>().to((A::inside(NET_A, 2), 80)).reply();
    for (packet, is_redirected) in [
        (sized(&answer, 1280), true),
        (sized(&answer, 1281), false),
        (merged(&answer, 1280), true),
        (merged(&answer, 1281), false),
    ] {
        let (reason, _) = judge::<A>(&scene, OWN, &packet);
        let expected = if is_redirected {
            Reason::PublishedReplyRedirected
        } else {
            Reason::ContainerToOutside
        };
        assert_eq!(reason, expected, "{} of {}", packet.frame.len(), packet.segment_len);
    }
}

/// A host whose default route leads out of a tun device.
fn with_tun<A: Family>(mut scene: Scene) -> Scene {
    let ethernet = Uplink::ethernet(UPLINK, A::outside(1));
    let flags = netd_common::network::UplinkFlags::PRESENT;
    A::store_mut(&mut scene.tables).default_route = HostRoute::Uplink(Uplink { flags, ..ethernet });
    scene
}

/// Runs a hook of a device without link-layer header.
#[track_caller]
fn on_tun<A: Family>(scene: &Scene, hook: Hook, message: &Message<A>) -> (Reason, Message<A>) {
    let ingress = if hook == Hook::FromUplink { UPLINK } else { bridge(NET_A) };
    let mut packet = HostPacket::new(message.frame(), UPLINK, ingress).without_ethernet();
    let reason = scene.judge(hook, &mut packet);
    let after = Message::read(&[&message.frame()[..14], &packet.frame].concat());
    assert_eq!(packet.frame, after.frame()[14..], "{message:?}: {reason:?}");
    (reason, after)
}

fn a_device_without_ethernet_header_is_never_redirected_to_or_from<A: Family>() {
    let scene = with_tun::<A>(Scene::on(Datapath::Fast));
    let inside = web::<A>().to((A::inside(NET_A, 2), 80));
    let outside = call::<A>().from((A::host(1), 5000));
    for _ in 0..2 {
        let published = (Reason::Published, inside.clone());
        assert_eq!(on_tun(&scene, Hook::FromUplink, &web()), published);
        scene.stays(OWN, &inside.reply(), Reason::ContainerToOutside);
        let answer = (Reason::PublishedReply, web::<A>().reply());
        assert_eq!(on_tun(&scene, Hook::ToUplink, &inside.reply()), answer);

        scene.stays::<A>(OWN, &call(), Reason::ContainerToOutside);
        let masqueraded = (Reason::Masqueraded, outside.clone());
        assert_eq!(on_tun(&scene, Hook::ToUplink, &call()), masqueraded);
        let entering = (Reason::MasqueradeReply, outside.reply().to(call::<A>().src));
        assert_eq!(on_tun(&scene, Hook::FromUplink, &outside.reply()), entering);
    }
}

fn a_flow_may_change_to_an_uplink_without_ethernet_header<A: Family>() {
    let scene = Scene::on(Datapath::Fast);
    let inside = web::<A>().to((A::inside(NET_A, 2), 80));
    assert_eq!(scene.pass::<A>(FROM_UPLINK, &web()).0, Reason::PublishedRedirected);
    assert_eq!(scene.pass::<A>(OWN, &call()).0, Reason::MasqueradedRedirected);
    let scene = with_tun::<A>(scene);
    assert_eq!(on_tun::<A>(&scene, Hook::FromUplink, &web()), (Reason::Published, inside.clone()));
    for (message, reason) in
        [(inside.reply(), Reason::PublishedReply), (call(), Reason::Masqueraded)]
    {
        scene.stays(OWN, &message, Reason::ContainerToOutside);
        assert_eq!(on_tun(&scene, Hook::ToUplink, &message).0, reason);
    }
    assert_eq!(scene.halves::<A>().len(), 4);
}
