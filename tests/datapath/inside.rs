//! Between containers, redirected in both data paths: published ports from inside, neighbours, allowed
//! networks; and who may send as whom.

use anyhow::{Context as _, Result, ensure};
use netd_common::{
    names,
    network::{FamilyFlags, NetworkFlags},
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::{ACK, FIN, Kind, OTHER_MAC, Packet, SYN},
    prog::{flows::Half, maps::Published},
};

use crate::{
    expect::flow,
    host::{
        At, DNS, DNS_SLOT, FROM_UPLINK, Host, MTU, NET_A, NET_B, OPEN, ROUTED, UPLINK, WEB, bridge,
        bridge_mac, end, from_bridge, from_endpoint, inside, mac, network, on_a_fast_host,
        on_a_host, port, slot, to_bridge,
    },
};

/// Runs a test in both data paths.
fn on_both(test: fn(&mut Host, Family) -> Result<()>) -> Result<()> {
    on_a_host(test).context("stack")?;
    on_a_fast_host(test).context("fast")
}

/// A container's packet, from its own MAC address to this one.
fn frame(packet: &Packet, (network, n): (u16, u8), dst: [u8; 6]) -> Vec<u8> {
    packet.frame_for(dst, mac(network, n))
}

/// What a container is handed.
fn handed(packet: &Packet, (network, n): (u16, u8)) -> Vec<u8> {
    packet.with_ttl(packet.ttl - 1).frame_for(mac(network, n), bridge_mac(network))
}

/// Both halves of a flow between containers.
fn flow_inside(seen: &Packet, becomes: &Packet, server: u32, client: u32) -> [Half; 2] {
    let [original, reply] = flow(false, seen, becomes);
    [
        Half { redirected_to: server, ..original },
        Half { is_on_uplink: false, redirected_to: client, ..reply },
    ]
}

/// Who asks for a published port of NET_A: the container itself, a neighbour, another network's.
const CLIENTS: [(u16, u8); 3] = [(NET_A, 2), (NET_A, 3), (NET_B, 2)];
const SERVER: (u16, u8) = (NET_A, 2);

/// A request of a client's, and what the server sees of it.
fn request(family: Family, client: (u16, u8), kind: Kind) -> (Packet, Packet) {
    let (host_port, inner) = if kind == Kind::Udp { (DNS, 53) } else { (WEB, 80) };
    // Two of them are seen as the gateway.
    let sport = 40_000 + client.0;
    let own = end(inside(family, client.0, client.1), sport);
    let request = Packet::new(kind, own, end(family.host(), host_port));
    let entering = request.to(end(inside(family, NET_A, 2), inner));
    // A neighbour is seen as itself (P13), all others as the server's gateway (P12 and P15).
    if client == (NET_A, 3) {
        return (request, entering);
    }
    let gateway = end(inside(family, NET_A, 1), sport);
    (request, entering.from(gateway))
}

fn begin(
    host: &mut Host,
    family: Family,
    client: (u16, u8),
    kind: Kind,
) -> Result<(Packet, Packet)> {
    let (request, entering) = request(family, client, kind);
    let at = from_endpoint(client.0, client.1);
    let begun = flow_inside(&request, &entering, port(NET_A, 2), port(client.0, client.1));
    let sent = frame(&request, client, bridge_mac(client.0));
    let after = host.run(at, &sent, Reason::PublishedRedirected, &begun, &[])?;
    ensure!(after == handed(&entering, SERVER), "{after:02x?}\nexpected: {entering:?}");
    Ok((request, entering))
}

