//! Datagrams in pieces: in order, backwards and in floods, to a published port and from behind a masquerade.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{
    clients::{bind_udp, pings},
    condition::{eventually, now},
    family::Family,
    fragments::fragments,
    netns::Namespace,
    packet::{Kind, Packet},
    raw::send_frames,
    topology::{Container, UPLINK, World, at, gateway},
};

/// How long a datagram is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of each fragment.
const PIECE: usize = 1400;

/// A socket on an address of a namespace.
#[track_caller]
fn socket(namespace: &Namespace, own: SocketAddr) -> UdpSocket {
    let socket = namespace.inside(|| bind_udp(own)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A payload of which no two parts are alike.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 4) >> (i % 4 * 8)) as u8).collect()
}

/// Receives one datagram, which is to be this one; returns who sent it.
#[track_caller]
fn receives(socket: &UdpSocket, expected: &[u8], what: &str) -> SocketAddr {
    let mut buffer = vec![0; 1 << 16];
    let received = socket.recv_from(&mut buffer);
    let (len, from) = received.unwrap_or_else(|error| panic!("{what}: nothing comes: {error}"));
    assert!(buffer[..len] == *expected, "{what}: {len} bytes of {} are wrong", expected.len());
    from
}

/// The MAC address of a device.
#[track_caller]
fn mac(namespace: &Namespace, ifname: &str) -> [u8; 6] {
    let links = namespace.run(&format!("ip -json link show dev {ifname}")).json();
    let text = links[0]["address"].as_str().unwrap().to_owned();
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// A host with a published port, a container and whoever talks to it.
struct Scene {
    world: World,
    web: Container,
}

const HOST_PORT: u16 = 5353;
const OWN_PORT: u16 = 53;

impl Scene {
    #[track_caller]
    fn new() -> Self {
        let world = World::new();
        world.network("front", 1, "");
        let web = world.container("web", "front", "-p 5353:53/udp");
        Self { world, web }
    }

    /// Sends a datagram from the client backwards.
    #[track_caller]
    fn client_sends(&self, src: SocketAddr, dst: SocketAddr, id: u32, payload: &[u8]) {
        let macs = (mac(&self.world.host, UPLINK), mac(&self.world.client, "eth0"));
        backwards(&self.world.client, macs, src, dst, id, payload);
    }

    /// Sends a datagram from the container to the gateway backwards.
    #[track_caller]
    fn web_sends(&self, src: SocketAddr, dst: SocketAddr, id: u32, payload: &[u8]) {
        self.container_sends(&self.web.namespace, "front", src, dst, id, payload);
    }

    /// Sends a datagram from any container to its gateway backwards.
    #[track_caller]
    fn container_sends(
        &self,
        namespace: &Namespace,
        network: &str,
        src: SocketAddr,
        dst: SocketAddr,
        id: u32,
        payload: &[u8],
    ) {
        let inspect = format!("network inspect {network} --json");
        let bridge = self.world.netd(&inspect).json()[0]["bridge"].take();
        let to = mac(&self.world.host, bridge.as_str().unwrap());
        backwards(namespace, (to, mac(namespace, "eth0")), src, dst, id, payload);
    }

    /// The container's address.
    #[track_caller]
    fn address(&self, family: Family) -> IpAddr {
        self.world.address("web", family)
    }
}

/// Sends a datagram, the last fragment first.
#[track_caller]
fn backwards(
    from: &Namespace,
    (to_mac, from_mac): ([u8; 6], [u8; 6]),
    src: SocketAddr,
    dst: SocketAddr,
    id: u32,
    payload: &[u8],
) {
    let packet = Packet { payload: payload.to_vec(), ..Packet::new(Kind::Udp, src, dst) };
    let mut frames = fragments(&packet.frame_for(to_mac, from_mac), id, PIECE);
    assert!(frames.len() > 1);
    frames.reverse();
    send_frames(from, "eth0", &frames);
}

#[test]
fn large_datagrams_go_both_ways_in_pieces() {
    let scene = Scene::new();
    for family in Family::BOTH {
        let (host, remote, own) = (family.host(), family.remote(), scene.address(family));
        let client = socket(&scene.world.client, at(remote, 40_000));
        let server = socket(&scene.web.namespace, at(own, OWN_PORT));
        for len in [4000, 60_000] {
            let bytes = payload(len);
            let what = format!("{family}, {len} bytes");
            client.send_to(&bytes, at(host, HOST_PORT)).unwrap();
            let from = receives(&server, &bytes, &format!("{what} to the port"));
            server.send_to(&bytes, from).unwrap();
            let from = receives(&client, &bytes, &format!("{what} from the port"));
            assert_eq!(from, at(host, HOST_PORT), "{what}");
            let own = socket(&scene.web.namespace, at(own, 0));
            own.send_to(&bytes, at(remote, 40_000)).unwrap();
            let from = receives(&client, &bytes, &format!("{what} to the world"));
            assert_eq!(from.ip(), host, "{what}");
            client.send_to(&bytes, from).unwrap();
            let from = receives(&own, &bytes, &format!("{what} from the world"));
            assert_eq!(from, at(remote, 40_000), "{what}");
        }
        let flag = family.pick("-4", "-6");
        scene.web.namespace.run(&format!("ping {flag} -n -q -c 2 -s 4000 -W 5 {remote}")).ok();
        assert!(pings(&scene.web.namespace, gateway(family, 1).parse().unwrap()));
    }
}

/// RFC 4787 REQ-14: fragments are received out of order and reach the other side.
#[test]
fn datagrams_arrive_whose_pieces_come_backwards() {
    let scene = Scene::new();
    for family in Family::BOTH {
        let (host, remote, own) = (family.host(), family.remote(), scene.address(family));
        let client = socket(&scene.world.client, at(remote, 40_001));
        let server = socket(&scene.web.namespace, at(own, OWN_PORT));
        for (id, len) in [(1, 4000), (2, 60_000)] {
            let bytes = payload(len);
            let what = format!("{family}, {len} bytes");
            scene.client_sends(at(remote, 40_001), at(host, HOST_PORT), id, &bytes);
            let from = receives(&server, &bytes, &format!("{what} to the port"));
            scene.web_sends(at(own, OWN_PORT), from, id, &bytes);
            let from = receives(&client, &bytes, &format!("{what} from the port"));
            assert_eq!(from, at(host, HOST_PORT), "{what}");

            let port = 6000 + id as u16;
            let asker = socket(&scene.web.namespace, at(own, port));
            scene.web_sends(at(own, port), at(remote, 40_001), id + 10, &bytes);
            let from = receives(&client, &bytes, &format!("{what} to the world"));
            assert_eq!(from.ip(), host, "{what}");
            scene.client_sends(at(remote, 40_001), from, id + 10, &bytes);
            let from = receives(&asker, &bytes, &format!("{what} from the world"));
            assert_eq!(from, at(remote, 40_001), "{what}");
        }
    }
    assert!(scene.world.packets("fragment_held") > 0);
}

/// From the same container, a neighbour and another network, in order and backwards.
#[test]
fn a_published_port_is_reached_from_inside_in_pieces() {
    let scene = Scene::new();
    scene.world.network("back", 2, "");
    let neighbour = scene.world.container("neighbour", "front", "");
    let db = scene.world.container("db", "back", "");
    let bytes = payload(4000);
    for family in Family::BOTH {
        let server = socket(&scene.web.namespace, at(scene.address(family), OWN_PORT));
        for (name, network, namespace) in [
            ("web", "front", &scene.web.namespace),
            ("neighbour", "front", &neighbour.namespace),
            ("db", "back", &db.namespace),
        ] {
            let own = at(scene.world.address(name, family), 7001);
            let client = socket(namespace, own);
            let port = at(family.host(), HOST_PORT);
            for is_backwards in [false, true] {
                let what = format!("{family}, {name}, backwards: {is_backwards}");
                if is_backwards {
                    scene.container_sends(namespace, network, own, port, 40, &bytes);
                } else {
                    client.send_to(&bytes, port).unwrap();
                }
                let from = receives(&server, &bytes, &what);
                server.send_to(&bytes, from).unwrap();
                assert_eq!(receives(&client, &bytes, &what), port, "{what}");
            }
        }
    }
}

/// What has come before its first piece may be the host's own, and is not taken from it.
#[test]
fn the_hosts_own_datagrams_are_left_to_it() {
    let scene = Scene::new();
    for family in Family::BOTH {
        let (host, remote) = (family.host(), family.remote());
        let own = socket(&scene.world.host, at(host, 9999));
        let gateway = at(gateway(family, 1).parse().unwrap(), 9999);
        let inside = socket(&scene.world.host, gateway);
        let bytes = payload(4000);
        scene.client_sends(at(remote, 40_002), at(host, 9999), 20, &bytes);
        receives(&own, &bytes, &format!("{family}, from the client"));
        scene.web_sends(at(scene.address(family), 7000), gateway, 21, &bytes);
        receives(&inside, &bytes, &format!("{family}, from the container"));
    }
}

#[test]
fn no_piece_gets_round_the_walls() {
    let scene = Scene::new();
    scene.world.network("back", 2, "");
    let db = scene.world.container("db", "back", "");
    scene.world.route_client_to_containers(1);
    for family in Family::BOTH {
        let (own, other) = (scene.address(family), scene.world.address("db", family));
        let bytes = payload(4000);
        let server = socket(&scene.web.namespace, at(own, 54));
        let neighbour = socket(&db.namespace, at(other, 54));
        let client = socket(&scene.world.client, at(family.remote(), 40_003));
        let refused = |reason: &str, send: &dyn Fn()| {
            let before = scene.world.packets(reason);
            send();
            eventually(&format!("{family}: {reason}"), || {
                scene.world.packets(reason) == before + 3
            });
        };
        refused("direct_routing", &|| {
            scene.client_sends(at(family.remote(), 40_003), at(own, 54), 30, &bytes);
        });
        refused("networks_apart", &|| {
            scene.web_sends(at(own, 54), at(other, 54), 31, &bytes);
        });
        refused("source_not_in_subnet", &|| {
            scene.web_sends(at(other, 54), at(family.remote(), 40_003), 32, &bytes);
        });
        for socket in [&server, &neighbour, &client] {
            socket.set_nonblocking(true).unwrap();
            let received = socket.recv_from(&mut [0; 8]);
            assert!(received.is_err(), "{family}: {received:?}");
        }
    }
}

/// Answers each datagram with itself until it is over.
fn echo(socket: &UdpSocket, is_over: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], from).unwrap();
        }
    }
}

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(3);

