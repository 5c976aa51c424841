//! Cases that begin in a container: to the world, to the host, to its neighbours, and to published ports.

use std::net::{IpAddr, SocketAddr};

use super::{
    arrival::Edge,
    case::{Act, Draft, Sent, Via, answered, refused, sends},
    datagram::{Datagram, ESP, GRE},
    mark,
    message::{
        data, echo, error, icmp, other, own_port, sctp, syn, tcp, udp, udp_of, udp_unsummed,
    },
    side::Places,
};
use crate::{
    packet::{ACK, RST, SYN},
    topology::at,
};

/// Every case that begins in a container.
pub fn all(places: Places) -> Vec<Draft> {
    let parts = [world, filters, errors, pieces, claims, host, published, neighbours];
    let drafts = parts.into_iter().flat_map(|part| part(places));
    drafts.map(|draft| Draft { family: places.family, ..draft }).collect()
}

fn web(p: Places, n: u16) -> SocketAddr {
    at(p.web, own_port(n))
}

fn app(p: Places, n: u16) -> SocketAddr {
    at(p.app, own_port(n))
}

/// A packet from a container and three answers in turn.
fn talk(
    name: &'static str,
    edge: Edge,
    packet: impl Fn(u16) -> Datagram + Send + Sync + 'static,
) -> Draft {
    Draft::inside(name, move |number| {
        vec![sends(edge, &packet(number)), answered(), answered(), answered()]
    })
}

fn world(p: Places) -> Vec<Draft> {
    let to = at(p.remote, 443);
    let with = move |name, flags: u8| {
        talk(name, Edge::Web, move |n| {
            tcp(n, web(p, n), to, flags, mark::seq(n, 1), mark::seq(n, 129))
        })
    };
    vec![
        talk("tcp to the world", Edge::Web, move |n| syn(n, web(p, n), to)),
        talk("tcp to the next machine", Edge::Web, move |n| syn(n, web(p, n), at(p.client, 443))),
        talk("tcp to the world from a low port", Edge::Web, move |n| {
            syn(n, at(p.web, 600 + n % 400), to)
        })
        .allocating(),
        talk("udp to the world", Edge::Web, move |n| udp(n, web(p, n), at(p.remote, 53))),
        talk("udp to the world without checksum", Edge::Web, move |n| {
            udp_unsummed(n, web(p, n), at(p.remote, 53))
        }),
        talk("echo to the world", Edge::Web, move |n| echo(n, web(p, n), p.remote)),
        talk("sctp to the world", Edge::Web, move |n| sctp(n, web(p, n), to)),
        talk("gre to the world", Edge::Web, move |n| other(n, p.web, p.remote, GRE)),
        talk("esp to the world", Edge::Web, move |n| other(n, p.web, p.remote, ESP)),
        talk("udp to the world at its last hop", Edge::Web, move |n| {
            udp(n, web(p, n), at(p.remote, 33434)).with_ttl(1)
        }),
        talk("udp to the world one hop before its last", Edge::Web, move |n| {
            udp(n, web(p, n), at(p.remote, 33434)).with_ttl(2)
        }),
        talk("udp to the world with ip options", Edge::Web, move |n| {
            udp(n, web(p, n), at(p.remote, 53)).with_options(&[1; 4], 60)
        }),
        with("to the world in the middle of a connection", ACK),
        with("a reset to the world", RST),
        with("an answer to the world", SYN | ACK),
        with("no flags to the world", 0),
        Draft::inside("two containers with one source port", move |n| {
            vec![
                sends(Edge::Web, &udp(n, web(p, n), at(p.remote, 53))),
                sends(Edge::App, &udp(n, app(p, n), at(p.remote, 53))),
                answered(),
            ]
        })
        .allocating(),
    ]
}

