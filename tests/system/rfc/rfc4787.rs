//! RFC 4787: UDP.

use std::net::SocketAddr;

use netd_tests::{
    oracle::{
        arrival::{Arrival, Edge},
        datagram::Datagram,
        lab::{Lab, Settings, only},
        message::{data, error_about, syn, udp, udp_of},
        side::Engine,
    },
    topology::{UPLINK, at},
};

use super::{Found, OWN, common::*, rows};

rows! {
    rfc4787_req1_mapping_is_endpoint_independent:
        "An endpoint inside has one port outside, whatever it talks to", |lab| independence(lab);
    rfc4787_req2_pooling_is_paired:
        "All flows of a container have one address outside", paired;
    rfc4787_req3_ports_are_not_overloaded:
        "Two endpoints inside never share a port outside", |lab| (!overloads(lab, udp)).into();
    rfc4787_req3a_port_classes_are_kept:
        "Ports below 1024 stay below, others above", classes;
    rfc4787_req4_parity_is_kept:
        "An even port stays even, an odd one odd, also where it is taken", parity;
    rfc4787_req5_mappings_live_two_minutes:
        "A mapping lives for at least 2 minutes", |lab| {
            let (one_way, both_ways) = udp_lifetimes(lab);
            match (one_way >= 120, both_ways >= 120) {
                (true, true) => Found::Yes,
                (false, true) => Found::Partly("once answered"),
                _ => Found::No,
            }
        };
    rfc4787_req5b_lifetime_can_be_configured:
        "The lifetime can be configured", |lab| {
            let life = flow(lab).and_then(|seen| lab.lifetime(seen.number()?));
            life.is_some_and(|life| (60..=77).contains(&life)).into()
        }, with UDP_77;
    rfc4787_req5c_default_lifetime_is_five_minutes:
        "5 minutes or more are recommended as the default", |lab| (udp_lifetimes(lab).1 >= 300).into();
    rfc4787_req6_outbound_packets_refresh:
        "A packet from inside refreshes the mapping", |lab| refreshed(lab, Edge::Web);
    rfc4787_req6a_inbound_packets_may_refresh:
        "A packet from outside may refresh the mapping", |lab| refreshed(lab, Edge::Client);
    rfc4787_req7_addresses_outside_may_be_those_inside:
        "An address outside that overlaps a subnet inside is noticed", overlap;
    rfc4787_req8_filtering_is_not_stricter_than_by_address:
        "Who was talked to may answer from any port", filtering;
    rfc4787_req9_hairpinning:
        "A container reaches another by its address and port outside", hairpin;
    rfc4787_req9a_hairpinned_packets_show_the_source_outside:
        "and is seen there with its own address outside", hairpin_source;
    rfc4787_req10_gateways_for_applications_are_off:
        "Payload is left alone", |lab| payload_stays(lab, 5060, udp).into();
    rfc4787_req11_behaviour_is_deterministic:
        "The kind of mapping does not depend on what else goes on", |lab| endpoint_independent(lab, udp).1.into();
    rfc4787_req12_icmp_errors_end_no_mapping:
        "An ICMP error does not end a mapping", survives;
    rfc4787_req12a_icmp_errors_from_anywhere:
        "An ICMP error about a flow passes whoever sends it", |lab| {
            let error = |seen: &Arrival, from| error_about(seen, seen.number().unwrap_or(0), from, (3, 1), 500);
            flow(lab).is_some_and(|seen| {
                lab.pass(Edge::Client, &error(&seen, lab.places.client), Edge::Web).is_some()
            }).into()
        };
    rfc4787_req12b_destination_unreachable_passes_both_ways:
        "Destination unreachable passes from outside and from inside", both_ways;
    rfc4787_req13_too_large_packets_are_answered:
        "A packet that is too large and may not be cut is answered with the next MTU", too_large;
    #[V4]
    rfc4787_req13a_too_large_packets_are_cut:
        "One that may be cut is cut, in order", cut;
    rfc4787_req14_fragments_out_of_order:
        "Fragments pass in any order", fragments_backwards;
    rfc4787_req14a_lone_fragments_do_no_harm:
        "A flood of lone fragments costs other flows nothing", flood;
}

/// A setting that is no default.
const UDP_77: Settings = Settings {
    timeouts: "udp = 77\nmapping = 77",
    sysctls: &[("netfilter/nf_conntrack_udp_timeout", "77")],
    ..OWN
};

fn independence(lab: &Lab) -> Found {
    match endpoint_independent(lab, udp) {
        (true, true) => Found::Yes,
        (true, false) => Found::Partly("while the port is free"),
        _ => Found::No,
    }
}

