//! Nothing crosses networks, whatever is sent: the attack of `netd_tests::hostile`.
//!
//! `NETD_HOSTILE_SECONDS` and `NETD_HOSTILE_SEED` choose how long and with which packets;
//! `cargo xtask hostile` sets them.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use netd_tests::{
    condition::within,
    hostile::{
        attack::Attack,
        battle::Battle,
        observers::Seen,
        stage::{GUESTS, Stage},
        table::Way,
        tally::SentTally,
    },
};

/// How long the attack on one data path takes in an ordinary run of the tests.
const SECONDS: u64 = 6;

/// What drops packets of the attack: all of it has to be met.
const WALLS: [&str; 9] = [
    "networks_apart",
    "icc_off",
    "internal_network",
    "source_not_in_subnet",
    "spoofed_source",
    "direct_routing",
    "loopback_address",
    "source_route",
    "malformed",
];

#[test]
fn nothing_crosses_networks() {
    let (sent, seen) = attack(Stage::new(), make_trouble);
    assert_eq!(seen.lost, 0, "observers have missed packets");
    assert!(seen.violations.is_empty(), "{}", seen.report());
    assert!(sent.kinds() > 100, "{sent}");
    for (observer, way) in [
        ("client", Way::Translated),
        ("db", Way::Published),
        ("neighbour", Way::Arp),
        ("neighbour", Way::Discovery),
    ] {
        assert!(seen.count(observer, way) > 0, "{observer}, {way:?}: {}", seen.arrived);
    }
}

#[test]
fn the_observers_see_what_crosses_where_there_is_no_wall() {
    let stage = Stage::new();
    stage.world.netd("network allow front back").ok();
    let (_, seen) = attack(stage, |battle, _| battle.wait_for_packets(2000));
    assert!(seen.violations.keys().any(|what| what.ends_with("from app at db")), "{seen:?}");
    assert!(!seen.violations.keys().any(|what| what.contains("vault")), "{}", seen.report());
}

/// Attacks while something else is done, and shows before and after that every observer sees.
fn attack(mut stage: Stage, meanwhile: impl FnOnce(&Battle<'_>, &mut Stage)) -> (SentTally, Seen) {
    let seed = number("NETD_HOSTILE_SEED").unwrap_or_else(random_seed);
    eprintln!("NETD_HOSTILE_SEED={seed}");
    let attack = Attack::new(stage.scene.clone(), seed);
    let (sniffers, senders) = (stage.sniffers().unwrap(), stage.senders().unwrap());
    let battle = Battle::new(&attack, &sniffers, &senders);
    let stage = std::cell::RefCell::new(&mut stage);
    let (sent, seen) = battle
        .fight(
            |battle| battle.check_controls(&stage.borrow(), None),
            |battle| meanwhile(battle, &mut stage.borrow_mut()),
            |battle| {
                // Neighbours may have told the host lies about each other; it asks again.
                stage.borrow().world.host.ip(&["neigh flush all"]);
                battle.check_controls(&stage.borrow(), None);
            },
        )
        .unwrap();
    eprintln!("{sent}\n{}\n{} frames of nobody", seen.arrived, seen.background);
    for wall in WALLS {
        assert!(stage.borrow().world.packets(wall) > 0, "nothing was dropped for {wall}");
    }
    (sent, seen)
}

/// Lets containers come and go and kills the daemon, as long as the attack is to go on.
fn make_trouble(battle: &Battle<'_>, stage: &mut Stage) {
    let seconds = number("NETD_HOSTILE_SECONDS").unwrap_or(SECONDS);
    within(Duration::from_secs(seconds), || {
        make_trouble_once(battle, stage);
        None::<()>
    });
}

fn make_trouble_once(battle: &Battle<'_>, stage: &mut Stage) {
    for guest in GUESTS {
        stage.connect(guest);
        battle.watch_again(stage.number(guest)).unwrap();
        battle.wait_for_packets(200);
        if guest == GUESTS[0] {
            stage.world.daemon.kill();
            battle.wait_for_packets(200);
            stage.world.daemon.start();
        }
        stage.disconnect(guest);
    }
    for attacker in ["mallory", "vault"] {
        stage.disconnect(attacker);
        battle.wait_for_packets(100);
        stage.connect(attacker);
        battle.watch_again(stage.number(attacker)).unwrap();
    }
    kill_while_connecting(stage);
}

/// Whatever of a connection is there after the daemon's death, it is complete or gone.
fn kill_while_connecting(stage: &mut Stage) {
    let guest = GUESTS[1];
    let mut connecting = stage.world.daemon.begin(&stage.connect_line(guest));
    let links = || stage.namespace(stage.number(guest)).has_link("eth0");
    while !links() && connecting.status().is_none() {}
    stage.world.daemon.kill();
    connecting.wait();
    stage.world.daemon.start();
    if stage.world.netd("endpoint ls -q").ok().lines().any(|line| line == "guest") {
        stage.disconnect(guest);
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "every run is to send other packets")]
fn random_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}
