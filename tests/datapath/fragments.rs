//! Fragments through the programs: each becomes that of the translated whole, in order and out of it.

use anyhow::{Result, ensure};
use netd_common::reason::Reason;
use netd_tests::{
    family::Family,
    fragments::fragments,
    packet::{Kind, Packet},
};

use crate::host::{
    At, DNS, FROM_UPLINK, Host, NET_A, TO_UPLINK, end, from_endpoint, inside, on_a_host,
};

/// Runs a fragment, which is to meet `reason` and to become `expected`.
fn becomes(host: &mut Host, at: At, sent: &[u8], reason: Reason, expected: &[u8]) -> Result<()> {
    let (met, after) = host.meets(at, sent)?;
    ensure!(met == reason, "met {met:?} instead of {reason:?}: {sent:02x?}");
    ensure!(after == expected, "{reason:?}: {after:02x?} instead of {expected:02x?}");
    Ok(())
}

/// The fragments of a packet with this identification.
fn parts(packet: &Packet, id: u32) -> Vec<Vec<u8>> {
    fragments(&packet.with_payload_len(60).frame(), id, 24)
}

/// A container's packet to the world.
fn call(family: Family) -> Packet {
    Packet::new(Kind::Udp, end(inside(family, NET_A, 2), 5000), end(family.remote(), 53))
}

#[test]
fn every_fragment_becomes_that_of_the_whole() -> Result<()> {
    on_a_host(|host, family| {
        let ask = Packet::new(Kind::Udp, end(family.client(), 40_000), end(family.host(), DNS));
        let asked = ask.to(end(inside(family, NET_A, 2), 53));
        let called = call(family).from(end(family.host(), 5000));
        for (at, sent, reason, after) in [
            (FROM_UPLINK, &ask, Reason::Published, &asked),
            (TO_UPLINK, &call(family), Reason::Masqueraded, &called),
        ] {
            for (sent, after) in parts(sent, 7).iter().zip(&parts(after, 7)) {
                becomes(host, at, sent, reason, after)?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_fragment_before_the_first_is_held_and_that_one_restored() -> Result<()> {
    on_a_host(|host, family| {
        let at = from_endpoint(NET_A, 2);
        let parts = parts(&call(family), 8);
        for early in parts[1..].iter().rev() {
            becomes(host, at, early, Reason::FragmentHeld, early)?;
        }
        // It has lent its buffer to both others, and shows no trace of that.
        becomes(host, at, &parts[0], Reason::ContainerToOutside, &parts[0])?;
        becomes(host, at, &parts[1], Reason::ContainerToOutside, &parts[1])?;
        // What is longer than any place is not held.
        let long = fragments(&call(family).with_payload_len(6000).frame(), 9, 2400);
        becomes(host, at, &long[1], Reason::ContainerToOutside, &long[1])
    })
}
