//! Cases that begin outside: to published ports, to containers directly, to the host, and what nobody
//! honest sends.

use std::net::{IpAddr, SocketAddr};

use super::{
    arrival::Edge,
    case::{Act, Draft, Sent, answered, refused, sends},
    datagram::{Datagram, ESP, GRE},
    mark,
    message::{
        data, echo, error, icmp, other, own_port, sctp, syn, tcp, udp, udp_of, udp_unsummed,
    },
    side::Places,
};
use crate::{
    family::Family,
    packet::{ACK, FIN, RST, SYN},
    topology::at,
};

/// Record route, with room for one address (RFC 791 section 3.1).
const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
/// Four times nothing.
const NOPS: [u8; 4] = [1; 4];

/// Every case that begins outside.
pub fn all(places: Places) -> Vec<Draft> {
    let parts = [published, lifetimes, errors, direct, claims, middles, pieces, host];
    let drafts = parts.into_iter().flat_map(|part| part(places));
    drafts.map(|draft| Draft { family: places.family, ..draft }).collect()
}

fn from(places: Places, number: u16) -> SocketAddr {
    at(places.client, own_port(number))
}

/// A packet from the client and three answers in turn.
fn talk(name: &'static str, packet: impl Fn(u16) -> Datagram + Send + Sync + 'static) -> Draft {
    Draft::outside(name, move |number| {
        vec![sends(Edge::Client, &packet(number)), answered(), answered(), answered()]
    })
}

fn published(p: Places) -> Vec<Draft> {
    let to = at(p.host, 8080);
    let name_of_gateway = at(p.gateway, 8080);
    vec![
        talk("published tcp", move |n| syn(n, from(p, n), to)),
        talk("published tcp at another address of the host", move |n| {
            syn(n, from(p, n), at(p.snat, 8080))
        }),
        talk("published tcp at the gateway", move |n| syn(n, from(p, n), name_of_gateway)),
        talk("published udp", move |n| udp(n, from(p, n), to)),
        talk("published udp without checksum", move |n| udp_unsummed(n, from(p, n), to)),
        talk("published sctp", move |n| sctp(n, from(p, n), to)),
        talk("published tcp from a low port", move |n| syn(n, at(p.client, 1 + n % 1000), to)),
        talk("published tcp from beyond the client", move |n| {
            syn(n, at(p.remote, own_port(n)), to)
        }),
        talk("published tcp with ip options", move |n| {
            syn(n, from(p, n), to).with_options(&NOPS, 60)
        }),
        talk("published tcp with a record route", move |n| {
            syn(n, from(p, n), to).with_options(&RECORD_ROUTE, 0)
        }),
        talk("published tcp from a link-local address", move |n| {
            syn(
                n,
                at(
                    p.family.pick("169.254.0.9", "fe80::9").parse().unwrap_or(p.client),
                    own_port(n),
                ),
                to,
            )
        }),
    ]
}

fn lifetimes(p: Places) -> Vec<Draft> {
    let to = at(p.host, 8080);
    vec![
        talk("published tcp at its last hop", move |n| syn(n, from(p, n), to).with_ttl(1)),
        talk("published tcp one hop before its last", move |n| syn(n, from(p, n), to).with_ttl(2)),
        talk("published tcp with 255 hops", move |n| syn(n, from(p, n), to).with_ttl(255)),
        talk("direct tcp at its last hop", move |n| syn(n, from(p, n), at(p.web, 80)).with_ttl(1)),
        Draft::outside("traceroute in an established connection", move |n| {
            let late = data(n, from(p, n), to).with_ttl(1);
            vec![
                sends(Edge::Client, &syn(n, from(p, n), to)),
                answered(),
                answered(),
                sends(Edge::Client, &late),
            ]
        }),
        Draft::outside("a published connection that is closed", move |n| {
            let fin = tcp(n, from(p, n), to, ACK | FIN, mark::seq(n, 1), mark::seq(n, 129));
            vec![
                sends(Edge::Client, &syn(n, from(p, n), to)),
                answered(),
                sends(Edge::Client, &fin),
                answered(),
            ]
        }),
        Draft::outside("a published connection that is reset", move |n| {
            let reset = tcp(n, from(p, n), to, RST, mark::seq(n, 1), 0);
            vec![
                sends(Edge::Client, &syn(n, from(p, n), to)),
                answered(),
                sends(Edge::Client, &reset),
            ]
        }),
        Draft::outside("a published connection that begins anew", move |n| {
            let again = syn(n, from(p, n), to);
            vec![sends(Edge::Client, &again), answered(), sends(Edge::Client, &again), answered()]
        }),
    ]
}

