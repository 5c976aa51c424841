//! Rule sets and packets that follow from a seed. They keep to what netd and iptables are meant to do alike;
//! where they are known to differ, the cases that are written down show it.

use std::net::IpAddr;

use super::{
    arrival::Edge,
    case::{Act, Draft, Sent, Via, answered},
    datagram::{Datagram, SCTP},
    golden::{Mode, Options},
    message::{data, echo, error_about, own_port, sctp, syn, udp_of},
    places::Places,
    rules::{At, Port},
};
use crate::{hostile::random::Random, topology::at};

/// How many packets a batch has.
const BATCH: usize = 60;

/// Ports that are published more often than others are.
const PORTS: [u16; 10] = [22, 53, 80, 81, 443, 8080, 8081, 9000, 30_000, 60_999];

/// Types and codes of errors, by their numbers of IPv4.
const ERRORS: [(u8, u8); 7] = [(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (11, 1), (12, 0)];

/// Whether a rule set is one of those: Docker without the proxy, with a network that gets its answers.
pub fn is_meant_alike(options: &Options) -> bool {
    let is_heard = match options.mode {
        Mode::Nat => options.masquerade,
        Mode::NatUnprotected => true,
        Mode::Routed => options.icc,
    };
    options.hairpin
        && options.has_network
        && !options.internal
        && !options.bind_localhost
        && is_heard
}

/// Published ports, each of the host's once.
pub fn ports(random: &mut Random) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for _ in 0..1 + random.below(5) {
        let port = Port {
            proto: random.pick(&["tcp", "udp"]),
            host: random.pick(&PORTS),
            at: random.pick(&[At::All, At::All, At::Uplink, At::Other]),
            container: random.pick(&PORTS),
            edge: random.pick(&[Edge::Web, Edge::App]),
        };
        let is_taken = |other: &Port| {
            other.proto == port.proto
                && (other.host == port.host
                    || (other.edge, other.container) == (port.edge, port.container))
        };
        if !ports.iter().any(is_taken) {
            ports.push(port);
        }
    }
    ports
}

/// A batch of cases for a family.
pub fn batch(places: Places, options: &Options, random: &mut Random) -> Vec<Draft> {
    (0..BATCH).map(|at| one(at, places, options, random)).collect()
}

/// A conversation with all that may be chosen.
fn one(at_number: usize, places: Places, options: &Options, random: &mut Random) -> Draft {
    let edge = random.pick(&[Edge::Client, Edge::Client, Edge::Web, Edge::App]);
    let (src, dst) = ends(edge, places, options, random);
    let (port, ttl, len) =
        (random.pick(&PORTS), 3 + random.below(253) as u8, 64 + random.below(1200));
    let (kind, cut) = (random.below(5), random.pick(&[Cut::None, Cut::None, Cut::Two, Cut::Back]));
    let reactions: [Reaction; 3] = std::array::from_fn(|_| Reaction::random(places, random));
    let name = format!(
        "#{at_number} {edge:?} {src} > {dst} port {port} kind {kind} ttl {ttl} len {len} {cut:?}, {reactions:?}"
    );
    let packet = move |number: u16| -> Datagram {
        let (src, to) = (at(src, own_port(number)), at(dst, port));
        let packet = match kind {
            0 => syn(number, src, to),
            1 => udp_of(number, src, to, len),
            2 => echo(number, src, dst),
            3 => data(number, src, to),
            // Others have no ports, so that conversations would be each other's.
            _ => sctp(number, src, to),
        };
        packet.with_ttl(ttl)
    };
    let acts = move |number| -> Vec<Act> {
        let first = Act::Send(cut.pieces(edge, &packet(number), len / 2));
        [first].into_iter().chain(reactions.map(Reaction::act)).collect()
    };
    Draft { family: places.family, allocates: true, ..Draft::outside(name, acts) }
}

/// How a packet is sent. What is short is whole: nothing that is honest cuts a header.
#[derive(Clone, Copy, Debug)]
enum Cut {
    None,
    Two,
    Back,
}

impl Cut {
    fn pieces(self, from: Edge, packet: &Datagram, first: usize) -> Vec<Sent> {
        let mut pieces = match self {
            Self::Two | Self::Back if packet.body.len() > first => packet.fragments(first),
            Self::None | Self::Two | Self::Back => vec![packet.bytes()],
        };
        if matches!(self, Self::Back) {
            pieces.reverse();
        }
        pieces.into_iter().map(|bytes| Sent { from, via: Via::Route, bytes }).collect()
    }
}

/// What whoever receives something does.
#[derive(Clone, Copy, Debug)]
enum Reaction {
    /// It answers.
    Answer,
    /// It, or outside a router before it, sends an ICMP error.
    Refuse { of: (u8, u8), quoted: usize, router: Option<IpAddr> },
}

impl Reaction {
    fn random(places: Places, random: &mut Random) -> Self {
        if !random.one_in(4) {
            return Self::Answer;
        }
        let of = random.pick(&ERRORS);
        let router = random.pick(&[None, Some(places.client), Some(places.remote)]);
        Self::Refuse { of, quoted: places.family.pick(28, 48) + random.below(500), router }
    }

    fn act(self) -> Act {
        let Self::Refuse { of, quoted, router } = self else { return answered() };
        Act::Each(Box::new(move |seen, number| {
            let receiver = seen.parts().addresses.1;
            let from = router.filter(|_| seen.edge == Edge::Client).unwrap_or(receiver);
            // Linux sums up as much of SCTP as is quoted.
            let quoted = if seen.parts().proto == SCTP { usize::MAX } else { quoted };
            if seen.is_error() {
                Vec::new()
            } else {
                vec![error_about(seen, number, from, of, quoted).bytes()]
            }
        }))
    }
}

/// Honest addresses. Neighbours ask each other directly; by way of published ports they differ by a hop.
fn ends(edge: Edge, places: Places, options: &Options, random: &mut Random) -> (IpAddr, IpAddr) {
    let Places { client, remote, host, gateway, snat, web, app, .. } = places;
    let world = random.pick(&[client, remote]);
    match edge {
        // A routed network's own addresses; of others, the host's, and what is refused.
        Edge::Client if options.mode == Mode::Routed => (world, random.pick(&[web, app])),
        Edge::Client => (world, random.pick(&[host, gateway, snat, web, app])),
        Edge::Web => (web, random.pick(&[world, world, app])),
        Edge::App => (app, random.pick(&[world, world, web])),
    }
}
