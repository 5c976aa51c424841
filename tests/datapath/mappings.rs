//! Source ports that are given independently of destinations, in the kernel: what the tables hold, who gets
//! in, and what the host's own sockets keep.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use netd_common::{
    config::{ConfigFlags, DatapathConfig},
    network::{FamilyFlags, NetworkFlags},
    reason::Reason,
};
use netd_tests::{
    condition::eventually,
    family::Family,
    packet::{ACK, Kind, Packet, SYN},
    prog::flows::Half,
};

use crate::{
    expect::flow,
    host::{
        FROM_UPLINK, Host, NET_A, NET_B, TO_UPLINK, end, from_endpoint, inside, network, on_a_host,
        slot,
    },
};

/// How long a mapping lives by which nothing was sent.
const MAPPING_SECS: u32 = 120;

/// Has the first network's source ports given so.
fn open_ports(host: &mut Host) -> Result<()> {
    host.datapath.configure(&DatapathConfig {
        secret: [1, 2],
        flags: ConfigFlags::MAPPINGS,
        ..DatapathConfig::DEFAULT
    })?;
    let flags = NetworkFlags::ICC | NetworkFlags::ENDPOINT_INDEPENDENT;
    host.datapath.set_network(NET_A, &network(NET_A, FamilyFlags::MASQUERADE, flags)?)
}

fn call(family: Family, kind: Kind, n: u8, sport: u16) -> Packet {
    Packet::new(kind, end(inside(family, NET_A, n), sport), end(family.remote(), 443))
}

fn stranger(family: Family, kind: Kind, to: SocketAddr) -> Packet {
    Packet::new(kind, end(family.client(), 7777), to)
}

/// Both halves of a mapping.
fn mapping(family: Family, kind: Kind, own: SocketAddr, outside: SocketAddr) -> [Half; 2] {
    let nobody = end(family.pick(IpAddr::from([0; 4]), IpAddr::from([0; 16])), 0);
    let at_host = end(family.host(), 0);
    let proto = stranger(family, kind, own).proto();
    let (is_mapping, redirected_to) = (true, 0);
    let (new_src, new_dst) = (outside, nobody);
    let original = Half {
        is_mapping,
        is_on_uplink: false,
        proto,
        src: own,
        dst: at_host,
        new_src,
        new_dst,
        redirected_to,
    };
    let (new_src, new_dst) = (at_host, own);
    let (src, dst) = (nobody, outside);
    let reply =
        Half { is_mapping, is_on_uplink: true, proto, src, dst, new_src, new_dst, redirected_to };
    [original, reply]
}

/// Sends a flow's first packet, which finds its source's mapping: the port that it leaves with.
fn port_given(host: &mut Host, packet: &Packet) -> Result<u16> {
    let (reason, after) = host.meets(TO_UPLINK, &packet.frame())?;
    ensure!(reason == Reason::Masqueraded, "{reason:?}");
    host.look_again()?;
    Ok(packet.from(end(packet.src.ip(), 0)).with_source_port_of(&after).src.port())
}

#[test]
fn one_mapping_serves_every_destination_and_everybody() -> Result<()> {
    on_a_host(|host, family| {
        open_ports(host)?;
        for kind in [Kind::Udp, Kind::Tcp(SYN)] {
            let first = call(family, kind, 2, 5000);
            let outside = end(family.host(), 5000);
            let begun = [
                mapping(family, kind, first.src, outside),
                flow(false, &first, &first.from(outside)),
            ]
            .concat();
            host.begins(TO_UPLINK, &first, Reason::Masqueraded, &first.from(outside), &begun)?;
            let second = first.to(end(family.client(), 99));
            let begun = flow(false, &second, &second.from(outside));
            host.begins(TO_UPLINK, &second, Reason::Masqueraded, &second.from(outside), &begun)?;

            let unknown = stranger(family, kind, outside);
            let entered = unknown.to(first.src);
            let begun = flow(true, &unknown, &entered);
            host.begins(FROM_UPLINK, &unknown, Reason::Mapped, &entered, &begun)?;
            let answer = entered.reply();
            host.becomes(TO_UPLINK, &answer, Reason::MappedReply, &answer.from(outside))?;
        }
        let ack = stranger(family, Kind::Tcp(ACK), end(family.host(), 5000));
        host.stays(FROM_UPLINK, &ack.from(end(family.client(), 1)), Reason::NotOurs)?;
        host.stays(
            FROM_UPLINK,
            &ack.with_kind(Kind::Udp).to(end(family.host(), 6000)),
            Reason::NotOurs,
        )
    })
}

#[test]
fn a_mapping_has_a_port_to_itself() -> Result<()> {
    on_a_host(|host, family| {
        open_ports(host)?;
        ensure!(port_given(host, &call(family, Kind::Udp, 2, 5000))? == 5000);
        let other = port_given(host, &call(family, Kind::Udp, 3, 5000))?;
        ensure!(other >= 1024 && other != 5000, "{other}");
        // Of another destination and of another network.
        let third = call(family, Kind::Udp, 3, 5000).to(end(family.client(), 99));
        ensure!(port_given(host, &third)? == other);
        let plain = third.from(end(inside(family, NET_B, 2), 5000));
        let given = port_given(host, &plain)?;
        ensure!(given != 5000 && given != other, "{given}");
        Ok(())
    })
}

