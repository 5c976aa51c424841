//! The world that is attacked: four networks, what stands on them, and the client outside.
//!
//! ```text
//!  client ---- up0  host   quiet 1 (icc=false)  mallory, neighbour, guest
//!                          front 2              app
//!                          back  3              db, guest
//!                          inner 4 (internal)   vault
//! ```
//! The client, mallory, app and vault attack; all of them are watched. Nobody answers anything but ARP and
//! neighbour solicitations, so that whatever is seen has been sent by the attack or by the host. The
//! guests share a name, a published port and a way to come and go.

use std::{io, net::IpAddr};

use super::{
    scene::{Kind, Place, Published, Scene, Station, parsed},
    wire::Wire,
};
use crate::{
    family::Family,
    netns::Namespace,
    topology::{Container, UPLINK, World},
};

/// The port behind every published port.
const PORT: u16 = 80;

/// A table of every flow that the attack can begin.
const CONFIG: &str = "[datapath]\nmax_flows = 65536\n";

/// The networks: number, name, kind and options.
const NETWORKS: [(u8, &str, Kind, &str); 4] = [
    (1, "quiet", Kind::Apart, "--icc=false"),
    (2, "front", Kind::Open, ""),
    (3, "back", Kind::Open, ""),
    (4, "inner", Kind::Internal, "--internal"),
];

/// The host's ports that lead to containers, and the one behind them.
#[cfg(test)]
pub(super) const HOST_PORTS: [u16; 5] = [8081, 8082, 8083, 8084, PORT];

/// The containers: name, the number of their network, the last part of their addresses, and the host's
/// port that leads to them.
const CONTAINERS: [(&str, u8, u8, Option<u16>); 7] = [
    ("mallory", 1, 10, None),
    ("neighbour", 1, 11, Some(8081)),
    ("app", 2, 10, Some(8082)),
    ("db", 3, 10, Some(8083)),
    ("vault", 4, 10, None),
    (GUESTS[0], 1, 12, Some(8084)),
    (GUESTS[1], 3, 12, Some(8084)),
];

/// Those who come and go.
pub const GUESTS: [&str; 2] = ["quiet-guest", "back-guest"];

const ATTACKERS: [&str; 4] = ["client", "mallory", "app", "vault"];

/// The world, and who is where in it.
#[derive(Debug)]
pub struct Stage {
    /// The host with its daemon, and the client.
    pub world: World,
    containers: Vec<Container>,
    /// What the attack knows.
    pub scene: Scene,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// Sets everything up; the guests are not connected yet.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn new() -> Self {
        let mut world = World::without_daemon(CONFIG);
        world.daemon.start();
        for (number, name, _, options) in NETWORKS {
            world.network(name, number, options);
        }
        let containers: Vec<Container> =
            CONTAINERS.iter().map(|(name, ..)| world.sandbox(name)).collect();
        let scene = scene(&world);
        let stage = Self { world, containers, scene };
        silence(&stage.world.client);
        for container in &stage.containers {
            silence(&container.namespace);
            if !GUESTS.contains(&container.name.as_str()) {
                stage.connect(&container.name);
            }
        }
        stage
    }

    /// The number of a station.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn number(&self, name: &str) -> usize {
        let found = self.scene.stations.iter().position(|station| station.name == name);
        found.unwrap_or_else(|| panic!("no station {name}"))
    }

    /// The namespace of a station.
    pub fn namespace(&self, station: usize) -> &Namespace {
        station.checked_sub(1).map_or(&self.world.client, |at| &self.containers[at].namespace)
    }

    /// Connects a container to its network, always in the same way.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn connect(&self, name: &str) {
        self.world.netd(&self.connect_line(name)).ok();
    }

    /// The line that connects a container.
    pub fn connect_line(&self, name: &str) -> String {
        let (at, (_, network, ..)) = self.row(name);
        let station = &self.scene.stations[at];
        let [ip, ip6] = station.addresses;
        let mac = station.mac.map(|byte| format!("{byte:02x}")).join(":");
        let publish = station.published.map(|Published { host_port, port }| {
            format!("-p {host_port}:{port} -p {host_port}:{port}/udp")
        });
        let sandbox = self.namespace(at).name();
        let endpoint = if GUESTS.contains(&name) { "guest" } else { name };
        let network = network_name(network);
        let publish = publish.unwrap_or_default();
        format!(
            "network connect {network} {sandbox} --name {endpoint} --ip {ip} --ip6 {ip6} --mac {mac} {publish}"
        )
    }

    /// Disconnects a container.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn disconnect(&self, name: &str) {
        let (at, (_, network, ..)) = self.row(name);
        let (network, sandbox) = (network_name(network), self.namespace(at).name());
        self.world.netd(&format!("network disconnect {network} {sandbox}")).ok();
    }

    fn row(&self, name: &str) -> (usize, (&'static str, u8, u8, Option<u16>)) {
        let at = self.number(name);
        (at, CONTAINERS[at - 1])
    }

    /// A sniffer in every station.
    ///
    /// # Errors
    /// Where the kernel gives none.
    pub fn sniffers(&self) -> io::Result<Vec<Wire>> {
        let stations = 0..self.scene.stations.len();
        let wires = stations.map(|station| {
            let wire = Wire::sniffer(self.namespace(station))?;
            if self.namespace(station).has_link("eth0") {
                wire.make_promiscuous("eth0")?;
            }
            Ok(wire)
        });
        wires.collect()
    }

    /// A raw socket in every station.
    ///
    /// # Errors
    /// Where the kernel gives none.
    pub fn senders(&self) -> io::Result<Vec<Wire>> {
        (0..self.scene.stations.len()).map(|at| Wire::sender(self.namespace(at))).collect()
    }
}

