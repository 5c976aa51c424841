//! ICMP errors about flows, in all four directions (dataplane.md A.6; RFC 5508 REQ-3 to REQ-7).

use netd_common::{config::ConfigFlags, conntrack::CtKey, reason::Reason};

use crate::{
    family::{Family, in_both_datapaths, in_both_families},
    icmp_error::{IcmpError, ROUTER, becomes, masqueraded, published, time_exceeded},
    message::{INIT, Kind, Message, SYN},
    place::{At, FROM_UPLINK, OUTWARDS, TO_UPLINK, bridge, from_endpoint, to_bridge, to_endpoint},
    scene::{DNS, Datapath, NET_A, PLAIN, Scene, UPLINK, WEB},
};

in_both_datapaths! {
    a_router_reports_of_a_masqueraded_packet,
    a_router_reports_of_other_protocols,
    a_router_reports_of_a_published_ports_reply,
    a_container_reports_of_a_request_and_of_a_reply,
    the_host_reports_of_a_published_ports_packet,
    the_hosts_own_translated_flows_are_reported_of,
    a_network_without_masquerade_is_told_and_tells,
    an_error_is_no_packet_of_its_flow,
}

in_both_families! {
    an_error_that_runs_out_of_hops_is_left_to_the_stack,
}

/// A kind of message, with the port that it is published at, and behind that.
const PUBLISHED: [(Kind, u16, u16); 3] =
    [(Kind::Tcp(SYN), WEB, 80), (Kind::Udp, DNS, 53), (Kind::UdpWithoutChecksum, DNS, 53)];

/// How much of a transport header is quoted: as little as RFC 792 asks for, up to before and behind TCP's
/// checksum, and all.
const LENGTHS: [usize; 5] = [8, 12, 16, 18, 100];

/// From an uplink to a container, by whichever way.
#[track_caller]
fn enters<A: Family>(scene: &Scene, error: &IcmpError<A>, expected: &IcmpError<A>, n: u8) {
    if scene.datapath == Datapath::Fast {
        becomes(scene, FROM_UPLINK, error, Reason::IcmpErrorOfFlowRedirected, expected);
        return;
    }
    becomes(scene, FROM_UPLINK, error, Reason::IcmpErrorOfFlow, expected);
    becomes(scene, to_bridge(NET_A, UPLINK), expected, Reason::JudgedByPort, expected);
    let port = to_endpoint(NET_A, n, UPLINK);
    becomes(scene, port, expected, Reason::FlowToContainer, expected);
}

/// From a container out of an uplink.
#[track_caller]
fn leaves<A: Family>(scene: &Scene, error: &IcmpError<A>, expected: &IcmpError<A>, n: u8) {
    let port = from_endpoint(NET_A, n);
    if scene.datapath == Datapath::Fast {
        becomes(scene, port, error, Reason::IcmpErrorOfFlowRedirected, expected);
        let redirected = At { ingress: port.ifindex, ..TO_UPLINK };
        becomes(scene, redirected, expected, Reason::NotOurs, expected);
        return;
    }
    becomes(scene, port, error, Reason::ContainerToOutside, error);
    becomes(scene, TO_UPLINK, error, Reason::IcmpErrorOfFlow, expected);
}

fn a_router_reports_of_a_masqueraded_packet<A: Family>(datapath: Datapath) {
    for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::UdpWithoutChecksum, Kind::EchoRequest] {
        let scene = Scene::on(datapath);
        let (call, outside) = masqueraded::<A>(&scene, kind);
        // Of the receiver's own as well, and of every kind.
        for (src, len) in [A::outside(ROUTER), A::outside(9)]
            .iter()
            .flat_map(|&src| LENGTHS.map(|len| (src, len)))
        {
            let error = IcmpError::about(&outside, src).cut(len);
            let error = IcmpError { kind: time_exceeded::<A>(), ..error };
            enters(&scene, &error, &error.translated(src, &call), 3);
        }
        let too_big = IcmpError {
            code: 4,
            rest: [0, 0, 5, 20],
            ..IcmpError::about(&outside, A::outside(ROUTER))
        };
        enters(&scene, &too_big, &too_big.translated(too_big.src, &call), 3);
    }
}