fn paired(lab: &Lab) -> Found {
    let number = lab.number();
    let source = |number, to| {
        let seen = lab.pass(Edge::Web, &udp(number, web(lab, number), to), Edge::Client);
        seen.map(|seen| seen.parts().addresses.0)
    };
    let first = source(number, world(lab));
    (first.is_some() && first == source(lab.number(), other_world(lab))).into()
}

fn classes(lab: &Lab) -> Found {
    let low = contested(lab, 700, 3);
    let high = contested(lab, 20_700, 3);
    match (low.iter().all(|port| *port < 1024), high.iter().all(|port| *port >= 1024)) {
        _ if low.len() + high.len() < 6 => Found::No,
        (true, true) => Found::Yes,
        (false, true) => Found::Partly("those from 1024"),
        _ => Found::No,
    }
}

fn parity(lab: &Lab) -> Found {
    let ports = contested(lab, 20_800, 12);
    let number = lab.number();
    let free = outside_port(lab, Edge::Web, &udp(number, web(lab, number), world(lab)));
    match free == Some(web(lab, number).port()) {
        true if ports.len() == 12 && ports.iter().all(|port| port % 2 == 0) => Found::Yes,
        true => Found::Partly("while the port is free"),
        false => Found::No,
    }
}

/// How long flows live that were not answered, and those that go on both ways: Linux has the longer time
/// for what does so after more than two seconds.
fn udp_lifetimes(lab: &Lab) -> (u64, u64) {
    let number = lab.number();
    let ask = || lab.pass(Edge::Web, &udp(number, web(lab, number), world(lab)), Edge::Client);
    // What has just been made may be a second old.
    let life = || lab.lifetime(number).map_or(0, |secs| secs + 1);
    let Some(seen) = ask() else { return (0, 0) };
    let one_way = life();
    lab.reply(&seen, Edge::Web);
    lab.age(number, 3);
    ask();
    lab.reply(&seen, Edge::Web);
    (one_way, life())
}

fn refreshed(lab: &Lab, by: Edge) -> Found {
    let Some(seen) = answered_flow(lab) else { return Found::No };
    let number = seen.number().unwrap_or_default();
    let old = lab.age(number, 1);
    match by {
        Edge::Web => drop(lab.send(Edge::Web, &udp(number, web(lab, number), world(lab)))),
        Edge::Client | Edge::App => drop(lab.reply(&seen, Edge::Web)),
    }
    lab.lifetime(number).is_some_and(|now| now > old).into()
}

fn overlap(lab: &Lab) -> Found {
    let address = lab.places.family.pick("192.168.0.77/24", "fd49:efd7:54aa::77/64");
    let host = &lab.side.world.host;
    host.ip(&[&format!("address add {address} dev {UPLINK} noprefixroute")]);
    host.ip(&[&format!("address del {address} dev {UPLINK}")]);
    let Engine::Netd = lab.side.engine else { return Found::No };
    let log = lab.side.world.daemon.log();
    let is_noticed = log.lines().any(|line| line.contains("WARN") && line.contains("overlap"));
    is_noticed.into()
}

fn filtering(lab: &Lab) -> Found {
    let Some(seen) = flow(lab) else { return Found::No };
    let (number, outside) = (seen.number().unwrap_or_default(), seen.parts().addresses.0);
    let to = SocketAddr::new(outside, seen.source_port().unwrap_or_default());
    let from = |by| lab.pass(Edge::Client, &udp(number, by, to), Edge::Web).is_some();
    let (port, address) = (from(at(lab.places.remote, 54)), from(other_world(lab)));
    match (port, address) {
        (true, _) => Found::Yes,
        (false, false) if from(world(lab)) => Found::Partly("stricter: by address and port"),
        _ => Found::No,
    }
}

/// What app sends to the port that web has outside, as web sees it.
fn hairpinned(lab: &Lab) -> Option<(Arrival, Arrival)> {
    let seen = flow(lab)?;
    let to = SocketAddr::new(seen.parts().addresses.0, seen.source_port()?);
    let number = lab.number();
    let packet = udp(number, SocketAddr::new(lab.places.app, web(lab, number).port()), to);
    Some((lab.pass(Edge::App, &packet, Edge::Web)?, seen))
}

/// What app sends to the published port of web, as web sees it.
pub(super) fn published(lab: &Lab) -> Option<Arrival> {
    let number = lab.number();
    let from = SocketAddr::new(lab.places.app, web(lab, number).port());
    lab.pass(Edge::App, &syn(number, from, at(lab.places.host, 8080)), Edge::Web)
}

