//! RFC 5508: ICMP.

use std::net::IpAddr;

use netd_tests::{
    oracle::{
        answer::answer,
        arrival::{Arrival, Edge},
        datagram::Datagram,
        lab::{Lab, Settings},
        message::{echo, error, error_about, icmp, own_port, udp},
    },
    topology::at,
};

use super::{Found, OWN, common::*, rfc4787::published, rows};

rows! {
    rfc5508_req1_echoes_pass:
        "An echo request passes, and its reply", |lab| {
            asked(lab).is_some_and(|seen| lab.reply(&seen, Edge::Web).is_some()).into()
        };
    rfc5508_req1a_identifiers_are_endpoint_independent:
        "An identifier inside has one identifier outside, whatever it asks", |lab| {
            let endpoint: Make = |number, src, dst| echo(number, src, dst.ip());
            match endpoint_independent(lab, endpoint) {
                (true, true) => Found::Yes,
                (true, false) => Found::Partly("while the identifier is free"),
                _ => Found::No,
            }
        };
    rfc5508_req2_queries_live_a_minute:
        "A query waits for its reply for at least 60 seconds", |lab| {
            let life = asked(lab).and_then(|seen| lab.lifetime(seen.number()?));
            life.is_some_and(|secs| secs + 1 >= 60).into()
        };
    rfc5508_req2a_lifetime_can_be_configured:
        "The lifetime can be configured", |lab| {
            let life = asked(lab).and_then(|seen| lab.lifetime(seen.number()?));
            life.is_some_and(|secs| (60..=77).contains(&secs)).into()
        }, with ICMP_77;
    rfc5508_req3_wrong_checksums_are_dropped:
        "An ICMP error with a wrong checksum is dropped", |lab| {
            changed(lab, |error| error.body[2] ^= 0xff).map_or(Found::No, |seen| seen.is_none().into())
        };
    #[V4]
    rfc5508_req3a_wrong_quoted_header_checksums_are_dropped:
        "One whose quoted IP header has a wrong checksum is dropped", |lab| {
            let wrong = |error: &mut Datagram| resealed(error, |quote| quote[10] ^= 0xff);
            changed(lab, wrong).map_or(Found::No, |seen| seen.is_none().into())
        };
    rfc5508_req3b_quoted_options_are_walked:
        "One that quotes IP options or extension headers is translated", |lab| {
            let number = lab.number();
            let packet = udp(number, web(lab, number), world(lab)).with_options(&[1; 4], 60);
            let Some(seen) = lab.pass(Edge::Web, &packet, Edge::Client) else { return Found::No };
            let error = error_about(&seen, number, lab.places.remote, (3, 3), 500);
            lab.pass(Edge::Client, &error, Edge::Web).is_some_and(|seen| is_inside(lab, &seen)).into()
        };
    rfc5508_req3c_quoted_transport_checksums_are_not_checked:
        "One whose quoted transport has a wrong checksum passes", |lab| {
            let at = lab.places.family.pick(20, 40) + 6;
            let wrong = |error: &mut Datagram| resealed(error, |quote| quote[at] ^= 0xff);
            changed(lab, wrong).map_or(Found::No, |seen| seen.is_some().into())
        };
    rfc5508_req3d_extensions_are_left_alone:
        "What follows the quoted packet is left alone (RFC 4884)", |lab| {
            let Some(seen) = flow(lab) else { return Found::No };
            let number = seen.number().unwrap_or_default();
            let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4];
            let quote = [&seen.bytes[..], &[0; 60], &extension].concat();
            let ends = (lab.places.remote, seen.parts().addresses.0);
            let passed = lab.pass(Edge::Client, &error(number, ends, (11, 0), &quote), Edge::Web);
            passed.is_some_and(|seen| seen.bytes.ends_with(&extension)).into()
        };
    rfc5508_req4_errors_from_outside_are_translated:
        "An error from outside quotes the addresses inside; one about nothing is dropped", from_outside;
    rfc5508_req5_errors_from_inside_are_translated:
        "An error from inside quotes the addresses outside, and comes from there", from_inside;
    rfc5508_req6_errors_refresh_nothing:
        "An error neither refreshes nor ends the flow it is about", |lab| {
            let Some(seen) = flow(lab) else { return Found::No };
            let number = seen.number().unwrap_or_default();
            let old = lab.age(number, 1);
            lab.send(Edge::Client, &error_about(&seen, number, lab.places.remote, (3, 1), 500));
            lab.lifetime(number).is_some_and(|now| now <= old && now > 0).into()
        };
    rfc5508_req7_errors_are_hairpinned:
        "An error about a packet to a published port of a neighbour passes back", |lab| {
            let Some(seen) = published(lab) else { return Found::No };
            let error = error_about(&seen, seen.number().unwrap_or(0), lab.places.web, (3, 3), 500);
            let back = lab.pass(Edge::Web, &error, Edge::App);
            back.is_some_and(|seen| quoted(&seen).1 == lab.places.host && seen.faults().is_empty()).into()
        };
    rfc5508_req10a_errors_and_echoes_are_handled:
        "Destination unreachable, time exceeded and echoes are handled", |lab| {
            let kinds = [(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (11, 1)];
            kinds.into_iter().all(|kind| passes(lab, kind)).into()
        };
    rfc5508_req10b_parameter_problems_and_timestamps_may_be_handled:
        "Parameter problem and, of IPv4, timestamp may be handled", |lab| {
            let number = lab.number();
            let query = icmp(number, (lab.places.web, lab.places.remote), (13, 0), own_port(number));
            let asked = lab.places.family.pick(Some(query), None);
            let is_asked = asked.is_none_or(|query| {
                let seen = lab.pass(Edge::Web, &query, Edge::Client);
                seen.is_some_and(|seen| seen.parts().addresses.0 == lab.places.host && lab.reply(&seen, Edge::Web).is_some())
            });
            match (passes(lab, (12, 0)), is_asked) {
                (true, true) => Found::Yes,
                (true, false) => Found::Partly("parameter problem"),
                (false, true) => Found::Partly("timestamp"),
                _ => Found::No,
            }
        };
    #[V4]
    rfc5508_req10c_redirects_from_outside_do_not_pass:
        "A redirect from outside stays outside", |lab| {
            let Some(seen) = flow(lab) else { return Found::No };
            let redirect = error_about(&seen, seen.number().unwrap_or(0), lab.places.client, (5, 1), 500);
            lab.send(Edge::Client, &redirect).is_empty().into()
        };
    rfc5508_req11_other_messages_do_not_leak:
        "Any other message is dropped or handled, and never leaves with an address inside", |lab| {
            let number = lab.number();
            let other = icmp(number, (lab.places.web, lab.places.remote), (200, 0), 1);
            let seen = lab.send(Edge::Web, &other);
            seen.iter().all(|seen| seen.parts().addresses.0 != lab.places.web).into()
        };
}

