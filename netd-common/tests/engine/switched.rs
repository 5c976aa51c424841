//! Between containers without a flow: switched within a network, routed between networks that are allowed.

use netd_common::{
    address::Port,
    header::proto,
    network::{LinkKey, NetworkFlags},
    reason::Reason,
};

use crate::{
    checksums,
    family::{Family, in_both_datapaths},
    message::{Kind, Message, NO_OPERATION, SYN},
    packet::{HostPacket, Redirection},
    place::{At, bridge_mac, from_endpoint, mac, port, slot},
    scene::{Datapath, INTERNAL, MTU, NET_A, NET_B, QUIET, Scene},
};

in_both_datapaths! {
    a_frame_for_a_neighbour_is_handed_over_as_it_is,
    only_a_frame_for_the_neighbour_itself_is_handed_over,
    without_icc_nothing_but_discovery_reaches_a_neighbour,
    without_icc_a_link_leads_to_what_it_names_and_back,
    a_packet_for_an_allowed_network_is_routed_past_the_stack,
    what_the_stack_has_to_do_for_an_allowed_network_it_does,
    an_internal_network_is_not_entered_even_if_allowed,
    traffic_between_containers_is_counted_on_both_sides,
}

const OWN: At = from_endpoint(NET_A, 2);

/// Frames of each protocol, and of none that anyone could read.
fn frames<A: Family>(src: A, dst: A) -> Vec<Vec<u8>> {
    let kinds = [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest, Kind::EchoReply, Kind::Other(47)];
    let message = |kind| Message::new(kind, (src, 5), (dst, 53));
    let mut frames = kinds.map(|kind| message(kind).frame()).to_vec();
    frames.push(message(Kind::Udp).fragment());
    frames.push(message(Kind::Udp).frame_with(1));
    frames
}

/// A frame for this MAC address.
fn addressed(frame: Vec<u8>, mac: [u8; 6]) -> HostPacket {
    let mut packet = OWN.packet(frame);
    packet.frame[..6].copy_from_slice(&mac);
    packet
}

fn a_frame_for_a_neighbour_is_handed_over_as_it_is<A: Family>(datapath: Datapath) {
    for network in [NET_A, INTERNAL] {
        let scene = Scene::on(datapath);
        for frame in frames(A::inside(network, 2), A::inside(network, 3)) {
            let mut packet = addressed(frame, mac(network, 3));
            packet.ifindex = port(network, 2);
            let before = packet.frame.clone();
            let reason = scene.judge(OWN.hook, &mut packet);
            assert_eq!(reason, Reason::SameNetworkRedirected);
            assert_eq!(packet.redirection, Some(Redirection::Peer(port(network, 3))));
            assert_eq!(packet.frame, before);
        }
        assert_eq!(scene.halves::<A>().len(), 0);
    }
}

fn only_a_frame_for_the_neighbour_itself_is_handed_over<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let neighbour = A::inside(NET_A, 3);
    for (row, dst, mac) in [
        ("the gateway", neighbour, bridge_mac(NET_A)),
        ("another container", neighbour, mac(NET_B, 2)),
        ("everybody", neighbour, [0xff; 6]),
        ("itself", A::inside(NET_A, 2), mac(NET_A, 2)),
        ("nobody that is known", A::inside(NET_A, 99), mac(NET_A, 99)),
    ] {
        for frame in frames(A::inside(NET_A, 2), dst) {
            let mut packet = addressed(frame, mac);
            assert_eq!(scene.judge(OWN.hook, &mut packet), Reason::SameNetwork, "{row}");
            assert!(!packet.is_stored, "{row}");
        }
    }
}

