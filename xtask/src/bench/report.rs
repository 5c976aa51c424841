//! From single measurements to medians, as a table and as JSON. Pure.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::{peer::Peer, workload::Workload};

/// One figure of one round.
#[derive(Clone, Copy)]
pub(super) struct Measurement {
    pub(super) round: u32,
    pub(super) peer: Peer,
    pub(super) workload: Workload,
    pub(super) figure: f64,
}

/// All rounds of a peer under a workload.
struct Summary {
    peer: Peer,
    median: f64,
    min: f64,
    max: f64,
}

/// One table for each workload.
pub(super) fn tables(measurements: &[Measurement]) -> String {
    let mut text = String::new();
    for workload in workloads(measurements) {
        let summaries = summaries(measurements, workload);
        let _ = writeln!(text, "\n{}, {}", workload.title(), workload.unit());
        let _ = writeln!(
            text,
            "  {:<16} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "peer", "median", "min", "max", "of direct", "of iptables"
        );
        for Summary { peer, median, min, max } in &summaries {
            let digits = workload.digits();
            let ratio =
                |to| ratio(&summaries, *median, to).map_or("-".into(), |r| format!("{r:.2}"));
            let _ = writeln!(
                text,
                "  {peer:<16} {median:>10.digits$} {min:>10.digits$} {max:>10.digits$} {:>10} {:>12}",
                ratio(Peer::Direct),
                ratio(Peer::Iptables),
            );
        }
    }
    text
}

/// Every measurement and every summary.
pub(super) fn json(measurements: &[Measurement]) -> Value {
    let single = |m: &Measurement| {
        json!({
            "round": m.round, "peer": m.peer.to_string(), "workload": m.workload.to_string(),
            "figure": m.figure,
        })
    };
    let results = workloads(measurements).into_iter().flat_map(|workload| {
        let summaries = summaries(measurements, workload);
        let result = |s: &Summary| {
            json!({
                "workload": workload.to_string(), "unit": workload.unit(),
                "peer": s.peer.to_string(), "median": s.median, "min": s.min, "max": s.max,
                "of_direct": ratio(&summaries, s.median, Peer::Direct),
                "of_iptables": ratio(&summaries, s.median, Peer::Iptables),
            })
        };
        summaries.iter().map(result).collect::<Vec<_>>()
    });
    json!({
        "results": results.collect::<Vec<_>>(),
        "measurements": measurements.iter().map(single).collect::<Vec<_>>(),
    })
}

fn workloads(measurements: &[Measurement]) -> Vec<Workload> {
    let is_measured = |workload: &Workload| measurements.iter().any(|m| m.workload == *workload);
    Workload::value_variants().iter().copied().filter(is_measured).collect()
}

fn summaries(measurements: &[Measurement], workload: Workload) -> Vec<Summary> {
    let of_workload = || measurements.iter().filter(move |m| m.workload == workload);
    let summary = |peer| {
        let mut figures: Vec<f64> =
            of_workload().filter(|m| m.peer == peer).map(|m| m.figure).collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        Some(Summary { peer, median: median(&figures), min, max })
    };
    Peer::value_variants().iter().copied().filter_map(summary).collect()
}

/// The middle of sorted figures.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

fn ratio(summaries: &[Summary], median: f64, to: Peer) -> Option<f64> {
    let reference = summaries.iter().find(|summary| summary.peer == to)?;
    Some(median / reference.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(peer: Peer, workload: Workload, figures: &[f64]) -> Vec<Measurement> {
        let rounds = (1..).zip(figures);
        rounds.map(|(round, &figure)| Measurement { round, peer, workload, figure }).collect()
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert!((median(&[1.0, 2.0, 9.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0, 4.0, 9.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_has_the_spread_and_the_ratios_of_medians() {
        let mut all = rounds(Peer::Direct, Workload::Tcp, &[20.0, 40.0, 10.0]);
        all.extend(rounds(Peer::Iptables, Workload::Tcp, &[10.0, 10.0, 16.0]));
        let text = tables(&all);
        let lines: Vec<Vec<&str>> =
            text.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["direct", "20.00", "10.00", "40.00", "1.00", "2.00"]);
        assert_eq!(lines[0], ["iptables", "10.00", "10.00", "16.00", "0.50", "1.00"]);
    }

    #[test]
    fn a_ratio_to_a_peer_that_was_left_out_is_absent() {
        let all = rounds(Peer::Routing, Workload::Udp, &[500.0]);
        assert!(tables(&all).contains("500.0          -            -"), "{}", tables(&all));
        assert_eq!(json(&all)["results"][0]["of_direct"], Value::Null);
    }
}
