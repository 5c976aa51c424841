//! A host with one network, twice: once with netd, once with a bridge and Docker's rules.
//!
//! ```text
//!   client  eth0 ----- up0  host  bridge ---- web   publishes 8080 -> 80/tcp
//!                                        \--- app
//! ```
//! Addresses and MAC addresses are equal on both. Nobody answers by itself but the host, and sockets that
//! use [`OWN_PORTS`]; whatever else is seen has been sent by a case, or by the host.

mod common;
mod iptables;
mod netd;

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use netd::Told;

pub use super::places::Places;
use super::{
    arrival::{Arrival, Edge},
    case::{Sent, Via},
    golden::{BRIDGE, Options},
    rules::Specs,
};
use crate::{
    family::Family,
    hostile::{link::Mac, wire::Wire},
    netns::Namespace,
    topology::{Container, UPLINK, World},
};

/// Ports of clients that are real sockets: what has one of them is answered by whoever it reaches.
pub const OWN_PORTS: std::ops::RangeInclusive<u16> = 61_000..=61_999;

/// A table for every case of a run.
const CONFIG: &str = "[datapath]\nmax_flows = 32768\n";

/// The longest frame that is looked at. Units: bytes.
const FRAME_LEN: usize = 4096;

/// Who translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// netd.
    Netd,
    /// iptables, with rules made for it.
    Iptables,
}

/// A host, its client and its containers.
#[derive(Debug)]
pub struct Side {
    /// Who translates.
    pub engine: Engine,
    /// The host and the client.
    pub world: World,
    /// Web and app.
    pub containers: [Container; 2],
    sniffers: [Wire; 3],
    senders: [Wire; 3],
    uplink_mac: Mac,
    bridge_mac: Mac,
    has_network: bool,
    /// How many packets have arrived.
    arrived: AtomicUsize,
    /// Of netd: options that its network has besides those of the rule set.
    pub network_options: &'static str,
    /// Of netd: what it was told.
    told: Option<Told>,
}

