//! Bytes that nobody meant: at every hook there is a reason, never a panic, and a packet that is not
//! translated leaves as it came ([`Scene::judge`] sees to that).

use netd_common::{address::V4, engine::Outcome, parse::Common, reason::Reason};
use proptest::prelude::*;

use crate::{
    family::{Family, in_both_families},
    message::{ACK, Kind, Message, SYN},
    packet::HostPacket,
    place::{At, FROM_UPLINK, Hook, TO_UPLINK, bridge, from_endpoint, port, to_endpoint},
    runs::translates,
    scene::{DNS, NET_A, RANGE, Scene, UPLINK, WEB},
};

in_both_families! {
    a_packet_cut_anywhere_is_malformed_or_whole_enough,
    any_header_byte_may_be_wrong,
    lengths_that_lie_are_malformed,
    headers_with_options_are_translated,
    bytes_after_the_packet_are_carried_along,
    a_subnet_that_goes_while_a_flow_begins_costs_the_next_one_nothing,
}

fn places() -> [At; 6] {
    [
        FROM_UPLINK,
        TO_UPLINK,
        from_endpoint(NET_A, 2),
        to_endpoint(NET_A, 2, UPLINK),
        to_endpoint(NET_A, 2, port(NET_A, 3)),
        to_endpoint(NET_A, 2, bridge(NET_A)),
    ]
}

/// Messages that each hook translates or lets pass, in each protocol, and the flows that they belong to.
fn messages<A: Family>() -> Vec<Message<A>> {
    let (client, host, own) = (A::outside(7), A::host(1), A::inside(NET_A, 2));
    let mut messages = vec![
        Message::new(Kind::Tcp(SYN), (client, 40_000), (host, WEB)),
        Message::new(Kind::Udp, (client, 40_000), (host, DNS)),
        Message::new(Kind::UdpWithoutChecksum, (client, 40_000), (host, RANGE + 3)),
        Message::new(Kind::Tcp(ACK), (own, 5000), (client, 443)),
        Message::new(Kind::Udp, (own, 5000), (client, 53)),
        Message::new(Kind::EchoRequest, (own, 5000), (client, 0)),
        Message::new(Kind::EchoReply, (own, 0), (client, 9)),
        Message::new(Kind::Icmp(3), (client, 0), (host, 0)),
        Message::new(Kind::Icmp(135), (client, 0), (own, 0)),
        Message::new(Kind::Other(47), (own, 0), (client, 0)),
    ];
    let back = messages[3..6].iter().map(|message| message.from((host, 5000)).reply());
    messages.extend(back.collect::<Vec<_>>());
    messages
}

/// A scene in which the messages' flows exist, or one without any.
fn scene<A: Family>(with_flows: bool) -> Scene {
    let scene = Scene::new();
    if with_flows {
        for message in messages::<A>() {
            scene.run(FROM_UPLINK, &message);
            scene.run(TO_UPLINK, &message);
        }
        assert!(!scene.halves::<A>().is_empty());
    }
    scene
}

fn a_packet_cut_anywhere_is_malformed_or_whole_enough<A: Family>() {
    for with_flows in [false, true] {
        let scene = scene::<A>(with_flows);
        for message in messages::<A>() {
            let frame = message.frame();
            for (len, at) in (0..frame.len()).flat_map(|len| places().map(|at| (len, at))) {
                let mut packet = HostPacket::new(frame[..len].to_vec(), at.ifindex, at.ingress);
                let reason = scene.judge(at.hook, &mut packet);
                // Of what is no container's nothing more is read where it leaves.
                let is_others = at.hook == Hook::ToUplink && message.src.0 != A::inside(NET_A, 2);
                let source_end = if A::ICMP == 1 { 30 } else { 38 };
                let expected = match len {
                    ..14 => Reason::NotIp,
                    _ if is_others && len >= source_end => Reason::NotOurs,
                    _ => Reason::Malformed,
                };
                assert_eq!(reason, expected, "{message:?} cut to {len} at {at:?}");
            }
        }
    }
}

