//! The life of a flow between containers: what cannot be handed over, what is counted, and what ends it.

use netd_common::{
    conntrack::{CtFlags, Scope},
    engine::{self, Expiry},
    reason::Reason,
};

use crate::{
    checksums,
    family::{Family, in_both_datapaths},
    message::{ACK, End, FIN, Kind, Message, NO_OPERATION, SYN},
    place::{At, bridge, bridge_mac, from_endpoint, mac, slot, to_endpoint},
    runs::plain,
    scene::{Datapath, MTU, NET_A, NET_B, QUIET, Scene, WEB, WEB_SLOT},
};

in_both_datapaths! {
    what_cannot_be_handed_over_is_given_to_the_stack_to_answer,
    a_neighbours_packet_with_options_arrives_by_the_stack,
    without_memory_a_packet_is_dropped_as_it_came,
    both_halves_say_whose_the_flow_is,
    traffic_is_counted_by_published_port_and_on_both_sides,
    a_flow_ends_with_its_client_its_server_and_its_published_port,
}

/// A client and what it asks a published port of NET_A for: its own, a neighbour's, another network's.
const CLIENTS: [(u16, u8); 3] = [(NET_A, 2), (NET_A, 3), (NET_B, 2)];
const SERVER: At = from_endpoint(NET_A, 2);

fn request<A: Family>((network, n): (u16, u8)) -> Message<A> {
    let own = (A::inside(network, n), 40_000);
    Message::new(Kind::Tcp(SYN), own, (A::host(1), WEB))
}

/// Begins a flow: the client's request and what the server sees of it.
#[track_caller]
fn begin<A: Family>(scene: &Scene, client: (u16, u8)) -> (Message<A>, Message<A>) {
    let request = request(client);
    let (reason, inside) = scene.pass(from_endpoint(client.0, client.1), &request);
    assert_eq!(reason, Reason::PublishedRedirected);
    (request, inside)
}

/// What the container's end may not be handed: too large, merged of what is too large, out of hops.
fn undeliverable<A: Family>(message: &Message<A>) -> Vec<(&'static str, Vec<u8>, u32)> {
    let headers = if A::ICMP == 1 { 40 } else { 60 };
    let message = message.with_kind(Kind::Tcp(ACK));
    let sized = |len| Message { payload: vec![7; len - headers], ..message.clone() }.frame();
    let len = usize::from(MTU);
    let mut rows = vec![
        ("too large", sized(len + 1), 0),
        ("merged of what is too large", sized(3 * len), (len + 1 - headers) as u32),
        ("the last hop", message.frame_with(1), 0),
        ("no hop left", message.frame_with(0), 0),
    ];
    if A::ICMP == 1 {
        rows.push(("options", message.with_ipv4_options(&NO_OPERATION), 0));
    }
    rows
}

/// The server's end is rewritten and nothing else: the stack would not route what comes from the gateway.
fn what_cannot_be_handed_over_is_given_to_the_stack_to_answer<A: Family>(datapath: Datapath) {
    for client in CLIENTS {
        let scene = Scene::on(datapath);
        let (request, inside) = begin::<A>(&scene, client);
        let answer = inside.reply();
        let (at, to_server) = (from_endpoint(client.0, client.1), (A::inside(NET_A, 2), 80));
        for (at, message, dst) in [(at, &request, to_server), (SERVER, &answer, request.src)] {
            for (row, frame, segment_len) in undeliverable(message) {
                let mut packet = at.packet(frame);
                packet.segment_len = segment_len;
                // To a neighbour's own MAC address, as an answer to one is.
                packet.frame[..6].copy_from_slice(&mac(NET_A, 9));
                let before = packet.frame.clone();
                assert_eq!(scene.judge(at.hook, &mut packet), Reason::NotDeliverable, "{row}");
                expect_sent_to(&packet.frame, &before, at, dst);
            }
        }
        assert_eq!(scene.halves::<A>().len(), 2);
    }
}

/// The frame is as before but for its destination, the gateway on the link.
#[track_caller]
fn expect_sent_to<A: Family>(after: &[u8], before: &[u8], at: At, dst: End<A>) {
    let network = (at.ifindex / 100) as u16;
    assert_eq!(after[..6], bridge_mac(network));
    assert_eq!(after[6..14], before[6..14]);
    assert!(checksums::of_ip_header(after) && checksums::of_transport(after));
    let is_v4 = A::ICMP == 1;
    let ip_len = if is_v4 { usize::from(before[14] & 0xf) * 4 } else { 40 };
    let (l4, dst_at, dst_end) = if is_v4 { (14 + ip_len, 30, 34) } else { (14 + ip_len, 38, 54) };
    assert_eq!(after[dst_at..dst_end], bytemuck::bytes_of(&dst.0)[..]);
    assert_eq!(after[l4 + 2..l4 + 4], dst.1.to_be_bytes());
    // All but the checksums in between, which were looked at.
    let kept = [14..if is_v4 { 24 } else { 38 }, if is_v4 { 26..30 } else { 22..38 }, l4..l4 + 2];
    for range in kept {
        assert_eq!(after[range.clone()], before[range]);
    }
    assert_eq!(after[l4 + 4..l4 + 16], before[l4 + 4..l4 + 16]);
    assert_eq!(after[l4 + 18..], before[l4 + 18..]);
}

