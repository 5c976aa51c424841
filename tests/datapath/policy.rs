//! Who may send what where: rows of a frame at a hook and the reason that it meets.

use std::{
    fs,
    net::{IpAddr, TcpListener, UdpSocket},
    process::Command,
};

use anyhow::{Context as _, Result};
use netd_common::{
    names,
    network::{BridgePort, Endpoint, UplinkFlags},
    reason::Reason,
};
use netd_tests::{
    clients::connect_between,
    condition::eventually,
    family::Family,
    fragments::fragments,
    packet::{ACK, FIN, Kind, OTHER_MAC, Packet, RST, SYN},
    process::run,
    prog::Place,
};

use crate::{
    expect::flow,
    host::{
        At, DNS, FROM_UPLINK, HOST_TO_UPLINK, Host, NET_A, NET_B, ROUTED, TO_UPLINK, UPLINK, WEB,
        bridge, end, from_endpoint, inside, on_a_host, port, slot, to_endpoint,
    },
};

const BRIDGE: u32 = bridge(NET_A);
const NEIGHBOUR: At = to_endpoint(NET_A, 2, port(NET_A, 3));

/// One packet of each protocol.
fn every_protocol(packet: &Packet) -> [Packet; 5] {
    [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest, Kind::Other(47), Kind::Other(50)]
        .map(|kind| packet.with_kind(kind))
}

/// A container's packet to the world.
fn call(family: Family) -> Packet {
    let own = end(inside(family, NET_A, 2), 50_000);
    Packet::new(Kind::Udp, own, end(family.remote(), 53))
}

#[test]
fn the_outside_neither_reaches_containers_nor_poses_as_one() -> Result<()> {
    on_a_host(|host, family| {
        let container = end(inside(family, NET_A, 2), 80);
        let direct = Packet::new(Kind::Udp, end(family.client(), 40_000), container);
        for packet in every_protocol(&direct) {
            let spoofed = packet.from(container).to(end(family.host(), WEB));
            host.judges(&[
                ("direct", FROM_UPLINK, packet.frame(), Reason::DirectRouting),
                ("spoofed", FROM_UPLINK, spoofed.frame(), Reason::SpoofedSource),
            ])?;
        }
        let loopback = direct.from(end(family.loopback(), 1)).to(end(family.host(), WEB));
        let to_loopback = direct.to(end(family.loopback(), WEB));
        host.judges(&[
            ("from loopback", FROM_UPLINK, loopback.frame(), Reason::LoopbackAddress),
            ("to loopback", FROM_UPLINK, to_loopback.frame(), Reason::LoopbackAddress),
        ])
    })
}

#[test]
fn what_is_the_hosts_own_is_left_alone() -> Result<()> {
    on_a_host(|host, family| {
        let ssh = Packet::new(Kind::Tcp(SYN), end(family.client(), 40_000), end(family.host(), 22));
        let web = ssh.to(end(family.host(), WEB));
        let unreachable = Kind::Icmp(family.pick(3, 1));
        let error = ssh.with_kind(unreachable).frame();
        let to_flags = |flags| web.with_kind(Kind::Tcp(flags)).frame();
        let elsewhere = ssh.to(end(family.remote(), 53));
        host.judges(&[
            ("ssh", FROM_UPLINK, ssh.frame(), Reason::NotOurs),
            ("echo", FROM_UPLINK, ssh.with_kind(Kind::EchoRequest).frame(), Reason::NotOurs),
            ("other protocol", FROM_UPLINK, web.with_kind(Kind::Udp).frame(), Reason::NotOurs),
            ("forwarded", FROM_UPLINK, elsewhere.frame(), Reason::NotOurs),
            ("forwarded on", TO_UPLINK, elsewhere.frame(), Reason::NotOurs),
            ("syn-ack", FROM_UPLINK, to_flags(SYN | ACK), Reason::NotOurs),
            ("rst", FROM_UPLINK, to_flags(RST), Reason::NotOurs),
            ("icmp error", FROM_UPLINK, error, Reason::IcmpErrorToHost),
            ("the host's own", HOST_TO_UPLINK, ssh.reply().frame(), Reason::HostTraffic),
        ])
    })
}