#[test]
fn a_flood_of_lone_pieces_costs_others_nothing() {
    let scene = Scene::new();
    // Not the one that the flood is for, whose own stack has to put up with it.
    let other = scene.world.container("other", "front", "-p 5454:53/udp");
    for family in Family::BOTH {
        for (name, which) in [("first", 0), ("later", 1)] {
            let own = at(scene.world.address("other", family), OWN_PORT);
            let server = socket(&other.namespace, own);
            let is_over = AtomicBool::new(false);
            let (sent, asked) = thread::scope(|scope| {
                scope.spawn(|| echo(&server, &is_over));
                let flood = scope.spawn(|| flood(&scene, family, which, &is_over));
                let asked = scope.spawn(|| ask_until_over(&scene, family, name)).join();
                is_over.store(true, Ordering::Relaxed);
                (flood.join().unwrap(), asked)
            });
            let asked = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(asked > 100, "{family}, {name}: {asked} questions in a flood of {sent}");
        }
    }
}

/// Asks in one piece and in three in turn; each question is answered.
#[track_caller]
fn ask_until_over(scene: &Scene, family: Family, name: &str) -> u64 {
    let client = socket(&scene.world.client, at(family.client(), 0));
    client.connect(at(family.host(), 5454)).unwrap();
    let (begun, mut asked) = (now(), 0);
    while begun.elapsed() < FLOOD {
        for bytes in [payload(100), payload(4000)] {
            client.send(&bytes).unwrap();
            receives(&client, &bytes, &format!("{family}, {name}, question {asked}"));
            asked += 1;
        }
    }
    asked
}

/// Sends one piece each of many datagrams to the published port, as fast as it can.
fn flood(scene: &Scene, family: Family, which: usize, is_over: &AtomicBool) -> u32 {
    let (to, from) = (mac(&scene.world.host, UPLINK), mac(&scene.world.client, "eth0"));
    let ends = (at(family.remote(), 40_004), at(family.host(), HOST_PORT));
    let packet = Packet::new(Kind::Udp, ends.0, ends.1).with_payload_len(24);
    let frame = packet.frame_for(to, from);
    let mut sent = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        // By a step that visits every number.
        let ids = (sent..sent + 256).map(|number| number.wrapping_mul(40_503));
        let frames: Vec<_> = ids.map(|id| fragments(&frame, id, 16).swap_remove(which)).collect();
        send_frames(&scene.world.client, "eth0", &frames);
        sent += 256;
    }
    sent
}
