//! The expiry of flows: a thread that scans the table, guesses which flows are over, and has the kernel
//! look again and remove them.
//!
//! The guess may be wrong either way round. A half that looks over is judged by the program, which sees
//! both halves as they stand; a flow that is over shows it in at least one half, and if not in this scan
//! then in the next.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use aya::programs::{TestRun as _, TestRunOptions};
use bytemuck::{NoUninit, bytes_of};
use netd_common::{
    address::{Address, V4, V6},
    config::{DatapathConfig, Timeout},
    conntrack::{CtEntry, CtKey, Seen},
    expiry::{BATCH, BatchHead},
    header::{ETHERNET_LEN, proto},
    names,
};
use tracing::warn;

use super::{
    DatapathError,
    conntrack::{Conntrack, now_secs},
    load::program_error,
};
use crate::clock::Stopwatch;

/// How much longer a pause is than the scan before it: expiry takes at most 1 % of one CPU.
const PAUSE_PER_SCAN: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Scans until the sender of `stop` is gone.
pub(crate) fn run(mut conntrack: Conntrack, stop: &Receiver<()>) {
    let mut pause = MIN_PAUSE;
    while stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let watch = Stopwatch::start();
        if let Err(error) = scan(&mut conntrack) {
            warn!(error = &error as &dyn std::error::Error, "flows could not be expired");
        }
        pause = (watch.elapsed() * PAUSE_PER_SCAN).clamp(MIN_PAUSE, MAX_PAUSE);
    }
}

/// One walk over the table.
fn scan(conntrack: &mut Conntrack) -> Result<(), DatapathError> {
    let (config, now) = (conntrack.config()?, now_secs());
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    conntrack.for_each_half(
        |keys, entries| v4.extend(candidates(keys, entries, &config, now)),
        |keys, entries| v6.extend(candidates(keys, entries, &config, now)),
    )?;
    v4.chunks(BATCH).try_for_each(|keys| expire::<V4>(conntrack, keys, false))?;
    v6.chunks(BATCH).try_for_each(|keys| expire::<V6>(conntrack, keys, true))
}

fn candidates<A: Address>(
    keys: &[CtKey<A>],
    entries: &[CtEntry<A>],
    config: &DatapathConfig,
    now: u32,
) -> impl Iterator<Item = CtKey<A>> {
    keys.iter().zip(entries).filter_map(move |(key, entry)| {
        let idle = now.saturating_sub(entry.last_seen_secs);
        (idle >= shortest_timeout(key.proto, entry.seen, config)).then_some(*key)
    })
}

/// The shortest time that a flow can live of which one half has carried `seen`.
fn shortest_timeout(protocol: u8, seen: u8, config: &DatapathConfig) -> u32 {
    let timeouts: &[Timeout] = match protocol {
        proto::TCP if seen & Seen::RST != 0 => &[Timeout::TcpClose],
        proto::TCP if seen & Seen::FIN != 0 => &[Timeout::TcpFinWait, Timeout::TcpTimeWait],
        // Whether the other side has closed or reset shows in the other half.
        proto::TCP if seen & Seen::ACK != 0 => &[Timeout::TcpEstablished],
        proto::TCP => &[Timeout::TcpSynSent, Timeout::TcpSynRecv, Timeout::TcpUnacknowledged],
        proto::UDP => &[Timeout::Udp, Timeout::UdpStream],
        proto::ICMP | proto::ICMPV6 => &[Timeout::Icmp],
        _ => &[Timeout::Generic],
    };
    timeouts.iter().map(|&timeout| config.timeout(timeout)).min().unwrap_or(0)
}

/// Has the kernel look at a batch of flows.
fn expire<A: Address>(
    conntrack: &mut Conntrack,
    keys: &[CtKey<A>],
    is_v6: bool,
) -> Result<(), DatapathError>
where
    CtKey<A>: NoUninit,
{
    let mut packet = vec![0; ETHERNET_LEN as usize];
    packet.extend_from_slice(bytes_of(&BatchHead::new(is_v6)));
    keys.iter().for_each(|key| packet.extend_from_slice(bytes_of(key)));
    let options = TestRunOptions {
        data_in: Some(&packet),
        repeat: keys.len() as u32,
        ..TestRunOptions::default()
    };
    conntrack.expire_flows.test_run(options).map_err(program_error(names::EXPIRE_FLOWS))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(protocol: u8, seen: u8, expected: u32) {
        assert_eq!(shortest_timeout(protocol, seen, &DatapathConfig::DEFAULT), expected);
    }

    #[test]
    fn a_half_is_a_candidate_no_later_than_its_flow_can_be_over() {
        check(proto::TCP, Seen::PACKET | Seen::SYN, 60);
        check(proto::TCP, 0, 60);
        check(proto::TCP, Seen::SYN | Seen::ACK, 432_000);
        check(proto::TCP, Seen::SYN | Seen::ACK | Seen::FIN, 120);
        check(proto::TCP, Seen::SYN | Seen::ACK | Seen::FIN | Seen::RST, 10);
        check(proto::UDP, Seen::PACKET, 30);
        check(proto::ICMP, Seen::PACKET, 30);
        check(132, Seen::PACKET, 600);
    }
}
