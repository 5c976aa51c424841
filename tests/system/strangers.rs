//! Ports that somebody else plugs into a network's bridge.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use netd_tests::{
    clients::pings_at_once,
    condition::{eventually, now},
    family::Family,
    topology::{Container, World, at},
};

const PORT: u16 = 9000;

/// When nothing has come for so long, nothing comes any more.
const SILENCE: Duration = Duration::from_millis(300);

/// A namespace with a veth pair to the host whose end is in no bridge yet, and addresses of the network.
fn stranger(world: &World, victim: &Container) -> Container {
    let stranger = world.sandbox("stranger");
    let peer = stranger.namespace.name();
    world.host.ip(&[&format!("link add st0 type veth peer eth0 netns {peer}"), "link set st0 up"]);
    stranger.namespace.ip(&["link set eth0 up"]);
    let mac = world.endpoint(&victim.name)["mac"].as_str().unwrap().to_owned();
    for family in Family::BOTH {
        let (own, len) = family.pick(("10.77.1.200", 24), ("fd77:1::200", 64));
        stranger.namespace.add_address("eth0", own.parse().unwrap(), len);
        let to = world.address(&victim.name, family);
        stranger.namespace.ip(&[&format!("neighbour replace {to} lladdr {mac} dev eth0")]);
    }
    stranger
}

fn bridge(world: &World) -> String {
    let network = world.netd("network inspect front --json").json();
    network[0]["bridge"].as_str().unwrap().to_owned()
}

/// Receives until nothing comes any more; the time of the last datagram.
fn last_arrival(socket: &UdpSocket) -> Option<Instant> {
    let mut last = None;
    let mut buffer = [0; 64];
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => last = Some(now()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return last;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Says that it is over, also where a test fails: the thread that sends would be waited for without end.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long a port that is plugged in lets packets through to a container.
fn window(world: &World, stranger: &Container, victim: IpAddr, receiver: &UdpSocket) -> Duration {
    let done = AtomicBool::new(false);
    let plug = format!("link set st0 master {}", bridge(world));
    thread::scope(|scope| {
        scope.spawn(|| {
            stranger.namespace.inside(|| {
                let any: IpAddr = Family::of(victim).pick("0.0.0.0", "::").parse().unwrap();
                let socket = UdpSocket::bind((any, 0)).unwrap();
                while !done.load(Ordering::Relaxed) {
                    // A full queue is as good as a packet on its way.
                    let _ = socket.send_to(b"hello", at(victim, PORT));
                }
            });
        });
        let _end = End(&done);
        let plugged = now();
        world.host.ip(&[&plug]);
        last_arrival(receiver).map_or(Duration::ZERO, |last| last.duration_since(plugged))
    })
}

#[test]
fn a_port_that_somebody_else_plugs_in_is_closed_at_once() {
    for family in Family::BOTH {
        let world = World::new();
        world.network("front", 1, "");
        let web = world.container("web", "front", "");
        let to = world.address("web", family);
        let stranger = stranger(&world, &web);
        let receiver = web.namespace.inside(|| UdpSocket::bind(at(to, PORT)).unwrap());
        receiver.set_read_timeout(Some(SILENCE)).unwrap();
        let window = window(&world, &stranger, to, &receiver);
        eprintln!("{family}: closed {window:?} after it was plugged in");
        eventually("the port is closed", || world.daemon.log().contains("port=\"st0\""));
        // It was open to all, and is to none: neither for what it sends nor for what is sent to it.
        let before = world.packets("unknown_port");
        assert!(before > 0);
        assert!(!pings_at_once(&stranger.namespace, to));
        let own = family.pick("10.77.1.200", "fd77:1::200").parse().unwrap();
        assert!(!pings_at_once(&web.namespace, own));
        assert!(!pings_at_once(&world.host, own));
        let neighbour = web.namespace.run(&format!("ip neigh show {own}")).ok();
        assert!(!neighbour.contains("lladdr"), "{neighbour}");
        assert!(world.packets("unknown_port") > before);
    }
}
