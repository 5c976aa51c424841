//! Idle flows: connections that are set up, and by which nothing comes any more. They fill the connection table.
//!
//! Sockets for a million of them would take gigabytes, so both ends are made of frames.

use std::net::SocketAddr;

use crate::{
    family::Family,
    hostile::{link::Mac, wire::Wire},
    netns::Namespace,
    packet::{ACK, Kind, Packet, STRANGERS, SYN, stranger},
    topology::{Container, UPLINK, World, at},
};

/// How many frames are sent at a time: fewer than a CPU of the kernel queues (`netdev_max_backlog`, 1000).
const VOLLEY: usize = 256;

/// How often what has not come through is tried again.
const ATTEMPTS: u32 = 5;

/// The device of the client and of a container.
const IFNAME: &str = "eth0";

const NAME: &str = "idle";
const PORT: u16 = 7000;

/// The flows, half of each family, and the container that they lead to.
#[derive(Debug)]
pub struct Idle {
    container: Container,
    /// How many there are.
    pub flows: u32,
}

impl Idle {
    /// Makes the container and its flows.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn begin(world: &World, flows: u32) -> Self {
        world.network(NAME, 3, "");
        let container = world.container(NAME, NAME, &format!("-p {PORT}:{PORT}"));
        for strangers in STRANGERS {
            // Whom its kernel knows no way to, it sends no reset.
            container.namespace.ip(&[&format!("route add blackhole {strangers}")]);
        }
        let this = Self { container, flows: flows / 2 * 2 };
        let sides = [Side::client(world), Side::container(world, &this.container)];
        for _ in 0..ATTEMPTS {
            Family::BOTH.into_iter().for_each(|family| this.set_up(world, family, &sides));
            if this.established(world) == this.flows {
                return this;
            }
        }
        panic!("{} of {} idle flows are set up", this.established(world), this.flows);
    }

    /// Shakes hands for every flow of a family.
    fn set_up(&self, world: &World, family: Family, [client, container]: &[Side; 2]) {
        let host = at(family.host(), PORT);
        let own = at(world.address(NAME, family), PORT);
        let flows: Vec<u32> = (0..self.flows / 2).collect();
        for volley in flows.chunks(VOLLEY) {
            let strangers = || volley.iter().map(|number| stranger(family, *number));
            strangers().for_each(|from| client.send(SYN, from, host));
            strangers().for_each(|to| container.send(SYN | ACK, own, to));
            strangers().for_each(|from| client.send(ACK, from, host));
        }
    }

    /// How many of them are listed as set up.
    ///
    /// # Panics
    /// Where netd does not say.
    #[track_caller]
    pub fn established(&self, world: &World) -> u32 {
        let line = format!("conntrack ls --endpoint {NAME} --state established");
        world.netd(&line).ok().lines().count() as u32
    }
}

/// Where one end of the flows sends its frames.
struct Side {
    wire: Wire,
    ifindex: i32,
    own: Mac,
    gateway: Mac,
}

impl Side {
    #[track_caller]
    fn client(world: &World) -> Self {
        Self::new(&world.client, world.host.mac(UPLINK))
    }

    #[track_caller]
    fn container(world: &World, container: &Container) -> Self {
        let network = world.netd(&format!("network inspect {NAME} --json")).json();
        let bridge = network[0]["bridge"].as_str().unwrap_or_default();
        Self::new(&container.namespace, world.host.mac(bridge))
    }

    #[track_caller]
    fn new(namespace: &Namespace, gateway: Mac) -> Self {
        let wire = Wire::sender(namespace).unwrap_or_else(|error| panic!("no socket: {error}"));
        let ifindex = wire.ifindex(IFNAME).unwrap_or_else(|error| panic!("{IFNAME}: {error}"));
        Self { wire, ifindex, own: namespace.mac(IFNAME), gateway }
    }

    /// What is not taken is tried again with the others.
    fn send(&self, flags: u8, from: SocketAddr, to: SocketAddr) {
        let frame = Packet::new(Kind::Tcp(flags), from, to).frame_for(self.gateway, self.own);
        let _ = self.wire.send(self.ifindex, &frame);
    }
}