#[test]
fn a_link_local_client_reaches_no_published_port() -> Result<()> {
    on_a_host(|host, family| {
        if family == Family::V4 {
            return Ok(());
        }
        let client = end([0xfe80, 0, 0, 0, 0, 0, 0, 7].into(), 40_000);
        let packet = Packet::new(Kind::Tcp(SYN), client, end(family.host(), WEB));
        host.stays(FROM_UPLINK, &packet, Reason::NotOurs)
    })
}

#[test]
fn a_container_sends_where_it_may_and_as_itself() -> Result<()> {
    on_a_host(|host, family| {
        let at = from_endpoint(NET_A, 2);
        for (row, addr, reason) in [
            ("gateway", inside(family, NET_A, 1), Reason::ContainerToHost),
            ("the host's address", family.host(), Reason::ContainerToHost),
            ("another gateway", inside(family, NET_B, 1), Reason::ContainerToHost),
            ("neighbour", inside(family, NET_A, 3), Reason::SameNetwork),
            ("another network", inside(family, NET_B, 2), Reason::NetworksApart),
            ("the world", family.remote(), Reason::ContainerToOutside),
            ("loopback", family.loopback(), Reason::LoopbackAddress),
        ] {
            for packet in every_protocol(&call(family).to(end(addr, 53))) {
                host.judges(&[(row, at, packet.frame(), reason)])?;
            }
        }
        let from = |addr| call(family).from(end(addr, 5)).frame();
        let stranger = At { place: FROM_UPLINK.place, ..at };
        host.judges(&[
            ("another's", at, from(inside(family, NET_B, 2)), Reason::SourceNotInSubnet),
            ("outside", at, from(family.client()), Reason::SourceNotInSubnet),
            ("no port", stranger, call(family).frame(), Reason::UnknownPort),
        ])
    })
}

#[test]
fn a_container_receives_what_it_may() -> Result<()> {
    on_a_host(|host, family| {
        let own = end(inside(family, NET_A, 2), 80);
        let neighbour = Packet::new(Kind::Udp, end(inside(family, NET_A, 3), 5), own);
        for packet in every_protocol(&neighbour) {
            let outside = packet.from(end(family.client(), 5)).frame();
            let apart = packet.to(end(inside(family, NET_B, 2), 80)).frame();
            let at = |ingress| to_endpoint(NET_A, 2, ingress);
            let at_b = |ingress| to_endpoint(NET_B, 2, ingress);
            host.judges(&[
                ("the host", at(0), packet.frame(), Reason::HostToContainer),
                ("neighbour", at(port(NET_A, 3)), packet.frame(), Reason::SameNetwork),
                ("outside", at(UPLINK), outside, Reason::Unsolicited),
                ("another network", at_b(BRIDGE), apart.clone(), Reason::NetworksApart),
                (
                    "another bridge's port",
                    at_b(port(NET_A, 3)),
                    apart.clone(),
                    Reason::NetworksApart,
                ),
                // NET_B has no icc; a second port of it would be this one.
                ("icc off", at_b(port(NET_B, 2)), apart, Reason::IccOff),
            ])?;
        }
        host.datapath.allow(NET_A, NET_B)?;
        let allowed = neighbour.to(end(inside(family, NET_B, 2), 80)).frame();
        // To a container that netd does not know yet.
        let unknown = neighbour.to(end(inside(family, NET_B, 9), 80)).frame();
        host.judges(&[
            ("leaving", from_endpoint(NET_A, 3), unknown, Reason::NetworksAllowed),
            ("entering", to_endpoint(NET_B, 2, BRIDGE), allowed, Reason::NetworksAllowed),
        ])
    })
}

#[test]
fn what_is_routed_back_into_its_network_is_judged_as_switched() -> Result<()> {
    on_a_host(|host, family| {
        for (network, reason) in [(NET_A, Reason::SameNetwork), (NET_B, Reason::IccOff)] {
            let at = |ingress| to_endpoint(network, 2, ingress);
            let own = end(inside(family, network, 2), 80);
            let call = Packet::new(Kind::Udp, end(inside(family, network, 3), 5), own);
            for packet in every_protocol(&call) {
                host.judges(&[
                    ("routed back", at(bridge(network)), packet.frame(), reason),
                    ("outside", at(UPLINK), packet.frame(), Reason::UnknownPort),
                ])?;
            }
        }
        Ok(())
    })
}

