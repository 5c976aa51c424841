//! A translated prefix (NPTv6) in the kernel: bytes, verdicts, and no state.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use netd_common::{
    address::{Address as _, V6},
    network::{FamilyFlags, Network, NetworkFlags},
    nptv6::OutsidePrefix,
    reason::Reason,
};
use netd_tests::{
    family::Family,
    packet::{ACK, Kind, Packet, SYN},
};

use crate::host::{
    FROM_UPLINK, Host, NET_A, TO_UPLINK, end, from_endpoint, inside, network, on_a_host,
};

const KINDS: [Kind; 5] =
    [Kind::Tcp(SYN), Kind::Tcp(ACK), Kind::Udp, Kind::UdpWithoutChecksum, Kind::EchoRequest];
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff00, 1, 0, 0, 0, 0);

/// Has the first network's prefix translated, and its IPv4 addresses left as they are.
fn translate(host: &mut Host) -> Result<Network> {
    let mut network = network(NET_A, 0, NetworkFlags::ICC)?;
    network.v6.flags |= FamilyFlags::PREFIX_TRANSLATED;
    network.outside = OutsidePrefix::new(network.v6.subnet, V6::new(PREFIX));
    host.datapath.set_network(NET_A, &network)?;
    host.datapath.add_subnet(PREFIX.into(), 64, NET_A)?;
    Ok(network)
}

/// How the world sees a container.
fn outside(network: &Network, n: u8) -> IpAddr {
    let own = V6::from_ip(inside(Family::V6, NET_A, n));
    own.and_then(|own| own.to_outside(network)).map_or(PREFIX.into(), Into::into)
}

fn call(kind: Kind, n: u8) -> Packet {
    let dport = if kind == Kind::EchoRequest { 0 } else { 443 };
    let own = end(inside(Family::V6, NET_A, n), 5000);
    Packet::new(kind, own, end(Family::V6.remote(), dport))
}

#[test]
fn a_translated_prefix_needs_no_state() -> Result<()> {
    on_a_host(|host, family| {
        if family == Family::V4 {
            return Ok(());
        }
        let network = translate(host)?;
        for kind in KINDS {
            let call = call(kind, 2);
            let seen = call.from(end(outside(&network, 2), 5000));
            host.becomes(TO_UPLINK, &call, Reason::PrefixTranslated, &seen)?;
            let answer = seen.reply();
            host.becomes(FROM_UPLINK, &answer, Reason::PrefixTranslated, &answer.to(call.src))?;
        }
        ensure!(host.halves().is_empty());
        let request =
            Packet::new(Kind::Tcp(SYN), end(family.client(), 7), end(outside(&network, 3), 22));
        let entered = request.to(end(inside(family, NET_A, 3), 22));
        host.becomes(FROM_UPLINK, &request, Reason::PrefixTranslated, &entered)?;
        host.stays(FROM_UPLINK, &entered, Reason::DirectRouting)
    })
}

#[test]
fn containers_reach_each_other_by_a_translated_prefix() -> Result<()> {
    on_a_host(|host, family| {
        if family == Family::V4 {
            return Ok(());
        }
        let network = translate(host)?;
        let there = call(Kind::Udp, 2).to(end(outside(&network, 3), 53));
        let (reason, after) = host.meets(from_endpoint(NET_A, 2), &there.frame())?;
        ensure!(reason == Reason::PrefixTranslatedRedirected, "{reason:?}");
        let seen =
            there.from(end(outside(&network, 2), 5000)).to(end(inside(family, NET_A, 3), 53));
        ensure!(after[14..] == seen.with_ttl(there.ttl - 1).frame()[14..], "{after:02x?}");
        let nobody = there.to(end(outside(&network, 99), 53));
        host.stays(from_endpoint(NET_A, 2), &nobody, Reason::NoPrefixAddress)
    })
}