/// Who may answer what a container has sent.
fn filters(p: Places) -> Vec<Draft> {
    let first = move |n: u16| sends(Edge::Web, &udp(n, web(p, n), at(p.remote, 53)));
    let answer_from = move |name, by: SocketAddr| {
        Draft::inside(name, move |n| {
            let other: super::case::Response = Box::new(move |seen, number| {
                let to = at(seen.parts().addresses.0, seen.source_port().unwrap_or(0));
                vec![udp(number, by, to).bytes()]
            });
            vec![first(n), Act::Each(other)]
        })
    };
    vec![
        answer_from("an answer from another port", at(p.remote, 54)),
        answer_from("an answer from another machine", at(p.client, 53)),
        Draft::inside("udp to the world, again and again", move |n| {
            vec![first(n), answered(), first(n), answered()]
        }),
    ]
}

fn errors(p: Places) -> Vec<Draft> {
    let short = p.family.pick(28, 48);
    let about = move |name, of: (u8, u8), quoted: usize, from: Option<IpAddr>| {
        Draft::inside(name, move |n| {
            vec![sends(Edge::Web, &udp(n, web(p, n), at(p.remote, 53))), refused(of, quoted, from)]
        })
    };
    let refused_sctp = move |name, quoted: usize| {
        Draft::inside(name, move |n| {
            let first = sctp(n, web(p, n), at(p.remote, 443));
            vec![sends(Edge::Web, &first), refused((3, 3), quoted, None)]
        })
    };
    vec![
        about("the world refuses", (3, 3), 500, None),
        about("the world refuses in short", (3, 3), short, None),
        about("a router is too narrow for the world", (3, 4), 500, Some(p.client)),
        about("a router sees a packet to the world die", (11, 0), short, Some(p.client)),
        about("a router finds a fault in a packet to the world", (12, 0), 500, Some(p.client)),
        refused_sctp("the world refuses sctp", 500),
        refused_sctp("the world refuses sctp in part", p.family.pick(44, 64)),
        Draft::inside("a router refuses an echo", move |n| {
            vec![
                sends(Edge::Web, &echo(n, web(p, n), p.remote)),
                refused((3, 1), 500, Some(p.client)),
            ]
        }),
        Draft::inside("a container refuses what the world answers", move |n| {
            vec![
                sends(Edge::Web, &udp(n, web(p, n), at(p.remote, 53))),
                answered(),
                refused((3, 3), 500, None),
            ]
        }),
        Draft::inside("a container's error about nothing", move |n| {
            let quote = udp(n, at(p.remote, 53), web(p, n)).bytes();
            vec![sends(Edge::Web, &error(n, (p.web, p.remote), (3, 3), &quote))]
        }),
    ]
}

fn pieces(p: Places) -> Vec<Draft> {
    let send = |pieces: Vec<Vec<u8>>| {
        let sent = |bytes| Sent { from: Edge::Web, via: Via::Route, bytes };
        Act::Send(pieces.into_iter().map(sent).collect())
    };
    let whole = move |n: u16| udp_of(n, web(p, n), at(p.remote, 53), 64);
    vec![
        Draft::inside("fragments to the world", move |n| {
            vec![send(whole(n).fragments(32)), answered()]
        }),
        Draft::inside("fragments to the world, backwards", move |n| {
            vec![send(whole(n).fragments(32).into_iter().rev().collect())]
        }),
        Draft::inside("a lone later fragment to the world", move |n| {
            vec![send(whole(n).fragments(32).split_off(1))]
        }),
        Draft::inside("a lone first fragment to the world", move |n| {
            vec![send(whole(n).fragments(32).drain(..1).collect())]
        }),
        Draft::inside("an atomic fragment to the world", move |n| {
            vec![send(vec![whole(n).atomic()]), answered()]
        }),
    ]
}

fn claims(p: Places) -> Vec<Draft> {
    let claim = move |name, src: IpAddr| {
        talk(name, Edge::Web, move |n| udp(n, at(src, own_port(n)), at(p.remote, 53)))
    };
    vec![
        claim("a neighbour's address to the world", p.app),
        claim("the gateway's address to the world", p.gateway),
        claim("the host's address to the world", p.host),
        claim("a foreign address to the world", p.client),
        claim("a loopback address to the world", p.family.loopback()),
    ]
}