/// It has one default route, and answers by it whichever network it was asked on.
#[test]
fn a_container_may_answer_with_its_address_on_another_network() -> Result<()> {
    on_a_host(|host, family| {
        let call = call(family).from(end(inside(family, ROUTED, 2), 80));
        let at = from_endpoint(NET_A, 2);
        host.stays(at, &call, Reason::SourceNotInSubnet)?;
        for (network, n) in [(NET_A, 2), (ROUTED, 2)] {
            let (slot, ifindex) = (slot(network, n), port(network, n));
            let (mac, sandbox) = ([2, 0, 0, 0, 1, n], 7);
            host.datapath.add_bridge_port(ifindex, &BridgePort { slot, network, mac, sandbox })?;
            let endpoint = Endpoint { ifindex, slot, network, mac, sandbox };
            host.datapath.add_endpoint(inside(family, network, n), &endpoint)?;
        }
        host.stays(at, &call, Reason::ContainerToOutside)?;
        host.stays(from_endpoint(NET_A, 3), &call, Reason::SourceNotInSubnet)
    })
}

#[test]
fn what_is_link_local_stays_on_the_link() -> Result<()> {
    on_a_host(|host, family| {
        let at = from_endpoint(NET_A, 2);
        let local = family.pick([169, 254, 0, 7].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 7].into());
        let from_local = call(family).from(end(local, 5));
        let gateway = end(inside(family, NET_A, 1), 53);
        let own = call(family).to(end(local, 53));
        let (on_link, outwards) = family.pick(
            (Reason::SourceNotInSubnet, Reason::ContainerToOutside),
            (Reason::LinkLocal, Reason::LinkLocal),
        );
        for packet in every_protocol(&from_local) {
            host.judges(&[
                ("world", at, packet.frame(), Reason::SourceNotInSubnet),
                ("gateway", at, packet.to(gateway).frame(), Reason::SourceNotInSubnet),
                ("neighbour", at, packet.to(end(local, 5)).frame(), on_link),
            ])?;
        }
        for packet in every_protocol(&own) {
            let lie = packet.from(end(inside(family, NET_B, 2), 5)).frame();
            host.judges(&[
                ("own", at, packet.frame(), outwards),
                ("another's", at, lie, Reason::SourceNotInSubnet),
            ])?;
        }
        if family == Family::V6 {
            let probe = from_local.with_kind(Kind::Icmp(135)).to(gateway);
            host.stays(at, &probe, Reason::LinkLocal)?;
        }
        Ok(())
    })
}

const SECOND_UPLINK: u32 = 60;
const VPN: u32 = 61;