fn network_name(number: u8) -> &'static str {
    NETWORKS[usize::from(number) - 1].1
}

/// Lets a namespace answer nothing but ARP and neighbour solicitations. Sniffers see packets before that.
fn silence(namespace: &Namespace) {
    let chain = "{ type filter hook prerouting priority -500 ; policy drop ; }";
    namespace.run("nft add table inet silence").ok();
    namespace.run(&format!("nft add chain inet silence received {chain}")).ok();
    let discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
    namespace.run(&format!("nft add rule inet silence received {discovery}")).ok();
}

fn scene(world: &World) -> Scene {
    let client = Station {
        name: "client",
        place: Place::Outside,
        mac: world.client.mac("eth0"),
        addresses: Family::BOTH.map(Family::client),
        published: None,
    };
    let stations: Vec<Station> = [client].into_iter().chain(CONTAINERS.map(station)).collect();
    let is_attacker = |at: &usize| ATTACKERS.contains(&stations[*at].name);
    let attackers = (0..stations.len()).filter(is_attacker).collect();
    // Every bridge has the first one besides its own.
    let mut link_local = vec![parsed("fe80::1"), self::link_local(&world.host, UPLINK)];
    let bridges = NETWORKS.map(|(number, name, ..)| {
        let network = world.netd(&format!("network inspect {name} --json")).json();
        let bridge = network[0]["bridge"].as_str().unwrap_or_default();
        link_local.push(self::link_local(&world.host, bridge));
        (number, world.host.mac(bridge))
    });
    let uplink_mac = world.host.mac(UPLINK);
    Scene { stations, attackers, bridges: bridges.into(), uplink_mac, link_local }
}

fn station((name, number, last, host_port): (&'static str, u8, u8, Option<u16>)) -> Station {
    Station {
        name,
        place: Place::Network(number, NETWORKS[usize::from(number) - 1].2),
        mac: [2, 0x77, 0, 0, number, last],
        addresses: [
            parsed(&format!("10.77.{number}.{last}")),
            parsed(&format!("fd77:{number}::{last}")),
        ],
        published: host_port.map(|host_port| Published { host_port, port: PORT }),
    }
}

/// The link-local address that the kernel makes of a device's MAC address.
fn link_local(namespace: &Namespace, ifname: &str) -> IpAddr {
    let mac = namespace.mac(ifname);
    let [a, b, c, d, e, f] = mac.map(u16::from);
    // RFC 4291 appendix A.
    let words = [0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
    IpAddr::from(words)
}