#[test]
fn a_published_port_is_reached_from_inside_and_answers() -> Result<()> {
    on_both(|host, family| {
        for client in CLIENTS {
            for kind in [Kind::Tcp(SYN), Kind::Udp] {
                let (request, entering) = begin(host, family, client, kind)?;
                let answer = frame(&entering.reply(), SERVER, mac(NET_A, 3));
                let reason = Reason::PublishedReplyRedirected;
                let after = host.run(from_endpoint(NET_A, 2), &answer, reason, &[], &[])?;
                let expected = handed(&request.reply(), client);
                ensure!(after == expected, "{client:?}: {after:02x?}");
                // The flow ends with its client.
                let halves = host.halves();
                ensure!(host.datapath.expire(&halves)? == (2, 0), "{client:?}");
                host.datapath.set_generation(slot(client.0, client.1), 1)?;
                ensure!(host.datapath.expire(&halves)? == (2, 1), "{client:?}");
                host.look_again()?;
                ensure!(host.halves().is_empty());
                host.datapath.set_generation(slot(client.0, client.1), 0)?;
            }
        }
        let traffic = host.datapath.traffic(DNS_SLOT)?;
        ensure!((traffic.received.packets, traffic.sent.packets, traffic.flows) == (3, 3, 3));
        Ok(())
    })
}

#[test]
fn what_cannot_be_handed_over_is_given_to_the_stack_to_answer() -> Result<()> {
    on_both(|host, family| {
        for client in CLIENTS {
            let (request, entering) = begin(host, family, client, Kind::Tcp(SYN))?;
            let answer = entering.reply();
            let server_end = answer.src;
            let at = from_endpoint(client.0, client.1);
            for packet in [request.with_ttl(1), request.with_payload_len(MTU.into())] {
                let sent = frame(&packet, client, bridge_mac(client.0));
                let after = host.run(at, &sent, Reason::NotDeliverable, &[], &[])?;
                let expected = frame(&packet.to(server_end), client, bridge_mac(client.0));
                ensure!(after == expected, "{client:?}: {after:02x?}");
            }
            for packet in [answer.with_ttl(1), answer.with_payload_len(MTU.into())] {
                // As to a neighbour; the gateway is to answer.
                let sent = frame(&packet, SERVER, mac(NET_A, 3));
                let at = from_endpoint(NET_A, 2);
                let after = host.run(at, &sent, Reason::NotDeliverable, &[], &[])?;
                let expected = frame(&packet.to(request.src), SERVER, bridge_mac(NET_A));
                ensure!(after == expected, "{client:?}: {after:02x?}");
                let on_bridge =
                    host.run(from_bridge(NET_A), &after, Reason::JudgedByPort, &[], &[])?;
                ensure!(on_bridge == after);
            }
        }
        Ok(())
    })
}

#[test]
fn a_frame_for_a_neighbour_is_handed_over_as_it_is() -> Result<()> {
    on_both(|host, family| {
        let own = end(inside(family, NET_A, 2), 5);
        let at = from_endpoint(NET_A, 2);
        for kind in [Kind::Tcp(FIN | ACK), Kind::Udp, Kind::EchoReply, Kind::Other(47)] {
            let packet = Packet::new(kind, own, end(inside(family, NET_A, 3), 53)).with_ttl(1);
            let to = |mac| frame(&packet, (NET_A, 2), mac);
            host.judges(&[
                ("the neighbour", at, to(mac(NET_A, 3)), Reason::SameNetworkRedirected),
                ("the gateway", at, to(bridge_mac(NET_A)), Reason::SameNetwork),
                ("everybody", at, to([0xff; 6]), Reason::SameNetwork),
            ])?;
        }
        let (src, dst) = (inside(family, NET_B, 2), inside(family, NET_B, 3));
        let packet = Packet::new(Kind::Udp, end(src, 5), end(dst, 53)).frame();
        host.judges(&[("icc off", from_endpoint(NET_B, 2), packet, Reason::IccOff)])
    })
}

