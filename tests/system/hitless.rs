//! A daemon that comes and goes, and flows that may not notice: the runs of `netd_tests::hitless`.
//!
//! `NETD_HITLESS_FLOWS`, `_IDLE_FLOWS`, `_RESTARTS`, `_KILLS` and `_UPGRADES` choose how many there are of each,
//! and `NETD_OTHER_BIN` the build of the upgrades; `cargo xtask hitless` sets them.

use std::env;

use netd_tests::hitless::{
    run::{Run, Table},
    stage::Stage,
    trouble::Plan,
};

/// The program that every lane's processes run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hitless");

/// How many there are of each in an ordinary run of the tests.
const FLOWS: u32 = 200;
const IDLE_FLOWS: u32 = 4_000;
const RESTARTS: u32 = 2;
const KILLS: u32 = 2;

#[test]
fn no_flow_notices_that_the_daemon_comes_and_goes() {
    let plan = Plan {
        restarts: number("RESTARTS").unwrap_or(RESTARTS),
        kills: number("KILLS").unwrap_or(KILLS),
        upgrades: number("UPGRADES").unwrap_or_default(),
        other: env::var_os("NETD_OTHER_BIN").map(Into::into),
    };
    let flows = number("FLOWS").unwrap_or(FLOWS);
    let idle_flows = number("IDLE_FLOWS").unwrap_or(IDLE_FLOWS);
    let mut stage = Stage::new(PROGRAM, flows, idle_flows);
    let troubles = plan.troubles();
    let troubled = Run::troubled(&mut stage, &troubles);
    let quiet = Run::quiet(&mut stage, troubled.took);
    let idle_lost = stage.idle.flows - stage.idle.established(&stage.world);
    eprint!("{}", Table([("comes and goes", &troubled), ("stays", &quiet)]));
    eprintln!("{idle_lost} of {} idle flows lost", stage.idle.flows);
    for run in [&troubled, &quiet] {
        assert!(run.verdict.is_whole(), "{:?}", run.verdict.lost);
    }
    assert_eq!(troubled.starts.len(), troubles.len());
    assert_eq!(idle_lost, 0);
}

#[test]
fn a_flow_that_loses_its_entry_is_noticed() {
    let mut stage = Stage::new(PROGRAM, 8, 2);
    let run = Run::with(&mut stage, |stage, flows| {
        let flush = |filter: &str| stage.world.netd(&format!("conntrack flush -q {filter}")).ok();
        // One of each family.
        assert_eq!(flush("--dport 8081"), "2\n");
        assert_eq!(flush("--dport 7000"), "2\n");
        flows.go_on();
        Vec::new()
    });
    let verdict = &run.verdict;
    assert!(!verdict.is_whole());
    assert_eq!(verdict.lost.values().sum::<u32>(), 2, "{:?}", verdict.lost);
    assert!(verdict.lost.keys().all(|what| what.starts_with("published")), "{:?}", verdict.lost);
    assert_eq!(stage.idle.established(&stage.world), 0);
}

fn number(what: &str) -> Option<u32> {
    env::var(format!("NETD_HITLESS_{what}")).ok().map(|text| text.parse().unwrap())
}
