//! A host that changes under traffic: what it has nothing to do with goes on, and the rest begins anew in the
//! right way at once.

mod addresses;
mod devices;
mod firewalls;
mod routes;
mod vlans_and_bonds;

use std::net::{IpAddr, UdpSocket};

use netd_tests::{
    clients::{Echo, Transport, answers_by, ask_by, fetch, udp_socket_from},
    condition::{eventually, eventually_some},
    family::Family,
    servers::{self, Server},
    streams::Stream,
    topology::{Container, UPLINK, World, at, default_routes},
};

/// A connection whose flow has ended does not begin another one.
const STRICT: &str = "[datapath]\nmax_flows = 8192\ntcp_loose = false\n";

/// The second uplink, and the client's end of it.
const OTHER: &str = "up1";
const OTHER_PEER: &str = "eth1";

const TCP_ECHO: u16 = 7;
const UDP_ECHO: u16 = 9;

/// A host with a container that has published ports and talks to the world.
struct Scene {
    world: World,
    app: Container,
    servers: Vec<Server>,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        let world = World::with_config(STRICT);
        for namespace in [&world.host, &world.client] {
            // Devices that come later are used at once.
            namespace.set_sysctl("ipv6/conf/default/accept_dad", "0");
        }
        world.network("front", 1, "");
        let app = world.container("app", "front", "-p 8080:80 -p 8007:7 -p 8009:9/udp");
        let mut running = Vec::new();
        for namespace in [&app.namespace, &world.client] {
            running.push(servers::nginx(namespace, &[80]));
            running.push(servers::tcp_echo(namespace, TCP_ECHO));
        }
        let outside =
            Family::BOTH.into_iter().flat_map(|family| [family.client(), family.remote()]);
        let outside: Vec<IpAddr> = outside.collect();
        running.push(servers::udp_echo(&app.namespace, UDP_ECHO));
        running.push(servers::udp_echo_at(&world.client, &outside, UDP_ECHO));
        Self { world, app, servers: running }
    }

    /// The same with a second uplink to the client, which leads nowhere else.
    #[track_caller]
    fn with_two_uplinks() -> Self {
        let mut scene = Self::new();
        scene.world.add_link(OTHER, OTHER_PEER);
        for family in Family::BOTH {
            let [host, client] = others(family);
            scene.world.host.add_address(OTHER, host, prefix_len(family));
            scene.world.client.add_address(OTHER_PEER, client, prefix_len(family));
        }
        for family in Family::BOTH {
            let [host, client] = others(family);
            scene.wait_for_page(family, client, host);
        }
        let outside = Family::BOTH.map(other_client);
        scene.servers.push(servers::udp_echo_at(&scene.world.client, &outside, UDP_ECHO));
        scene
    }

    /// Conversations of both transports from the container to an address outside.
    #[track_caller]
    fn outbound(&self, to: IpAddr) -> [Stream; 2] {
        let from = &self.app.namespace;
        [
            Stream::begin(from, Transport::Tcp, at(to, TCP_ECHO)),
            Stream::begin(from, Transport::Udp, at(to, UDP_ECHO)),
        ]
    }

    /// Conversations of both transports from the client to the published ports at an address of the host.
    #[track_caller]
    fn inbound(&self, to: IpAddr) -> [Stream; 2] {
        let from = &self.world.client;
        [
            Stream::begin(from, Transport::Tcp, at(to, 8007)),
            Stream::begin(from, Transport::Udp, at(to, 8009)),
        ]
    }

    /// Conversations of every kind by the first uplink.
    #[track_caller]
    fn everything(&self) -> Vec<Stream> {
        let streams = |family: Family| {
            self.inbound(family.host()).into_iter().chain(self.outbound(family.remote()))
        };
        Family::BOTH.into_iter().flat_map(streams).collect()
    }

    /// A socket of the container's for one flow to the world.
    #[track_caller]
    fn socket(&self, family: Family) -> UdpSocket {
        let from = &self.app.namespace;
        udp_socket_from(from, 4000, at(family.remote(), UDP_ECHO)).unwrap()
    }

    /// Waits until a new connection of the container's is seen to come from an address.
    #[track_caller]
    fn wait_for_page(&self, family: Family, to: IpAddr, source: IpAddr) {
        eventually(&format!("{family}: {to} sees {source}"), || {
            let page = netd_tests::clients::try_fetch(&self.app.namespace, at(to, 80));
            page.is_ok_and(|page| page.client == source)
        });
    }

    /// Checks that the container is reached at an address of the host, and reaches the world from it.
    #[track_caller]
    fn check(&self, family: Family, address: IpAddr) {
        self.wait_for_page(family, family.remote(), address);
        let page = fetch(&self.world.client, at(address, 8080));
        assert_eq!(page.server, self.app.namespace.name());
    }

    /// Waits until there is no flow with this source.
    #[track_caller]
    fn wait_for_end(&self, source: IpAddr) {
        eventually(&format!("no flow has the source {source}"), || {
            let flows = self.world.netd("conntrack ls --json").json();
            let flows = flows.as_array().unwrap();
            !flows.iter().any(|flow| flow["reply"]["dst"] == source.to_string())
        });
    }

    /// Sets the default routes, by both families' next hops on a device.
    #[track_caller]
    fn set_default_routes(&self, ifname: &str, next_hop: fn(Family) -> IpAddr) {
        for family in Family::BOTH {
            let via = next_hop(family);
            self.world.host.ip(&[&format!("route replace default via {via} dev {ifname}")]);
        }
    }
}

/// Gives a device of the host, and one of the client, what the first link has at the beginning.
#[track_caller]
fn give_addresses(world: &World, host_ifname: &str, client_ifname: &str) {
    for family in Family::BOTH {
        world.add_uplink_address(host_ifname, family.host());
        world.client.add_address(client_ifname, family.client(), family.pick(24, 64));
    }
    world.host.ip(&default_routes(host_ifname).each_ref().map(String::as_str));
}

/// Takes that away.
#[track_caller]
fn take_addresses(world: &World, host_ifname: &str, client_ifname: &str) {
    world.host.ip(&[&format!("address flush dev {host_ifname} scope global")]);
    world.client.ip(&[&format!("address flush dev {client_ifname} scope global")]);
}

/// The addresses of host and client on the second uplink.
fn others(family: Family) -> [IpAddr; 2] {
    let addresses =
        family.pick(["198.51.100.129", "198.51.100.130"], ["2001:db8:3::1", "2001:db8:3::2"]);
    addresses.map(|address| address.parse().unwrap())
}

fn other_client(family: Family) -> IpAddr {
    others(family)[1]
}

fn prefix_len(family: Family) -> u8 {
    family.pick(25, 64)
}

/// Asks by one flow until it has another source, and returns it.
#[track_caller]
fn next_source(socket: &UdpSocket, before: IpAddr) -> IpAddr {
    eventually_some(&format!("{before} is the source no more"), || {
        let Echo { client, .. } = answers_by(socket).then(|| ask_by(socket, "who am I"))?;
        (client != before).then_some(client)
    })
}
