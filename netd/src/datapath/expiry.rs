//! The expiry of flows: a thread that scans the table, guesses which flows are over, and has the kernel
//! look again and remove them.
//!
//! The guess may be wrong either way round. A half that looks over is judged by the program, which sees
//! both halves as they stand; a flow that is over shows it in at least one half, and if not in this scan
//! then in the next.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use netd_common::{
    address::Address,
    config::{DatapathConfig, Timeout},
    conntrack::{CtEntry, CtKey, Pressure, Seen, Zone},
    counters::owner,
    engine::mapping_timeout,
    expiry::BatchHead,
    header::proto,
};
use tracing::{info, warn};

use super::{DatapathError, conntrack::Conntrack, flow_counts::Fullness};
use crate::{
    clock::{self, Stopwatch},
    privileges,
};

/// How much longer a pause is than the scan before it: expiry takes at most 1 % of one CPU, and 10 % while
/// a table is nearly full.
const PAUSE_PER_SCAN: u32 = 100;
const PAUSE_UNDER_PRESSURE: u32 = 10;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The thread. Dropping it while there is no table yet ends it.
#[derive(Debug)]
pub(crate) struct Expiry {
    thread: JoinHandle<()>,
    tables: Sender<Conntrack>,
}

impl Expiry {
    /// Makes the thread, which waits for its table.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let (tables, given) = channel();
        let thread = thread::Builder::new().name("expiry".to_owned()).spawn(move || run(&given))?;
        Ok(Self { thread, tables })
    }

    /// Gives the thread its table.
    pub(crate) fn begin(&self, conntrack: Conntrack) {
        // One that has ended has said why.
        let _ = self.tables.send(conntrack);
    }

    /// Ends the thread: at once, but for a scan.
    pub(crate) fn end(self) {
        drop(self.tables);
        let _ = self.thread.join();
    }
}

fn run(tables: &Receiver<Conntrack>) {
    let Ok(conntrack) = tables.recv() else { return };
    // Those of the thread, which is older than what the daemon has given up.
    if let Err(error) = privileges::drop_unneeded() {
        warn!(%error, "capabilities cannot be dropped: flows do not expire");
        return;
    }
    expire(conntrack, tables);
}

/// Scans until the sender of tables is gone. A table that fills up is scanned without waiting for the end
/// of the pause.
fn expire(mut conntrack: Conntrack, tables: &Receiver<Conntrack>) {
    let mut told = [Pressure::None; 2];
    let (mut last, mut rest) = (Stopwatch::start(), MIN_PAUSE);
    while matches!(tables.recv_timeout(MIN_PAUSE), Err(RecvTimeoutError::Timeout)) {
        let pressure = tell_pressure(&conntrack, &mut told);
        let pause = if pressure == Pressure::None { rest } else { rest / PAUSE_UNDER_PRESSURE };
        if last.elapsed() < pause.min(MAX_PAUSE) {
            continue;
        }
        let watch = Stopwatch::start();
        if let Err(error) = scan(&mut conntrack) {
            warn!(error = &error as &dyn std::error::Error, "flows could not be expired");
        }
        rest = watch.elapsed() * PAUSE_PER_SCAN;
        last = Stopwatch::start();
    }
}

/// Says where a table has passed a watermark, once for each time. The greatest pressure.
fn tell_pressure(conntrack: &Conntrack, told: &mut [Pressure; 2]) -> Pressure {
    let Ok((tables, max_flows)) = conntrack.fullness() else {
        // The scan says what is wrong.
        return Pressure::None;
    };
    for ((family, table), told) in ["IPv4", "IPv6"].into_iter().zip(tables).zip(told.iter_mut()) {
        let Fullness { live: flows, displaced, pressure } = table;
        match pressure {
            _ if pressure == *told => {}
            Pressure::None => {
                info!(family, flows, max_flows, "the connection table has room again")
            }
            Pressure::High => warn!(
                family,
                flows,
                max_flows,
                "the connection table is three quarters full: flows that are not set up have half their time"
            ),
            Pressure::Critical => warn!(
                family,
                flows,
                max_flows,
                displaced,
                "the connection table is nine tenths full: flows that are not set up give way"
            ),
        }
        *told = pressure;
    }
    tables.iter().map(|table| table.pressure).max().unwrap_or_default()
}

/// What a scan goes by.
struct Scan {
    config: DatapathConfig,
    generations: Vec<u32>,
    now: u32,
}

/// One walk over the table.
fn scan(conntrack: &mut Conntrack) -> Result<(), DatapathError> {
    let scan = Scan {
        config: conntrack.config()?,
        generations: conntrack.generations()?,
        now: clock::kernel_secs(),
    };
    let ([table_v4, table_v6], _) = conntrack.fullness()?;
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    conntrack.for_each_half(
        |keys, entries| v4.extend(scan.candidates(keys, entries, table_v4.pressure)),
        |keys, entries| v6.extend(scan.candidates(keys, entries, table_v6.pressure)),
    )?;
    conntrack.remove(&v4, BatchHead::new(false))?;
    conntrack.remove(&v6, BatchHead::new(true))?;
    Ok(())
}

