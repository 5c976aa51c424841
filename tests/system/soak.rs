//! Thousands of random operations, and a model of what should exist after each.
//!
//! `NETD_SOAK_OPERATIONS` and `NETD_SOAK_SEED` choose how many and which; `cargo xtask soak` sets them.

use std::env;

use netd_tests::soak::{
    generate::operations,
    run::{run, shortest},
};

/// How many operations there are in an ordinary run of the tests, and which: a daemon that is killed while it
/// answers, one that is killed at rest, and a stranger are among them.
const OPERATIONS: u32 = 80;
const SEED: u64 = 16_698;

#[test]
fn what_exists_is_what_was_asked_for_whatever_happens() {
    let seed = number("NETD_SOAK_SEED").unwrap_or(SEED);
    let count = number("NETD_SOAK_OPERATIONS").unwrap_or(OPERATIONS.into());
    let operations = operations(seed, u32::try_from(count).unwrap());
    match run(&operations) {
        Ok(report) => eprintln!("{count} operations of seed {seed}: {report:?}"),
        Err(failure) => {
            let lines = |list: &[_]| {
                list.iter().map(|operation| format!("  {operation}\n")).collect::<String>()
            };
            let done = operations.len().min(failure.at + 1);
            eprintln!("seed {seed}, after these operations:\n{}", lines(&operations[..done]));
            eprintln!("{}", failure.what);
            let shortest = shortest(&operations, &failure);
            panic!(
                "NETD_SOAK_SEED={seed} fails at operation {done}: {}\nThe shortest list that fails:\n{}",
                failure.what,
                lines(&shortest)
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}