fn about(
    name: &'static str,
    p: Places,
    of: (u8, u8),
    quoted: usize,
    outer: Option<IpAddr>,
) -> Draft {
    Draft::outside(name, move |n| {
        let first = syn(n, from(p, n), at(p.host, 8080));
        vec![sends(Edge::Client, &first), answered(), refused(of, quoted, outer)]
    })
}

fn errors(p: Places) -> Vec<Draft> {
    let first = move |n: u16| sends(Edge::Client, &syn(n, from(p, n), at(p.host, 8080)));
    let short = p.family.pick(28, 48);
    let forged = move |n: u16, src: SocketAddr, dst: SocketAddr| {
        let quote = syn(n, src, dst).bytes();
        sends(Edge::Client, &error(n, (p.remote, p.host), (3, 3), &quote))
    };
    vec![
        about("a client refuses a published reply", p, (3, 3), 500, None),
        about("a client refuses a published reply in short", p, (3, 3), short, None),
        about("a router is too narrow for a published reply", p, (3, 4), 500, Some(p.remote)),
        about("a router sees a published reply die", p, (11, 0), short, Some(p.remote)),
        Draft::outside("a container refuses a published port", move |n| {
            vec![first(n), refused((3, 3), 500, None)]
        }),
        Draft::outside("a container refuses a published port in short", move |n| {
            vec![first(n), refused((3, 3), short, None)]
        }),
        Draft::outside("a container is too narrow for a published port", move |n| {
            vec![first(n), answered(), answered(), refused((3, 4), 500, None)]
        }),
        Draft::outside("a connection outlives an error", move |n| {
            vec![
                first(n),
                answered(),
                refused((3, 1), 500, Some(p.remote)),
                sends(Edge::Client, &data(n, from(p, n), at(p.host, 8080))),
            ]
        }),
        Draft::outside("an error about nothing", move |n| {
            vec![forged(n, at(p.host, 8080), from(p, n))]
        }),
        Draft::outside("an error about a container's own address", move |n| {
            vec![forged(n, at(p.web, 80), from(p, n))]
        }),
        Draft::outside("an error to a container", move |n| {
            let quote = syn(n, at(p.web, 80), from(p, n)).bytes();
            vec![sends(Edge::Client, &error(n, (p.client, p.web), (3, 3), &quote))]
        }),
    ]
}

fn direct(p: Places) -> Vec<Draft> {
    vec![
        talk("direct tcp to the published port", move |n| syn(n, from(p, n), at(p.web, 80))),
        talk("direct tcp to another port", move |n| syn(n, from(p, n), at(p.web, 81))),
        talk("direct tcp to another container", move |n| syn(n, from(p, n), at(p.app, 80))),
        talk("direct udp", move |n| udp(n, from(p, n), at(p.web, 53))),
        talk("direct echo", move |n| echo(n, from(p, n), p.web)),
        talk("direct timestamp", move |n| {
            let kind = p.family.pick(13, 139);
            icmp(n, (p.client, p.web), (kind, 0), own_port(n))
        }),
        talk("direct gre", move |n| other(n, p.client, p.web, GRE)),
        talk("direct esp", move |n| other(n, p.client, p.web, ESP)),
        talk("direct sctp", move |n| sctp(n, from(p, n), at(p.web, 80))),
    ]
}

