//! A network whose prefix is translated (NPTv6, RFC 6296).

use netd_common::{
    address::{Address as _, V6},
    network::{FamilyFlags, NetworkFlags},
    nptv6::OutsidePrefix,
    reason::Reason,
};

use crate::{
    family::Family as _,
    icmp_error::{IcmpError, becomes},
    message::{ACK, Kind, Message, SYN},
    place::{At, FROM_UPLINK, INWARDS, OUTWARDS, TO_UPLINK, bridge, from_endpoint, to_endpoint},
    scene::{DNS, Datapath, MTU, NET_A, NET_B, QUIET, Scene, UPLINK},
};

macro_rules! in_both {
    ($($name:ident,)+) => {
        mod stack {
            $(#[test] fn $name() { super::$name(super::Datapath::Stack); })+
        }
        mod fast {
            $(#[test] fn $name() { super::$name(super::Datapath::Fast); })+
        }
    };
}

in_both! {
    every_protocol_leaves_and_is_answered,
    the_world_reaches_a_container_at_every_port,
    prefixes_of_all_lengths_are_translated,
    published_ports_have_flows_as_ever,
    a_container_is_reached_by_nothing_but_its_outside_address,
    containers_reach_each_other_by_their_outside_addresses,
    an_address_that_cannot_be_seen_does_not_leave,
    routers_and_containers_report_errors,
    the_host_reports_errors,
    what_belongs_on_a_link_stays_there,
}

const PREFIX: &str = "2001:db8:ff00:1::";

fn v6(text: &str) -> V6 {
    V6::new(text.parse().unwrap())
}

/// A host on which the first network's prefix, of this length, is translated.
fn scene_with(datapath: Datapath, bits: u32, prefix: &str) -> Scene {
    let mut scene = Scene::on(datapath);
    translate(&mut scene, NET_A, bits, prefix);
    scene
}

fn scene(datapath: Datapath) -> Scene {
    scene_with(datapath, 64, PREFIX)
}

fn translate(scene: &mut Scene, number: u16, bits: u32, prefix: &str) {
    let network = scene.tables.networks.get_mut(&number).unwrap();
    network.v6.flags = FamilyFlags::PRESENT | FamilyFlags::PREFIX_TRANSLATED;
    network.v6.mask = V6::mask(bits);
    network.outside = OutsidePrefix::new(network.v6.subnet, v6(prefix));
    scene.tables.v6.subnets.push((v6(prefix), V6::mask(bits), number));
}

fn outside(scene: &Scene, n: u8) -> V6 {
    V6::inside(NET_A, n).to_outside(&scene.tables.networks[&NET_A]).unwrap()
}

const KINDS: [Kind; 6] = [
    Kind::Tcp(SYN),
    Kind::Tcp(ACK),
    Kind::Udp,
    Kind::UdpWithoutChecksum,
    Kind::EchoRequest,
    Kind::Other(47),
];

fn call(kind: Kind) -> Message<V6> {
    let has_ports = !matches!(kind, Kind::EchoRequest | Kind::Other(_));
    let sport = if has_ports || kind == Kind::EchoRequest { 5000 } else { 0 };
    let dport = if has_ports { 53 } else { 0 };
    Message::new(kind, (V6::inside(NET_A, 2), sport), (V6::outside(9), dport))
}

fn every_protocol_leaves_and_is_answered(datapath: Datapath) {
    let scene = scene(datapath);
    let own = outside(&scene, 2);
    assert!(own.same_prefix(v6(PREFIX), V6::mask(64)));
    for kind in KINDS {
        let call = call(kind);
        let seen = call.from((own, call.src.1));
        scene.becomes(OUTWARDS, &call, Reason::PrefixTranslated, &seen);
        let answer = seen.reply();
        scene.becomes(INWARDS, &answer, Reason::PrefixTranslated, &answer.to(call.src));
    }
    assert_eq!(scene.halves::<V6>(), [], "there is no state");
    // Of a fragmented packet every part.
    let call = call(Kind::Udp);
    for (bytes, offset, more) in [(0..8, 0, true), (8..15, 8, false)] {
        let part = call.part(7, bytes, offset, more);
        let at = from_endpoint(NET_A, 2);
        let mut packet = at.packet(part.clone());
        let mut reason = scene.judge(at.hook, &mut packet);
        if datapath == Datapath::Stack {
            assert_eq!(reason, Reason::ContainerToOutside);
            packet = TO_UPLINK.packet(part);
            reason = scene.judge(TO_UPLINK.hook, &mut packet);
        }
        assert!([Reason::PrefixTranslated, Reason::PrefixTranslatedRedirected].contains(&reason));
        assert_eq!(packet.frame[22..38], *bytemuck::bytes_of(&own));
    }
    assert_eq!(scene.halves::<V6>(), []);
}

fn the_world_reaches_a_container_at_every_port(datapath: Datapath) {
    let scene = scene(datapath);
    for kind in KINDS {
        let call = call(kind);
        let (src, dst) = ((V6::outside(9), call.src.1), (outside(&scene, 3), call.dst.1));
        let call = call.from(src).to(dst);
        let inside = call.to((V6::inside(NET_A, 3), call.dst.1));
        scene.becomes(INWARDS, &call, Reason::PrefixTranslated, &inside);
        let answer = inside.reply();
        scene.becomes(OUTWARDS, &answer, Reason::PrefixTranslated, &answer.from(call.dst));
    }
    // Nobody has the address, so the host's stack says so.
    let call = call(Kind::Udp).reply().to((outside(&scene, 99), 5000));
    let inside = call.to((V6::inside(NET_A, 99), 5000));
    scene.becomes(FROM_UPLINK, &call, Reason::PrefixTranslated, &inside);
    // What is too large, or out of hops, goes through the stack.
    let large = self::call(Kind::Udp).reply().to((outside(&scene, 2), 5000));
    let large = Message { payload: vec![0; usize::from(MTU)], ..large };
    let inside = large.to((V6::inside(NET_A, 2), 5000));
    scene.becomes(FROM_UPLINK, &large, Reason::PrefixTranslated, &inside);
}

fn prefixes_of_all_lengths_are_translated(datapath: Datapath) {
    for (bits, prefix) in [
        (64, "2001:db8:ff00:1::"),
        (60, "2001:db8:ff00:10::"),
        (56, "2001:db8:ff00:100::"),
        (49, "2001:db8:ff00:8000::"),
        (48, "2001:db8:ff00::"),
        (40, "2001:db8:ff00::"),
    ] {
        let mut scene = scene_with(datapath, bits, prefix);
        scene.tables.v6.subnets.insert(0, (V6::inside(NET_A, 0), V6::mask(64), NET_A));
        let network = scene.tables.networks.get_mut(&NET_A).unwrap();
        let own = u128::from_be_bytes(bytemuck::cast(V6::inside(NET_A, 0)));
        network.v6.subnet = V6::new((own & u128::MAX << (128 - bits)).into());
        network.outside = OutsidePrefix::new(network.v6.subnet, v6(prefix));
        let call = call(Kind::Tcp(SYN));
        let seen = scene.translated(OUTWARDS, &call, Reason::PrefixTranslated);
        assert!(seen.src.0.same_prefix(v6(prefix), V6::mask(bits)), "{bits}: {seen:?}");
        let answer = seen.reply();
        scene.becomes(INWARDS, &answer, Reason::PrefixTranslated, &answer.to(call.src));
    }
}

fn published_ports_have_flows_as_ever(datapath: Datapath) {
    let scene = scene(datapath);
    let request = Message::new(Kind::Udp, (V6::outside(7), 4000), (V6::host(1), DNS));
    let inside = request.to((V6::inside(NET_A, 2), 53));
    scene.becomes(INWARDS, &request, Reason::Published, &inside);
    let answer = inside.reply();
    scene.becomes(OUTWARDS, &answer, Reason::PublishedReply, &answer.from(request.dst));
}

fn a_container_is_reached_by_nothing_but_its_outside_address(datapath: Datapath) {
    let scene = scene(datapath);
    let own = outside(&scene, 2);
    let from_world = call(Kind::Udp).reply();
    scene.stays(FROM_UPLINK, &from_world, Reason::DirectRouting);
    let forged = from_world.from((own, 1)).to((V6::host(1), 53));
    scene.stays(FROM_UPLINK, &forged, Reason::SpoofedSource);
    let forged = call(Kind::Udp).from((own, 5000));
    scene.stays(from_endpoint(NET_A, 2), &forged, Reason::SourceNotInSubnet);
    // Nor by another network.
    let other = call(Kind::Udp).from((V6::inside(NET_B, 2), 5000)).to((own, 53));
    scene.stays(from_endpoint(NET_B, 2), &other, Reason::NetworksApart);
    // What the stack routes in has been translated, and judged, on the uplink.
    let entering = to_endpoint(NET_A, 2, UPLINK);
    scene.stays(entering, &from_world, Reason::DirectlyRouted);
}

fn containers_reach_each_other_by_their_outside_addresses(datapath: Datapath) {
    let mut scene = scene(datapath);
    translate(&mut scene, QUIET, 64, "2001:db8:ff00:6::");
    for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest] {
        for n in [2, 3] {
            let message = call(kind);
            let there = message.to((outside(&scene, n), message.dst.1));
            let seen = there
                .from((outside(&scene, 2), message.src.1))
                .to((V6::inside(NET_A, n), message.dst.1));
            let reason = Reason::PrefixTranslatedRedirected;
            scene.becomes(from_endpoint(NET_A, 2), &there, reason, &seen);
            let answer = seen.reply();
            scene.becomes(from_endpoint(NET_A, n), &answer, reason, &there.reply());
        }
    }
    let quiet = |n| V6::inside(QUIET, n).to_outside(&scene.tables.networks[&QUIET]).unwrap();
    let there = call(Kind::Udp).from((V6::inside(QUIET, 2), 5000)).to((quiet(3), 53));
    scene.stays(from_endpoint(QUIET, 2), &there, Reason::IccOff);
}

fn an_address_that_cannot_be_seen_does_not_leave(datapath: Datapath) {
    let scene = scene(datapath);
    let unseen = v6("2001:db8:ac00:1:ffff:ffff:ffff:ffff");
    let message = call(Kind::Udp).from((unseen, 5000));
    let stack = At { ingress: bridge(NET_A), ..TO_UPLINK };
    scene.stays(stack, &message, Reason::NoPrefixAddress);
    let back = message.reply().to((v6("2001:db8:ff00:1::"), 5000));
    scene.stays(FROM_UPLINK, &back, Reason::NoPrefixAddress);
}

/// What is quoted is translated too, and every checksum stays right.
fn routers_and_containers_report_errors(datapath: Datapath) {
    let scene = scene(datapath);
    let call = call(Kind::Udp);
    let seen = call.from((outside(&scene, 2), 5000));
    let redirected = |reason: Reason| {
        if datapath == Datapath::Fast { reason.redirected() } else { reason }
    };
    let error = IcmpError::about(&seen, V6::outside(77));
    let expected = error.translated(error.src, &call);
    becomes(&scene, FROM_UPLINK, &error, redirected(Reason::PrefixTranslated), &expected);
    let forged = IcmpError { dst: outside(&scene, 3), ..error };
    becomes(&scene, FROM_UPLINK, &forged, Reason::IcmpError, &forged);

    let request = call.reply();
    let error = IcmpError::about(&request, call.src.0);
    let expected = error.translated(seen.src.0, &seen.reply());
    let (at, reason) = match datapath {
        Datapath::Fast => (from_endpoint(NET_A, 2), Reason::PrefixTranslatedRedirected),
        Datapath::Stack => (TO_UPLINK, Reason::PrefixTranslated),
    };
    becomes(&scene, at, &error, reason, &expected);
    let forged = IcmpError::about(&request.to((V6::inside(NET_A, 3), 1)), call.src.0);
    becomes(&scene, at, &forged, Reason::IcmpError, &forged);
}

/// Too large for the network, say: the host was given the packet translated.
fn the_host_reports_errors(datapath: Datapath) {
    let scene = scene(datapath);
    let own = At { ingress: 0, ..TO_UPLINK };
    let request = call(Kind::Udp).reply();
    let seen = request.to((outside(&scene, 2), 5000));
    for (src, seen_src) in [(V6::host(1), V6::host(1)), (V6::inside(NET_A, 1), outside(&scene, 1))]
    {
        let error = IcmpError::about(&request, src);
        let expected = error.translated(seen_src, &seen);
        becomes(&scene, own, &error, Reason::PrefixTranslated, &expected);
    }
    let other = IcmpError::about(&request.to((V6::host(1), 22)), V6::host(1));
    becomes(&scene, own, &other, Reason::HostTraffic, &other);
}

fn what_belongs_on_a_link_stays_there(datapath: Datapath) {
    let mut scene = scene(datapath);
    let call = call(Kind::Udp);
    let discovery = call.with_kind(Kind::Icmp(135));
    let entering = discovery.reply().to((outside(&scene, 2), 0));
    for (at, message) in [(TO_UPLINK, &discovery), (FROM_UPLINK, &entering)] {
        let reason = scene.judge(at.hook, &mut at.packet(message.frame()));
        assert_eq!(reason, Reason::UnsupportedProtocol);
    }
    scene.set(NET_A, NetworkFlags::INTERNAL);
    scene.stays(TO_UPLINK, &call, Reason::InternalNetwork);
}
