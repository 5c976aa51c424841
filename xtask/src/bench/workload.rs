//! What is measured.

mod connections;
mod tcp_stream;
mod udp_packets;

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::testbed::Testbed;

/// How many published ports many are.
pub(super) const MANY_PORTS: u16 = 10_000;

/// How long a program may take beyond what it was told.
const GRACE: Duration = Duration::from_secs(15);

/// A kind of traffic and the figure that it gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Workload {
    /// One TCP stream to the container
    Tcp,
    /// One TCP stream from the container
    TcpReverse,
    /// Small UDP packets to the container
    Udp,
    /// New TCP connections, one published port
    Connections,
    /// New TCP connections, ten thousand published ports
    ConnectionsMany,
}

impl Workload {
    /// The heading of its results.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP stream, client to container",
            Self::TcpReverse => "TCP stream, container to client",
            Self::Udp => "UDP packets of 64 bytes, client to container",
            Self::Connections => "new TCP connections, 1 published port",
            Self::ConnectionsMany => "new TCP connections, 10,000 published ports",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Tcp | Self::TcpReverse => "Gbit/s",
            Self::Udp => "kpackets/s",
            Self::Connections | Self::ConnectionsMany => "connections/s",
        }
    }

    /// How many digits after the point mean something.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Tcp | Self::TcpReverse => 2,
            Self::Udp => 1,
            Self::Connections | Self::ConnectionsMany => 0,
        }
    }

    /// How many TCP ports are published meanwhile.
    pub(super) fn ports(self) -> u16 {
        if self == Self::ConnectionsMany { MANY_PORTS } else { 1 }
    }

    /// Sends the traffic and returns the figure.
    ///
    /// # Errors
    /// Fails if a program fails or nothing arrives.
    pub(super) fn measure(self, bed: &Testbed, cpus: Cpus, seconds: u32) -> Result<f64> {
        let figure = match self {
            Self::Tcp => tcp_stream::measure(bed, cpus, seconds, &[]),
            Self::TcpReverse => tcp_stream::measure(bed, cpus, seconds, &["--reverse"]),
            Self::Udp => udp_packets::measure(bed, cpus, seconds),
            Self::Connections | Self::ConnectionsMany => connections::measure(bed, cpus, seconds),
        }?;
        ensure!(figure > 0.0, "nothing arrived");
        Ok(figure)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Where client and server run: each on a CPU of its own if there are two, and the same for every
/// peer. What packets cost on their way falls to the CPU of who sent them.
#[derive(Clone, Copy)]
pub(super) struct Cpus {
    pub(super) client: usize,
    pub(super) server: usize,
}

impl Cpus {
    /// The first and the last CPU that we may use.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub(super) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
        let mut cpus = (0..CpuSet::count()).filter(is_allowed);
        let client = cpus.next().unwrap_or(0);
        Ok(Self { client, server: cpus.next_back().unwrap_or(client) })
    }
}

/// Keeps the calling thread on one CPU.
fn pin_thread(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn limit(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()) + GRACE
}