/// Of SCTP the ports alone are rewritten in a quote, as with Linux: nobody checks a quoted CRC.
fn a_router_reports_of_other_protocols<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let (call, outside) = masqueraded::<A>(&scene, Kind::Sctp(INIT));
    let error = IcmpError::about(&outside, A::outside(ROUTER)).cut(8);
    enters(&scene, &error, &error.translated(error.src, &call), 3);
    // ESP, GRE, IPIP.
    for proto in [50, 47, 4] {
        let own = (A::inside(NET_A, 2), 0);
        let call = Message::<A>::new(Kind::Other(proto), own, (A::outside(9), 0));
        let outside = scene.translated(OUTWARDS, &call, Reason::Masqueraded);
        for len in [8, 100] {
            let with_payload =
                |message: &Message<A>| Message { payload: vec![0; 20], ..message.clone() };
            let (call, outside) = (with_payload(&call), with_payload(&outside));
            let error = IcmpError::about(&outside, A::outside(ROUTER)).cut(len);
            enters(&scene, &error, &error.translated(error.src, &call), 2);
        }
    }
}

fn a_router_reports_of_a_published_ports_reply<A: Family>(datapath: Datapath) {
    for (kind, host_port, _) in PUBLISHED {
        let scene = Scene::on(datapath);
        let (request, inside) = published::<A>(&scene, kind, host_port);
        for (src, len) in [A::outside(ROUTER), A::outside(7)]
            .iter()
            .flat_map(|&src| LENGTHS.map(|len| (src, len)))
        {
            let error = IcmpError::about(&request.reply(), src).cut(len);
            enters(&scene, &error, &error.translated(src, &inside.reply()), 2);
        }
    }
}

fn a_container_reports_of_a_request_and_of_a_reply<A: Family>(datapath: Datapath) {
    for (kind, host_port, _) in PUBLISHED {
        let scene = Scene::on(datapath);
        let (request, inside) = published::<A>(&scene, kind, host_port);
        // A machine behind the container is hidden as the container is.
        for (src, len) in
            [2, 200].iter().flat_map(|&n| LENGTHS.map(|len| (A::inside(NET_A, n), len)))
        {
            let error = IcmpError::about(&inside, src).cut(len);
            leaves(&scene, &error, &error.translated(A::host(1), &request), 2);
        }
    }
    for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest] {
        let scene = Scene::on(datapath);
        let (call, outside) = masqueraded::<A>(&scene, kind);
        let error = IcmpError::about(&call.reply(), call.src.0);
        leaves(&scene, &error, &error.translated(A::host(1), &outside.reply()), 3);
    }
}

/// Out of hops, or too large for the container's network.
fn the_host_reports_of_a_published_ports_packet<A: Family>(datapath: Datapath) {
    let own = At { ingress: 0, ..TO_UPLINK };
    for (kind, host_port, _) in PUBLISHED {
        let scene = Scene::on(datapath);
        let (request, inside) = published::<A>(&scene, kind, host_port);
        for len in LENGTHS {
            // By another address than the one that the client knows.
            let error = IcmpError::about(&inside, A::host(2)).cut(len);
            let expected = error.translated(A::host(1), &request);
            becomes(&scene, own, &error, Reason::IcmpErrorOfFlow, &expected);
        }
        // About a packet to the host itself.
        let error = IcmpError::about(&request.to((A::host(1), 9)), A::host(1));
        becomes(&scene, own, &error, Reason::HostTraffic, &error);
    }
    // Of a container's own packets the stack sees the addresses that the container knows.
    let scene = Scene::on(datapath);
    let (call, _) = masqueraded::<A>(&scene, Kind::Udp);
    let error = IcmpError::about(&call, A::inside(NET_A, 1));
    becomes(&scene, to_endpoint(NET_A, 3, 0), &error, Reason::HostToContainer, &error);
}