fn any_header_byte_may_be_wrong<A: Family>() {
    let scene = scene::<A>(true);
    for message in messages::<A>() {
        let frame = message.frame();
        for (offset, value) in
            (12..frame.len()).flat_map(|offset| [0, 0xff, 1].map(|v| (offset, v)))
        {
            let mut wrong = frame.clone();
            wrong[offset] = if value == 1 { wrong[offset] ^ 1 } else { value };
            for at in places() {
                let mut packet = HostPacket::new(wrong.clone(), at.ifindex, at.ingress);
                let reason = scene.judge(at.hook, &mut packet);
                assert!(Reason::ALL.contains(&reason));
            }
        }
    }
}

/// The offset of the transport header, without options.
fn transport_offset<A: Family>() -> usize {
    if A::ICMP == 1 { 34 } else { 54 }
}

fn lengths_that_lie_are_malformed<A: Family>() {
    let scene = Scene::new();
    let tcp = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 1), (A::host(1), WEB)).frame();
    let udp = Message::<A>::new(Kind::Udp, (A::outside(7), 1), (A::host(1), DNS)).frame();
    let echo = Message::<A>::new(Kind::EchoRequest, (A::outside(7), 1), (A::host(1), 0)).frame();
    let ip = 14;
    let l4 = transport_offset::<A>();
    let mut rows: Vec<(&str, &[u8], usize, &[u8])> = vec![
        ("udp length below its header", &udp, l4 + 4, &[0, 7]),
        ("udp length of zero", &udp, l4 + 4, &[0, 0]),
        ("udp length beyond the packet", &udp, l4 + 4, &[0, 16]),
        ("tcp header length below the least", &tcp, l4 + 12, &[0x40]),
        ("tcp header length beyond the packet", &tcp, l4 + 12, &[0xf0]),
        ("another version", &tcp, ip, &[0x55]),
        ("no version", &tcp, ip, &[0x05]),
    ];
    if A::ICMP == 1 {
        rows.extend([
            ("header length below the least", &tcp[..], ip, &[0x44][..]),
            ("header length beyond the packet", &tcp, ip, &[0x4f]),
            ("total length below the header", &tcp, ip + 2, &[0, 19]),
            ("total length of zero", &tcp, ip + 2, &[0, 0]),
            ("total length beyond the packet", &tcp, ip + 2, &[0, 48]),
            ("total length before the transport header's end", &tcp, ip + 2, &[0, 39]),
            ("total length before the echo header's end", &echo, ip + 2, &[0, 27]),
        ]);
    } else {
        rows.extend([
            ("payload length beyond the packet", &tcp[..], ip + 4, &[0, 28][..]),
            ("payload length before the transport header's end", &tcp, ip + 4, &[0, 19]),
            ("payload length of zero", &tcp, ip + 4, &[0, 0]),
            ("payload length before the echo header's end", &echo, ip + 4, &[0, 7]),
        ]);
    }
    for (row, frame, offset, bytes) in rows {
        let mut wrong = frame.to_vec();
        wrong[offset..offset + bytes.len()].copy_from_slice(bytes);
        scene.judges(&[(row, FROM_UPLINK, wrong, Reason::Malformed)]);
    }
    assert_eq!(scene.halves::<A>().len(), 0);
}

/// IPv4 options, and TCP options: the fields behind them are found.
fn headers_with_options_are_translated<A: Family>() {
    let scene = Scene::new();
    let message = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 1), (A::host(1), WEB));
    // The payload becomes four bytes of TCP options and the rest.
    let mut frame = message.frame();
    frame[transport_offset::<A>() + 12] = 0x60;
    let mut expected = message.to((A::inside(NET_A, 2), 80)).frame();
    if A::ICMP == 1 {
        for frame in [&mut frame, &mut expected] {
            frame[14] = 0x46;
            frame[17] += 4;
            frame.splice(34..34, [1, 1, 1, 0]);
        }
    }
    let mut packet = HostPacket::new(frame, UPLINK, UPLINK);
    assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::Published);
    // Ports and addresses; the checksums differ by the options, in the same way before and after.
    let l4 = transport_offset::<A>() + if A::ICMP == 1 { 4 } else { 0 };
    assert_eq!(packet.frame[l4..l4 + 4], expected[l4..l4 + 4]);
    assert_eq!(packet.frame[l4 - 4..l4], expected[l4 - 4..l4]);
}

