//! Packets' lives, through one program after the other: what one lets out is what the next gets.

use anyhow::{Result, ensure};
use netd_common::{counters::Counter, reason::Reason};
use netd_tests::{
    family::Family,
    packet::{ACK, Kind, Packet, SYN},
};

use crate::{
    expect::flow,
    host::{
        DNS, DNS_SLOT, FROM_UPLINK, HOST_TO_UPLINK, Host, NET_A, RANGE, ROUTED, TO_UPLINK, UPLINK,
        WEB, end, from_endpoint, inside, on_a_host, slot, to_endpoint,
    },
};

#[test]
fn a_published_port_reaches_the_container_and_its_reply_the_client() -> Result<()> {
    on_a_host(|host, family| {
        for (kind, host_port, port) in [
            (Kind::Tcp(SYN), WEB, 80),
            (Kind::Udp, DNS, 53),
            (Kind::UdpWithoutChecksum, RANGE + 7, 30_007),
            // Mid-flow, as after a start with connections open.
            (Kind::Tcp(ACK), WEB, 80),
        ] {
            let client = end(family.client(), if kind == Kind::Tcp(ACK) { 40_001 } else { 40_000 });
            let request = Packet::new(kind, client, end(family.host(), host_port));
            let entering = request.to(end(inside(family, NET_A, 2), port));
            let begun = flow(true, &request, &entering);
            host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
            host.becomes(FROM_UPLINK, &request, Reason::Published, &entering)?;
            host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::FlowToContainer)?;
            let answer = entering.reply();
            let leaving = answer.from(request.dst);
            host.stays(from_endpoint(NET_A, 2), &answer, Reason::ContainerToOutside)?;
            host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &leaving)?;
            let next = request.with_kind(if request.proto() == 6 { Kind::Tcp(ACK) } else { kind });
            host.becomes(FROM_UPLINK, &next, Reason::Published, &next.to(entering.dst))?;
        }
        Ok(())
    })
}

#[test]
fn a_container_reaches_the_world_and_the_reply_the_container() -> Result<()> {
    on_a_host(|host, family| {
        for (kind, port) in [
            (Kind::Tcp(SYN), 443),
            (Kind::Udp, 443),
            (Kind::UdpWithoutChecksum, 444),
            (Kind::EchoRequest, 0),
        ] {
            let own = end(inside(family, NET_A, 2), 50_000);
            let request = Packet::new(kind, own, end(family.remote(), port));
            let outside = request.from(end(family.host(), 50_000));
            host.stays(from_endpoint(NET_A, 2), &request, Reason::ContainerToOutside)?;
            let begun = flow(false, &request, &outside);
            host.begins(TO_UPLINK, &request, Reason::Masqueraded, &outside, &begun)?;
            host.becomes(TO_UPLINK, &request, Reason::Masqueraded, &outside)?;
            // The host's own packets from another port are none of netd's.
            let of_host = outside.from(end(family.host(), 50_001));
            host.stays(HOST_TO_UPLINK, &of_host, Reason::HostTraffic)?;
            let answer = outside.reply();
            let entering = answer.to(own);
            host.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &entering)?;
            host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::FlowToContainer)?;
        }
        Ok(())
    })
}

#[test]
fn without_masquerade_packets_are_tracked_and_not_changed() -> Result<()> {
    on_a_host(|host, family| {
        for (kind, port) in [(Kind::Tcp(SYN), 443), (Kind::Udp, 53), (Kind::EchoRequest, 0)] {
            let own = end(inside(family, ROUTED, 2), 50_000);
            let request = Packet::new(kind, own, end(family.remote(), port));
            let begun = flow(false, &request, &request);
            host.begins(TO_UPLINK, &request, Reason::Untranslated, &request, &begun)?;
            let answer = request.reply();
            host.stays(FROM_UPLINK, &answer, Reason::Untranslated)?;
            host.stays(to_endpoint(ROUTED, 2, UPLINK), &answer, Reason::FlowToContainer)?;
            let stranger = answer.from(end(family.client(), port));
            host.stays(FROM_UPLINK, &stranger, Reason::DirectRouting)?;
        }
        Ok(())
    })
}

#[test]
fn traffic_is_counted_by_published_port_and_endpoint() -> Result<()> {
    on_a_host(count_traffic)
}

fn count_traffic(host: &mut Host, family: Family) -> Result<()> {
    let request = Packet::new(Kind::Udp, end(family.client(), 7), end(family.host(), DNS));
    let entering = request.to(end(inside(family, NET_A, 2), 53));
    let begun = flow(true, &request, &entering);
    host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
    host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::FlowToContainer)?;
    let answer = entering.reply();
    host.stays(from_endpoint(NET_A, 2), &answer, Reason::ContainerToOutside)?;
    host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &answer.from(request.dst))?;

    let received = Counter { packets: 1, bytes: request.frame().len() as u64 };
    let sent = Counter { packets: 1, bytes: answer.frame().len() as u64 };
    for (owner, flows) in [(DNS_SLOT, 1), (slot(NET_A, 2), 0)] {
        let traffic = host.datapath.traffic(owner)?;
        ensure!((traffic.received, traffic.sent) == (received, sent), "{owner}: {traffic:?}");
        ensure!(traffic.flows == flows, "{owner}: {traffic:?}");
    }
    Ok(())
}
