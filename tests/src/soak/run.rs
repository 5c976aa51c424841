//! A run of a list of operations on a host of its own, and the search for a shorter list that fails alike.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{
    maps,
    operation::{Connect, Endpoint, Kind, Network, Operation, Port, Request, Sandbox},
    probe::probe,
    seen::Lines,
    shrink::shrink,
    stage::Stage,
};
use crate::{
    clients::any_address,
    condition::{deadline, now, within},
    family::Family,
    hostile::random::Random,
    topology::{UPLINK, at},
};

/// How often everything is compared where nothing asks for it. Units: operations.
const CHECKPOINT_EVERY: usize = 8;

/// How many shorter lists are tried, and for how long.
const ATTEMPTS: u32 = 60;
const SHRINK_LIMIT: Duration = Duration::from_mins(10);

/// Who keeps the connections that go on through the whole run.
const STEADY: (Network, Sandbox, Endpoint) = (Network(9), Sandbox(9), Endpoint(9));
/// The published port that leads to it, of the host and of the container.
const STEADY_PORT: u16 = 7000;

/// A run that has failed.
#[derive(Debug)]
pub struct Failure {
    /// The number of the operation, or that of all of them where it was the end.
    pub at: usize,
    /// What was wrong, and the end of the daemon's log.
    pub what: String,
}

/// What a run that went well has seen.
#[derive(Debug)]
pub struct Report {
    /// How many blocks the steady connections have exchanged.
    pub blocks: u64,
    /// How long it took.
    pub took: Duration,
}

/// Does all operations on a host of its own.
///
/// # Errors
/// Where anything is otherwise than the model says.
pub fn run(operations: &[Operation]) -> Result<Report, Failure> {
    let mut at = 0;
    let start = now();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new()?;
        let result = all_of(&mut stage, operations, &mut at);
        let log = || end_of(&stage.world.daemon.log());
        result.map_err(|error| anyhow!("{error:#}\nThe log ends with\n{}", log()))
    }));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(anyhow!("{}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")))
    });
    match result {
        Ok(blocks) => Ok(Report { blocks, took: start.elapsed() }),
        Err(error) => Err(Failure { at, what: format!("{error:#}") }),
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Looks for a shorter list that fails.
pub fn shortest(operations: &[Operation], failure: &Failure) -> Vec<Operation> {
    let list = &operations[..operations.len().min(failure.at + 1)];
    let start = now();
    shrink(list, ATTEMPTS, |list| {
        let fails = start.elapsed() < SHRINK_LIMIT && run(list).is_err();
        eprintln!("{} operations: {}", list.len(), if fails { "fails" } else { "does not fail" });
        fails
    })
}

fn all_of(stage: &mut Stage, operations: &[Operation], at: &mut usize) -> Result<u64> {
    let (at_first, links) = (counts(stage)?, links(stage));
    begin_steady(stage)?;
    for (number, operation) in operations.iter().enumerate() {
        *at = number;
        let mut random = Random::of_packet(0, number as u32);
        stage.perform(operation, &mut random)?;
        if number % CHECKPOINT_EVERY == 0 {
            stage.checkpoint()?;
            probe(stage, &mut random)?;
        }
        if number % 1000 == 999 {
            eprintln!(
                "{} operations, {} networks and {} endpoints exist",
                number + 1,
                stage.model.networks.len(),
                stage.model.endpoints.len()
            );
        }
    }
    *at = operations.len();
    stage.checkpoint()?;
    let blocks = stage.flows.check()?;
    remove_all(stage)?;
    is_as_at_first(stage, &at_first, &links)?;
    Ok(blocks)
}

/// Connects who is never touched, and begins its connections: from outside and to the outside, in both families.
fn begin_steady(stage: &mut Stage) -> Result<()> {
    let (network, sandbox, endpoint) = STEADY;
    let port =
        Port { udp: false, host_ip: None, host_port: STEADY_PORT, port: STEADY_PORT, len: 1 };
    let connect = Connect { network, sandbox, endpoint, ip: None, ports: vec![port] };
    let subnet = Some(network.0);
    for operation in [
        Operation::Begin(sandbox),
        Operation::Ask(Request::Create(network, Kind::Open, subnet)),
        Operation::Ask(Request::Connect(connect)),
    ] {
        stage.perform(&operation, &mut Random::of_packet(0, 0))?;
    }
    stage.checkpoint()?;
    let mut flows = std::mem::take(&mut stage.flows);
    let (inside, client) = (&stage.guest(sandbox)?.namespace, &stage.world.client);
    for family in Family::BOTH {
        let published = at(family.host(), STEADY_PORT);
        let own = any_address(published, STEADY_PORT);
        flows.begin((client, published), (inside, own))?;
        let outside = at(family.client(), STEADY_PORT);
        flows.begin((inside, outside), (client, own))?;
    }
    stage.flows = flows;
    Ok(())
}

/// Removes everything through netd.
fn remove_all(stage: &mut Stage) -> Result<()> {
    stage.flows = Default::default();
    let endpoints = stage.model.endpoints.values();
    let disconnects = endpoints.map(|it| Request::Disconnect(it.network, it.sandbox));
    let removes = stage.model.networks.keys().map(|network| Request::Remove(*network));
    let requests: Vec<Request> = disconnects.chain(removes).collect();
    for request in requests {
        stage.perform(&Operation::Ask(request), &mut Random::of_packet(0, 0))?;
    }
    let sandboxes: Vec<Sandbox> = stage.model.sandboxes.iter().copied().collect();
    for sandbox in sandboxes {
        stage.perform(&Operation::End(sandbox), &mut Random::of_packet(0, 0))?;
    }
    stage.checkpoint()
}

/// Nothing is left but what was there before anything was asked for, and then nothing of netd's at all.
fn is_as_at_first(stage: &mut Stage, counts_at_first: &Lines, links_at_first: &str) -> Result<()> {
    let is_same = || counts(stage).ok().filter(|counts| counts == counts_at_first);
    let what = || format!("maps: {counts_at_first:?} at first, {:?} now", counts(stage));
    within(deadline(), is_same).with_context(what)?;
    let flows = || Some(stage.world.flows()).filter(|flows| *flows == 0);
    within(deadline(), flows).with_context(|| stage.world.netd("conntrack ls").stdout)?;
    ensure!(links(stage) == links_at_first, "{} links are not {links_at_first}", links(stage));
    let outcome = stage.world.netd("stop --detach");
    ensure!(outcome.is_ok(), "{outcome}");
    ensure!(stage.world.daemon.wait().success(), "the daemon has not ended well");
    ensure!(!stage.world.daemon.bpffs().exists(), "pins are left");
    ensure!(links(stage) == links_at_first, "{} links are not {links_at_first}", links(stage));
    for hook in ["ingress", "egress"] {
        let filters = stage.world.host.run(&format!("tc filter show dev {UPLINK} {hook}"));
        ensure!(filters.stdout.is_empty(), "{filters}");
    }
    Ok(())
}

fn counts(stage: &Stage) -> Result<Lines> {
    let bpffs = stage.world.daemon.bpffs();
    let mut lines = maps::count(bpffs)?;
    lines.extend(maps::count_of_host(bpffs)?);
    Ok(lines)
}

/// The names of the host's devices.
fn links(stage: &Stage) -> String {
    let text = stage.world.host.run("ip -oneline link").stdout;
    let names = text.lines().filter_map(|line| line.split(": ").nth(1));
    names.collect::<Vec<_>>().join(" ")
}