#[test]
fn a_packet_for_an_allowed_network_is_routed_past_the_stack() -> Result<()> {
    on_both(|host, family| {
        host.datapath.allow(NET_A, NET_B)?;
        let at = from_endpoint(NET_A, 2);
        let own = end(inside(family, NET_A, 2), 5);
        for kind in [Kind::Tcp(FIN | ACK), Kind::Udp, Kind::EchoReply, Kind::Other(47)] {
            let packet = Packet::new(kind, own, end(inside(family, NET_B, 2), 53));
            let reason = Reason::NetworksAllowedRedirected;
            let after = host.run(at, &packet.frame(), reason, &[], &[])?;
            ensure!(after == handed(&packet, (NET_B, 2)), "{after:02x?}");
            host.stays(at, &packet.with_ttl(1), Reason::NetworksAllowed)?;
            host.stays(at, &packet.with_payload_len(MTU.into()), Reason::NetworksAllowed)?;
        }
        let flags = NetworkFlags::INTERNAL | NetworkFlags::ICC;
        let internal = network(NET_B, FamilyFlags::MASQUERADE, flags)?;
        host.datapath.set_network(NET_B, &internal)?;
        let packet = Packet::new(Kind::Udp, own, end(inside(family, NET_B, 2), 53));
        host.stays(at, &packet, Reason::InternalNetwork)
    })
}

#[test]
fn a_container_of_another_network_is_reached_where_that_one_allows_it() -> Result<()> {
    on_both(|host, family| {
        publish_directly(host, family, ROUTED)?;
        let own = end(inside(family, NET_A, 2), 5000);
        for (kind, number, dport, reason) in [
            (Kind::Tcp(SYN), ROUTED, 80, Reason::PublishedRedirected),
            (Kind::EchoRequest, ROUTED, 0, Reason::MasqueradedRedirected),
            (Kind::Udp, OPEN, 9, Reason::MasqueradedRedirected),
        ] {
            let server = end(inside(family, number, 2), dport);
            let request = Packet::new(kind, own, server);
            let entering = request.from(end(inside(family, number, 1), 5000));
            let begun = flow_inside(&request, &entering, port(number, 2), port(NET_A, 2));
            let after = host.run(
                from_endpoint(NET_A, 2),
                &request.frame_for(bridge_mac(NET_A), mac(NET_A, 2)),
                reason,
                &begun,
                &[],
            )?;
            ensure!(after == handed(&entering, (number, 2)), "{after:02x?}");
        }
        let at = from_endpoint(NET_A, 2);
        let to = |number, dport| {
            Packet::new(Kind::Tcp(SYN), own, end(inside(family, number, 2), dport)).frame()
        };
        host.judges(&[
            ("not published", at, to(ROUTED, 81), Reason::NetworksApart),
            ("neither", at, to(NET_B, 80), Reason::NetworksApart),
        ])
    })
}

/// Publishes port 80 of a network's container on its own address.
fn publish_directly(host: &mut Host, family: Family, number: u16) -> Result<()> {
    let own = inside(family, number, 2);
    host.datapath.publish(&Published {
        addr: own,
        proto: 6,
        ports: 80..=80,
        container: end(own, 80),
        network: number,
        slot: 9,
        endpoint_slot: slot(number, 2),
    })
}

#[test]
fn the_outside_reaches_what_a_gateway_mode_or_a_trusted_device_lets_it() -> Result<()> {
    on_a_host(|host, family| {
        let to = |kind, number, dport| {
            Packet::new(kind, end(family.client(), 7), end(inside(family, number, 2), dport))
        };
        let tcp = Kind::Tcp(SYN);
        host.judges(&[
            ("not published", FROM_UPLINK, to(tcp, ROUTED, 80).frame(), Reason::DirectRouting),
            (
                "no ports",
                FROM_UPLINK,
                to(Kind::Other(47), ROUTED, 0).frame(),
                Reason::DirectRouting,
            ),
            (
                "open, no query",
                FROM_UPLINK,
                to(Kind::Icmp(200), OPEN, 0).frame(),
                Reason::DirectlyRouted,
            ),
        ])?;
        for (number, is_trusted) in [(ROUTED, false), (NET_A, true)] {
            publish_directly(host, family, number)?;
            let request = to(tcp, number, 80);
            if is_trusted {
                host.stays(FROM_UPLINK, &request, Reason::DirectRouting)?;
                host.datapath.trust(UPLINK, number)?;
            }
            let begun = flow(true, &request, &request);
            host.begins(FROM_UPLINK, &request, Reason::Published, &request, &begun)?;
            host.stays(FROM_UPLINK, &to(tcp, number, 81), Reason::DirectRouting)?;
        }
        Ok(())
    })
}

