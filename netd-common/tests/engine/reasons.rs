//! Every reason can be reached, and here is the shortest way to each.

use netd_common::{
    address::{V4, V6},
    config::ConfigFlags,
    counters::FlowCount,
    network::{FamilyFlags, NetworkFlags},
    nptv6::OutsidePrefix,
    reason::Reason,
};

use crate::{
    family::Family,
    icmp_error::{self, IcmpError},
    message::{Kind, Message, RST, SYN},
    packet::HostPacket,
    place::{
        At, FROM_UPLINK, TO_UPLINK, bridge, from_bridge, from_endpoint, mac, port, slot,
        to_endpoint,
    },
    scene::{INTERNAL, NET_A, NET_B, OPEN, PLAIN, QUIET, SECOND_UPLINK, Scene, UPLINK, WEB},
    tables::HostRoute,
};

#[test]
fn every_reason_is_reached() {
    for &reason in Reason::ALL {
        let mut scene = Scene::new();
        let (at, mut packet) = way_to(reason, &mut scene);
        assert_eq!(scene.judge(at.hook, &mut packet), reason);
    }
}

type A = V6;

fn packet(at: At, message: &Message<A>) -> (At, HostPacket) {
    (at, at.packet(message.frame()))
}

fn changed(at: At, message: &Message<A>, change: impl FnOnce(&mut HostPacket)) -> (At, HostPacket) {
    let (at, mut packet) = packet(at, message);
    change(&mut packet);
    (at, packet)
}

/// Has the first network's prefix translated.
fn translate_prefix(scene: &mut Scene) {
    let network = scene.tables.networks.get_mut(&NET_A).unwrap();
    network.v6.flags = FamilyFlags::PRESENT | FamilyFlags::PREFIX_TRANSLATED;
    network.outside = OutsidePrefix::new(network.v6.subnet, A::inside(99, 0));
}

/// A packet from somebody unknown to the port that a container sends from.
fn unknown(scene: &mut Scene, flags: u32) -> Message<A> {
    scene.tables.config.flags |= ConfigFlags::MAPPINGS;
    scene.set(NET_A, NetworkFlags::ENDPOINT_INDEPENDENT | flags);
    let call = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let at = if flags == 0 { TO_UPLINK } else { from_endpoint(NET_A, 2) };
    let (_, outside) = scene.pass(at, &call);
    outside.reply().from((A::outside(77), 7777))
}

