//! SCTP, and protocols without ports, by packets that the tests write: not every kernel has SCTP sockets
//! (`other_kernels.rs`).

use std::net::{IpAddr, SocketAddr};

use netd_tests::{
    condition::eventually,
    family::Family,
    packet::{Kind, Packet, crc32c},
    raw::{Arrived, RawHost},
    topology::World,
};

pub(crate) const SCTP: u8 = 132;
const INIT: u8 = 1;

/// An SCTP packet with an INIT between two ports.
pub(crate) fn init(sport: u16, dport: u16) -> Vec<u8> {
    let end = |port| SocketAddr::new(IpAddr::from([192, 0, 2, 1]), port);
    Packet::new(Kind::Sctp(INIT), end(sport), end(dport)).datagram()[20..].to_vec()
}

/// The ports of an SCTP packet whose checksum is right.
#[track_caller]
pub(crate) fn ports(packet: &Arrived) -> (u16, u16) {
    let bytes = &packet.payload;
    let mut zeroed = bytes.clone();
    zeroed[8..12].fill(0);
    assert_eq!(bytes[8..12], crc32c(&zeroed).to_le_bytes(), "{packet:?}");
    (u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]))
}

#[test]
fn sctp_reaches_published_ports_and_comes_back() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 36412:9899/sctp -p 9899:9899/sctp");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let server = RawHost::new(&web.namespace, family, SCTP);
        let neighbour = world.address("app", family);
        // From outside, and from a neighbour.
        for (client, address) in [(&world.client, family.client()), (&app.namespace, neighbour)] {
            for (port, host_port) in [(5000, 36_412), (5001, 9899)] {
                let client = RawHost::new(client, family, SCTP);
                client.send(family.host(), &init(port, host_port));
                let asked = server.receive("the server is asked");
                assert_eq!((ports(&asked), asked.src, asked.ttl), ((port, 9899), address, 63));
                server.send(address, &init(9899, port));
                let answer = client.receive("the client is answered");
                assert_eq!((ports(&answer), answer.src), ((host_port, port), family.host()));
                assert_eq!(answer.ttl, 63);
            }
        }
    }
    let rows = world.netd("port ls --json").json();
    assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["proto"] == "sctp")));
    assert!(world.netd("conntrack ls -p sctp").ok().contains("dport=36412"));
}

#[test]
fn sctp_is_masqueraded_from_a_port_of_its_own() {
    let world = World::new();
    world.network("front", 1, "");
    let containers = ["one", "two"].map(|name| world.container(name, "front", ""));
    for family in Family::BOTH {
        let server = RawHost::new(&world.client, family, SCTP);
        let mut seen = Vec::new();
        for container in &containers {
            let client = RawHost::new(&container.namespace, family, SCTP);
            client.send(family.client(), &init(5000, 38_412));
            let asked = server.receive("the server is asked");
            let (sport, dport) = ports(&asked);
            assert_eq!((asked.src, dport), (family.host(), 38_412));
            seen.push(sport);
            server.send(family.host(), &init(38_412, sport));
            assert_eq!(ports(&client.receive("the container is answered")), (38_412, 5000));
        }
        assert_eq!(seen[0], 5000);
        assert_ne!(seen[1], 5000);
    }
}

/// ESP and GRE: an address that is translated, and a flow for each remote.
#[test]
fn protocols_without_ports_are_masqueraded_by_address() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("apart", 2, "");
    let one = world.container("one", "front", "");
    let two = world.container("two", "front", "");
    let other = world.container("other", "apart", "");
    for (n, family) in [(1, Family::V4), (2, Family::V6)] {
        for (m, proto) in [(1, 50), (2, 47)] {
            let client = RawHost::new(&one.namespace, family, proto);
            let server = RawHost::new(&world.client, family, proto);
            // Nobody outside begins.
            server.send(family.host(), b"unasked");
            client.send(family.client(), b"a packet of eight words, or so..");
            let asked = server.receive("the packet leaves");
            assert_eq!((asked.src, asked.ttl), (family.host(), 63));
            server.send(family.host(), b"an answer");
            let answer = client.receive("the answer comes");
            assert_eq!((&answer.payload[..], answer.ttl), (&b"an answer"[..], 63));
            let second = RawHost::new(&two.namespace, family, proto);
            second.send(family.client(), b"the same from another container.");
            eventually("the second container's is counted", || {
                world.packets("source_ports_exhausted") >= (n - 1) * 2 + m
            });
            client.send(world.address("other", family), b"to another network, which is apart");
            eventually("what goes to another network is counted", || {
                world.packets("networks_apart") >= (n - 1) * 2 + m
            });
            assert_eq!(server.arrived(), None);
            assert_eq!(RawHost::new(&other.namespace, family, proto).arrived(), None);
        }
    }
}
