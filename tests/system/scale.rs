//! A host with many containers.
//!
//! `NETD_SCALE_NETWORKS`, `NETD_SCALE_ENDPOINTS`, `NETD_SCALE_PORTS` and `NETD_SCALE_ROUNDS` choose how many there
//! are and how often everything is measured; `cargo xtask scale` sets them. No figure makes the test fail.

use std::env;

use netd_tests::scale::{Crowd, Figure, Gone, Size, table};

#[test]
fn every_container_is_there_after_a_start_whatever_was_gone() {
    let number = |what: &str, default| {
        let text = env::var(format!("NETD_SCALE_{what}")).ok();
        text.map_or(default, |text| text.parse().unwrap())
    };
    let size = Size {
        networks: number("NETWORKS", 3),
        endpoints: number("ENDPOINTS", 7),
        ports: number("PORTS", 14),
    };
    let rounds = number("ROUNDS", 1);
    let (mut crowd, mut figures) = Crowd::new(size);
    figures.extend(crowd.requests(rounds));
    let kinds = [Gone::Nothing, Gone::Pins, Gone::PinsAndDevices];
    let mut times = kinds.map(|_| Vec::new());
    for _ in 0..rounds {
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.push(crowd.start(*kind));
        }
    }
    figures.extend(kinds.iter().zip(times).map(|(kind, times)| Figure::of_starts(*kind, times)));
    eprintln!("{size:?}\n{}", table(&figures));
}
