//! What several rows do.

use std::net::SocketAddr;

use netd_tests::{
    oracle::{
        arrival::{Arrival, Edge},
        datagram::Datagram,
        lab::Lab,
        mark,
        message::{data, own_port, syn, tcp, udp},
    },
    packet::ACK,
    topology::at,
};

/// A packet of a protocol between two ends.
pub(crate) type Make = fn(u16, SocketAddr, SocketAddr) -> Datagram;

/// An endpoint of web, with a port of its own.
pub(crate) fn web(lab: &Lab, number: u16) -> SocketAddr {
    at(lab.places.web, own_port(number))
}

/// An endpoint of the world.
pub(crate) fn world(lab: &Lab) -> SocketAddr {
    at(lab.places.remote, 5353)
}

/// Another one.
pub(crate) fn other_world(lab: &Lab) -> SocketAddr {
    at(lab.places.client, 5353)
}

/// The source port that a packet from a container has outside.
pub(crate) fn outside_port(lab: &Lab, from: Edge, packet: &Datagram) -> Option<u16> {
    lab.pass(from, packet, Edge::Client)?.source_port()
}

/// A flow of web to the world, UDP, as it was seen outside.
pub(crate) fn flow(lab: &Lab) -> Option<Arrival> {
    let number = lab.number();
    lab.pass(Edge::Web, &udp(number, web(lab, number), world(lab)), Edge::Client)
}

/// The same with an answer.
pub(crate) fn answered_flow(lab: &Lab) -> Option<Arrival> {
    let seen = flow(lab)?;
    lab.reply(&seen, Edge::Web)?;
    Some(seen)
}

/// A TCP connection of web to the world, established: its number, and its first packet as seen outside.
pub(crate) fn connection(lab: &Lab) -> Option<(u16, Arrival)> {
    let number = lab.number();
    let first = lab.pass(Edge::Web, &syn(number, web(lab, number), world(lab)), Edge::Client)?;
    lab.reply(&first, Edge::Web)?;
    // Without data, which would wait to be acknowledged, and not for long.
    let seqs = (mark::seq(number, 1), mark::seq(number, 129));
    let third = tcp(number, web(lab, number), world(lab), ACK, seqs.0, seqs.1);
    lab.pass(Edge::Web, &third, Edge::Client)?;
    Some((number, first))
}

/// Whether more data passes in a connection.
pub(crate) fn goes_on(lab: &Lab, number: u16) -> bool {
    let more = data(number, web(lab, number), world(lab));
    lab.pass(Edge::Web, &more, Edge::Client).is_some()
}

/// Whether one endpoint inside has one port outside, also when somebody else has taken that port: with all
/// of a mapping's destinations, and only with those whose port was free.
pub(crate) fn endpoint_independent(lab: &Lab, make: Make) -> (bool, bool) {
    let numbers = [lab.number(), lab.number(), lab.number(), lab.number(), lab.number()];
    let own = web(lab, numbers[0]);
    let port = |from, number, src, dst| outside_port(lab, from, &make(number, src, dst));
    let first = port(Edge::Web, numbers[0], own, world(lab));
    let plain = port(Edge::Web, numbers[1], own, other_world(lab));
    let shared = web(lab, numbers[2]);
    let neighbour = SocketAddr::new(lab.places.app, shared.port());
    let begun = port(Edge::Web, numbers[2], shared, world(lab));
    port(Edge::App, numbers[3], neighbour, other_world(lab));
    let then = port(Edge::Web, numbers[4], shared, other_world(lab));
    (first.is_some() && first == plain, begun.is_some() && begun == then)
}

/// Whether two endpoints inside share a port outside, to different destinations.
pub(crate) fn overloads(lab: &Lab, make: Make) -> bool {
    let (one, two) = (lab.number(), lab.number());
    let own = web(lab, one);
    let neighbour = SocketAddr::new(lab.places.app, own.port());
    let first = outside_port(lab, Edge::Web, &make(one, own, world(lab)));
    first.is_some()
        && first == outside_port(lab, Edge::App, &make(two, neighbour, other_world(lab)))
}

/// The ports outside of several endpoints whose own one is taken, those from `port` on by twos: the kernel
/// gives an endpoint that comes again what it had.
pub(crate) fn contested(lab: &Lab, port: u16, times: u16) -> Vec<u16> {
    let mut ports = Vec::new();
    for offset in 0..times {
        let (one, two) = (lab.number(), lab.number());
        let to = at(lab.places.remote, 7000 + offset);
        let from = |ip| SocketAddr::new(ip, port + 2 * offset);
        outside_port(lab, Edge::Web, &udp(one, from(lab.places.web), to));
        ports.extend(outside_port(lab, Edge::App, &udp(two, from(lab.places.app), to)));
    }
    ports
}

/// Whether a payload passes as it is that application gateways would change.
pub(crate) fn payload_stays(lab: &Lab, dport: u16, make: Make) -> bool {
    let number = lab.number();
    let packet = make(number, web(lab, number), at(lab.places.remote, dport));
    let seen = lab.pass(Edge::Web, &packet, Edge::Client);
    let tail = |bytes: &[u8]| bytes[bytes.len() - 2 * mark::LEN..].to_vec();
    seen.is_some_and(|seen| tail(&seen.bytes) == tail(&packet.bytes()))
}