/// Prepares the scene, and the packet that meets the reason there. A reason without a way does not compile.
fn way_to(reason: Reason, scene: &mut Scene) -> (At, HostPacket) {
    let web = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), WEB));
    let inside = web.to((A::inside(NET_A, 2), 80));
    let call = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let (a, b, gateway) = (from_endpoint(NET_A, 2), (A::inside(NET_B, 2), 1), A::inside(NET_A, 1));
    let routed = call.from((A::inside(PLAIN, 2), 5000));
    let neighbour = call.to((A::inside(NET_A, 3), 53));
    match reason {
        Reason::NotIp => changed(FROM_UPLINK, &web, |packet| packet.frame[12] = 0x88),
        Reason::Vlan => changed(FROM_UPLINK, &web, |packet| packet.has_vlan_tag = true),
        Reason::Multicast => packet(a, &call.to((A::MULTICAST, 1))),
        Reason::OtherHost => changed(FROM_UPLINK, &web, |packet| packet.is_to_this_host = false),
        Reason::LinkLocal => packet(a, &call.to((A::LINK_LOCAL, 1))),
        Reason::HostTraffic => packet(At { ingress: 0, ..TO_UPLINK }, &call),
        Reason::HostToContainer => packet(to_endpoint(NET_A, 2, 0), &inside),
        Reason::ContainerToHost => packet(a, &call.to((gateway, 53))),
        Reason::SameNetwork => packet(a, &neighbour),
        Reason::NetworksAllowed => {
            scene.tables.isolation_sets.insert((NET_A, NET_B));
            packet(a, &call.to((A::inside(NET_B, 99), 1)))
        }
        Reason::ContainerToOutside => packet(a, &call),
        Reason::FlowToContainer => {
            scene.translated(FROM_UPLINK, &web, Reason::Published);
            packet(to_endpoint(NET_A, 2, UPLINK), &inside)
        }
        Reason::NotOurs => packet(FROM_UPLINK, &web.to((A::host(1), 22))),
        Reason::FragmentToHost => {
            changed(FROM_UPLINK, &web, |packet| packet.frame = web.fragment())
        }
        Reason::IcmpErrorToHost => packet(FROM_UPLINK, &web.with_kind(Kind::Icmp(1))),
        Reason::Published => packet(FROM_UPLINK, &web),
        Reason::PublishedReply => {
            scene.translated(FROM_UPLINK, &web, Reason::Published);
            packet(TO_UPLINK, &inside.reply())
        }
        Reason::Masqueraded => packet(TO_UPLINK, &call),
        Reason::MasqueradeReply => {
            let outside = scene.translated(TO_UPLINK, &call, Reason::Masqueraded);
            packet(FROM_UPLINK, &outside.reply())
        }
        Reason::Mapped => packet(FROM_UPLINK, &unknown(scene, 0)),
        Reason::MappedReply => {
            let unknown = unknown(scene, 0);
            scene.translated(FROM_UPLINK, &unknown, Reason::Mapped);
            packet(TO_UPLINK, &unknown.to(call.src).reply())
        }
        Reason::MappedRedirected => packet(FROM_UPLINK, &unknown(scene, NetworkFlags::FAST)),
        Reason::MappedReplyRedirected => {
            let unknown = unknown(scene, NetworkFlags::FAST);
            scene.pass(FROM_UPLINK, &unknown);
            packet(a, &unknown.to(call.src).reply())
        }
        Reason::PrefixTranslated => {
            translate_prefix(scene);
            packet(TO_UPLINK, &call)
        }
        Reason::PrefixTranslatedRedirected => {
            translate_prefix(scene);
            scene.set(NET_A, NetworkFlags::FAST);
            packet(a, &call)
        }
        Reason::NoPrefixAddress => {
            translate_prefix(scene);
            packet(TO_UPLINK, &call.from((A::inside(NET_A, 0), 1)))
        }
        Reason::Untranslated => packet(TO_UPLINK, &routed),
        Reason::IcmpErrorOfFlow => {
            let outside = scene.translated(TO_UPLINK, &call, Reason::Masqueraded);
            error(FROM_UPLINK, &IcmpError::about(&outside, call.dst.0))
        }
        Reason::PublishedRedirected => {
            scene.set(NET_A, NetworkFlags::FAST);
            packet(FROM_UPLINK, &web)
        }
        Reason::PublishedReplyRedirected => {
            scene.set(NET_A, NetworkFlags::FAST);
            scene.pass(FROM_UPLINK, &web);
            packet(a, &inside.reply())
        }
        Reason::MasqueradedRedirected => {
            scene.set(NET_A, NetworkFlags::FAST);
            packet(a, &call)
        }
        Reason::MasqueradeReplyRedirected => {
            scene.set(NET_A, NetworkFlags::FAST);
            let (_, outside) = scene.pass(a, &call);
            packet(FROM_UPLINK, &outside.reply())
        }
        Reason::UntranslatedRedirected => {
            scene.set(PLAIN, NetworkFlags::FAST);
            packet(from_endpoint(PLAIN, 2), &routed)
        }
        Reason::SameNetworkRedirected => {
            changed(a, &neighbour, |packet| packet.frame[..6].copy_from_slice(&mac(NET_A, 3)))
        }
        Reason::NetworksAllowedRedirected => {
            scene.tables.isolation_sets.insert((NET_A, NET_B));
            packet(a, &call.to(b))
        }
        Reason::IcmpErrorOfFlowRedirected => {
            scene.set(NET_A, NetworkFlags::FAST);
            let (_, outside) = scene.pass(a, &call);
            error(FROM_UPLINK, &IcmpError::about(&outside, call.dst.0))
        }
        Reason::NotDeliverable => {
            let own = web.from(call.src);
            scene.pass(a, &own);
            changed(a, &own, |packet| packet.frame[21] = 1)
        }
        Reason::DirectlyRouted => {
            let direct = call.from((A::outside(7), 1)).to((A::inside(OPEN, 2), 1));
            packet(FROM_UPLINK, &direct.with_kind(Kind::Icmp(200)))
        }
        Reason::JudgedByPort => changed(from_bridge(NET_A), &call, |packet| {
            packet.frame[6..12].copy_from_slice(&mac(NET_A, 2));
        }),
        Reason::Malformed => changed(FROM_UPLINK, &web, |packet| packet.frame.truncate(40)),
        Reason::SourceRoute => source_routed(a),
        Reason::LoopbackAddress => packet(FROM_UPLINK, &web.from((A::LOOPBACK, 1))),
        Reason::DirectRouting => packet(FROM_UPLINK, &inside),
        Reason::SpoofedSource => packet(FROM_UPLINK, &web.from((A::inside(NET_A, 2), 1))),
        Reason::SourceNotInSubnet => packet(a, &call.from(b)),
        Reason::ForgedSource => {
            scene.set(NET_A, NetworkFlags::STRICT_SOURCE);
            packet(a, &call.from((A::inside(NET_A, 3), 1)))
        }
        Reason::NetworksApart => packet(a, &call.to(b)),
        Reason::NotAnUplink => {
            let routes = &mut A::store_mut(&mut scene.tables).routes;
            routes.insert((bridge(NET_A), call.dst.0), HostRoute::Elsewhere);
            packet(a, &call)
        }
        Reason::InternalNetwork => {
            packet(from_endpoint(INTERNAL, 2), &call.from((A::inside(INTERNAL, 2), 1)))
        }
        Reason::IccOff => packet(to_endpoint(QUIET, 2, port(QUIET, 3)), &neighbour),
        Reason::Unsolicited => packet(to_endpoint(NET_A, 2, UPLINK), &inside),
        Reason::UnknownPort => packet(At { ifindex: bridge(NET_A), ..a }, &call),
        Reason::NoMasqueradeAddress => packet(At { ifindex: SECOND_UPLINK, ..TO_UPLINK }, &call),
        Reason::SourcePortsExhausted => {
            let every_port = (0..=u16::MAX).map(|port| (17, port));
            A::store(&scene.tables).host_sockets.borrow_mut().extend(every_port);
            packet(TO_UPLINK, &call)
        }
        Reason::ConntrackFull => {
            scene.tables.capacity.set(1);
            packet(FROM_UPLINK, &web)
        }
        Reason::NetworkFlowLimit => {
            scene.tables.flow_limits.insert(FlowCount::of_network(NET_A), 1);
            scene.translated(FROM_UPLINK, &web, Reason::Published);
            packet(TO_UPLINK, &call)
        }
        Reason::EndpointFlowLimit => {
            scene.tables.flow_limits.insert(slot(NET_A, 2), 1);
            scene.translated(FROM_UPLINK, &web, Reason::Published);
            packet(TO_UPLINK, &call)
        }
        Reason::ConntrackRace => {
            let forget = |tables: &_| A::store(tables).flows.borrow_mut().clear();
            *scene.tables.after_insertion.borrow_mut() = Some(Box::new(forget));
            packet(FROM_UPLINK, &web)
        }
        Reason::NoFlow => packet(TO_UPLINK, &call.with_kind(Kind::Tcp(RST))),
        Reason::Fragment => changed(TO_UPLINK, &call, |packet| packet.frame = call.fragment()),
        Reason::FragmentHeld => changed(a, &call, |packet| packet.frame = call.fragment()),
        Reason::IcmpError => packet(TO_UPLINK, &call.with_kind(Kind::Icmp(1))),
        Reason::ForgedIcmpError => {
            let outside = scene.translated(TO_UPLINK, &call, Reason::Masqueraded);
            let to_another =
                IcmpError { dst: A::host(2), ..IcmpError::about(&outside, call.dst.0) };
            error(FROM_UPLINK, &to_another)
        }
        Reason::BrokenQuote => about_ipv4(scene, |error| error.quote[8] = 1),
        Reason::IcmpRedirect => about_ipv4(scene, |error| error.kind = icmp_error::REDIRECT),
        Reason::UnsupportedProtocol => packet(TO_UPLINK, &call.with_kind(Kind::Icmp(200))),
        Reason::NoProgram => {
            scene.has_rare_programs = false;
            changed(FROM_UPLINK, &web, |packet| packet.frame = web.fragment())
        }
        Reason::NoMemory => changed(FROM_UPLINK, &web, |packet| packet.has_memory = false),
    }
}

fn error(at: At, error: &IcmpError<A>) -> (At, HostPacket) {
    (at, at.packet(error.frame()))
}

/// An error about a container's IPv4 packet.
fn about_ipv4(scene: &Scene, change: impl FnOnce(&mut IcmpError<V4>)) -> (At, HostPacket) {
    let call = Message::<V4>::new(Kind::Udp, (V4::inside(NET_A, 2), 5000), (V4::outside(9), 53));
    let outside = scene.translated(TO_UPLINK, &call, Reason::Masqueraded);
    let mut error = IcmpError::about(&outside, V4::outside(9));
    change(&mut error);
    (FROM_UPLINK, FROM_UPLINK.packet(error.frame()))
}

/// Only IPv4 has them.
fn source_routed(at: At) -> (At, HostPacket) {
    let call = Message::<V4>::new(Kind::Udp, (V4::inside(NET_A, 2), 5000), (V4::outside(9), 53));
    let frame = call.with_ipv4_options(&[131, 7, 4, 198, 51, 100, 7, 0]);
    (at, HostPacket::new(frame, at.ifindex, at.ingress))
}