fn hairpin(lab: &Lab) -> Found {
    match (hairpinned(lab), published(lab)) {
        (Some(_), _) => Found::Yes,
        (None, Some(_)) => Found::Partly("published ports"),
        _ => Found::No,
    }
}

fn hairpin_source(lab: &Lab) -> Found {
    hairpinned(lab)
        .is_some_and(|(seen, flow)| seen.parts().addresses.0 == flow.parts().addresses.0)
        .into()
}

fn survives(lab: &Lab) -> Found {
    let Some(seen) = flow(lab) else { return Found::No };
    let number = seen.number().unwrap_or_default();
    lab.send(Edge::Client, &error_about(&seen, number, lab.places.remote, (3, 3), 500));
    lab.reply(&seen, Edge::Web).is_some().into()
}

fn both_ways(lab: &Lab) -> Found {
    let Some(seen) = flow(lab) else { return Found::No };
    let number = seen.number().unwrap_or_default();
    let from_outside = error_about(&seen, number, lab.places.remote, (3, 3), 500);
    let is_in = lab.pass(Edge::Client, &from_outside, Edge::Web).is_some();
    let Some(answer) = lab.reply(&seen, Edge::Web) else { return Found::No };
    let from_inside = error_about(&answer, number, lab.places.web, (3, 3), 500);
    match (is_in, lab.pass(Edge::Web, &from_inside, Edge::Client).is_some()) {
        (true, true) => Found::Yes,
        (true, false) => Found::Partly("from outside"),
        (false, true) => Found::Partly("from inside"),
        (false, false) => Found::No,
    }
}

/// Sends a packet that the uplink's next hop is too narrow for: what arrives, and the MTU.
fn sent_into_narrow(lab: &Lab, is_whole: bool) -> (Vec<Arrival>, u16) {
    // Both families have it, and a packet of 1400 bytes does not fit.
    const NARROW: u16 = 1300;
    let host = &lab.side.world.host;
    let number = lab.number();
    let packet = udp_of(number, web(lab, number), world(lab), 1360);
    host.ip(&[&format!("link set {UPLINK} mtu {NARROW}")]);
    let arrived = lab.send(Edge::Web, &Datagram { is_whole, ..packet });
    host.ip(&[&format!("link set {UPLINK} mtu 1500")]);
    (arrived, NARROW)
}

fn too_large(lab: &Lab) -> Found {
    let (arrived, mtu) = sent_into_narrow(lab, true);
    let is_told = |seen: Arrival| {
        let body = seen.body();
        let of = lab.places.family.pick((3, 4), (2, 0));
        (body[0], body[1]) == of && body[6..8] == mtu.to_be_bytes()
    };
    only(arrived, Edge::Web).is_some_and(is_told).into()
}

fn cut(lab: &Lab) -> Found {
    let (pieces, _) = sent_into_narrow(lab, false);
    let is_in_order =
        pieces.len() == 2 && !pieces[0].parts().is_later && pieces[1].parts().is_later;
    let is_translated = |piece: &Arrival| piece.parts().addresses.0 == lab.places.host;
    (is_in_order && pieces.iter().all(is_translated)).into()
}

fn fragments_backwards(lab: &Lab) -> Found {
    let number = lab.number();
    let packet = udp_of(number, web(lab, number), world(lab), 1360);
    let pieces: Vec<Vec<u8>> = packet.fragments(800).into_iter().rev().collect();
    let arrived = lab.send_bytes(Edge::Web, pieces, number);
    let whole = netd_tests::oracle::pieces::reassembled(arrived);
    let is_right = |seen: &Arrival| {
        !seen.parts().is_piece
            && seen.faults().is_empty()
            && seen.parts().addresses.0 == lab.places.host
    };
    (whole.len() == 1 && whole.iter().all(is_right)).into()
}

/// How many lone fragments there are between two packets of another flow, and how often.
const FLOOD: (u16, u16) = (100, 40);

fn flood(lab: &Lab) -> Found {
    let Some((number, _)) = connection(lab) else { return Found::No };
    let more = data(number, web(lab, number), world(lab)).bytes();
    let mut packets = Vec::new();
    for round in 0..FLOOD.1 {
        for at in 0..FLOOD.0 {
            let id = 30_000 + round * FLOOD.0 + at;
            packets.extend(udp_of(id, web(lab, id), world(lab), 64).fragments(32).split_off(1));
        }
        packets.push(more.clone());
    }
    let arrived = lab.send_bytes(Edge::Web, packets, number);
    (arrived.len() == usize::from(FLOOD.1)).into()
}
