//! What `BPF_PROG_TEST_RUN` cannot show: devices without link-layer header, frames too short for it, and
//! checksums that are still to be computed. The kernel forwards here; the cables end in the test.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use aya::programs::TcAttachType;
use netd_common::{
    names,
    network::{BridgePort, FamilyFlags, NetworkFlags, UplinkFlags},
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::{ACK, HOST_MAC, Kind, Packet, SYN, checksum},
    process::run,
};
use nix::net::if_::if_nametoindex;

use crate::{
    host::{
        DNS, Host, NET_A, WEB, bridge, bridge_mac, end, inside, mac, network, on_a_fast_host,
        on_a_host, slot,
    },
    tun::{Carries, Tun},
};

const UPLINK: &str = "wan";
const CONTAINER: &str = "lan";

/// A host that forwards between an uplink without link-layer header, with its programs, and a device that
/// stands for the container's.
fn forwarding(host: &mut Host, family: Family, container: Carries) -> Result<(Tun, Tun)> {
    let (up, ct) = (Tun::new(UPLINK, Carries::Packets)?, Tun::new(CONTAINER, container)?);
    for device in [UPLINK, CONTAINER] {
        ip(&format!("link set {device} addrgenmode none"));
        ip(&format!("link set {device} up"));
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    let v = family.pick("-4", "-6");
    ip(&format!("{v} route add default dev {UPLINK}"));
    ip(&format!("{v} route add {} dev {CONTAINER}", inside(family, NET_A, 2)));
    host.datapath.add_masquerade_source(if_nametoindex(UPLINK)?, family.host())?;
    for (name, direction) in [
        (names::FROM_UPLINK_L3, TcAttachType::Ingress),
        (names::TO_UPLINK_L3, TcAttachType::Egress),
    ] {
        host.datapath.classifier(name)?.attach(UPLINK, direction)?;
    }
    Ok((up, ct))
}

fn ip(line: &str) {
    run(Command::new("ip").args(line.split_whitespace()), "").ok();
}

/// A packet after a router: one hop less to go.
fn forwarded(packet: &Packet) -> Vec<u8> {
    let mut datagram = packet.datagram();
    if packet.src.is_ipv4() {
        datagram[8] -= 1;
        datagram[10..12].fill(0);
        let sum = checksum(&[&datagram[..20]]);
        datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        datagram[7] -= 1;
    }
    datagram
}

/// Sends a packet in at one device and waits for `expected` at the other.
fn crosses(from: &mut Tun, to: &mut Tun, packet: &Packet, expected: &Packet) -> Result<()> {
    from.send(&packet.datagram())?;
    let proto_at = if packet.src.is_ipv4() { 9 } else { 6 };
    let version = packet.datagram()[0];
    let arrived = to.receive(&format!("{expected:?} leaves"), |bytes| {
        bytes.len() > proto_at && bytes[0] == version && bytes[proto_at] == packet.proto()
    });
    ensure!(arrived == forwarded(expected), "{arrived:02x?}\nexpected: {expected:?}");
    Ok(())
}

#[test]
fn a_device_without_link_layer_header_is_an_uplink_too() -> Result<()> {
    on_a_host(|host, family| {
        let (mut up, mut ct) = forwarding(host, family, Carries::Packets)?;
        converse(&mut up, &mut ct, family)?;
        let packets = host.packets()?;
        for reason in [
            Reason::Published,
            Reason::PublishedReply,
            Reason::Masqueraded,
            Reason::MasqueradeReply,
        ] {
            ensure!(packets.get(&reason).is_some_and(|&n| n >= 2), "{reason:?}: {packets:?}");
        }
        Ok(())
    })
}

/// The device completes the checksum after the translation, from the pseudo-header's sum that is in the
/// packet: the translation must change that sum by the addresses alone.
#[test]
fn a_checksum_that_is_still_to_be_computed_is_right_in_the_end() -> Result<()> {
    on_a_host(|host, family| {
        let (mut up, mut ct) = forwarding(host, family, Carries::PacketsToBeSummed)?;
        for (kind, port) in [(Kind::Tcp(ACK), 443), (Kind::Udp, 53)] {
            let own = end(inside(family, NET_A, 2), 5000);
            let call = Packet::new(kind, own, end(family.remote(), port));
            // The flow's own port, and one that netd has chosen.
            let outside = call.from(end(family.host(), 5000));
            crosses(&mut ct, &mut up, &call, &outside)?;
        }
        let request = Packet::new(Kind::Udp, end(family.client(), 40_000), end(family.host(), DNS));
        let entering = request.to(end(inside(family, NET_A, 2), 53));
        up.send(&request.datagram())?;
        ct.receive("the request arrives", |bytes| bytes == forwarded(&entering));
        crosses(&mut ct, &mut up, &entering.reply(), &entering.reply().from(request.dst))
    })
}

/// What the uplink's program goes by: a packet that was redirected there still tells where it came in.
#[test]
fn what_is_redirected_to_an_uplink_leaves_once_and_is_known_there() -> Result<()> {
    on_a_fast_host(|host, family| {
        let (mut up, mut ct) =
            (Tun::new(UPLINK, Carries::Frames)?, Tun::new(CONTAINER, Carries::Frames)?);
        let bridge = format!("h{}", bridge(NET_A));
        for device in [UPLINK, CONTAINER, &bridge, &format!("p{}", self::bridge(NET_A))] {
            ip(&format!("link set {device} addrgenmode none up"));
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        let v = family.pick("-4", "-6");
        ip(&format!("{v} route add default dev {UPLINK}"));
        ip(&format!("neigh add {} lladdr 02:00:00:00:00:09 dev {UPLINK}", family.remote()));
        let (wan, lan) = (if_nametoindex(UPLINK)?, if_nametoindex(CONTAINER)?);
        host.datapath.add_masquerade_source(wan, family.host())?;
        let flags = UplinkFlags::PRESENT | UplinkFlags::ETHERNET;
        host.datapath.add_uplink(wan, flags)?;
        for (name, device, direction) in [
            (names::FROM_ENDPOINT, CONTAINER, TcAttachType::Ingress),
            (names::TO_UPLINK, UPLINK, TcAttachType::Egress),
        ] {
            host.datapath.classifier(name)?.attach(device, direction)?;
        }
        // With masquerade and without, where the container's address is all that the uplink sees.
        for (n, side, reason) in [
            (0, FamilyFlags::MASQUERADE, Reason::MasqueradedRedirected),
            (1, 0, Reason::UntranslatedRedirected),
        ] {
            host.datapath.set_network(NET_A, &network(NET_A, side, NetworkFlags::FAST)?)?;
            let (slot, mac) = (slot(NET_A, 2), mac(NET_A, 2));
            let port = BridgePort { slot, network: NET_A, mac, sandbox: slot };
            host.datapath.add_bridge_port(lan, &port)?;
            let own = end(inside(family, NET_A, 2), 5000 + n);
            let call = Packet::new(Kind::Udp, own, end(family.remote(), 53));
            let source = if n == 0 { end(family.host(), 5000) } else { own };
            let leaving = call.from(source).with_ttl(63);
            ct.send(&call.frame_for(bridge_mac(NET_A), mac))?;
            let datagram = leaving.datagram();
            let frame = up.receive(&format!("{leaving:?} leaves"), |frame| frame[14..] == datagram);
            ensure!(frame[..6] == [2, 0, 0, 0, 0, 9], "{frame:02x?}");
            let packets = host.packets()?;
            ensure!(packets.get(&reason) == Some(&1), "{packets:?}");
            ensure!(packets.get(&Reason::NotOurs) == Some(&(u64::from(n) + 1)), "{packets:?}");
            ensure!(!packets.contains_key(&Reason::Untranslated), "{packets:?}");
            ensure!(host.datapath.halves()?.len() == 2 * (usize::from(n) + 1));
        }
        Ok(())
    })
}

fn converse(up: &mut Tun, ct: &mut Tun, family: Family) -> Result<()> {
    for (kind, host_port, port) in [(Kind::Tcp(SYN), WEB, 80), (Kind::Udp, DNS, 53)] {
        let request =
            Packet::new(kind, end(family.client(), 40_000), end(family.host(), host_port));
        let entering = request.to(end(inside(family, NET_A, 2), port));
        crosses(up, ct, &request, &entering)?;
        crosses(ct, up, &entering.reply(), &entering.reply().from(request.dst))?;
    }
    for (kind, port) in [(Kind::Tcp(SYN), 443), (Kind::Udp, 53), (Kind::EchoRequest, 0)] {
        let own = end(inside(family, NET_A, 2), 5000);
        let call = Packet::new(kind, own, end(family.remote(), port));
        let outside = call.from(end(family.host(), 5000));
        crosses(ct, up, &call, &outside)?;
        crosses(up, ct, &outside.reply(), &outside.reply().to(own))?;
    }
    Ok(())
}

#[test]
fn a_frame_too_short_for_an_ip_header_is_dropped() -> Result<()> {
    on_a_host(|host, family| {
        let mut up = Tun::new(UPLINK, Carries::Frames)?;
        let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("link set {UPLINK} address {mac} addrgenmode none up"));
        host.datapath.classifier(names::FROM_UPLINK)?.attach(UPLINK, TcAttachType::Ingress)?;
        let web = Packet::new(Kind::Tcp(SYN), end(family.client(), 1), end(family.host(), WEB));
        let frame = web.frame();
        let lengths = 14..web.transport_offset();
        let count = lengths.len() as u64;
        for len in lengths {
            up.send(&frame[..len]).with_context(|| format!("{len} bytes"))?;
        }
        netd_tests::condition::eventually("every frame is counted", || {
            host.packets().is_ok_and(|packets| packets.values().sum::<u64>() >= count)
        });
        let packets = host.packets()?;
        ensure!(packets.into_iter().eq([(Reason::Malformed, count)]), "{:?}", host.packets());
        ensure!(host.datapath.halves()?.is_empty());
        Ok(())
    })
}

/// A frame with VLAN tags, from the outermost to the innermost.
fn tagged(packet: &Packet, tags: &[u16]) -> Vec<u8> {
    let mut frame = packet.frame();
    let tags = tags.iter().flat_map(|tag| [[0x81, 0x00], tag.to_be_bytes()]);
    frame.splice(12..12, tags.flatten());
    frame
}

/// A tag that names no VLAN is taken off, and the host goes on as if there had been none (IEEE 802.1Q).
#[test]
fn a_frame_that_is_tagged_with_a_priority_only_is_judged() -> Result<()> {
    const PRIORITY: u16 = 5 << 13;
    on_a_host(|host, family| {
        let mut up = Tun::new(UPLINK, Carries::Frames)?;
        let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("link set {UPLINK} address {mac} addrgenmode none up"));
        host.datapath.classifier(names::FROM_UPLINK)?.attach(UPLINK, TcAttachType::Ingress)?;
        let container = end(inside(family, NET_A, 2), 80);
        let direct = Packet::new(Kind::Tcp(SYN), end(family.client(), 1), container);
        let rows: [(&[u16], Reason); 6] = [
            (&[PRIORITY], Reason::DirectRouting),
            (&[0], Reason::DirectRouting),
            (&[PRIORITY | 5], Reason::Vlan),
            (&[0, 5], Reason::Vlan),
            // The host takes off both, or all.
            (&[PRIORITY, 0], Reason::Malformed),
            (&[0, 0, 0], Reason::Malformed),
        ];
        for (tags, reason) in rows {
            let before = host.packets()?.get(&reason).copied().unwrap_or(0);
            up.send(&tagged(&direct, tags))?;
            netd_tests::condition::eventually(&format!("{tags:x?} are {reason:?}"), || {
                host.packets().is_ok_and(|packets| packets.get(&reason) == Some(&(before + 1)))
            });
        }
        ensure!(host.packets()?.values().sum::<u64>() == 6, "{:?}", host.packets());
        Ok(())
    })
}

/// What it is for: the host receives what it did not see.
#[test]
fn the_host_takes_off_two_tags_that_name_no_vlan() -> Result<()> {
    on_a_host(|_, family| {
        let mut up = Tun::new(UPLINK, Carries::Frames)?;
        let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip("link set lo up");
        ip(&format!("link set {UPLINK} address {mac} addrgenmode none up"));
        let (v, nodad) = family.pick(("-4", ""), ("-6", "nodad"));
        ip(&format!("address add {}/{} dev {UPLINK} {nodad}", family.host(), family.host_prefix()));
        ip(&format!("{v} route add default dev {UPLINK}"));
        let socket = std::net::UdpSocket::bind(end(family.host(), 0))?;
        socket.set_nonblocking(true)?;
        let packet = Packet::new(Kind::Udp, end(family.remote(), 1), socket.local_addr()?);
        let mut buffer = [0; 64];
        // More than once: the device has only just come up.
        netd_tests::condition::eventually("the datagram arrives", || {
            up.send(&tagged(&packet, &[0, 0])).is_ok() && socket.recv(&mut buffer).is_ok()
        });
        Ok(())
    })
}
