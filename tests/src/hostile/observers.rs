//! The observers: a sniffer in every station, and the verdict on each frame that it sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io, mem,
};

use super::{
    arrival::{Arrival, Ip, Ports},
    attack::Attack,
    mark::Mark,
    scene::Place,
    table::{self, Begun, Way},
    tally::ArrivedTally,
    wire::Wire,
};

/// How many violations of a kind are described; the rest is counted.
const DESCRIBED: u64 = 3;

/// Everything that has been seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// What has arrived where it may.
    pub arrived: ArrivedTally,
    /// Controls, each with the station that has seen it.
    pub controls: BTreeSet<(u32, usize)>,
    /// What has arrived where it may not: how many by kind, and the first ones in full.
    pub violations: BTreeMap<String, u64>,
    /// The first violations in full.
    pub described: Vec<(String, String)>,
    /// Frames of no run, which are nobody's.
    pub background: u64,
    /// Frames that observers have lost.
    pub lost: u64,
}

/// A sniffer in each station, in the order of the scene.
#[derive(Debug)]
pub struct Observers<'a> {
    attack: &'a Attack,
    wires: &'a [Wire],
    begun: Begun,
    /// What is to be judged again: it may be the reply to a packet that no observer had taken yet.
    pending: Vec<(usize, Vec<u8>)>,
    /// What they have seen.
    pub seen: Seen,
}

impl<'a> Observers<'a> {
    /// Observers of an attack, who have seen nothing yet.
    pub fn new(attack: &'a Attack, wires: &'a [Wire]) -> Self {
        Self { attack, wires, begun: Begun::new(), pending: Vec::new(), seen: Seen::default() }
    }

    /// Takes and judges all that is there, and says whether there was anything.
    ///
    /// # Errors
    /// Where a sniffer is broken.
    pub fn look(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let pending = mem::take(&mut self.pending);
        let mut is_busy = !pending.is_empty();
        for (at, wire) in self.wires.iter().enumerate() {
            while let Some(frame) = wire.receive(&mut buffer)? {
                if !self.is_allowed(at, frame) {
                    self.pending.push((at, frame.to_vec()));
                }
                is_busy = true;
            }
            self.seen.lost += u64::from(wire.lost()?);
        }
        for (at, frame) in pending {
            if !self.is_allowed(at, &frame) {
                self.describe(at, &frame);
            }
        }
        Ok(is_busy)
    }

    /// Judges a frame, and counts it where it may have arrived.
    fn is_allowed(&mut self, at: usize, frame: &[u8]) -> bool {
        let arrival = Arrival::read(frame);
        let scene = &self.attack.scene;
        match self.attack.marks.find(frame, arrival.ports()) {
            Some(Mark::Control(number)) => {
                self.seen.controls.insert((number, at));
            }
            Some(Mark::Attack(number)) => {
                let sent = self.attack.packet(number);
                let Some(way) = table::way(scene, &self.begun, &sent, at, arrival) else {
                    return false;
                };
                if let (Way::Translated, Arrival::Ip(ip)) = (way, arrival) {
                    // A later fragment does not say which ports its flow has: those that it was sent with,
                    // as a rule.
                    self.note_begun(ip, ip.ports.or(sent.ports));
                }
                self.seen.arrived.count(scene.stations[at].name, way);
            }
            Some(Mark::CutOff) | None => {
                self.seen.background += 1;
                let is_background = table::is_background(scene, &self.begun, at, arrival);
                // Cut short by a wrong length: the host itself only answers.
                if let Arrival::Ip(ip) = arrival
                    && ip.may_begin
                    && scene.stations[at].place == Place::Outside
                    && scene.is_host(ip.src)
                {
                    self.note_begun(ip, ip.ports);
                }
                return is_background;
            }
        }
        true
    }

    /// Notes the flow of a packet that has left translated, with the ports that it is of.
    fn note_begun(&mut self, ip: Ip, ports: Option<Ports>) {
        if let Some((proto, sport, dport)) = ports {
            self.begun.insert((proto, ip.dst, dport, sport));
        }
    }

    fn describe(&mut self, at: usize, frame: &[u8]) {
        let arrival = Arrival::read(frame);
        let sent = match self.attack.marks.find(frame, arrival.ports()) {
            Some(Mark::Attack(number)) => Some((number, self.attack.packet(number))),
            Some(Mark::Control(_) | Mark::CutOff) | None => None,
        };
        let sent = sent.as_ref();
        let stations = &self.attack.scene.stations;
        let name = stations[at].name;
        let from = sent.map_or("nobody", |(_, sent)| stations[sent.attacker].name);
        let carries = sent.and_then(|(_, sent)| sent.names.iter().find(|name| name.0 == "carries"));
        let what = carries.map_or("a frame without a number", |name| name.1);
        let kind = format!("{what} from {from} at {name}");
        let times = self.seen.violations.entry(kind.clone()).or_default();
        *times += 1;
        if *times > DESCRIBED {
            return;
        }
        let mut text = format!("at {name}: {arrival:?}\n  arrived {}", hex(frame));
        if let Some((number, sent)) = sent {
            let _ = write!(text, "\n  number {number} from {from} {:?}", sent.names);
            for frame in &sent.frames {
                let _ = write!(text, "\n  sent {}", hex(frame));
            }
        }
        self.seen.described.push((kind, text));
    }
}

impl Seen {
    /// How many packets of the attack have come to a station by a way.
    pub fn count(&self, observer: &str, way: Way) -> u64 {
        self.arrived.at(observer, way)
    }

    /// All violations, described.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (kind, times) in &self.violations {
            let _ = writeln!(text, "{times} times {kind}");
            for (_, description) in self.described.iter().filter(|(of, _)| of == kind) {
                let _ = writeln!(text, "  {description}");
            }
        }
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(160).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