impl Scan {
    fn candidates<A: Address>(
        &self,
        keys: &[CtKey<A>],
        entries: &[CtEntry<A>],
        pressure: Pressure,
    ) -> impl Iterator<Item = CtKey<A>> {
        keys.iter().zip(entries).filter_map(move |(key, entry)| {
            let idle = self.now.saturating_sub(entry.last_seen_secs);
            let is_over = match key.zone {
                // A mapping's reply half goes with the other, which says when.
                Zone::MAPPINGS if entry.is_reply() => false,
                Zone::MAPPINGS => {
                    idle >= self.config.timeout(mapping_timeout(key.proto, entry.seen))
                }
                _ => idle >= shortest_timeout(key.proto, entry.seen, &self.config, pressure),
            };
            (is_over || self.has_lost_owner(entry)).then_some(*key)
        })
    }

    /// Whether the published port or the owner of the flow has gone.
    fn has_lost_owner<A: Address>(&self, entry: &CtEntry<A>) -> bool {
        let generation =
            |index: u32| self.generations.get(index as usize).copied().unwrap_or_default();
        let owner = owner(entry.endpoint_slot, entry.network);
        let sum = generation(entry.slot).wrapping_add(generation(owner));
        entry.generation != sum
    }
}

/// The shortest time that a flow can live of which one half has carried `seen`. What else there is to know
/// shows in the other half, which is looked at too.
fn shortest_timeout(protocol: u8, seen: u8, config: &DatapathConfig, pressure: Pressure) -> u32 {
    use Timeout as T;

    let timeouts: &[Timeout] = match protocol {
        proto::TCP if seen & Seen::RST != 0 => &[T::TcpClose],
        proto::TCP if seen & Seen::FIN != 0 => {
            &[T::TcpFinWait, T::TcpCloseWait, T::TcpLastAck, T::TcpTimeWait]
        }
        proto::TCP if seen & Seen::ACK != 0 && seen & Seen::SYN != 0 => &[T::TcpEstablished],
        proto::TCP if seen & Seen::ACK != 0 => &[T::TcpEstablished, T::TcpUnacknowledged],
        proto::TCP => &[T::TcpSynSent, T::TcpSynSent2, T::TcpSynRecv, T::TcpUnacknowledged],
        proto::SCTP if seen & Seen::RST != 0 => &[T::SctpClosed],
        proto::SCTP if seen & (Seen::FIN | Seen::SHUTDOWN_ACK) != 0 => {
            &[T::SctpShutdownSent, T::SctpShutdownRecd, T::SctpShutdownAckSent]
        }
        proto::SCTP if seen & Seen::ACK != 0 => &[T::SctpEstablished],
        proto::SCTP if seen & Seen::SYN != 0 => &[T::SctpCookieWait, T::SctpCookieEchoed],
        proto::SCTP => &[T::SctpHeartbeatSent, T::SctpEstablished],
        proto::UDP => &[T::Udp, T::UdpStream],
        proto::ICMP => &[T::Icmp],
        proto::ICMPV6 => &[T::Icmpv6],
        _ => &[T::Generic],
    };
    let secs = timeouts.iter().map(|&timeout| config.timeout(timeout)).min().unwrap_or(0);
    // A half that has carried both looks set up; one that closes or has just begun does not.
    let is_set_up = matches!(timeouts, [T::TcpEstablished] | [T::SctpEstablished]);
    if is_set_up { secs } else { pressure.shorten(secs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(protocol: u8, seen: u8, expected: u32) {
        let config = &DatapathConfig::DEFAULT;
        assert_eq!(shortest_timeout(protocol, seen, config, Pressure::None), expected);
    }

    #[test]
    fn a_half_is_a_candidate_no_later_than_its_flow_can_be_over() {
        check(proto::TCP, Seen::PACKET | Seen::SYN, 60);
        check(proto::TCP, 0, 60);
        check(proto::TCP, Seen::SYN | Seen::ACK, 432_000);
        check(proto::TCP, Seen::ACK, 300);
        check(proto::TCP, Seen::SYN | Seen::ACK | Seen::FIN, 30);
        check(proto::TCP, Seen::SYN | Seen::ACK | Seen::FIN | Seen::RST, 10);
        check(proto::UDP, Seen::PACKET, 30);
        check(proto::ICMP, Seen::PACKET, 30);
        check(proto::ICMPV6, Seen::PACKET, 30);
        check(proto::SCTP, Seen::PACKET, 30);
        check(proto::SCTP, Seen::SYN | Seen::ACK, 210);
        check(47, Seen::PACKET, 600);
    }
}
