//! Rule sets and packets that nobody has written down.

use std::env;

use netd_tests::{
    family::Family,
    hostile::random::Random,
    oracle::{
        compare::{Numbers, differences},
        golden::{self, Options, RuleSet},
        made_up,
        rules::{both_with_ports, specs},
        side::{Engine, Places, Side},
    },
};

/// How many rounds the suite takes.
const ROUNDS: u32 = 6;

/// The same in every run of the suite; `cargo xtask oracle` tries others.
const SEED: u64 = 4;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

/// A round: other ports, other packets.
fn round(
    sides: &mut [Side; 2],
    set: &RuleSet,
    random: &mut Random,
    numbers: &mut Numbers,
) -> Vec<String> {
    let options: &Options = &set.options;
    let ports = made_up::ports(random);
    let texts = both_with_ports(&set.texts, &ports);
    let specs = specs(&ports, options.mode);
    sides.iter_mut().for_each(|side| side.configure_ports(options, &texts, &specs));
    let of = |family| made_up::batch(Places::of(family), options, random);
    let drafts: Vec<_> = Family::BOTH.into_iter().flat_map(of).collect();
    let found = differences(sides.each_ref(), &drafts, |_| false, numbers);
    found.iter().map(|found| format!("{options}, ports {specs:?}: {found:?}")).collect()
}

#[test]
fn netd_does_what_iptables_does_with_made_up_packets() {
    let seed = setting("NETD_ORACLE_SEED").unwrap_or(SEED);
    eprintln!("seed {seed}");
    let mut sets = golden::all();
    sets.retain(|set| made_up::is_meant_alike(&set.options));
    let mut sides = [Engine::Netd, Engine::Iptables].map(|engine| Side::new(engine, ""));
    let (mut numbers, mut found) = (Numbers::default(), Vec::new());
    for number in 0..setting("NETD_ORACLE_ROUNDS").unwrap_or(ROUNDS) {
        let mut random = Random::of_packet(seed, number);
        let set = &sets[random.below(sets.len())];
        found.extend(round(&mut sides, set, &mut random, &mut numbers));
    }
    let arrived = sides.each_ref().map(Side::arrived);
    eprintln!("{arrived:?} packets arrived");
    assert!(arrived.into_iter().all(|arrived| arrived > 100), "{arrived:?}");
    assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
}