fn without_icc_nothing_but_discovery_reaches_a_neighbour<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (src, dst) = (A::inside(QUIET, 2), A::inside(QUIET, 3));
    for mac in [mac(QUIET, 3), bridge_mac(QUIET)] {
        for frame in frames(src, dst) {
            let mut packet = addressed(frame, mac);
            packet.ifindex = port(QUIET, 2);
            assert_eq!(scene.judge(OWN.hook, &mut packet), Reason::IccOff);
        }
    }
    if A::ICMP == 58 {
        let probe = Message::new(Kind::Icmp(135), (src, 0), (dst, 0));
        scene.stays(from_endpoint(QUIET, 2), &probe, Reason::LinkLocal);
    }
}

/// I3.
fn without_icc_a_link_leads_to_what_it_names_and_back<A: Family>(datapath: Datapath) {
    let (client, server) = ((A::inside(QUIET, 3), 40_000), (A::inside(QUIET, 2), 6379));
    // It is a wish of its own, like a published port, but nothing that strict ICC speaks of.
    for flags in [0, NetworkFlags::ICC_STRICT] {
        for (kind, proto) in [(Kind::Tcp(SYN), proto::TCP), (Kind::Udp, proto::UDP)] {
            let mut scene = Scene::on(datapath);
            scene.set(QUIET, flags);
            let sent = |scene: &Scene, from: u8, to: u8, message: &Message<A>| {
                let mut packet = addressed(message.frame(), mac(QUIET, to));
                packet.ifindex = port(QUIET, from);
                (scene.judge(OWN.hook, &mut packet), packet.redirection)
            };
            let request = Message::new(kind, client, server);
            let key = LinkKey {
                from: slot(QUIET, 3),
                to: slot(QUIET, 2),
                port: Port::new(server.1),
                proto,
                reserved: 0,
            };
            assert_eq!(sent(&scene, 3, 2, &request).0, Reason::IccOff);
            scene.tables.links.insert(key);
            // The client's socket has begun the connection by then.
            let sandbox = scene.tables.bridge_ports[&port(QUIET, 3)].sandbox;
            let socket = (sandbox, (proto, server, client));
            A::store(&scene.tables).container_sockets.borrow_mut().insert(socket);
            for (from, to, message) in [
                (3, 2, request.to((server.0, 6380))),
                (2, 3, request.reply()),
                (2, 3, Message::new(kind, (server.0, 40_000), (client.0, server.1))),
            ] {
                assert_eq!(sent(&scene, from, to, &message).0, Reason::IccOff, "{message:?}");
            }
            let (there, back) = (port(QUIET, 2), port(QUIET, 3));
            let passed = Reason::UntranslatedRedirected;
            let to = |peer| (passed, Some(Redirection::Peer(peer)));
            assert_eq!(sent(&scene, 3, 2, &request), to(there), "{kind:?}");
            // By the port that it was sent from.
            assert_eq!(sent(&scene, 2, 3, &request.reply()), to(back), "{kind:?}");
        }
    }
}

/// From NET_A to NET_B and to the internal network.
fn allowing<A: Family>(datapath: Datapath) -> (Scene, A, A) {
    let mut scene = Scene::on(datapath);
    scene.tables.isolation_sets.extend([(NET_A, NET_B), (NET_A, INTERNAL)]);
    (scene, A::inside(NET_A, 2), A::inside(NET_B, 2))
}