#[test]
fn a_strict_source_is_the_containers_own() -> Result<()> {
    on_both(|host, family| {
        let strict = NetworkFlags::ICC | NetworkFlags::STRICT_SOURCE;
        host.datapath.set_network(NET_A, &network(NET_A, FamilyFlags::MASQUERADE, strict)?)?;
        let at = from_endpoint(NET_A, 2);
        let from = |n, mac| {
            let src = end(inside(family, NET_A, n), 5);
            Packet::new(Kind::Udp, src, end(family.remote(), 53)).frame_for(bridge_mac(NET_A), mac)
        };
        host.judges(&[
            ("own", at, from(2, mac(NET_A, 2)), Reason::ContainerToOutside),
            ("a neighbour's address", at, from(3, mac(NET_A, 2)), Reason::ForgedSource),
            ("nobody's address", at, from(9, mac(NET_A, 2)), Reason::ForgedSource),
            ("a neighbour's MAC address", at, from(2, mac(NET_A, 3)), Reason::ForgedSource),
            ("nobody's MAC address", at, from(2, OTHER_MAC), Reason::ForgedSource),
        ])
    })
}

#[test]
fn what_crosses_a_bridge_from_an_unknown_port_is_judged() -> Result<()> {
    on_both(|host, family| {
        let a = from_bridge(NET_A);
        let from = |n, mac, dst| {
            let src = end(inside(family, NET_A, n), 5);
            Packet::new(Kind::Udp, src, end(dst, 53)).frame_for(bridge_mac(NET_A), mac)
        };
        let (known, unknown) = (mac(NET_A, 2), OTHER_MAC);
        let (gateway, other) = (inside(family, NET_A, 1), inside(family, NET_B, 2));
        let neighbour = inside(family, NET_A, 3);
        host.judges(&[
            ("known", a, from(2, known, other), Reason::JudgedByPort),
            ("unknown MAC address", a, from(2, unknown, other), Reason::NetworksApart),
            ("unknown address", a, from(9, unknown, other), Reason::NetworksApart),
            ("to the gateway", a, from(9, unknown, gateway), Reason::ContainerToHost),
            ("to a neighbour", a, from(9, unknown, neighbour), Reason::SameNetwork),
            ("to the world", a, from(9, unknown, family.remote()), Reason::ContainerToOutside),
            (
                "not its network",
                from_bridge(NET_B),
                from(9, unknown, gateway),
                Reason::SourceNotInSubnet,
            ),
        ])?;
        let to =
            |src, n| Packet::new(Kind::Udp, end(src, 5), end(inside(family, NET_A, n), 53)).frame();
        let at = |ingress| to_bridge(NET_A, ingress);
        let client = family.client();
        host.judges(&[
            ("known", at(UPLINK), to(client, 2), Reason::JudgedByPort),
            ("unknown", at(UPLINK), to(client, 9), Reason::Unsolicited),
            ("from the host", at(0), to(family.host(), 9), Reason::HostToContainer),
            ("another network", at(bridge(NET_B)), to(other, 9), Reason::NetworksApart),
            ("routed back", at(bridge(NET_A)), to(neighbour, 9), Reason::SameNetwork),
        ])?;
        let nowhere = At { program: names::TO_BRIDGE, place: FROM_UPLINK.place };
        host.judges(&[("no bridge", nowhere, to(client, 9), Reason::UnknownPort)])
    })
}
