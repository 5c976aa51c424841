//! Which source port a flow leaves with in the kernel: sockets and published ports of the host's own are
//! spared, and what finds no place is dropped and leaves nothing.

use std::net::{TcpListener, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netd_common::reason::Reason;
use netd_tests::{
    family::Family,
    packet::{Kind, Packet, SYN},
    prog::maps::Published,
};

use crate::{
    expect::flow,
    host::{
        FROM_UPLINK, Host, NET_A, TO_UPLINK, WEB, end, inside, on_a_host, on_a_host_with, slot,
    },
};

fn call(family: Family, kind: Kind, n: u8, sport: u16) -> Packet {
    let own = end(inside(family, NET_A, n), sport);
    Packet::new(kind, own, end(family.remote(), 443))
}

/// Sends a flow's first packet and its reply, and returns the port that it leaves with.
fn port_given(host: &mut Host, family: Family, packet: &Packet) -> Result<u16> {
    let (reason, after) = host.meets(TO_UPLINK, &packet.frame())?;
    ensure!(reason == Reason::Masqueraded, "{reason:?}");
    let outside = packet.from(end(family.host(), 0)).with_source_port_of(&after);
    ensure!(after == outside.frame(), "{after:02x?}");
    let before = host.halves();
    host.look_again()?;
    let begun: Vec<_> = host.halves().into_iter().filter(|half| !before.contains(half)).collect();
    let mut expected = flow(false, packet, &outside);
    expected.sort();
    ensure!(begun == expected, "{begun:#?}");
    let answer = outside.reply();
    host.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &answer.to(packet.src))?;
    Ok(outside.src.port())
}

#[test]
fn a_port_that_another_flow_has_is_not_given_again() -> Result<()> {
    on_a_host(|host, family| {
        for kind in [Kind::Udp, Kind::Tcp(SYN)] {
            ensure!(port_given(host, family, &call(family, kind, 2, 5000))? == 5000);
            let other = port_given(host, family, &call(family, kind, 3, 5000))?;
            ensure!(other != 5000 && other >= 1024, "{other}");
        }
        Ok(())
    })
}

#[test]
fn a_port_of_the_hosts_own_sockets_is_not_given() -> Result<()> {
    on_a_host(|host, family| {
        let any = family.pick("0.0.0.0:0", "[::]:0");
        let udp = UdpSocket::bind(any).context("udp")?;
        let tcp = TcpListener::bind(any).context("tcp")?;
        let (udp_port, tcp_port) = (udp.local_addr()?.port(), tcp.local_addr()?.port());
        for (kind, taken) in [(Kind::Udp, udp_port), (Kind::Tcp(SYN), tcp_port)] {
            let given = port_given(host, family, &call(family, kind, 2, taken))?;
            ensure!(given != taken && given >= 1024, "{kind:?}: {given}");
        }
        drop((udp, tcp));
        for (kind, free) in [(Kind::Udp, udp_port), (Kind::Tcp(SYN), tcp_port)] {
            ensure!(port_given(host, family, &call(family, kind, 3, free))? == free);
        }
        Ok(())
    })
}

#[test]
fn a_published_port_is_not_given() -> Result<()> {
    on_a_host(|host, family| {
        let tcp = call(family, Kind::Tcp(SYN), 2, WEB);
        let given = port_given(host, family, &tcp)?;
        ensure!(given != WEB && given >= 1024, "{given}");
        ensure!(port_given(host, family, &call(family, Kind::Udp, 2, WEB))? == WEB);
        Ok(())
    })
}

#[test]
fn without_a_free_port_the_packet_is_dropped_and_nothing_is_left() -> Result<()> {
    on_a_host(|host, family| {
        host.datapath.publish(&Published {
            addr: family.host(),
            proto: 17,
            ports: 1..=u16::MAX,
            container: end(inside(family, NET_A, 3), 1),
            network: NET_A,
            slot: 9,
            endpoint_slot: slot(NET_A, 3),
        })?;
        let packet = call(family, Kind::Udp, 2, 5000);
        host.stays(TO_UPLINK, &packet, Reason::SourcePortsExhausted)
    })
}

#[test]
fn a_full_table_drops_the_packet_and_nothing_is_left() -> Result<()> {
    // Room for one half, so that it is the second one that fails.
    on_a_host_with(1, |host, family| {
        let published =
            Packet::new(Kind::Tcp(SYN), end(family.client(), 1), end(family.host(), WEB));
        host.stays(FROM_UPLINK, &published, Reason::ConntrackFull)?;
        host.stays(TO_UPLINK, &call(family, Kind::Udp, 2, 5000), Reason::ConntrackFull)
    })?;
    on_a_host_with(2, |host, family| {
        ensure!(port_given(host, family, &call(family, Kind::Udp, 2, 5000))? == 5000);
        host.stays(TO_UPLINK, &call(family, Kind::Udp, 3, 5000), Reason::ConntrackFull)
    })
}