fn a_packet_for_an_allowed_network_is_routed_past_the_stack<A: Family>(datapath: Datapath) {
    let (scene, own, other) = allowing::<A>(datapath);
    let ttl_at = if A::ICMP == 1 { 22 } else { 21 };
    let fragment = Message::new(Kind::Udp, (own, 5), (other, 53)).fragment();
    for frame in frames(own, other) {
        if frame[ttl_at] == 1 || frame == fragment {
            continue;
        }
        let mut packet = OWN.packet(frame);
        let before = packet.frame.clone();
        let reason = scene.judge(OWN.hook, &mut packet);
        assert_eq!(reason, Reason::NetworksAllowedRedirected);
        assert_eq!(packet.redirection, Some(Redirection::Peer(port(NET_B, 2))));
        let macs = [mac(NET_B, 2), bridge_mac(NET_B)].concat();
        assert_eq!(packet.frame[..12], macs);
        assert_eq!(packet.frame[ttl_at], before[ttl_at] - 1);
        assert!(checksums::of_ip_header(&packet.frame));
        // Nothing else: with IPv4 the header's checksum goes with the hops.
        let end = if A::ICMP == 1 { 26 } else { 22 };
        assert_eq!(packet.frame[12..ttl_at], before[12..ttl_at]);
        assert_eq!(packet.frame[end..], before[end..]);
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

fn what_the_stack_has_to_do_for_an_allowed_network_it_does<A: Family>(datapath: Datapath) {
    let (mut scene, own, other) = allowing::<A>(datapath);
    let message = Message::new(Kind::Udp, (own, 5), (other, 53));
    let headers = if A::ICMP == 1 { 28 } else { 48 };
    let sized = |len: usize| Message { payload: vec![1; len - headers], ..message.clone() };
    let len = usize::from(MTU);
    let merged_of = |segment: usize| {
        let mut merged = OWN.packet(sized(5 * len).frame());
        merged.segment_len = (segment - headers) as u32;
        merged
    };
    let mut rows = vec![
        ("the last hop", OWN.packet(message.frame_with(1)), Reason::NetworksAllowed),
        ("no hop left", OWN.packet(message.frame_with(0)), Reason::NetworksAllowed),
        ("before the first fragment", OWN.packet(message.fragment()), Reason::NetworksAllowed),
        ("too large", OWN.packet(sized(len + 1).frame()), Reason::NetworksAllowed),
        ("the largest", OWN.packet(sized(len).frame()), Reason::NetworksAllowedRedirected),
        ("merged of the largest", merged_of(len), Reason::NetworksAllowedRedirected),
        ("merged of what is too large", merged_of(len + 1), Reason::NetworksAllowed),
    ];
    if A::ICMP == 1 {
        let packet = OWN.packet(message.with_ipv4_options(&NO_OPERATION));
        rows.push(("options", packet, Reason::NetworksAllowed));
    }
    for (row, mut packet, reason) in rows {
        assert_eq!(scene.judge(OWN.hook, &mut packet), reason, "{row}");
    }
    let mut packet = OWN.packet(message.frame());
    packet.has_memory = false;
    assert_eq!(scene.judge(OWN.hook, &mut packet), Reason::NoMemory);
    A::store_mut(&mut scene.tables).endpoints.remove(&other);
    scene.stays(OWN, &message, Reason::NetworksAllowed);
}

fn an_internal_network_is_not_entered_even_if_allowed<A: Family>(datapath: Datapath) {
    let (scene, own, _) = allowing::<A>(datapath);
    for dst in [A::inside(INTERNAL, 2), A::inside(INTERNAL, 99)] {
        for frame in frames(own, dst) {
            scene.judges(&[("redirected or not", OWN, frame, Reason::InternalNetwork)]);
        }
    }
}

fn traffic_between_containers_is_counted_on_both_sides<A: Family>(datapath: Datapath) {
    let (scene, own, other) = allowing::<A>(datapath);
    let neighbour = A::inside(NET_A, 3);
    let frame = |dst| Message::new(Kind::Udp, (own, 5), (dst, 53)).frame();
    let mut switched = addressed(frame(neighbour), mac(NET_A, 3));
    let mut routed = OWN.packet(frame(other));
    let len = routed.frame.len() as u64;
    for packet in [&mut switched, &mut routed] {
        scene.judge(OWN.hook, packet);
    }
    let traffic = scene.tables.traffic.borrow();
    let sent = traffic[&slot(NET_A, 2)].sent;
    assert_eq!((sent.packets, sent.bytes), (2, 2 * len));
    for receiver in [slot(NET_A, 3), slot(NET_B, 2)] {
        let received = traffic[&receiver].received;
        assert_eq!((received.packets, received.bytes), (1, len));
    }
    assert_eq!(traffic.len(), 3, "{traffic:?}");
}