/// A connection of the host's that has got another port, and what it sends from a bridge's address.
fn the_hosts_own_translated_flows_are_reported_of<A: Family>(datapath: Datapath) {
    let own = At { ingress: 0, ..TO_UPLINK };
    for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest] {
        let scene = Scene::on(datapath);
        let (_, outside) = masqueraded::<A>(&scene, kind);
        for src in [outside.src, (A::inside(NET_A, 1), 60_000)] {
            let sent = outside.from(src);
            let moved = scene.translated(own, &sent, Reason::Masqueraded);
            assert_ne!(moved, sent);
            let error = IcmpError::about(&moved, A::outside(ROUTER));
            let expected = error.translated(error.src, &sent);
            becomes(&scene, FROM_UPLINK, &error, Reason::IcmpErrorOfFlow, &expected);
            let error = IcmpError::about(&sent.reply(), src.0);
            let expected = error.translated(moved.src.0, &moved.reply());
            becomes(&scene, own, &error, Reason::IcmpErrorOfFlow, &expected);
        }
        // By a bridge's address, about nothing that is known.
        let stranger = outside.from((A::inside(NET_A, 1), 7)).reply();
        let error = IcmpError::about(&stranger, A::inside(NET_A, 1)).frame();
        scene.judges(&[("a bridge's", own, error, Reason::IcmpError)]);
    }
}

fn a_network_without_masquerade_is_told_and_tells<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let call = Message::<A>::new(Kind::Udp, (A::inside(PLAIN, 2), 5), (A::outside(9), 53));
    scene.stays(OUTWARDS, &call, Reason::Untranslated);
    let told = IcmpError::about(&call, A::outside(ROUTER));
    let tells = IcmpError::about(&call.reply(), A::inside(PLAIN, 2));
    let port = from_endpoint(PLAIN, 2);
    if datapath == Datapath::Fast {
        becomes(&scene, FROM_UPLINK, &told, Reason::IcmpErrorOfFlowRedirected, &told);
        becomes(&scene, port, &tells, Reason::IcmpErrorOfFlowRedirected, &tells);
        let redirected = At { ingress: port.ifindex, ..TO_UPLINK };
        becomes(&scene, redirected, &tells, Reason::NotOurs, &tells);
    } else {
        becomes(&scene, FROM_UPLINK, &told, Reason::IcmpErrorOfFlow, &told);
        becomes(&scene, to_endpoint(PLAIN, 2, UPLINK), &told, Reason::FlowToContainer, &told);
        becomes(&scene, port, &tells, Reason::ContainerToOutside, &tells);
        let routed = At { ingress: bridge(PLAIN), ..TO_UPLINK };
        becomes(&scene, routed, &tells, Reason::IcmpErrorOfFlow, &tells);
    }
}

fn an_error_is_no_packet_of_its_flow<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.config.flags |= ConfigFlags::FLOW_ACCOUNTING;
    let (_, outside) = masqueraded::<A>(&scene, Kind::Tcp(SYN));
    let (_, inside) = published::<A>(&scene, Kind::Udp, DNS);
    let before = scene.halves::<A>();
    scene.wait(20);
    let error = IcmpError::about(&outside, A::outside(ROUTER));
    scene.judge(FROM_UPLINK.hook, &mut FROM_UPLINK.packet(error.frame()));
    let error = IcmpError::about(&inside, inside.dst.0);
    let port = from_endpoint(NET_A, 2);
    scene.judge(port.hook, &mut port.packet(error.frame()));
    scene.judge(TO_UPLINK.hook, &mut TO_UPLINK.packet(error.frame()));
    let sorted = |mut halves: Vec<_>| {
        halves.sort_by_key(|(key, _): &(CtKey<A>, _)| {
            (key.scope, key.src, key.dst, key.sport, key.dport)
        });
        halves
    };
    assert_eq!(sorted(scene.halves::<A>()), sorted(before));
    // A flow that is over is not told of.
    scene.wait(1_000_000);
    let error = IcmpError::about(&outside, A::outside(ROUTER));
    becomes(&scene, FROM_UPLINK, &error, Reason::IcmpErrorToHost, &error);
}

fn an_error_that_runs_out_of_hops_is_left_to_the_stack<A: Family>() {
    let scene = Scene::on(Datapath::Fast);
    let (_, outside) = masqueraded::<A>(&scene, Kind::Udp);
    let error = IcmpError::about(&outside, A::outside(ROUTER)).frame_with(1);
    let mut packet = FROM_UPLINK.packet(error);
    assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::IcmpErrorOfFlow);
    let (_, inside) = published::<A>(&scene, Kind::Tcp(SYN), WEB);
    let error = IcmpError::about(&inside, inside.dst.0).frame_with(1);
    scene.judges(&[("hops", from_endpoint(NET_A, 2), error, Reason::ContainerToOutside)]);
}
