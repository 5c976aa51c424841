//! ICMP errors between containers, by them and by the host (dataplane.md A.5, walks W6 to W8).

use netd_common::reason::Reason;

use crate::{
    family::{Family, in_both_families},
    icmp_error::{IcmpError, becomes, ip_header_len},
    message::{Kind, Message, SYN},
    place::{bridge_mac, from_endpoint, mac, port, to_endpoint},
    scene::{DNS, Datapath, FIXED, NET_A, NET_B, PLAIN, QUIET, Scene, WEB, WEB_TOO},
};

in_both_families! {
    between_containers_errors_go_the_way_of_the_flow,
    the_host_reports_of_a_packet_between_containers,
    without_a_flow_an_error_goes_where_its_sender_may_reach,
}

/// W6 to W8: the client knows the published port, and the server the client or a gateway.
fn between_containers_errors_go_the_way_of_the_flow<A: Family>() {
    for datapath in [Datapath::Stack, Datapath::Fast] {
        for client in [(NET_A, 2), (NET_A, 3), (NET_B, 2)] {
            let scene = Scene::on(datapath);
            let (at, server) = (from_endpoint(client.0, client.1), from_endpoint(NET_A, 2));
            let own = (A::inside(client.0, client.1), 40_000);
            let request = Message::<A>::new(Kind::Udp, own, (A::host(1), DNS));
            let (_, inside) = scene.pass(at, &request);
            let redirected = Reason::IcmpErrorOfFlowRedirected;
            let error = IcmpError::about(&inside, A::inside(NET_A, 2));
            becomes(&scene, server, &error, redirected, &error.translated(A::host(1), &request));
            let error = IcmpError::about(&request.reply(), own.0);
            let expected = error.translated(inside.src.0, &inside.reply());
            becomes(&scene, at, &error, redirected, &expected);
        }
    }
}

/// Out of hops, or too large for the other's network. The stack is given it with the sender's own address.
fn the_host_reports_of_a_packet_between_containers<A: Family>() {
    let clients = [(NET_A, 2), (NET_A, 3), (NET_B, 2), (FIXED, 2), (PLAIN, 2)];
    let server = (NET_A, 2);
    for (client, is_port_taken) in
        clients.iter().flat_map(|&client| [(client, false), (client, true)])
    {
        let scene = Scene::new();
        let own = (A::inside(client.0, client.1), 40_000);
        let request = Message::<A>::new(Kind::Tcp(SYN), own, (A::host(1), WEB));
        let at = from_endpoint(client.0, client.1);
        if is_port_taken {
            scene.pass(at, &request.to((A::host(1), WEB_TOO)));
        }
        let (_, inside) = scene.pass(at, &request);
        assert_eq!(inside.src.1 != own.1, is_port_taken);
        let sent = request.frame_with(1);
        let error = refusal(&scene, client, &sent);
        let expected = IcmpError { src: A::host(1), quote: sent[14..].to_vec(), ..error.clone() };
        let to_client = to_endpoint(client.0, client.1, 0);
        becomes(&scene, to_client, &error, Reason::IcmpErrorOfFlow, &expected);

        let sent = inside.reply().frame_with(1);
        let error = refusal(&scene, server, &sent);
        let expected = IcmpError { quote: sent[14..].to_vec(), ..error.clone() };
        let src = if inside.src.0 == A::host(9) { A::host(9) } else { error.src };
        let is_translated = error.quote != expected.quote;
        assert_eq!(is_translated, inside.src.0 != own.0, "{client:?}");
        let reason = if is_translated { Reason::IcmpErrorOfFlow } else { Reason::HostToContainer };
        let expected = IcmpError { src, ..expected };
        becomes(&scene, to_endpoint(server.0, server.1, 0), &error, reason, &expected);
    }
}

/// What the host's stack says of a container's frame.
fn refusal<A: Family>(scene: &Scene, from: (u16, u8), frame: &[u8]) -> IcmpError<A> {
    let at = from_endpoint(from.0, from.1);
    let mut packet = at.packet(frame.to_vec());
    assert_eq!(scene.judge(at.hook, &mut packet), Reason::NotDeliverable);
    let message = Message::<A>::read(&packet.frame);
    let gateway = A::inside(from.0, 1);
    IcmpError { quote: packet.frame[14..].to_vec(), ..IcmpError::about(&message, gateway) }
}

/// Errors are no packets of a flow, so it is asked who may reach whom, as of any packet.
fn without_a_flow_an_error_goes_where_its_sender_may_reach<A: Family>() {
    for datapath in [Datapath::Stack, Datapath::Fast] {
        let mut scene = Scene::on(datapath);
        let quote_at = 14 + ip_header_len::<A>() + 8;
        let about = |from: (u16, u8), to: (u16, u8)| {
            let ends = ((A::inside(from.0, from.1), 5000), (A::inside(to.0, to.1), 53));
            let message = Message::<A>::new(Kind::Udp, ends.0, ends.1);
            IcmpError::about(&message, ends.1.0).frame()
        };
        let (a, b) = ((NET_A, 2), (NET_B, 2));
        let apart = Reason::NetworksApart;
        scene.judges(&[("apart", from_endpoint(b.0, b.1), about(a, b), apart)]);
        scene.judges(&[(
            "without icc",
            to_endpoint(QUIET, 2, port(QUIET, 3)),
            about((QUIET, 2), (QUIET, 3)),
            Reason::IccOff,
        )]);
        for pair in [(NET_A, NET_B), (NET_B, NET_A)] {
            scene.tables.isolation_sets.insert(pair);
        }
        for (from, to) in [(a, b), (a, (NET_A, 3))] {
            let at = from_endpoint(to.0, to.1);
            let mut packet = at.packet(about(from, to));
            let mac = if to.0 == from.0 { mac(from.0, from.1) } else { bridge_mac(to.0) };
            packet.frame[..6].copy_from_slice(&mac);
            let before = packet.frame[quote_at..].to_vec();
            let reason = scene.judge(at.hook, &mut packet);
            let known = [Reason::NetworksAllowedRedirected, Reason::SameNetworkRedirected];
            assert!(known.contains(&reason), "{reason:?}");
            // What it quotes is as it was.
            assert_eq!(packet.frame[quote_at..], before);
        }
    }
}
