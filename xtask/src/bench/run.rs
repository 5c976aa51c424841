//! One run: its testbeds, and the rounds through all of them.

use std::{num::NonZeroU32, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{
    Args,
    address::Family,
    peer::Peer,
    report::Measurement,
    scratch::Scratch,
    testbed::{Plan, Testbed},
    wait,
    workload::{Cpus, Workload},
};
use crate::{ebpf, workspace::Workspace};

const ROUNDS: u32 = 5;
const SECONDS: u32 = 3;

/// What is measured, how often and for how long.
pub(super) struct Run {
    rounds: u32,
    seconds: u32,
    family: Family,
    peers: Vec<Peer>,
    workloads: Vec<Workload>,
    cpus: Cpus,
    before: Option<PathBuf>,
    scratch: Scratch,
}

/// Everything that packets travel through in one run.
pub(super) type Testbeds = Vec<((Peer, u16), Testbed)>;

impl Run {
    /// Takes what was asked for, and the usual for the rest.
    ///
    /// # Errors
    /// Fails if the kernel does not tell our CPUs or there is no place for files.
    pub(super) fn new(args: &Args) -> Result<Self> {
        let number = |given: Option<NonZeroU32>, usual| {
            given.map_or(if args.quick { 1 } else { usual }, NonZeroU32::get)
        };
        Ok(Self {
            rounds: number(args.rounds, ROUNDS),
            seconds: number(args.seconds, SECONDS),
            family: if args.ipv6 { Family::V6 } else { Family::V4 },
            peers: peers(args)?,
            workloads: chosen(&args.workloads),
            cpus: Cpus::choose()?,
            before: args.before.clone(),
            scratch: Scratch::new()?,
        })
    }

    /// As a line for people.
    pub(super) fn text(&self) -> String {
        let Self { rounds, seconds, family, .. } = self;
        let Cpus { client, server } = self.cpus;
        format!(
            "{}, medians of {rounds} rounds of {seconds} s, client on CPU {client}, server on CPU \
             {server}\n",
            family.name()
        )
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "rounds": self.rounds, "seconds": self.seconds, "family": self.family.name(),
            "client_cpu": self.cpus.client, "server_cpu": self.cpus.server,
        })
    }

    /// Builds one testbed for each peer and number of published ports.
    ///
    /// # Errors
    /// Fails if one of them cannot be built or does not work.
    pub(super) fn testbeds(&self, workspace: &Workspace) -> Result<Testbeds> {
        let (netd, prototype) = (workspace.netd(true), ebpf::prototype_path(workspace));
        let mut beds = Testbeds::new();
        for &workload in &self.workloads {
            for &peer in &self.peers {
                let ports = ports(peer, workload);
                if beds.iter().any(|(key, _)| *key == (peer, ports)) {
                    continue;
                }
                let start = wait::now();
                let (family, scratch) = (self.family, &self.scratch);
                let netd = self.before.as_deref().filter(|_| peer.is_before()).unwrap_or(&netd);
                let plan = Plan { peer, family, ports, netd, prototype: &prototype, scratch };
                let bed = plan.build().with_context(|| format!("{peer} cannot be set up"))?;
                let secs = start.elapsed().as_secs_f64();
                println!("ready      {peer:<16} {ports:>6} published ports, took {secs:.1} s");
                beds.push(((peer, ports), bed));
            }
        }
        Ok(beds)
    }

    /// Goes through all rounds.
    ///
    /// # Errors
    /// Fails with the first measurement that does.
    pub(super) fn measure(&self, beds: &Testbeds) -> Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        for round in 1..=self.rounds {
            for &workload in &self.workloads {
                // Whoever comes after a heavy peer may suffer from it; not the same one each time.
                let mut peers = self.peers.clone();
                peers.rotate_left(round as usize % self.peers.len());
                for peer in peers {
                    let bed = find(beds, peer, workload)?;
                    let figure = workload
                        .measure(bed, self.cpus, self.seconds)
                        .with_context(|| format!("{workload} through {peer}"))?;
                    let (digits, unit) = (workload.digits(), workload.unit());
                    println!(
                        "round {round}/{} {peer:<16} {workload:<16} {figure:>10.digits$} {unit}",
                        self.rounds
                    );
                    measurements.push(Measurement { round, peer, workload, figure });
                }
            }
        }
        Ok(measurements)
    }
}

fn find(beds: &Testbeds, peer: Peer, workload: Workload) -> Result<&Testbed> {
    let key = (peer, ports(peer, workload));
    let bed = beds.iter().find(|(other, _)| *other == key).map(|(_, bed)| bed);
    bed.with_context(|| format!("there is no testbed for {peer}"))
}

/// Where the number of published ports makes no difference, one testbed does for all workloads.
fn ports(peer: Peer, workload: Workload) -> u16 {
    if peer.has_tables() { workload.ports() } else { 1 }
}

/// Whoever was chosen; without an earlier netd its peers are none.
fn peers(args: &Args) -> Result<Vec<Peer>> {
    let mut peers = chosen(&args.only);
    if args.before.is_none() {
        peers.retain(|peer| !peer.is_before());
    }
    ensure!(!peers.is_empty(), "an earlier netd is measured where --before names it");
    Ok(peers)
}

/// All there are, in their own order, unless some were chosen.
fn chosen<T: ValueEnum + PartialEq>(chosen: &[T]) -> Vec<T> {
    let is_chosen = |item: &&T| chosen.is_empty() || chosen.contains(item);
    T::value_variants().iter().filter(is_chosen).cloned().collect()
}
