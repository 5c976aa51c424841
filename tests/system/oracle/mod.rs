//! netd beside Docker's own rules: every rule set of moby's tests, and the same packets through both.

mod made_up;
mod sockets;

use std::env;

use netd_tests::{
    compliance,
    family::Family,
    oracle::{
        case::Draft,
        compare::{Numbers, differences},
        golden::{self, Options},
        incoming,
        judge::Verdict,
        known::{self, KNOWN, Known, Place, Status},
        outgoing,
        side::{Engine, Places, Side, netd_lines},
    },
};

/// What is tried with a rule set.
fn drafts(options: &Options) -> Vec<Draft> {
    let of = |family| {
        let places = Places::of(family);
        let inside = if options.has_network { outgoing::all(places) } else { Vec::new() };
        incoming::all(places).into_iter().chain(inside)
    };
    Family::BOTH.into_iter().flat_map(of).collect()
}

/// `NETD_ORACLE_FILTER`: only rule sets whose options contain it, for work on one of them.
fn is_wanted(options: &Options) -> bool {
    env::var("NETD_ORACLE_FILTER").is_ok_and(|filter| options.to_string().contains(&filter))
        || env::var_os("NETD_ORACLE_FILTER").is_none()
}

#[test]
fn netd_does_what_every_rule_set_of_docker_does() {
    let mut sets = golden::all();
    sets.retain(|set| is_wanted(&set.options));
    sets.sort_by_key(|set| netd_lines(&set.options));
    let mut sides = [Engine::Netd, Engine::Iptables].map(|engine| Side::new(engine, ""));
    let (mut numbers, mut verdict) = (Numbers::default(), Verdict::default());
    for set in &sets {
        sides.iter_mut().for_each(|side| side.configure(&set.options, &set.texts));
        let drafts = drafts(&set.options);
        let place = |family| Place { options: set.options, family };
        let is_known = |draft: &Draft| known::of(&draft.name, place(draft.family)).next().is_some();
        let found = differences(sides.each_ref(), &drafts, is_known, &mut numbers);
        verdict.add(&set.options.to_string(), place, &drafts, &found);
    }
    report(&sets, &verdict);
    let is_right = verdict.unknown.is_empty() && verdict.stale.is_empty();
    assert!(is_right, "{} unknown, {} stale", verdict.unknown.len(), verdict.stale.len());
}

fn report(sets: &[golden::RuleSet], verdict: &Verdict) {
    let files: usize = sets.iter().map(|set| set.files.len()).sum();
    let Verdict { tried, equal, .. } = verdict;
    eprintln!(
        "{files} files, {} rule sets, {tried} cases, {equal} equal to the last byte",
        sets.len()
    );
    for (id, is_chosen) in &verdict.shown {
        let why = KNOWN.iter().find(|known| known.id == *id).map_or("", |known| known.why);
        eprintln!("{}: {id}: {why}", if *is_chosen { "chosen" } else { "open" });
    }
    verdict.unknown.iter().for_each(|text| eprintln!("unknown: {text}"));
    verdict.stale.iter().for_each(|text| eprintln!("stale: {text}"));
}

#[test]
fn every_known_difference_is_told() {
    let row = |known: &Known| {
        let status = if known.status == Status::Chosen { "chosen" } else { "open" };
        let cases: Vec<&str> = known.shows.iter().flat_map(|(cases, _)| *cases).copied().collect();
        format!("| `{}` | {status} | {} | {} |\n", known.id, known.why, cases.join("; "))
    };
    let head = "| difference | | why | cases |\n| --- | --- | --- | --- |\n";
    let table = KNOWN.iter().map(row).fold(head.to_owned(), |table, row| table + &row);
    if compliance::is_written() {
        compliance::write_part("differences", &table);
    }
    assert_eq!(compliance::part("differences"), table, "cargo xtask compliance writes it anew");
}
