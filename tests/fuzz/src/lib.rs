//! The targets live with the tests of what they are about, which try their corpora again in every run:
//! `netd-common/tests/engine/fuzz/mod.rs` and `netd/tests/inputs.rs`. Here they are only compiled for libFuzzer.

#![expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "tests need more of the host model than fuzzing does"
)]
#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

#[path = "../../../netd-common/tests/engine/checksums.rs"]
mod checksums;
#[path = "../../../netd-common/tests/engine/family.rs"]
mod family;
#[path = "../../../netd-common/tests/engine/fuzz/mod.rs"]
mod fuzz;
#[path = "../../../netd/tests/inputs/targets.rs"]
mod inputs;
#[path = "../../../netd-common/tests/engine/message.rs"]
mod message;
#[path = "../../../netd-common/tests/engine/packet.rs"]
mod packet;
#[path = "../../../netd-common/tests/engine/place.rs"]
mod place;
#[path = "../../../netd-common/tests/engine/runs.rs"]
mod runs;
#[path = "../../../netd-common/tests/engine/scene.rs"]
mod scene;
#[path = "../../../netd-common/tests/engine/tables.rs"]
mod tables;

/// Runs a target on an input.
///
/// # Panics
/// Where there is no such target, and where something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let mut targets = fuzz::TARGETS.iter().chain(&inputs::TARGETS);
    let (_, target) = targets.find(|target| target.0 == name).expect("a target");
    target(data);
}