fn a_neighbours_packet_with_options_arrives_by_the_stack<A: Family>(datapath: Datapath) {
    if A::ICMP == 58 {
        return;
    }
    let scene = Scene::on(datapath);
    let (request, inside) = begin::<A>(&scene, (NET_A, 3));
    let at = from_endpoint(NET_A, 3);
    let mut packet = at.packet(request.with_ipv4_options(&NO_OPERATION));
    assert_eq!(scene.judge(at.hook, &mut packet), Reason::NotDeliverable);
    assert_eq!(packet.frame[14..], inside.with_ipv4_options(&NO_OPERATION)[14..]);
    let entering = to_endpoint(NET_A, 2, bridge(NET_A));
    let mut packet = entering.packet(packet.frame);
    assert_eq!(scene.judge(entering.hook, &mut packet), Reason::FlowToContainer);
}

fn without_memory_a_packet_is_dropped_as_it_came<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    for client in CLIENTS {
        let at = from_endpoint(client.0, client.1);
        // The first packet, and one of a flow that there is.
        for _ in 0..2 {
            let mut packet = at.packet(request::<A>(client).frame());
            packet.has_memory = false;
            assert_eq!(scene.judge(at.hook, &mut packet), Reason::NoMemory);
        }
    }
}

fn both_halves_say_whose_the_flow_is<A: Family>(datapath: Datapath) {
    for (client, snat) in CLIENTS.into_iter().zip([CtFlags::SNAT, 0, CtFlags::SNAT]) {
        let scene = Scene::on(datapath);
        begin::<A>(&scene, client);
        let flags = CtFlags::DNAT | snat;
        for (key, half) in scene.halves::<A>() {
            assert_eq!(key.scope, Scope::Endpoint as u8);
            assert_eq!(half.peer_scope, Scope::Endpoint as u8);
            assert_eq!(half.flags & !CtFlags::REPLY, flags);
            assert_eq!((half.slot, half.endpoint_slot), (WEB_SLOT, slot(client.0, client.1)));
            assert_eq!((half.network, half.mtu), (NET_A, MTU));
            let receiver = if half.is_reply() { client } else { (NET_A, 2) };
            assert_eq!(half.redirect.slot, slot(receiver.0, receiver.1));
        }
    }
}

fn traffic_is_counted_by_published_port_and_on_both_sides<A: Family>(datapath: Datapath) {
    for client in CLIENTS {
        let scene = Scene::on(datapath);
        let (request, inside) = begin::<A>(&scene, client);
        let (_, answer) = scene.pass(SERVER, &inside.reply());
        let len = |message: &Message<A>| message.frame().len() as u64;
        let (asked, answered) = (len(&request), len(&answer));
        let (client, server) = (slot(client.0, client.1), slot(NET_A, 2));
        let traffic = scene.tables.traffic.borrow();
        let bytes = |slot| (traffic[&slot].received.bytes, traffic[&slot].sent.bytes);
        assert_eq!(bytes(WEB_SLOT), (asked, answered));
        if client == server {
            assert_eq!(bytes(client), (asked + answered, asked + answered));
        } else {
            assert_eq!(bytes(server), (asked, answered));
            assert_eq!(bytes(client), (answered, asked));
        }
        assert_eq!((traffic[&WEB_SLOT].flows, traffic[&client].flows), (1, 0));
    }
}

fn a_flow_ends_with_its_client_its_server_and_its_published_port<A: Family>(datapath: Datapath) {
    for client in CLIENTS {
        // With the server its published ports go.
        for ending in [slot(client.0, client.1), WEB_SLOT] {
            let scene = Scene::on(datapath);
            let (request, inside) = begin::<A>(&scene, client);
            let key = scene.halves::<A>()[0].0;
            assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live);
            scene.bump_generation(ending);
            let answer = inside.reply().with_kind(Kind::Tcp(FIN | ACK));
            let (reason, after) = scene.pass(SERVER, &answer);
            let expected =
                if client == (NET_A, 3) { Reason::SameNetwork } else { Reason::ContainerToHost };
            assert_eq!((plain(reason), after), (expected, answer), "{client:?} {ending}");
            assert_eq!(scene.halves::<A>().len(), 0, "{client:?} {ending}");
            // What is asked for again begins anew.
            assert_eq!(begin::<A>(&scene, client), (request, inside));
            let key = scene.halves::<A>()[0].0;
            scene.bump_generation(ending);
            assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Removed);
            assert_eq!(scene.halves::<A>().len(), 0);
        }
    }
    // A container that takes a dead client's address gets none of its answers where icc is off.
    let scene = Scene::on(datapath);
    let own = (A::inside(QUIET, 3), 40_000);
    let request = Message::new(Kind::Tcp(SYN), own, (A::host(1), crate::scene::SHY));
    let (_, inside) = scene.pass(from_endpoint(QUIET, 3), &request);
    scene.bump_generation(slot(QUIET, 3));
    scene.stays(from_endpoint(QUIET, 2), &inside.reply(), Reason::IccOff);
}