#[test]
fn containers_reach_each_other_by_their_outside_ports() -> Result<()> {
    on_a_host(|host, family| {
        open_ports(host)?;
        let server = call(family, Kind::Udp, 3, 5000);
        ensure!(port_given(host, &server)? == 5000);
        let outside = end(family.host(), 5000);
        let client = server.from(end(inside(family, NET_A, 2), 4000)).to(outside);
        let (reason, _) = host.meets(from_endpoint(NET_A, 2), &client.frame())?;
        ensure!(reason == Reason::MasqueradedRedirected, "{reason:?}");
        host.look_again()?;
        let seen = end(family.host(), 4000);
        let halves = host.halves();
        let has =
            |half: &Half| halves.iter().any(|h| h.new_src == half.new_src && h.src == half.src);
        let expected = flow(false, &client, &client.from(seen).to(server.src));
        ensure!(
            has(&expected[0]) && has(&mapping(family, Kind::Udp, client.src, seen)[0]),
            "{halves:#?}"
        );
        let unknown = stranger(family, Kind::Udp, seen);
        let entered = unknown.to(client.src);
        let begun = flow(true, &unknown, &entered);
        host.begins(FROM_UPLINK, &unknown, Reason::Mapped, &entered, &begun)
    })
}

/// Closes a socket, and waits until it is gone: a child that another test has just forked holds it until it
/// executes its program.
fn close(socket: UdpSocket) -> Result<()> {
    let port = format!(":{:04X} ", socket.local_addr()?.port());
    drop(socket);
    eventually("the socket is gone", || {
        ["udp", "udp6"].iter().all(|table| {
            fs::read_to_string(format!("/proc/thread-self/net/{table}"))
                .is_ok_and(|sockets| !sockets.contains(&port))
        })
    });
    Ok(())
}

#[test]
fn the_hosts_own_sockets_come_first() -> Result<()> {
    on_a_host(|host, family| {
        open_ports(host)?;
        let any = family.pick("0.0.0.0:0", "[::]:0");
        let socket = UdpSocket::bind(any).context("udp")?;
        let taken = socket.local_addr()?.port();
        let given = port_given(host, &call(family, Kind::Udp, 2, taken))?;
        ensure!(given != taken, "{given}");
        close(socket)?;
        // One that is opened later.
        ensure!(port_given(host, &call(family, Kind::Udp, 3, taken))? == taken);
        let socket = UdpSocket::bind((any.parse::<SocketAddr>()?.ip(), taken)).context("udp")?;
        let unknown = stranger(family, Kind::Udp, end(family.host(), taken));
        host.stays(FROM_UPLINK, &unknown, Reason::NotOurs)?;
        close(socket)?;
        let entered = unknown.to(end(inside(family, NET_A, 3), taken));
        let begun = flow(true, &unknown, &entered);
        host.begins(FROM_UPLINK, &unknown, Reason::Mapped, &entered, &begun)
    })
}

#[test]
fn a_mapping_ends_when_nothing_is_sent_by_it_or_its_container_goes() -> Result<()> {
    on_a_host(|host, family| {
        open_ports(host)?;
        let call = call(family, Kind::Udp, 2, 5000);
        ensure!(port_given(host, &call)? == 5000);
        let unknown = |port| {
            stranger(family, Kind::Udp, end(family.host(), 5000)).from(end(family.client(), port))
        };
        host.datapath.age_flows(MAPPING_SECS - 5)?;
        host.look_again()?;
        let enters = |host: &mut Host, port| {
            let entered = unknown(port).to(call.src);
            let begun = flow(true, &unknown(port), &entered);
            host.begins(FROM_UPLINK, &unknown(port), Reason::Mapped, &entered, &begun)
        };
        enters(host, 1)?;
        ensure!(port_given(host, &call)? == 5000);
        host.datapath.age_flows(MAPPING_SECS - 5)?;
        host.look_again()?;
        enters(host, 2)?;
        host.datapath.age_flows(5)?;
        host.look_again()?;
        host.stays(FROM_UPLINK, &unknown(3), Reason::NotOurs)?;
        let halves = host.halves();
        let (_, removed) = host.datapath.expire(&halves)?;
        ensure!(removed == 3, "{removed}: the mapping, the call and the first stranger's");
        host.look_again()?;
        ensure!(host.halves().iter().all(|half| !half.is_mapping), "{:#?}", host.halves());

        ensure!(port_given(host, &call)? == 5000);
        host.datapath.set_generation(slot(NET_A, 2), 1)?;
        host.stays(FROM_UPLINK, &unknown(4), Reason::NotOurs)
    })
}