/// A setting that is no default.
const ICMP_77: Settings = Settings {
    timeouts: "icmp = 77\nicmpv6 = 77",
    sysctls: &[
        ("netfilter/nf_conntrack_icmp_timeout", "77"),
        ("netfilter/nf_conntrack_icmpv6_timeout", "77"),
    ],
    ..OWN
};

fn asked(lab: &Lab) -> Option<Arrival> {
    let number = lab.number();
    lab.pass(Edge::Web, &echo(number, web(lab, number), lab.places.remote), Edge::Client)
}

/// What of a changed error about a flow arrives inside; nothing where an unchanged one does not either.
fn changed(lab: &Lab, change: impl Fn(&mut Datagram)) -> Option<Option<Arrival>> {
    let seen = flow(lab)?;
    let number = seen.number()?;
    let mut error = error_about(&seen, number, lab.places.remote, (3, 1), 500);
    lab.pass(Edge::Client, &error, Edge::Web)?;
    change(&mut error);
    Some(lab.pass(Edge::Client, &error, Edge::Web))
}

/// Changes what an error quotes, and sums it up anew.
fn resealed(packet: &mut Datagram, change: impl Fn(&mut [u8])) {
    let mut quote = packet.body[8..].to_vec();
    change(&mut quote);
    let kind = (packet.body[0], packet.body[1]);
    let mut whole = error(packet.number, (packet.src, packet.dst), (3, 1), &quote);
    debug_assert_eq!((whole.body[0], whole.body[1]), kind);
    std::mem::swap(&mut whole, packet);
}

/// The addresses of the packet that an error quotes.
fn quoted(seen: &Arrival) -> (IpAddr, IpAddr) {
    let inner = netd_tests::oracle::arrival::parts(&seen.body()[8..]);
    inner.map_or((seen.parts().addresses.0, seen.parts().addresses.0), |inner| inner.addresses)
}

/// Whether an error about a flow of web reached it with its own addresses.
fn is_inside(lab: &Lab, seen: &Arrival) -> bool {
    let is_addressed =
        seen.parts().addresses.1 == lab.places.web && quoted(seen).0 == lab.places.web;
    is_addressed && seen.faults().is_empty()
}

fn passes(lab: &Lab, kind: (u8, u8)) -> bool {
    let Some(seen) = flow(lab) else { return false };
    let error = error_about(&seen, seen.number().unwrap_or(0), lab.places.remote, kind, 500);
    lab.pass(Edge::Client, &error, Edge::Web).is_some_and(|seen| is_inside(lab, &seen))
}

fn from_outside(lab: &Lab) -> Found {
    let number = lab.number();
    let nothing = udp(number, at(lab.places.host, own_port(number)), world(lab)).bytes();
    let forged = error(number, (lab.places.remote, lab.places.host), (3, 3), &nothing);
    let is_dropped = lab.send(Edge::Client, &forged).is_empty();
    (passes(lab, (3, 3)) && is_dropped).into()
}

fn from_inside(lab: &Lab) -> Found {
    let Some(seen) = flow(lab) else { return Found::No };
    let number = seen.number().unwrap_or_default();
    let replies = lab.send_bytes(Edge::Client, answer(&seen, number), number);
    let Some(reply) = replies.first() else { return Found::No };
    let error = error_about(reply, number, lab.places.web, (3, 3), 500);
    let out = lab.pass(Edge::Web, &error, Edge::Client);
    let is_outside = |out: Arrival| {
        out.parts().addresses.0 == lab.places.host
            && quoted(&out).1 == lab.places.host
            && out.faults().is_empty()
    };
    out.is_some_and(is_outside).into()
}
