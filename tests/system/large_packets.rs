//! What the way makes of large packets: the MSS that two ends agree on, datagrams that travel merged, and
//! tunnels, which have no Ethernet header and take less than the networks behind them.

use std::net::IpAddr;

use netd_tests::{
    clients::{ask_udp, fetch, fetch_big, pings, udp_socket},
    family::Family,
    packet::{ACK, SYN, checksum},
    raw::{Arrived, RawHost},
    servers,
    topology::{UPLINK, World, at},
};

use crate::protocols::{SCTP, init, ports};

#[test]
fn the_mss_is_lowered_to_what_the_uplink_takes() {
    const UPLINK_MTU: u16 = 1300;
    let world = World::new();
    world.network("plain", 2, "--mtu 1500");
    world.network("front", 1, "--mtu 1500 -o mss_clamp=auto");
    world.network("fixed", 3, "--mtu 1500 -o mss_clamp=1000");
    let line = format!("link set {UPLINK} mtu {UPLINK_MTU}");
    world.host.ip(&[&line]);
    let _outside = servers::nginx(&world.client, &[80]);
    for (n, (network, clamp)) in
        [("front", Some(0)), ("fixed", Some(1000)), ("plain", None)].into_iter().enumerate()
    {
        let published = 8080 + n as u16;
        let web = world.container(network, network, &format!("-p {published}:80"));
        let _inside = servers::nginx(&web.namespace, &[80]);
        for family in Family::BOTH {
            let headers = family.pick(40, 60);
            let expected = match clamp {
                Some(0) => UPLINK_MTU - headers,
                Some(mss) => mss,
                None => 1500 - headers,
            };
            let (inside, outside) =
                (RawHost::new(&web.namespace, family, 6), RawHost::new(&world.client, family, 6));
            if clamp.is_some() {
                fetch_big(&web.namespace, at(family.remote(), 80));
                fetch_big(&world.client, at(family.host(), published));
            } else {
                let _ =
                    web.namespace.run(&format!("curl -m 1 http://{}/", at(family.remote(), 80)));
                let _ = world
                    .client
                    .run(&format!("curl -m 1 http://{}/", at(family.host(), published)));
            }
            for (place, end) in [("inside", inside), ("outside", outside)] {
                assert_eq!(syn_and_syn_ack(&end), [expected; 2], "{family} {network} {place}");
            }
        }
    }
    assert!(world.refused("network create bad -o mss_clamp=0").contains("mss_clamp=0"));
}

/// What the next SYN and the next SYN-ACK say of the MSS, which Linux puts in front of all options.
#[track_caller]
fn syn_and_syn_ack(end: &RawHost) -> [u16; 2] {
    let mut found = [None; 2];
    loop {
        let packet = end.receive("a SYN or SYN-ACK comes").payload;
        if packet[13] & SYN != 0 {
            assert_eq!(packet[20..22], [2, 4], "{packet:?}");
            let mss = u16::from_be_bytes([packet[22], packet[23]]);
            found[usize::from(packet[13] & ACK != 0)].get_or_insert(mss);
        }
        if let [Some(syn), Some(syn_ack)] = found {
            return [syn, syn_ack];
        }
    }
}

/// No Ethernet header, so nothing is redirected, whichever data path; and a narrow one, as tunnels are.
#[test]
fn a_tunnel_is_an_uplink_like_any_other() {
    const TUNNEL_MTU: u16 = 1340;
    let world = World::new();
    let end = |family: Family, n: u8| -> IpAddr {
        family.pick(format!("10.99.0.{n}"), format!("fd99::{n}")).parse().unwrap()
    };
    let ends = [(&world.host, Family::V4.host()), (&world.client, Family::V4.client())];
    let _tunnel = servers::tunnel(ends[0], ends[1]);
    for (n, (namespace, _)) in (1..).zip(ends) {
        for family in Family::BOTH {
            namespace.add_address("tun0", end(family, n), family.pick(24, 64));
        }
    }
    world.host.ip(&[&format!("link set tun0 mtu {TUNNEL_MTU}")]);
    world.network("front", 1, "--mtu 1500 -o mss_clamp=auto");
    let web = world.container("web", "front", "-p 8080:80 -p 5353:5353/udp -p 36412:9899/sctp");
    let _servers = [&web.namespace, &world.client]
        .map(|namespace| (servers::nginx(namespace, &[80]), servers::udp_echo(namespace, 5353)));
    for family in Family::BOTH {
        let (host, peer) = (end(family, 1), end(family, 2));
        let inside = RawHost::new(&web.namespace, family, 6);
        assert_eq!(fetch(&web.namespace, at(peer, 80)).client, host);
        assert_eq!(fetch(&world.client, at(host, 8080)).client, peer);
        assert_eq!(syn_and_syn_ack(&inside), [TUNNEL_MTU - family.pick(40, 60); 2]);
        fetch_big(&web.namespace, at(peer, 80));
        fetch_big(&world.client, at(host, 8080));
        assert_eq!(ask_udp(&web.namespace, at(peer, 5353), "out").text, "out");
        assert_eq!(ask_udp(&world.client, at(host, 5353), "in").text, "in");
        assert!(pings(&web.namespace, peer));

        let server = RawHost::new(&web.namespace, family, SCTP);
        RawHost::new(&world.client, family, SCTP).send(host, &init(5000, 36_412));
        let asked = server.receive("the server is asked");
        assert_eq!((ports(&asked), asked.src, asked.ttl), ((5000, 9899), peer, 63));
    }
}

/// With merged datagrams and with checksums that nobody has computed yet, as bulk data has them; the last
/// hop leaves nothing to a device, so what arrives is what the receiver checks.
#[test]
fn merged_datagrams_arrive_one_by_one_with_right_checksums() {
    let world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "-p 7000:7000/udp");
    for (namespace, device) in [(&world.host, UPLINK), (&world.client, "eth0")] {
        namespace.run(&format!("ethtool -K {device} tx off tso off gso off")).ok();
    }
    for family in Family::BOTH {
        let rows = [
            (&app.namespace, &world.client, at(family.remote(), 7000)),
            (&world.client, &app.namespace, at(family.host(), 7000)),
        ];
        for (from, to, address) in rows {
            let receiver = RawHost::new(to, family, 17);
            let socket = udp_socket(from, address).unwrap();
            let lens = [1000, 1000, 1000, 1000, 300];
            merge(&socket, 1000);
            socket.send(&vec![0x5a; lens.iter().sum()]).unwrap();
            let destination = match to.name() == world.client.name() {
                true => family.remote(),
                false => world.address("app", family),
            };
            for len in lens {
                let datagram = receiver.receive("a datagram comes");
                assert_eq!(datagram.payload.len(), 8 + len, "{family} {address}");
                assert_eq!(sum_of_udp(&datagram, destination), 0, "{family} {address}");
            }
        }
    }
}

/// The checksum over a datagram with its own, zero where that is right.
fn sum_of_udp(datagram: &Arrived, dst: IpAddr) -> u16 {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let len = (datagram.payload.len() as u32).to_be_bytes();
    checksum(&[&bytes(datagram.src), &bytes(dst), &len, &[0, 0, 0, 17], &datagram.payload])
}

/// Has the kernel cut what a socket sends into datagrams of `len` bytes.
fn merge(socket: &std::net::UdpSocket, len: i32) {
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::UdpGsoSegment, &len).unwrap();
}
