//! RFC 5382: TCP.

use netd_tests::{
    oracle::{
        arrival::Edge,
        lab::Lab,
        mark,
        message::{data, error_about, own_port, syn, tcp},
    },
    packet::{ACK, FIN, SYN},
    topology::at,
};

use super::{Found, common::*, rfc4787::published, rows};

rows! {
    rfc5382_req1_mapping_is_endpoint_independent:
        "An endpoint inside has one port outside, whatever it talks to", |lab| {
            match endpoint_independent(lab, syn) {
                (true, true) => Found::Yes,
                (true, false) => Found::Partly("while the port is free"),
                _ => Found::No,
            }
        };
    rfc5382_req2_connections_are_opened_and_closed:
        "Every way of TCP to open and to close a connection passes", opens_and_closes;
    rfc5382_req2a_connections_are_opened_from_both_ends_at_once:
        "Two SYNs that cross open a connection", simultaneous;
    rfc5382_req3_filtering_is_not_stricter_than_by_address:
        "Who was talked to may connect from any port", filtering;
    rfc5382_req4_an_unexpected_syn_is_not_answered_at_once:
        "A SYN that nobody waits for is not answered for 6 seconds", |lab| {
            let number = lab.number();
            let from = at(lab.places.client, own_port(number));
            lab.send(Edge::Client, &syn(number, from, at(lab.places.host, 9))).is_empty().into()
        };
    rfc5382_req5_established_connections_live_two_hours:
        "An established connection lives for 2 hours and 4 minutes, one that opens or closes for 4 minutes",
        lifetimes;
    rfc5382_req6_gateways_for_applications_are_off:
        "Payload is left alone", |lab| payload_stays(lab, 21, data).into();
    rfc5382_req7_ports_are_not_overloaded:
        "Two endpoints inside never share a port outside", |lab| (!overloads(lab, syn)).into();
    rfc5382_req8_hairpinning:
        "A container reaches another by its address and port outside", |lab| match published(lab) {
            Some(_) => Found::Partly("published ports"),
            None => Found::No,
        };
    rfc5382_req9_destination_unreachable_passes:
        "Destination unreachable passes, as path MTU discovery needs it", |lab| {
            let Some((number, first)) = connection(lab) else { return Found::No };
            let error = error_about(&first, number, lab.places.remote, (3, 4), 500);
            lab.pass(Edge::Client, &error, Edge::Web).is_some().into()
        };
    rfc5382_req10_icmp_errors_end_no_connection:
        "An ICMP error does not end a connection", |lab| {
            let Some((number, first)) = connection(lab) else { return Found::No };
            lab.send(Edge::Client, &error_about(&first, number, lab.places.remote, (3, 3), 500));
            goes_on(lab, number).into()
        };
}

fn opens_and_closes(lab: &Lab) -> Found {
    let Some((number, first)) = connection(lab) else { return Found::No };
    let own = web(lab, number);
    let fin = |seq| tcp(number, own, world(lab), ACK | FIN, seq, mark::seq(number, 129));
    let again = syn(number, own, world(lab));
    // What is sent again passes again; after a FIN, the other half goes on.
    let is_repeated = lab.pass(Edge::Web, &again, Edge::Client).is_some();
    let is_closed = lab.pass(Edge::Web, &fin(mark::seq(number, 1)), Edge::Client).is_some();
    let back = at(first.parts().addresses.0, first.source_port().unwrap_or_default());
    let rest = tcp(number, world(lab), back, ACK | 8, mark::seq(number, 129), mark::seq(number, 2));
    (is_repeated && is_closed && lab.pass(Edge::Client, &rest, Edge::Web).is_some()).into()
}

fn simultaneous(lab: &Lab) -> Found {
    let number = lab.number();
    let own = web(lab, number);
    let Some(first) = lab.pass(Edge::Web, &syn(number, own, world(lab)), Edge::Client) else {
        return Found::No;
    };
    let outside = at(first.parts().addresses.0, first.source_port().unwrap_or_default());
    let crossing = tcp(number, world(lab), outside, SYN, mark::seq(number, 128), 0);
    let Some(_) = lab.pass(Edge::Client, &crossing, Edge::Web) else { return Found::No };
    let agreed = SYN | ACK;
    let inside = tcp(number, own, world(lab), agreed, mark::seq(number, 0), mark::seq(number, 129));
    let is_out = lab.pass(Edge::Web, &inside, Edge::Client).is_some();
    let other =
        tcp(number, world(lab), outside, agreed, mark::seq(number, 128), mark::seq(number, 1));
    (is_out && lab.pass(Edge::Client, &other, Edge::Web).is_some() && goes_on(lab, number)).into()
}

fn filtering(lab: &Lab) -> Found {
    let Some((number, first)) = connection(lab) else { return Found::No };
    let outside = at(first.parts().addresses.0, first.source_port().unwrap_or_default());
    let from = |by| lab.pass(Edge::Client, &syn(number, by, outside), Edge::Web).is_some();
    match (from(at(lab.places.remote, 54)), from(other_world(lab))) {
        (true, _) => Found::Yes,
        (false, false) => Found::Partly("stricter: by address and port"),
        _ => Found::No,
    }
}

fn lifetimes(lab: &Lab) -> Found {
    let number = lab.number();
    lab.send(Edge::Web, &syn(number, web(lab, number), world(lab)));
    // What has just been made may be a second old.
    let life = |number| lab.lifetime(number).map_or(0, |secs| secs + 1);
    let opening = life(number);
    let Some((number, _)) = connection(lab) else { return Found::No };
    match (life(number) >= 7440, opening >= 240) {
        (true, true) => Found::Yes,
        (true, false) => Found::Partly("once established"),
        _ => Found::No,
    }
}