/// A host that forwards from the first network's bridge, with an uplink and another device.
fn forwarding(family: Family) -> Result<()> {
    ip(&format!("link set h{BRIDGE} up"));
    ip(&format!("link set p{BRIDGE} up"));
    for (index, name) in [(SECOND_UPLINK, "wan"), (VPN, "vpn")] {
        ip(&format!("link add {name} index {index} type veth peer name far-{name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set far-{name} up"));
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    let v = family.pick("-4", "-6");
    ip(&format!("{v} route add default dev wan"));
    ip(&format!("{v} route add {} dev vpn", family.remote()));
    ip(&format!("{v} route add unreachable {}", nowhere(family)));
    Ok(())
}

fn nowhere(family: Family) -> IpAddr {
    family.pick([198, 51, 100, 99].into(), [0x2001, 0xdb8, 2, 0, 0, 0, 0, 99].into())
}

pub(crate) fn ip(line: &str) {
    run(Command::new("ip").args(line.split_whitespace()), "").ok();
}

#[test]
fn a_container_leaves_by_uplinks_only() -> Result<()> {
    on_a_host(|host, family| {
        forwarding(family)?;
        let at = from_endpoint(NET_A, 2);
        let to = |addr| call(family).to(end(addr, 53));
        for packet in every_protocol(&to(family.client())) {
            host.judges(&[("not yet", at, packet.frame(), Reason::NotAnUplink)])?;
        }
        host.datapath.add_uplink(SECOND_UPLINK, UplinkFlags::PRESENT)?;
        for (row, addr, reason) in [
            ("uplink", family.client(), Reason::ContainerToOutside),
            ("vpn", family.remote(), Reason::NotAnUplink),
            ("nowhere", nowhere(family), Reason::ContainerToOutside),
            ("gateway", inside(family, NET_A, 1), Reason::ContainerToHost),
        ] {
            for packet in every_protocol(&to(addr)) {
                host.judges(&[(row, at, packet.frame(), reason)])?;
            }
        }
        // A flow's answer leaves no other way.
        let client = end(family.remote(), 40_000);
        let request = Packet::new(Kind::Tcp(SYN), client, end(family.host(), WEB));
        let entering = request.to(end(inside(family, NET_A, 2), 80));
        let begun = flow(true, &request, &entering);
        host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
        host.stays(at, &entering.reply(), Reason::NotAnUplink)
    })
}

/// The kernel speaks of the MTU where it knows the neighbour; the packet leaves in fragments all the same.
#[test]
fn a_packet_too_large_for_the_device_is_judged_like_any_other() -> Result<()> {
    on_a_host(|host, family| {
        forwarding(family)?;
        host.datapath.add_uplink(SECOND_UPLINK, UplinkFlags::PRESENT)?;
        for (device, addr, reason) in [
            ("wan", family.client(), Reason::ContainerToOutside),
            ("vpn", family.remote(), Reason::NotAnUplink),
        ] {
            ip(&format!("link set {device} mtu 1300"));
            ip(&format!("neigh add {addr} lladdr 02:00:00:00:00:09 dev {device}"));
            for len in [10, 1_400] {
                let payload = vec![0x55; len];
                let packet = Packet { payload, ..call(family).to(end(addr, 53)) };
                host.stays(from_endpoint(NET_A, 2), &packet, reason)
                    .with_context(|| format!("{len} bytes to {device}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_connection_of_the_host_on_a_published_port_goes_on() -> Result<()> {
    on_a_host(|host, family| {
        ip("link set lo up");
        let nodad = family.pick("", "nodad");
        let (own, client) = (family.host(), family.client());
        for address in [own, client] {
            ip(&format!("address add {address}/{} dev lo {nodad}", family.host_prefix()));
        }
        let udp = UdpSocket::bind(end(own, DNS)).context("udp")?;
        let tcp = TcpListener::bind(end(own, WEB)).context("tcp")?;
        let far = UdpSocket::bind(end(client, 0)).context("far end")?;
        let begin = |host: &mut Host, kind, client, port| {
            let inner = if port == WEB { 80 } else { 53 };
            let message = Packet::new(kind, client, end(family.host(), port));
            let entering = message.to(end(inside(family, NET_A, 2), inner));
            let begun = flow(true, &message, &entering);
            host.begins(FROM_UPLINK, &message, Reason::Published, &entering, &begun)
        };
        // Listeners yield.
        begin(host, Kind::Udp, end(family.client(), 1), DNS)?;
        begin(host, Kind::Tcp(ACK), end(family.client(), 1), WEB)?;

        udp.connect(far.local_addr()?)?;
        let _calling = connect_between(end(client, 0), tcp.local_addr()?).context("connect")?;
        let (accepted, caller) = tcp.accept()?;
        for (kind, client, port) in
            [(Kind::Udp, far.local_addr()?, DNS), (Kind::Tcp(ACK), caller, WEB)]
        {
            let own = Packet::new(kind, client, end(family.host(), port));
            host.stays(FROM_UPLINK, &own, Reason::NotOurs)?;
            begin(host, kind, end(family.client(), 2), port)?;
        }
        // Whoever asks for a new connection has none any more.
        begin(host, Kind::Tcp(SYN), caller, WEB)?;
        let far = far.local_addr()?;
        drop((udp, accepted));
        // A child that another test has just forked holds the socket until it executes its program.
        eventually("the socket is gone", || begin(host, Kind::Udp, far, DNS).is_ok());
        Ok(())
    })
}

#[test]
fn what_cannot_be_translated_does_not_leave() -> Result<()> {
    on_a_host(|host, family| {
        let with_kind = |kind| call(family).with_kind(kind).frame();
        let fragment = fragments(&with_kind(Kind::Udp), 1, 8).swap_remove(1);
        let second_uplink = port(NET_B, 2);
        let place = Place { ifindex: second_uplink, ..TO_UPLINK.place };
        let on_second = At { program: names::TO_UPLINK, place };
        let unreachable = Kind::Icmp(family.pick(3, 1));
        host.judges(&[
            ("icmp", TO_UPLINK, with_kind(Kind::Icmp(200)), Reason::UnsupportedProtocol),
            ("sctp data", TO_UPLINK, with_kind(Kind::Sctp(0)), Reason::NoFlow),
            ("error", TO_UPLINK, with_kind(unreachable), Reason::IcmpError),
            ("fragment", TO_UPLINK, fragment, Reason::Fragment),
            ("fin", TO_UPLINK, with_kind(Kind::Tcp(FIN | ACK)), Reason::NoFlow),
            ("echo reply", TO_UPLINK, with_kind(Kind::EchoReply), Reason::NoFlow),
            ("no address", on_second, with_kind(Kind::Udp), Reason::NoMasqueradeAddress),
        ])
    })
}

/// While a network is set up or torn down its number may stand for nothing.
#[test]
fn a_network_that_is_not_there_lets_nothing_through() -> Result<()> {
    on_a_host(|host, family| {
        host.datapath.set_network(NET_A, &bytemuck::Zeroable::zeroed())?;
        let packet = call(family);
        let answer = packet.reply().frame();
        host.judges(&[
            ("leaving the host", TO_UPLINK, packet.frame(), Reason::UnknownPort),
            ("leaving", from_endpoint(NET_A, 2), packet.frame(), Reason::UnknownPort),
            ("entering", to_endpoint(NET_A, 2, UPLINK), answer, Reason::UnknownPort),
        ])
    })
}

#[test]
fn frames_that_are_not_plain_ip_are_never_touched() -> Result<()> {
    on_a_host(|host, family| {
        let web =
            Packet::new(Kind::Tcp(SYN), end(family.client(), 1), end(family.host(), WEB)).frame();
        let with_ethertype = |ethertype: [u8; 2]| {
            let mut frame = web.clone();
            frame[12..14].copy_from_slice(&ethertype);
            frame
        };
        let with_tag = |tag: [u8; 4]| [&web[..12], &tag, &web[12..]].concat();
        for at in [FROM_UPLINK, TO_UPLINK, from_endpoint(NET_A, 2), NEIGHBOUR] {
            host.judges(&[
                ("arp", at, with_ethertype([0x08, 0x06]), Reason::NotIp),
                ("802.1Q", at, with_tag([0x81, 0x00, 0xa0, 0x05]), Reason::Vlan),
                ("802.1ad", at, with_tag([0x88, 0xa8, 0x0f, 0xff]), Reason::Vlan),
                ("priority", at, with_tag([0x81, 0x00, 0xa0, 0x00]), Reason::Malformed),
            ])?;
        }
        let (gateway, beyond) = (to_endpoint(NET_A, 2, BRIDGE), to_endpoint(NET_A, 2, UPLINK));
        let vlan = with_tag([0x81, 0x00, 0x00, 0x05]);
        host.judges(&[
            ("from the gateway", gateway, vlan.clone(), Reason::UnknownPort),
            ("from outside", beyond, vlan.clone(), Reason::UnknownPort),
            ("icc off", to_endpoint(NET_B, 2, port(NET_B, 2)), vlan, Reason::IccOff),
        ])?;
        // The host takes these, so nobody outside passes for a container with them either.
        let forged =
            Packet::new(Kind::EchoRequest, end(inside(family, NET_A, 2), 1), end(family.host(), 0));
        let to_mac = |mac: [u8; 6]| [&mac[..], &web[6..]].concat();
        host.judges(&[("another's", FROM_UPLINK, to_mac(OTHER_MAC), Reason::OtherHost)])?;
        for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0]] {
            let frame = [&mac[..], &forged.frame()[6..]].concat();
            host.judges(&[("to a group", FROM_UPLINK, frame, Reason::SpoofedSource)])?;
        }
        Ok(())
    })
}