/// Locally administered addresses of the stations.
fn mac(edge: Edge) -> Mac {
    [2, 0x77, 0, 0, 0, 0x10 + edge as u8]
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl Side {
    /// A host without a network, with further lines of netd's configuration.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn new(engine: Engine, config: &str) -> Self {
        let mut world = World::without_daemon(&[CONFIG, config].concat());
        let containers = ["web", "app"].map(|name| world.sandbox(name));
        common::prepare(&world);
        for container in &containers {
            common::silence(&container.namespace);
        }
        match engine {
            Engine::Netd => world.daemon.start(),
            Engine::Iptables => iptables::make_bridge(&world, &containers),
        }
        let namespaces = [&world.client, &containers[0].namespace, &containers[1].namespace];
        let open = |wire: fn(&Namespace) -> io::Result<Wire>| {
            let wire = |namespace| wire(namespace).unwrap_or_else(|error| panic!("{error}"));
            namespaces.map(wire)
        };
        let (sniffers, senders) = (open(Wire::sniffer), open(Wire::sender));
        let uplink_mac = world.host.mac(UPLINK);
        Self {
            engine,
            world,
            containers,
            sniffers,
            senders,
            uplink_mac,
            bridge_mac: [0; 6],
            has_network: false,
            arrived: AtomicUsize::new(0),
            network_options: "",
            told: None,
        }
    }

    /// Lets everybody answer whatever comes, be it from a port that an engine has chosen: for cases of real
    /// sockets only.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn let_all_answer(&self) {
        common::unsilence(&self.world.client);
        for container in &self.containers {
            common::unsilence(&container.namespace);
        }
    }

    /// Makes the network that options stand for: netd by its command line, iptables by the rules given.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn configure(&mut self, options: &Options, rules: &[String; 2]) {
        let ports = [netd::port_options(options).to_owned(), String::new()];
        self.configure_ports(options, rules, &ports);
    }

    /// The same, where the containers publish other ports, which the rules are about.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn configure_ports(&mut self, options: &Options, rules: &[String; 2], ports: &Specs) {
        let (host, had_network) = (&self.world.host, self.has_network);
        match self.engine {
            Engine::Iptables => iptables::configure(host, options, rules, had_network),
            Engine::Netd => {
                let network = netd::network_options(options) + " " + self.network_options;
                let told = Told { network, ports: ports.clone() };
                let wanted = options.has_network.then_some(told);
                netd::configure(&self.world, &self.containers, self.told.take(), wanted.as_ref());
                self.told = wanted;
            }
        }
        self.has_network = options.has_network;
        if self.has_network {
            let bridge = match self.engine {
                Engine::Iptables => BRIDGE.to_owned(),
                Engine::Netd => netd::bridge(&self.world),
            };
            self.bridge_mac = self.world.host.mac(&bridge);
        }
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// Where the device does not take it.
    #[track_caller]
    pub fn send(&self, sent: &Sent) {
        let wire = &self.senders[sent.from as usize];
        let ifindex =
            wire.ifindex("eth0").unwrap_or_else(|error| panic!("{:?}: {error}", sent.from));
        let is_v4 = sent.bytes.first().is_some_and(|byte| byte >> 4 == 4);
        let ethertype: [u8; 2] = if is_v4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&self.next_hop(sent)[..], &mac(sent.from), &ethertype, &sent.bytes].concat();
        wire.send(ifindex, &frame).unwrap_or_else(|error| panic!("{:?}: {error}", sent.from));
    }

    fn next_hop(&self, sent: &Sent) -> Mac {
        let gateway = if sent.from == Edge::Client { self.uplink_mac } else { self.bridge_mac };
        let neighbour = || {
            let to = super::arrival::parts(&sent.bytes)?.addresses.1;
            let places = Places::of(Family::of(to));
            let mut others = [Edge::Web, Edge::App].into_iter();
            others.find(|edge| *edge != sent.from && places.of_edge(*edge) == to)
        };
        match sent.via {
            Via::Neighbour(edge) => mac(edge),
            Via::Route if sent.from != Edge::Client => neighbour().map_or(gateway, mac),
            Via::Route | Via::Host => gateway,
        }
    }

    /// Forgets what has come in until now.
    ///
    /// # Panics
    /// Where a sniffer breaks.
    #[track_caller]
    pub fn forget(&self) {
        let mut forgotten = Vec::new();
        let sniffers = Edge::ALL.into_iter().zip(&self.sniffers);
        sniffers.for_each(|(edge, wire)| drain(wire, edge, &mut forgotten));
    }

    /// How many packets have arrived: a comparison of nothing with nothing shows nothing.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Everything that has come in since the last call, once nothing more comes.
    ///
    /// # Panics
    /// Where a sniffer breaks.
    #[track_caller]
    pub fn collect(&self) -> Vec<Arrival> {
        let (mut arrivals, mut is_quiet) = (Vec::new(), false);
        loop {
            let before = arrivals.len();
            for (edge, wire) in Edge::ALL.into_iter().zip(&self.sniffers) {
                drain(wire, edge, &mut arrivals);
            }
            if arrivals.len() > before {
                is_quiet = false;
            } else if is_quiet {
                self.arrived.fetch_add(arrivals.len(), Ordering::Relaxed);
                return arrivals;
            } else {
                is_quiet = true;
                let waited = Wire::wait_for_any(&self.sniffers);
                waited.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

#[track_caller]
fn drain(wire: &Wire, edge: Edge, arrivals: &mut Vec<Arrival>) {
    let mut buffer = [0; FRAME_LEN];
    loop {
        match wire.receive(&mut buffer) {
            Ok(Some(frame)) => arrivals.extend(Arrival::of_frame(edge, frame).filter(is_of_a_case)),
            Ok(None) => return,
            Err(error) => panic!("{edge:?}: {error}"),
        }
    }
}

/// Neither neighbour discovery nor multicast listeners, nor redirects: of those the kernel sends a few to
/// each neighbour, and then none for minutes.
fn is_of_a_case(arrival: &Arrival) -> bool {
    let kind = arrival.body().first().copied().unwrap_or(0);
    match arrival.parts().proto {
        1 => kind != 5,
        58 => !matches!(kind, 130..=137 | 143),
        _ => true,
    }
}

/// What is equal where netd is to do the same.
pub fn netd_lines(options: &Options) -> (bool, String, &'static str) {
    (!options.has_network, netd::network_options(options), netd::port_options(options))
}
