//! The way past the host's stack, as a test run shows it: the verdict, the bytes, the tables.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use netd_common::{
    config::{ConfigFlags, DatapathConfig},
    counters::Counter,
    names,
    network::{FamilyFlags, NetworkFlags, UplinkFlags},
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::{ACK, Kind, OTHER_MAC, Packet, SYN},
    prog::flows::Half,
};

use crate::{
    expect::flow,
    host::{
        At, DNS, DNS_SLOT, FROM_UPLINK, Host, MTU, NET_A, OPEN, ROUTED, TO_UPLINK, WEB, bridge,
        bridge_mac, end, from_endpoint, inside, mac, network, on_a_fast_host, port, slot,
    },
    policy::ip,
};

const OWN: At = from_endpoint(NET_A, 2);
const WAN: u32 = 60;

/// A host that forwards from the bridges of two networks to an uplink, whose next hop nobody has asked for.
pub(crate) fn forwarding(host: &mut Host, family: Family, flags: u32) -> Result<()> {
    ip(&format!("link add wan index {WAN} type veth peer name far-wan"));
    let bridges = [NET_A, ROUTED, OPEN].map(bridge);
    let ends = bridges.iter().flat_map(|index| [format!("h{index}"), format!("p{index}")]);
    for device in ends.chain(["wan".to_owned(), "far-wan".to_owned()]) {
        ip(&format!("link set {device} up"));
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    ip(&format!("{} route add default dev wan", family.pick("-4", "-6")));
    host.datapath.add_masquerade_source(WAN, family.host())?;
    host.datapath.add_uplink(WAN, UplinkFlags::PRESENT | flags)
}

/// The same flow with what each direction is redirected to.
fn redirected([original, reply]: [Half; 2], to: u32, back: u32) -> [Half; 2] {
    [Half { redirected_to: to, ..original }, Half { redirected_to: back, ..reply }]
}

/// The frame of a container that sends the packet to be routed.
fn to_gateway(packet: &Packet) -> Vec<u8> {
    packet.frame_for(bridge_mac(NET_A), OTHER_MAC)
}

impl Host {
    /// A packet that is handed over to a container as `expected`.
    fn hands_over(
        &mut self,
        at: At,
        packet: &Packet,
        reason: Reason,
        (expected, network, n): (&Packet, u16, u8),
        begun: &[Half],
    ) -> Result<()> {
        let after = self.run(at, &packet.frame(), reason, begun, &[])?;
        let expected = expected.with_ttl(packet.ttl - 1);
        let frame = expected.frame_for(mac(network, n), bridge_mac(network));
        ensure!(after == frame, "came out: {after:02x?}\nexpected: {expected:?}");
        Ok(())
    }

    /// A packet that is sent to an uplink's next hop, whose MAC address the kernel is yet to write.
    fn sends_out(
        &mut self,
        packet: &Packet,
        reason: Reason,
        expected: &Packet,
        begun: &[Half],
    ) -> Result<()> {
        let after = self.run(OWN, &to_gateway(packet), reason, begun, &[])?;
        let expected = expected.with_ttl(packet.ttl - 1);
        let frame = to_gateway(&expected);
        ensure!(after == frame, "came out: {after:02x?}\nexpected: {expected:?}");
        Ok(())
    }
}

#[test]
fn a_published_port_is_reached_and_answers() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        for (kind, host_port, inner) in
            [(Kind::Tcp(SYN), WEB, 80), (Kind::Udp, DNS, 53), (Kind::UdpWithoutChecksum, DNS, 53)]
        {
            let sport = if kind == Kind::Udp { 40_000 } else { 40_001 };
            let request =
                Packet::new(kind, end(family.client(), sport), end(family.host(), host_port));
            let entering = request.to(end(inside(family, NET_A, 2), inner));
            let begun = redirected(flow(true, &request, &entering), port(NET_A, 2), 0);
            let to = (&entering, NET_A, 2);
            let reason = Reason::PublishedRedirected;
            host.hands_over(FROM_UPLINK, &request, reason, to, &begun)?;
            host.hands_over(FROM_UPLINK, &request, reason, to, &[])?;
            let answer = entering.reply();
            let leaving = answer.from(request.dst);
            host.sends_out(&answer, Reason::PublishedReplyRedirected, &leaving, &[])?;
        }
        Ok(())
    })
}

