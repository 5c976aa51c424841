//! What the programs for rare packets translate besides addresses and ports: SCTP's checksum, the MSS of a
//! connection; and the protocols of which they translate the addresses alone.

use anyhow::{Result, ensure};
use netd_common::{
    config::{ConfigFlags, DatapathConfig},
    network::{FamilyFlags, Network, NetworkFlags},
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::{ACK, Kind, Packet, SYN},
};

use crate::{
    expect::flow,
    host::{
        FROM_UPLINK, NET_A, SCTP, TO_UPLINK, UPLINK, WEB, end, from_endpoint, inside, network,
        on_a_host, to_endpoint,
    },
};

/// SCTP's chunks (RFC 9260 section 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;

#[test]
fn sctp_gets_other_ports_and_its_checksum_stays_right() -> Result<()> {
    on_a_host(|host, family| {
        let client = end(family.client(), 40_000);
        let request = Packet::new(Kind::Sctp(INIT), client, end(family.host(), SCTP));
        let entering = request.to(end(inside(family, NET_A, 2), 9899));
        let begun = flow(true, &request, &entering);
        host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
        host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::FlowToContainer)?;
        // Of any length: each bit of it is a step.
        for len in [0, 1, 3, 4, 255, 1000, 1399] {
            let data = request.with_kind(Kind::Sctp(DATA)).with_payload_len(len);
            host.becomes(FROM_UPLINK, &data, Reason::Published, &data.to(entering.dst))?;
            let answer = entering.reply().with_kind(Kind::Sctp(DATA)).with_payload_len(len);
            host.stays(from_endpoint(NET_A, 2), &answer, Reason::ContainerToOutside)?;
            let leaving = answer.from(request.dst);
            host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &leaving)?;
        }
        Ok(())
    })
}

#[test]
fn other_protocols_are_masqueraded_by_address() -> Result<()> {
    on_a_host(|host, family| {
        for proto in [50, 47, 4, 59, 253] {
            let own = |n| end(inside(family, NET_A, n), 0);
            let call = Packet::new(Kind::Other(proto), own(2), end(family.remote(), 0));
            let outside = call.from(end(family.host(), 0));
            host.stays(FROM_UPLINK, &outside.reply(), Reason::NotOurs)?;
            host.stays(from_endpoint(NET_A, 2), &call, Reason::ContainerToOutside)?;
            let begun = flow(false, &call, &outside);
            host.begins(TO_UPLINK, &call, Reason::Masqueraded, &outside, &begun)?;
            let entering = outside.reply().to(own(2));
            host.becomes(FROM_UPLINK, &outside.reply(), Reason::MasqueradeReply, &entering)?;
            // Linux cannot tell two of them apart either.
            let second = call.from(own(3)).frame();
            host.judges(&[("second", TO_UPLINK, second, Reason::SourcePortsExhausted)])?;
        }
        if family == Family::V6 {
            // An extension header is no protocol, and the sum in this one covers the addresses.
            let call = Packet::new(
                Kind::Other(51),
                end(inside(family, NET_A, 2), 0),
                end(family.remote(), 0),
            );
            let reason = Reason::UnsupportedProtocol;
            host.judges(&[("authentication", TO_UPLINK, call.frame(), reason)])?;
        }
        Ok(())
    })
}

#[test]
fn the_mss_of_a_syn_is_lowered_and_its_checksum_stays_right() -> Result<()> {
    on_a_host(|host, family| {
        let flags = ConfigFlags::RANGES_PUBLISHED | ConfigFlags::MSS_CLAMPED;
        host.datapath.configure(&DatapathConfig { flags, ..DatapathConfig::DEFAULT })?;
        let side = FamilyFlags::MASQUERADE;
        let plain = network(NET_A, side, NetworkFlags::ICC)?;
        host.datapath.set_network(NET_A, &Network { mss_clamp: 1000, ..plain })?;
        for (n, (before, after)) in [(1460, 1000), (1000, 1000), (536, 536)].into_iter().enumerate()
        {
            let client = end(family.client(), 40_000 + n as u16);
            let request =
                Packet::new(Kind::TcpWithMss(SYN, before), client, end(family.host(), WEB));
            let entering = request
                .to(end(inside(family, NET_A, 2), 80))
                .with_kind(Kind::TcpWithMss(SYN, after));
            let begun = flow(true, &request, &entering);
            host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
            let answer = entering.reply().with_kind(Kind::TcpWithMss(SYN | ACK, before));
            let leaving = answer.from(request.dst).with_kind(Kind::TcpWithMss(SYN | ACK, after));
            host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &leaving)?;
            // Nobody else's option is looked at.
            let data = request.with_kind(Kind::TcpWithMss(ACK, before));
            host.becomes(FROM_UPLINK, &data, Reason::Published, &data.to(entering.dst))?;
        }
        ensure!(host.datapath.halves()?.len() == 6);
        Ok(())
    })
}
