//! One host, a network that masquerades, and packets one at a time: what requirements are tried with.

use std::{cell::Cell, fs};

use super::{
    answer::answer,
    arrival::{Arrival, Edge},
    case::Sent,
    datagram::Datagram,
    golden,
    message::own_port,
    side::{Engine, Places, Side},
};
use crate::{condition::eventually_some, family::Family};

/// The rule set that a plain Docker network has without the userland proxy.
const PLAIN: &str = "hairpin=true,icc=true,masq=true,snat=false,gwm=nat,bindlh=false";

/// What is set on a host that differs from the defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// netd's: the profile of its timers, if not the default.
    pub profile: Option<&'static str>,
    /// netd's: lines of `[timeouts]`.
    pub timeouts: &'static str,
    /// netd's: further options of the network.
    pub network: &'static str,
    /// The other engine's: paths below `/proc/sys/net` and values.
    pub sysctls: &'static [(&'static str, &'static str)],
}

/// A host and its addresses in a family.
#[derive(Debug)]
pub struct Lab {
    /// The host.
    pub side: Side,
    /// The addresses.
    pub places: Places,
    number: Cell<u16>,
}

impl Lab {
    /// A host with a plain network: 8080 of the host leads to 80/tcp of web.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn new(engine: Engine, settings: Settings) -> Self {
        let profile = settings.profile.map(|name| format!("profile = \"{name}\"\n"));
        let config = ["[timeouts]\n", &profile.unwrap_or_default(), settings.timeouts].concat();
        let mut side = Side::new(engine, &config);
        side.network_options = settings.network;
        let sets = golden::all();
        let plain = sets.iter().find(|set| set.options.to_string() == PLAIN);
        let plain = plain.unwrap_or_else(|| panic!("no rule set {PLAIN}"));
        side.configure(&plain.options, &plain.texts);
        if engine == Engine::Iptables {
            let host = &side.world.host;
            settings.sysctls.iter().for_each(|(path, value)| host.set_sysctl(path, value));
        }
        Self { side, places: Places::of(Family::V4), number: Cell::new(0) }
    }

    /// Takes the addresses of a family from now on.
    pub fn turn_to(&mut self, family: Family) {
        self.places = Places::of(family);
    }

    /// A number that no packet has had.
    pub fn number(&self) -> u16 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }

    /// Sends a packet and returns what arrives because of it.
    pub fn send(&self, from: Edge, packet: &Datagram) -> Vec<Arrival> {
        self.send_bytes(from, vec![packet.bytes()], packet.number)
    }

    /// Sends packets as they are and returns what arrives of a case.
    pub fn send_bytes(&self, from: Edge, packets: Vec<Vec<u8>>, number: u16) -> Vec<Arrival> {
        self.side.forget();
        for bytes in packets {
            self.side.send(&Sent { from, via: super::case::Via::Route, bytes });
        }
        let mut arrivals = self.side.collect();
        arrivals.retain(|arrival| arrival.number() == Some(number));
        arrivals
    }

    /// Sends a packet and returns the only thing that arrives at an edge.
    pub fn pass(&self, from: Edge, packet: &Datagram, at: Edge) -> Option<Arrival> {
        only(self.send(from, packet), at)
    }

    /// Has the receiver of a packet answer, and returns what arrives at an edge.
    pub fn reply(&self, to: &Arrival, at: Edge) -> Option<Arrival> {
        let number = to.number()?;
        only(self.send_bytes(to.edge, answer(to, number), number), at)
    }

    /// How long the flow of a case has to live, or where it uses a mapping, that. Units: seconds.
    pub fn lifetime(&self, number: u16) -> Option<u64> {
        match self.side.engine {
            Engine::Netd => self.netd_lifetime(number),
            Engine::Iptables => self.kernel_lifetime(number),
        }
    }

    fn netd_lifetime(&self, number: u16) -> Option<u64> {
        let flows = self.side.world.netd("conntrack ls --json").json();
        let port = u64::from(own_port(number));
        let is_own = |flow: &&serde_json::Value| flow["orig"]["sport"].as_u64() == Some(port);
        let own = flows.as_array()?.iter().filter(is_own);
        own.max_by_key(|flow| flow["state"] == "MAPPING")?["timeout_secs"].as_u64()
    }

    fn kernel_lifetime(&self, number: u16) -> Option<u64> {
        let read = || fs::read_to_string("/proc/thread-self/net/nf_conntrack");
        let table = self.side.world.host.inside(read).ok()?;
        let port = own_port(number);
        let marks = [format!(" sport={port} "), format!(" id={port} ")];
        let line = table.lines().find(|line| marks.iter().any(|mark| line.contains(mark)))?;
        line.split_whitespace().nth(4)?.parse().ok()
    }

    /// Waits until a flow has some seconds less to live, and returns what it has left.
    ///
    /// # Panics
    /// Where it has not.
    #[track_caller]
    pub fn age(&self, number: u16, secs: u64) -> u64 {
        let fresh = self.lifetime(number).unwrap_or_default();
        eventually_some("a flow grows old", || {
            self.lifetime(number).filter(|&now| now + secs <= fresh)
        })
    }
}

/// The only arrival at an edge.
pub fn only(arrivals: Vec<Arrival>, at: Edge) -> Option<Arrival> {
    let mut there = arrivals.into_iter().filter(|arrival| arrival.edge == at);
    let first = there.next()?;
    there.next().is_none().then_some(first)
}