fn claims(p: Places) -> Vec<Draft> {
    let to = at(p.host, 8080);
    let loopback = p.family.loopback();
    let claim = move |name, src: IpAddr, dst: SocketAddr| {
        talk(name, move |n| syn(n, at(src, own_port(n)), dst))
    };
    vec![
        claim("a container's address from outside to a published port", p.app, to),
        claim("a container's address from outside to a container", p.app, at(p.web, 80)),
        claim("the gateway's address from outside to a published port", p.gateway, to),
        claim("the host's address from outside to a published port", p.host, to),
        claim("a loopback address from outside to a published port", loopback, to),
        claim("to a loopback address from outside", p.client, at(loopback, 8080)),
    ]
}

fn middles(p: Places) -> Vec<Draft> {
    let (to, direct) = (at(p.host, 8080), at(p.web, 80));
    let with = move |name, flags: u8, dst: SocketAddr| {
        talk(name, move |n| tcp(n, from(p, n), dst, flags, mark::seq(n, 1), mark::seq(n, 129)))
    };
    vec![
        with("a published port in the middle of a connection", ACK, to),
        with("a published port at the end of a connection", ACK | FIN, to),
        with("a reset to a published port", RST, to),
        with("a reset with an acknowledgement to a published port", RST | ACK, to),
        with("an answer to a published port", SYN | ACK, to),
        with("no flags to a published port", 0, to),
        with("every flag to a published port", 0x3f, to),
        with("a container in the middle of a connection", ACK, direct),
        with("an answer to a container", SYN | ACK, direct),
    ]
}

fn pieces(p: Places) -> Vec<Draft> {
    let to = at(p.host, 8080);
    let send = |pieces: Vec<Vec<u8>>| {
        let sent = |bytes| Sent { from: Edge::Client, via: super::case::Via::Route, bytes };
        Act::Send(pieces.into_iter().map(sent).collect())
    };
    let whole = move |n: u16| data(n, from(p, n), to);
    let opened =
        move |n: u16| vec![sends(Edge::Client, &syn(n, from(p, n), to)), answered(), answered()];
    vec![
        Draft::outside("fragments of a published connection", move |n| {
            let mut acts = opened(n);
            acts.push(send(whole(n).fragments(24)));
            acts
        }),
        Draft::outside("fragments of a published connection, backwards", move |n| {
            let mut acts = opened(n);
            acts.push(send(whole(n).fragments(24).into_iter().rev().collect()));
            acts
        }),
        Draft::outside("a lone later fragment", move |n| {
            vec![send(udp_of(n, from(p, n), to, 64).fragments(32).split_off(1))]
        }),
        Draft::outside("an atomic fragment", move |n| {
            vec![send(vec![syn(n, from(p, n), to).atomic()]), answered(), answered()]
        }),
        Draft::outside("fragments to the host", move |n| {
            vec![send(echo(n, from(p, n), p.host).fragments(16))]
        }),
    ]
}

fn host(p: Places) -> Vec<Draft> {
    let is_v4 = p.family == Family::V4;
    vec![
        talk("a closed port of the host", move |n| syn(n, from(p, n), at(p.host, 80))),
        talk("a closed udp port of the host", move |n| udp(n, from(p, n), at(p.host, 53))),
        talk("echo to the host", move |n| echo(n, from(p, n), p.host)),
        talk("echo to the host at its last hop", move |n| echo(n, from(p, n), p.host).with_ttl(1)),
        talk("echo to the gateway", move |n| echo(n, from(p, n), p.gateway)),
        talk("gre to the host", move |n| other(n, p.client, p.host, GRE)),
        talk("an echo reply that nobody asked for", move |n| {
            icmp(n, (p.client, p.host), (if is_v4 { 0 } else { 129 }, 0), own_port(n))
        }),
    ]
}
