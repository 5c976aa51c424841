//! RFC 7857: what was added later.

use netd_tests::oracle::{
    arrival::{Arrival, Edge},
    lab::{Lab, Settings},
    mark,
    message::{echo, error_about, syn, tcp, udp, udp_of},
};
use netd_tests::packet::{ACK, FIN, RST};

use super::{Found, OWN, common::*, rows};

rows! {
    rfc7857_s2_1_a_connection_has_states:
        "A connection that opens, is established, or closes lives for different times", |lab| {
            let Some((number, _)) = connection(lab) else { return Found::No };
            let established = lab.lifetime(number);
            close(lab, number);
            let opening = lab.number();
            lab.send(Edge::Web, &syn(opening, web(lab, opening), world(lab)));
            let others = [lab.lifetime(opening), lab.lifetime(number)];
            others.into_iter().all(|other| other.is_some() && other < established).into()
        };
    rfc7857_s2_2_timers_are_apart:
        "Those times are configured apart", timers, with APART;
    rfc7857_s2_1_partly_open_connections_live_four_minutes:
        "One that is not established yet lives for 4 minutes", |lab| {
            let number = lab.number();
            lab.send(Edge::Web, &syn(number, web(lab, number), world(lab)));
            lab.lifetime(number).is_some_and(|secs| secs + 1 >= 240).into()
        };
    rfc7857_s2_3_a_reset_leaves_time:
        "After a RST, the flow lives for 4 minutes, and data still passes", |lab| {
            let Some((number, _)) = connection(lab) else { return Found::No };
            let reset = tcp(number, web(lab, number), world(lab), RST, mark::seq(number, 1), 0);
            let is_out = lab.pass(Edge::Web, &reset, Edge::Client).is_some();
            let life = lab.lifetime(number);
            match (is_out && goes_on(lab, number), life.is_some_and(|secs| secs + 1 >= 240)) {
                (true, true) => Found::Yes,
                (true, false) => Found::Partly("data passes, for less than 4 minutes"),
                _ => Found::No,
            }
        };
    rfc7857_s3_ports_may_overlap:
        "Flows to different destinations may share a port outside", |lab| overloads(lab, udp).into();
    rfc7857_s6_errors_and_resets_refresh_nothing:
        "An ICMP error or a RST from inside does not refresh", refreshes_nothing;
    rfc7857_s9_ports_are_unpredictable:
        "Ports that are allocated one after the other cannot be foreseen", |lab| {
            let ports = contested(lab, 20_900, 6);
            let steps: Vec<i32> = ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
            (ports.len() == 6 && steps.iter().any(|step| *step != steps[0])).into()
        };
    rfc7857_s11_fragments_of_two_containers_do_not_mix:
        "Fragments with equal identifications from two containers are told apart", apart;
    rfc7857_s12_errors_end_no_query:
        "An ICMP error does not end the mapping of a query", |lab| {
            let number = lab.number();
            let query = echo(number, web(lab, number), lab.places.remote);
            let Some(seen) = lab.pass(Edge::Web, &query, Edge::Client) else { return Found::No };
            lab.send(Edge::Client, &error_about(&seen, number, lab.places.client, (3, 1), 500));
            lab.reply(&seen, Edge::Web).is_some().into()
        };
}

fn refreshes_nothing(lab: &Lab) -> Found {
    let Some(seen) = flow(lab) else { return Found::No };
    let number = seen.number().unwrap_or_default();
    let Some(reply) = lab.reply(&seen, Edge::Web) else { return Found::No };
    let Some((reset, _)) = connection(lab) else { return Found::No };
    let left = [lab.age(number, 1), lab.age(reset, 1)];
    lab.send(Edge::Web, &error_about(&reply, number, lab.places.web, (3, 3), 500));
    let rst = tcp(reset, web(lab, reset), world(lab), RST, mark::seq(reset, 1), 0);
    lab.send(Edge::Web, &rst);
    let now = [lab.lifetime(number), lab.lifetime(reset)];
    now.into_iter().zip(left).all(|(now, left)| now.is_none_or(|now| now <= left)).into()
}

/// Both ends have said that they are done.
fn close(lab: &Lab, number: u16) {
    let fin = tcp(
        number,
        web(lab, number),
        world(lab),
        ACK | FIN,
        mark::seq(number, 1),
        mark::seq(number, 129),
    );
    if let Some(seen) = lab.pass(Edge::Web, &fin, Edge::Client) {
        let outside =
            netd_tests::topology::at(seen.parts().addresses.0, seen.source_port().unwrap_or(0));
        let other = tcp(
            number,
            world(lab),
            outside,
            ACK | FIN,
            mark::seq(number, 129),
            mark::seq(number, 2),
        );
        lab.send(Edge::Client, &other);
    }
}

/// Settings that are no defaults.
const APART: Settings = Settings {
    timeouts: "tcp_syn_sent = 88\ntcp_established = 999",
    sysctls: &[
        ("netfilter/nf_conntrack_tcp_timeout_syn_sent", "88"),
        ("netfilter/nf_conntrack_tcp_timeout_established", "999"),
    ],
    ..OWN
};

fn timers(lab: &Lab) -> Found {
    let number = lab.number();
    lab.send(Edge::Web, &syn(number, web(lab, number), world(lab)));
    let opening = lab.lifetime(number);
    let Some((number, _)) = connection(lab) else { return Found::No };
    let is_near = |found: Option<u64>, wanted: u64| {
        found.is_some_and(|secs| secs <= wanted && secs + 10 > wanted)
    };
    (is_near(opening, 88) && is_near(lab.lifetime(number), 999)).into()
}

/// Pieces of two packets with one identification, interleaved: whoever puts them together outside gets two
/// whole packets, or none of a mixture.
fn apart(lab: &Lab) -> Found {
    let number = lab.number();
    let packet = |src| udp_of(number, src, world(lab), 64).fragments(32);
    let own = web(lab, number);
    let (one, two) =
        (packet(own), packet(std::net::SocketAddr::new(lab.places.app, own.port() + 1)));
    let mut arrived = Vec::new();
    for (a, b) in one.into_iter().zip(two) {
        arrived.extend(lab.send_bytes(Edge::Web, vec![a], number));
        arrived.extend(lab.send_bytes(Edge::App, vec![b], number));
    }
    // A receiver outside sees them in this order: the pieces of a packet have to follow each other.
    let mut whole = Vec::new();
    let mut waiting: Vec<Arrival> = Vec::new();
    for arrival in arrived {
        waiting.push(arrival);
        let joined = netd_tests::oracle::pieces::reassembled(waiting.clone());
        if joined.len() == 1 && !joined[0].parts().is_piece {
            whole.extend(joined);
            waiting.clear();
        }
    }
    (whole.len() == 2 && whole.iter().all(|seen| seen.faults().is_empty())).into()
}
