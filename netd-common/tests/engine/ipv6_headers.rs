//! IPv6 extension headers: what is behind them is what it would be without, and no chain is endless.

use netd_common::{
    address::V6,
    reason::{Reason, Verdict},
};
use proptest::prelude::*;

use crate::{
    family::Family as _,
    message::{Kind, Message, SYN},
    place::{At, FROM_UPLINK, Hook, OUTWARDS, TO_UPLINK, bridge, from_endpoint, port, to_endpoint},
    runs::plain,
    scene::{DNS, NET_A, QUIET, Scene, WEB},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const AUTHENTICATION: u8 = 51;

/// Eight bytes of a header without those of the chain: what comes behind the first two.
type Header = (u8, Vec<u8>);

/// Options that ask for nothing.
fn options(kind: u8) -> Header {
    (kind, vec![1, 4, 0, 0, 0, 0])
}

/// A routing header of a type, with this many segments left.
fn routing(kind: u8, left: u8) -> Header {
    (ROUTING, vec![kind, left, 0, 0, 0, 0])
}

/// A fragment in one piece (RFC 6946).
fn atomic() -> Header {
    (FRAGMENT, vec![0, 0, 1, 2, 3, 4])
}

/// The frame with a chain of headers between the IP header and the rest.
fn with_chain(frame: &[u8], chain: &[Header]) -> Vec<u8> {
    let (ip, rest) = frame.split_at(54);
    let mut ip = ip.to_vec();
    let mut next = ip[20];
    let mut bytes = Vec::new();
    for (kind, body) in chain.iter().rev() {
        let words = ((body.len() + 2) / 8 - 1) as u8;
        let words = if *kind == FRAGMENT { 0 } else { words };
        bytes = [&[next, words], &body[..], &bytes].concat();
        next = *kind;
    }
    ip[20] = next;
    let len = (bytes.len() + rest.len()) as u16;
    ip[18..20].copy_from_slice(&len.to_be_bytes());
    [&ip[..], &bytes, rest].concat()
}

#[track_caller]
fn judge(scene: &Scene, at: At, frame: Vec<u8>) -> (Reason, Vec<u8>) {
    let mut packet = at.packet(frame);
    let reason = scene.judge(at.hook, &mut packet);
    (plain(reason), packet.frame)
}

fn chains() -> Vec<Vec<Header>> {
    let long = (DESTINATION, vec![0; 22]);
    vec![
        vec![options(HOP_BY_HOP)],
        vec![options(DESTINATION)],
        vec![routing(4, 0)],
        vec![routing(0, 0)],
        vec![atomic()],
        vec![long],
        vec![options(HOP_BY_HOP), options(DESTINATION), routing(2, 0), atomic()],
        vec![
            options(HOP_BY_HOP),
            options(DESTINATION),
            routing(2, 0),
            atomic(),
            options(DESTINATION),
            options(DESTINATION),
        ],
    ]
}

/// What is published, and what a container sends, with the flow of each.
fn messages() -> [(At, Message<V6>, Reason, Message<V6>); 4] {
    let (client, own) = ((V6::outside(7), 40_000), V6::inside(NET_A, 2));
    let web = Message::new(Kind::Tcp(SYN), client, (V6::host(1), WEB));
    let dns = Message::new(Kind::Udp, client, (V6::host(1), DNS));
    let out = At { ingress: bridge(NET_A), ..TO_UPLINK };
    let call = Message::new(Kind::Udp, (own, 5000), (V6::outside(9), 53));
    let ping = call.with_kind(Kind::EchoRequest).to((V6::outside(9), 0));
    let host = (V6::host(1), 5000);
    [
        (FROM_UPLINK, web.clone(), Reason::Published, web.to((own, 80))),
        (FROM_UPLINK, dns.clone(), Reason::Published, dns.to((own, 53))),
        (out, call.clone(), Reason::Masqueraded, call.from(host)),
        (out, ping.clone(), Reason::Masqueraded, ping.from(host)),
    ]
}

#[test]
fn what_is_behind_headers_is_translated_like_the_plain() {
    for chain in chains() {
        let scene = Scene::new();
        for (at, sent, reason, expected) in messages() {
            let (actual, after) = judge(&scene, at, with_chain(&sent.frame(), &chain));
            assert_eq!(actual, reason, "{chain:?}");
            assert_eq!(after[14..], with_chain(&expected.frame(), &chain)[14..], "{chain:?}");
        }
    }
}

#[test]
fn replies_behind_headers_come_back() {
    let scene = Scene::on(crate::scene::Datapath::Fast);
    let call = Message::<V6>::new(Kind::Udp, (V6::inside(NET_A, 2), 5000), (V6::outside(9), 53));
    let called = scene.translated(OUTWARDS, &call, Reason::Masqueraded);
    for chain in chains() {
        let frame = with_chain(&called.reply().frame(), &chain);
        let (reason, after) = judge(&scene, FROM_UPLINK, frame);
        assert_eq!(reason, Reason::MasqueradeReply, "{chain:?}");
        let expected = with_chain(&call.reply().frame_with(63), &chain);
        assert_eq!(after[14..], expected[14..], "{chain:?}");
    }
}

/// The header of a fragment names what the whole one has behind it, which only the first one shows the end of.
#[test]
fn pieces_of_what_is_behind_headers_are_of_its_flow() {
    let scene = Scene::new();
    for (at, sent, reason, expected) in messages() {
        let pieces = |message: &Message<V6>| {
            let whole = with_chain(&message.frame(), &[options(DESTINATION)]);
            [(0..24, 1), (24..whole.len() - 54, 24)].map(|(bytes, field)| {
                let mut frame = whole[..54].to_vec();
                let part = &whole[54..][bytes];
                frame[18..20].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
                frame[20] = FRAGMENT;
                [&frame[..], &[DESTINATION, 0, 0, field, 1, 2, 3, 4], part].concat()
            })
        };
        let message = |message: Message<V6>| Message { payload: vec![7; 30], ..message };
        let (sent, expected) = (message(sent), message(expected));
        if matches!(sent.kind, Kind::Tcp(_)) {
            // Too short for its header.
            assert_eq!(judge(&scene, at, pieces(&sent)[0].clone()).0, Reason::Malformed);
            continue;
        }
        for (sent, expected) in pieces(&sent).into_iter().zip(pieces(&expected)) {
            let (actual, after) = judge(&scene, at, sent);
            assert_eq!(actual, reason);
            assert_eq!(after[14..], expected[14..]);
        }
    }
}

/// A link-local client could not be answered (rule P5), in pieces no more than whole.
#[test]
fn what_a_link_local_client_asks_is_left_to_the_host() {
    let scene = Scene::new();
    let ask = Message::<V6>::new(Kind::Udp, (V6::LINK_LOCAL, 40_000), (V6::host(1), DNS));
    let ask = Message { payload: vec![7; 30], ..ask };
    let (first, later) = (ask.part(1, 0..24, 0, true), ask.part(1, 24..38, 24, false));
    assert_eq!(judge(&scene, FROM_UPLINK, later.clone()).0, Reason::FragmentToHost);
    assert_eq!(judge(&scene, FROM_UPLINK, first).0, Reason::NotOurs);
    assert_eq!(judge(&scene, FROM_UPLINK, later).0, Reason::NotOurs);
    let behind = with_chain(&ask.frame(), &[options(HOP_BY_HOP), atomic()]);
    assert_eq!(judge(&scene, FROM_UPLINK, behind).0, Reason::NotOurs);
}

#[test]
fn a_header_that_lists_the_way_is_refused() {
    let scene = Scene::new();
    for (at, sent, ..) in messages() {
        for chain in [vec![routing(0, 1)], vec![options(HOP_BY_HOP), routing(0, 2)]] {
            let frame = with_chain(&sent.frame(), &chain);
            assert_eq!(judge(&scene, at, frame).0, Reason::SourceRoute, "{chain:?}");
        }
    }
    // Of another type it is left to the host, and does not leave it untranslated.
    let [(at, web, ..), _, (out, call, ..), _] = messages();
    let frame = |message: &Message<V6>| with_chain(&message.frame(), &[routing(4, 1)]);
    assert_eq!(judge(&scene, at, frame(&web)).0, Reason::NotOurs);
    assert_eq!(judge(&scene, out, frame(&call)).0, Reason::UnsupportedProtocol);
}

#[test]
fn a_chain_too_long_or_broken_is_malformed() {
    let scene = Scene::new();
    let deep = (DESTINATION, vec![0; 70]);
    for chain in
        [vec![options(DESTINATION); 7], vec![deep], vec![options(DESTINATION), options(HOP_BY_HOP)]]
    {
        for (at, sent, ..) in messages() {
            let frame = with_chain(&sent.frame(), &chain);
            assert_eq!(judge(&scene, at, frame).0, Reason::Malformed, "{chain:?}");
        }
    }
    for (at, sent, ..) in messages() {
        // The chain goes on where the packet has come to its end.
        let mut frame = with_chain(&sent.frame(), &[options(DESTINATION)]);
        frame[55] = 9;
        assert_eq!(judge(&scene, at, frame).0, Reason::Malformed);
    }
}

#[test]
fn what_cannot_be_read_is_another_protocol() {
    let scene = Scene::new();
    let [(at, web, ..), _, (out, call, ..), _] = messages();
    let hidden = [(AUTHENTICATION, vec![0; 6])];
    assert_eq!(judge(&scene, at, with_chain(&web.frame(), &hidden)).0, Reason::NotOurs);
    let (reason, _) = judge(&scene, out, with_chain(&call.frame(), &hidden));
    assert_eq!(reason, Reason::UnsupportedProtocol);
}

/// Discovery is let through where neighbours are kept apart, behind headers as well, but never in pieces
/// (RFC 6980).
#[test]
fn discovery_is_discovery_behind_headers() {
    let scene = Scene::new();
    let (own, other) = ((V6::inside(QUIET, 2), 0), (V6::inside(QUIET, 3), 0));
    let ask = Message::<V6>::new(Kind::Icmp(135), own, other);
    let to = to_endpoint(QUIET, 3, port(QUIET, 2));
    for at in [from_endpoint(QUIET, 2), to] {
        let behind = with_chain(&ask.frame(), &[options(HOP_BY_HOP)]);
        assert_eq!(judge(&scene, at, behind).0, Reason::LinkLocal, "{at:?}");
        let first = with_chain(&ask.frame(), &[(FRAGMENT, vec![0, 1, 1, 2, 3, 4])]);
        assert_eq!(judge(&scene, at, first).0, Reason::IccOff, "{at:?}");
    }
    let report = Message::<V6>::new(Kind::Icmp(143), (V6::LINK_LOCAL, 0), (V6::MULTICAST, 0));
    let frame = with_chain(&report.frame(), &[options(HOP_BY_HOP)]);
    let at = At { hook: Hook::FromEndpoint, ..from_endpoint(QUIET, 2) };
    assert_eq!(judge(&scene, at, frame).0, Reason::Multicast);
}

proptest! {
    /// Whatever stands in a chain, there is a reason, and only what is said to be translated is changed
    /// ([`Scene::judge`] sees to that).
    #[test]
    fn any_chain_has_a_reason(
        kinds in proptest::collection::vec(prop_oneof![
            Just(HOP_BY_HOP), Just(ROUTING), Just(FRAGMENT), Just(DESTINATION), any::<u8>()
        ], 0..9),
        bytes in proptest::collection::vec(any::<[u8; 6]>(), 9),
        cut in 0_usize..200,
    ) {
        let scene = Scene::new();
        let chain: Vec<Header> =
            kinds.iter().zip(&bytes).map(|(kind, bytes)| (*kind, bytes.to_vec())).collect();
        for (at, sent, ..) in messages() {
            let mut frame = with_chain(&sent.frame(), &chain);
            let (reason, _) = judge(&scene, at, frame.clone());
            prop_assert!(!chain.is_empty() || reason.verdict() == Verdict::Pass);
            frame.truncate(cut.max(14));
            judge(&scene, at, frame);
        }
    }
}