fn host(p: Places) -> Vec<Draft> {
    vec![
        talk("a container to a closed port of the host", Edge::Web, move |n| {
            syn(n, web(p, n), at(p.host, 22))
        }),
        talk("a container to a closed port of the gateway", Edge::Web, move |n| {
            syn(n, web(p, n), at(p.gateway, 22))
        }),
        talk("a container's echo to the host", Edge::Web, move |n| echo(n, web(p, n), p.host)),
        talk("a container's echo to the gateway", Edge::Web, move |n| {
            echo(n, web(p, n), p.gateway)
        }),
        talk("a container's udp to a closed port of the gateway", Edge::Web, move |n| {
            udp(n, web(p, n), at(p.gateway, 53))
        }),
        talk("a container to a loopback address", Edge::Web, move |n| {
            syn(n, web(p, n), at(p.family.loopback(), 8080))
        }),
    ]
}

fn published(p: Places) -> Vec<Draft> {
    vec![
        talk("a container to its own published port", Edge::Web, move |n| {
            syn(n, web(p, n), at(p.host, 8080))
        })
        .allocating(),
        talk("a container to its own published port at the gateway", Edge::Web, move |n| {
            syn(n, web(p, n), at(p.gateway, 8080))
        })
        .allocating(),
        talk("a neighbour to a published port", Edge::App, move |n| {
            syn(n, app(p, n), at(p.host, 8080))
        }),
        talk("a neighbour to a published port at the gateway", Edge::App, move |n| {
            syn(n, app(p, n), at(p.gateway, 8080))
        }),
        talk("a neighbour in the middle of a published connection", Edge::App, move |n| {
            data(n, app(p, n), at(p.host, 8080))
        }),
    ]
}

fn neighbours(p: Places) -> Vec<Draft> {
    let through_host = |packet: &Datagram| {
        Act::Send(vec![Sent { via: Via::Host, ..Sent::new(Edge::App, packet) }])
    };
    vec![
        talk("a neighbour's tcp to the published container port", Edge::App, move |n| {
            syn(n, app(p, n), at(p.web, 80))
        }),
        talk("a neighbour's tcp to another port", Edge::App, move |n| {
            syn(n, app(p, n), at(p.web, 81))
        }),
        talk("a neighbour's udp", Edge::App, move |n| udp(n, app(p, n), at(p.web, 53))),
        talk("a neighbour's echo", Edge::App, move |n| echo(n, app(p, n), p.web)),
        talk("a neighbour's gre", Edge::App, move |n| other(n, p.app, p.web, GRE)),
        talk("a neighbour in the middle of a connection", Edge::App, move |n| {
            data(n, app(p, n), at(p.web, 80))
        }),
        Draft::inside("fragments to a neighbour", move |n| {
            let pieces = udp_of(n, app(p, n), at(p.web, 53), 64).fragments(32);
            let sent = |bytes| Sent { from: Edge::App, via: Via::Route, bytes };
            vec![Act::Send(pieces.into_iter().map(sent).collect())]
        }),
        Draft::inside("a neighbour by way of the host", move |n| {
            vec![through_host(&syn(n, app(p, n), at(p.web, 80))), answered()]
        }),
        Draft::inside("the world by way of a neighbour", move |n| {
            let packet = udp(n, app(p, n), at(p.remote, 53));
            vec![Act::Send(vec![Sent {
                via: Via::Neighbour(Edge::Web),
                ..Sent::new(Edge::App, &packet)
            }])]
        }),
        Draft::inside("a neighbour's timestamp", move |n| {
            let kind = p.family.pick(13, 139);
            vec![sends(Edge::App, &icmp(n, (p.app, p.web), (kind, 0), own_port(n)))]
        }),
    ]
}