/// A frame of the least length is padded.
fn bytes_after_the_packet_are_carried_along<A: Family>() {
    let scene = Scene::new();
    for kind in [Kind::Tcp(SYN), Kind::Udp] {
        let port = if kind == Kind::Udp { (DNS, 53) } else { (WEB, 80) };
        let message = Message::<A>::new(kind, (A::outside(7), 1), (A::host(1), port.0));
        let padded = |message: &Message<A>| [&message.frame()[..], &[0xee; 20]].concat();
        let mut packet = HostPacket::new(padded(&message), UPLINK, UPLINK);
        assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::Published);
        assert_eq!(packet.frame, padded(&message.to((A::inside(NET_A, 2), port.1))));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_meet_a_reason(
        ethertype in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_to_this_host: bool,
    ) {
        let scene = Scene::new();
        let frame = [&[0; 12][..], &ethertype, &bytes].concat();
        for at in places() {
            let mut packet = HostPacket::new(frame.clone(), at.ifindex, at.ingress);
            packet.is_to_this_host = is_to_this_host;
            let reason = scene.judge(at.hook, &mut packet);
            prop_assert!(!translates(reason) || packet.is_stored || packet.frame == frame);
        }
    }
}

/// The host would send its errors along it, to a container of any network.
#[test]
fn a_source_route_is_refused() {
    let scene = Scene::new();
    let call = Message::<V4>::new(Kind::Udp, (V4::inside(NET_A, 2), 5), (V4::outside(9), 53));
    let (loose, strict) = ([131, 3, 4], [137, 3, 4]);
    let option = |head: &[u8], option: [u8; 3], tail: &[u8]| {
        let mut options = [head, &option, tail].concat();
        options.resize(options.len().next_multiple_of(4), 0);
        options
    };
    let rows = [
        ("loose", option(&[], loose, &[]), Reason::SourceRoute),
        ("strict", option(&[], strict, &[]), Reason::SourceRoute),
        ("behind others", option(&[1, 1, 7, 3, 4], loose, &[]), Reason::SourceRoute),
        ("before a broken one", option(&[], strict, &[7, 99]), Reason::SourceRoute),
        ("last of all", option(&[1; 37], loose, &[]), Reason::SourceRoute),
        // Not one to the kernel.
        ("behind the end", option(&[0], loose, &[]), Reason::SourceRoute),
        ("record route", vec![7, 7, 4, 0, 0, 0, 0, 0], Reason::ContainerToOutside),
        ("router alert", vec![148, 4, 0, 0], Reason::ContainerToOutside),
    ];
    for (row, options, reason) in rows {
        let frame = call.with_ipv4_options(&options);
        scene.judges(&[(row, from_endpoint(NET_A, 2), frame, reason)]);
    }
}

/// Between the insertion of a packet's flow and its second judgement the network may go, and the packet is
/// nobody's.
fn a_subnet_that_goes_while_a_flow_begins_costs_the_next_one_nothing<A: Family>() {
    let mut scene = Scene::new();
    let own = A::inside(NET_A, 2);
    let message = |port| Message::new(Kind::Tcp(SYN), (own, port), (A::outside(7), 443));
    let at = At { ingress: bridge(NET_A), ..TO_UPLINK };
    let mut packet = at.packet(message(5000).frame());
    assert_eq!(scene.tables.ask::<Common<A>>(at.hook, &mut packet), Outcome::Again);

    let subnets = std::mem::take(&mut A::store_mut(&mut scene.tables).subnets);
    let judged = scene.tables.ask::<Common<A>>(at.hook, &mut packet);
    assert_eq!(judged, Outcome::Judged(Reason::NotOurs));

    A::store_mut(&mut scene.tables).subnets = subnets;
    assert_eq!(scene.run(at, &message(5001)).0, Reason::Masqueraded);
}