#[test]
fn a_container_reaches_the_world_and_is_answered() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        for (kind, dport) in [(Kind::Tcp(SYN), 443), (Kind::Udp, 53), (Kind::EchoRequest, 0)] {
            let call =
                Packet::new(kind, end(inside(family, NET_A, 2), 5000), end(family.remote(), dport));
            let outside = call.from(end(family.host(), 5000));
            let begun = redirected(flow(false, &call, &outside), 0, port(NET_A, 2));
            host.sends_out(&call, Reason::MasqueradedRedirected, &outside, &begun)?;
            host.sends_out(&call, Reason::MasqueradedRedirected, &outside, &[])?;
            // What it meets on the uplink.
            let redirected = At { place: OWN.place, ..TO_UPLINK };
            host.stays(redirected, &outside, Reason::NotOurs)?;
            let answer = outside.reply();
            let entering = answer.to(call.src);
            let to = (&entering, NET_A, 2);
            host.hands_over(FROM_UPLINK, &answer, Reason::MasqueradeReplyRedirected, to, &[])?;
        }
        Ok(())
    })
}

#[test]
fn the_world_reaches_a_port_that_a_container_sends_from() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        let flags = NetworkFlags::ICC | NetworkFlags::FAST | NetworkFlags::ENDPOINT_INDEPENDENT;
        host.datapath.set_network(NET_A, &network(NET_A, FamilyFlags::MASQUERADE, flags)?)?;
        let flags = ConfigFlags::MAPPINGS;
        host.datapath.configure(&DatapathConfig { flags, ..DatapathConfig::DEFAULT })?;
        let call =
            Packet::new(Kind::Udp, end(inside(family, NET_A, 2), 5000), end(family.remote(), 53));
        let outside = end(family.host(), 5000);
        let (reason, _) = host.meets(OWN, &to_gateway(&call))?;
        ensure!(reason == Reason::MasqueradedRedirected, "{reason:?}");
        host.look_again()?;
        let unknown = Packet::new(Kind::Udp, end(family.client(), 7777), outside);
        let entering = unknown.to(call.src);
        let begun = redirected(flow(true, &unknown, &entering), port(NET_A, 2), 0);
        let to = (&entering, NET_A, 2);
        host.hands_over(FROM_UPLINK, &unknown, Reason::MappedRedirected, to, &begun)?;
        let answer = entering.reply();
        host.sends_out(&answer, Reason::MappedReplyRedirected, &answer.from(outside), &[])
    })
}

#[test]
fn what_keeps_its_address_is_translated_once() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        for (network, kind, dport) in [
            (ROUTED, Kind::EchoRequest, 0),
            (OPEN, Kind::EchoRequest, 0),
            (OPEN, Kind::Tcp(SYN), 22),
            (OPEN, Kind::Udp, 53),
        ] {
            let own = inside(family, network, 2);
            let request = Packet::new(kind, end(family.client(), 7), end(own, dport));
            let begun = redirected(flow(true, &request, &request), port(network, 2), 0);
            let (to, reason) = ((&request, network, 2), Reason::UntranslatedRedirected);
            host.hands_over(FROM_UPLINK, &request, reason, to, &begun)?;
            let (answer, at) = (request.reply(), from_endpoint(network, 2));
            let frame = |answer: &Packet| answer.frame_for(bridge_mac(network), OTHER_MAC);
            let after = host.run(at, &frame(&answer), reason, &[], &[])?;
            ensure!(after == frame(&answer.with_ttl(63)), "{after:02x?}");
            let on_uplink = At { program: names::TO_UPLINK, place: at.place };
            host.stays(on_uplink, &answer.with_ttl(63), Reason::NotOurs)?;
        }
        Ok(())
    })
}

