//! Every reason can be reached, and here is the shortest way to each.

use netd_common::{address::V6, reason::Reason, tables::RouteVerdict};

use crate::{
    family::Family,
    message::{Kind, Message, RST, SYN},
    packet::HostPacket,
    scene::{
        At, FROM_UPLINK, INTERNAL, NET_A, NET_B, QUIET, ROUTED, SECOND_UPLINK, Scene, TO_UPLINK,
        UPLINK, WEB, bridge, from_endpoint, port, to_endpoint,
    },
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
    (at, HostPacket::new(message.frame(), at.ifindex, at.ingress))
}

fn changed(at: At, message: &Message<A>, change: impl FnOnce(&mut HostPacket)) -> (At, HostPacket) {
    let (at, mut packet) = packet(at, message);
    change(&mut packet);
    (at, packet)
}

/// Prepares the scene, and the packet that meets the reason there. A reason without a way does not compile.
fn way_to(reason: Reason, scene: &mut Scene) -> (At, HostPacket) {
    let web = Message::<A>::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), WEB));
    let inside = web.to((A::inside(NET_A, 2), 80));
    let call = Message::<A>::new(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53));
    let (a, b, gateway) = (from_endpoint(NET_A, 2), (A::inside(NET_B, 2), 1), A::inside(NET_A, 1));
    let routed = call.from((A::inside(ROUTED, 2), 5000));
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
            packet(a, &call.to(b))
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
        Reason::Untranslated => packet(TO_UPLINK, &routed),
        Reason::Malformed => changed(FROM_UPLINK, &web, |packet| packet.frame.truncate(40)),
        Reason::LoopbackAddress => packet(FROM_UPLINK, &web.from((A::LOOPBACK, 1))),
        Reason::DirectRouting => packet(FROM_UPLINK, &inside),
        Reason::SpoofedSource => packet(FROM_UPLINK, &web.from((A::inside(NET_A, 2), 1))),
        Reason::SourceNotInSubnet => packet(a, &call.from(b)),
        Reason::NetworksApart => packet(a, &call.to(b)),
        Reason::NotAnUplink => {
            let routes = &mut A::store_mut(&mut scene.tables).routes;
            routes.insert((bridge(NET_A), call.dst.0), RouteVerdict::Elsewhere);
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
        Reason::ConntrackRace => {
            let forget = |tables: &_| A::store(tables).flows.borrow_mut().clear();
            *scene.tables.after_insertion.borrow_mut() = Some(Box::new(forget));
            packet(FROM_UPLINK, &web)
        }
        Reason::NoFlow => packet(TO_UPLINK, &call.with_kind(Kind::Tcp(RST))),
        Reason::Fragment => changed(TO_UPLINK, &call, |packet| packet.frame = call.fragment()),
        Reason::IcmpError => packet(TO_UPLINK, &call.with_kind(Kind::Icmp(1))),
        Reason::UnsupportedProtocol => packet(TO_UPLINK, &call.with_kind(Kind::Other(47))),
        Reason::NoMemory => changed(FROM_UPLINK, &web, |packet| packet.has_memory = false),
    }
}