#[test]
fn what_only_the_stack_can_do_goes_through_it() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        ip(&format!("link set wan mtu {MTU}"));
        let request = Packet::new(Kind::Tcp(ACK), end(family.client(), 1), end(family.host(), WEB));
        let entering = request.to(end(inside(family, NET_A, 2), 80));
        let begun = redirected(flow(true, &request, &entering), port(NET_A, 2), 0);
        // Begun by a packet that takes the stack.
        let last = request.with_ttl(1);
        host.begins(FROM_UPLINK, &last, Reason::Published, &entering.with_ttl(1), &begun)?;
        let headers = request.datagram().len() - request.payload.len();
        let largest = usize::from(MTU) - headers;
        let (answer, merged) = (entering.reply(), 2 * largest);
        for (row, ttl, len, segment_len, is_redirected) in [
            ("the largest", 64, largest, 0, true),
            ("too large", 64, largest + 1, 0, false),
            ("merged of the largest", 64, merged, largest, true),
            ("merged of what is too large", 64, merged, largest + 1, false),
            ("two hops to go", 2, 10, 0, true),
            ("the last hop", 1, 10, 0, false),
        ] {
            let at = |at: At| {
                let place = netd_tests::prog::Place { segment_len: segment_len as u32, ..at.place };
                At { place, ..at }
            };
            let sized = |packet: &Packet| packet.with_ttl(ttl).with_payload_len(len);
            let (request, entering, answer) = (sized(&request), sized(&entering), sized(&answer));
            if is_redirected {
                let (to, reason) = ((&entering, NET_A, 2), Reason::PublishedRedirected);
                host.hands_over(at(FROM_UPLINK), &request, reason, to, &[]).context(row)?;
                let reason = Reason::PublishedReplyRedirected;
                host.run(at(OWN), &to_gateway(&answer), reason, &[], &[]).context(row)?;
            } else {
                let reason = Reason::Published;
                host.becomes(at(FROM_UPLINK), &request, reason, &entering).context(row)?;
                host.stays(at(OWN), &answer, Reason::ContainerToOutside).context(row)?;
                let leaving = answer.from(end(family.host(), WEB));
                let reason = Reason::PublishedReply;
                host.becomes(at(TO_UPLINK), &answer, reason, &leaving).context(row)?;
            }
        }
        Ok(())
    })
}

#[test]
fn an_uplink_without_ethernet_header_is_never_redirected_to() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, 0)?;
        let own = end(inside(family, NET_A, 2), 5000);
        let call = Packet::new(Kind::Udp, own, end(family.remote(), 53));
        host.stays(OWN, &call, Reason::ContainerToOutside)
    })
}

#[test]
fn traffic_is_counted_as_on_the_stack() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        let request = Packet::new(Kind::Udp, end(family.client(), 7), end(family.host(), DNS));
        let entering = request.to(end(inside(family, NET_A, 2), 53));
        let begun = redirected(flow(true, &request, &entering), port(NET_A, 2), 0);
        let to = (&entering, NET_A, 2);
        host.hands_over(FROM_UPLINK, &request, Reason::PublishedRedirected, to, &begun)?;
        let answer = entering.reply();
        let leaving = answer.from(request.dst);
        host.sends_out(&answer, Reason::PublishedReplyRedirected, &leaving, &[])?;
        let received = Counter { packets: 1, bytes: request.frame().len() as u64 };
        let sent = Counter { packets: 1, bytes: answer.frame().len() as u64 };
        for owner in [DNS_SLOT, slot(NET_A, 2)] {
            let traffic = host.datapath.traffic(owner)?;
            ensure!((traffic.received, traffic.sent) == (received, sent), "{owner}: {traffic:?}");
        }
        // The packet that begins a flow counts once.
        let call = Packet::new(Kind::Udp, entering.dst, end(family.remote(), 5));
        let outside = call.from(end(family.host(), 53));
        let begun = redirected(flow(false, &call, &outside), 0, port(NET_A, 2));
        host.sends_out(&call, Reason::MasqueradedRedirected, &outside, &begun)?;
        let traffic = host.datapath.traffic(slot(NET_A, 2))?;
        ensure!(traffic.sent.packets == 2, "{traffic:?}");
        Ok(())
    })
}
