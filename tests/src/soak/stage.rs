//! The world that operations are done in, and what is compared after them.

mod tampering;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    flows::Flows,
    maps,
    model::Model,
    operation::{Ending, Endpoint, Meanwhile, Operation, Request, Sandbox, WRONG},
    probe,
    sandbox::Guest,
    seen::{self, Answers, Lines, line},
    shown,
};
use crate::{
    condition::{deadline, within},
    family::Family,
    hostile::random::Random,
    process::Outcome,
    topology::World,
};

/// Host, client and sandboxes, and what should exist in there.
#[derive(Debug)]
pub struct Stage {
    // Connections end before the sandboxes that they lead to, and these before the host.
    pub(super) flows: Flows,
    guests: BTreeMap<Sandbox, Guest>,
    /// What should exist.
    pub model: Model,
    /// What was once seen of networks and endpoints that still exist, by name.
    known: BTreeMap<String, String>,
    /// The daemon's open files when they were first counted.
    files: Option<usize>,
    pins: Vec<PathBuf>,
    /// What the names of sandboxes begin with.
    prefix: String,
    /// The host and the client.
    pub world: World,
}

impl Stage {
    /// Makes a host where nothing is configured.
    ///
    /// # Errors
    /// Where the pins cannot be read.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn new() -> Result<Self> {
        let world = World::new();
        Ok(Self {
            flows: Flows::default(),
            guests: BTreeMap::new(),
            model: Model::default(),
            known: BTreeMap::new(),
            files: None,
            pins: pins(world.daemon.bpffs())?,
            prefix: world.host.name().trim_end_matches("host").to_owned(),
            world,
        })
    }

    /// Does an operation, and checks what becomes of it at once. Whether it was all is for
    /// [`Self::checkpoint`] to say, which follows where it is needed.
    ///
    /// # Errors
    /// Where netd answers otherwise than it should.
    ///
    /// # Panics
    /// Where the daemon cannot be started.
    pub fn perform(&mut self, operation: &Operation, random: &mut Random) -> Result<()> {
        match operation {
            Operation::Begin(sandbox) => self.begin(*sandbox)?,
            Operation::End(sandbox) => self.end(*sandbox),
            Operation::Ask(request) => self.ask(request)?,
            Operation::Wrong(number) => {
                let (line, status) = WRONG[*number];
                is_refused(&self.world.netd(line), status)?;
            }
            Operation::Reload => self.world.daemon.signal(Signal::SIGHUP),
            Operation::Tamper(tampering) => {
                self.checkpoint()?;
                if let Some(command) = self.tampering(*tampering) {
                    command.run(self);
                }
            }
            Operation::Restart(ending, meanwhile) => {
                return self.restart(*ending, meanwhile, random);
            }
        }
        self.model.apply(operation);
        self.forget_what_is_gone();
        if matches!(operation, Operation::End(_) | Operation::Tamper(_)) {
            // Nobody has asked netd, so nobody is told when it is done.
            self.checkpoint()?;
        }
        Ok(())
    }

    fn begin(&mut self, sandbox: Sandbox) -> Result<()> {
        if !self.guests.contains_key(&sandbox) {
            self.guests.insert(sandbox, Guest::new(&format!("{}{sandbox}", self.prefix))?);
        }
        Ok(())
    }

    fn end(&mut self, sandbox: Sandbox) {
        self.guests.remove(&sandbox);
    }

    fn line(&self, request: &Request) -> String {
        let subnet = if let Request::Connect(connect) = request {
            self.model.networks.get(&connect.network).and_then(|network| network.subnet)
        } else {
            None
        };
        request.line(&self.prefix, subnet)
    }

    fn ask(&self, request: &Request) -> Result<()> {
        let outcome = self.world.netd(&self.line(request));
        if self.model.grants(request) {
            ensure!(outcome.is_ok(), "it has to be granted: {outcome}");
            return Ok(());
        }
        is_refused(&outcome, 1)
    }

    /// Ends the daemon and starts the next one.
    fn restart(
        &mut self,
        ending: Ending,
        meanwhile: &Meanwhile,
        random: &mut Random,
    ) -> Result<()> {
        let before = self.model.clone();
        let tampering = if let Meanwhile::Tampered(tampering) = meanwhile {
            // Only then the names of all devices are known.
            self.checkpoint()?;
            self.tampering(*tampering)
        } else {
            None
        };
        let mut asking = None;
        if let Meanwhile::Asked(request, micros) = meanwhile {
            asking = Some(self.world.daemon.begin(&self.line(request)));
            thread::sleep(Duration::from_micros((*micros).into()));
        }
        match ending {
            Ending::Killed => self.world.daemon.kill(),
            Ending::Stopped => {
                let outcome = self.world.netd("stop");
                ensure!(outcome.is_ok(), "{outcome}");
                ensure!(self.world.daemon.wait().success(), "the daemon has not ended well");
            }
        }
        if let Some(asking) = &mut asking {
            asking.wait();
        } else {
            // Nothing of what packets may do depends on a daemon.
            (0..3).try_for_each(|_| probe::probe(self, random)).context("without a daemon")?;
        }
        if let Meanwhile::Ended(sandbox) = meanwhile {
            self.end(*sandbox);
        }
        if let Some(command) = tampering {
            command.run(self);
        }
        self.world.daemon.forget_log();
        self.world.daemon.start();
        self.files = None;
        self.model.apply(&Operation::Restart(ending, meanwhile.clone()));
        if asking.is_some() {
            self.find_out(&before)?;
        }
        self.forget_what_is_gone();
        self.checkpoint()
    }

    /// Finds out whether what the daemon died of was done: in full, or not at all.
    fn find_out(&mut self, before: &Model) -> Result<()> {
        let answers = Answers::ask(&self.world.daemon)?;
        let is = |model| answers.lines(model) == seen::of_model(model, &self.prefix);
        if !is(&self.model) {
            ensure!(is(before), "half of it is done: {:?}", answers);
            self.model = before.clone();
        }
        Ok(())
    }

    fn forget_what_is_gone(&mut self) {
        let networks = self.model.networks.keys().map(ToString::to_string);
        let endpoints = self.model.endpoints.keys().map(ToString::to_string);
        let names: Vec<String> = networks.chain(endpoints).collect();
        self.known.retain(|name, _| names.contains(name));
    }

    /// Compares everything, once it is settled.
    ///
    /// # Errors
    /// Where something stays otherwise than it should be.
    pub fn checkpoint(&mut self) -> Result<()> {
        let mut last = None;
        let settled = within(deadline(), || match self.difference() {
            Ok((answers, None)) => Some(answers),
            Ok((_, Some(difference))) => {
                last = Some(difference);
                None
            }
            Err(error) => {
                last = Some(format!("{error:#}"));
                None
            }
        });
        let Some(answers) = settled else { bail!("{}", last.unwrap_or_default()) };
        self.known.extend(answers.facts());
        self.check_files()?;
        ensure!(pins(self.world.daemon.bpffs())? == self.pins, "other pins than at first");
        self.flows.check().map(drop)
    }

    fn difference(&self) -> Result<(Answers, Option<String>)> {
        let answers = Answers::ask(&self.world.daemon)?;
        let mut expected = seen::of_model(&self.model, &self.prefix);
        expected.extend(answers.of_host(&self.model, &self.prefix));
        expected.extend(maps::expected(&self.model));
        expected.extend(self.known.iter().map(|(name, facts)| line(name, facts)));
        let mut found = answers.lines(&self.model);
        found.extend(self.shown()?);
        found.extend(maps::count(self.world.daemon.bpffs())?);
        let known = answers.facts().filter(|(name, _)| self.known.contains_key(name));
        found.extend(known.map(|(name, facts)| line(&name, facts)));
        let difference = seen::difference(&expected, &found);
        Ok((answers, difference))
    }

    fn shown(&self) -> Result<Lines> {
        let mut lines = shown::of_host(&self.world.host)?;
        for guest in self.guests.values() {
            lines.extend(shown::of_sandbox(&guest.namespace)?);
        }
        Ok(lines)
    }

    /// The daemon has no more files open than when it had just begun.
    fn check_files(&mut self) -> Result<()> {
        let dir = format!("/proc/{}/fd", self.world.daemon.pid());
        let count = || fs::read_dir(&dir).map(Iterator::count);
        let most = match self.files {
            Some(most) => most,
            None => count()?,
        };
        self.files = Some(most);
        let is_back = within(deadline(), || count().ok().filter(|now| *now <= most));
        ensure!(is_back.is_some(), "{} files are open, {most} were at first", count()?);
        Ok(())
    }

    /// A sandbox that is there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn guest(&self, sandbox: Sandbox) -> Result<&Guest> {
        self.guests.get(&sandbox).with_context(|| format!("there is no sandbox {sandbox}"))
    }

    /// The address of an endpoint, as it was seen last.
    ///
    /// # Errors
    /// Where it has none.
    pub fn address(&self, endpoint: Endpoint, family: Family) -> Result<IpAddr> {
        let text = self.fact(&endpoint.to_string(), family.pick("ipv4", "ipv6"));
        let text = text.with_context(|| format!("{endpoint} has not been seen"))?;
        Ok(text.split('/').next().unwrap_or_default().parse()?)
    }

    fn fact(&self, name: &str, key: &str) -> Option<String> {
        let facts = self.known.get(name)?.split(' ');
        let mut values = facts.filter_map(|fact| fact.strip_prefix(key)?.strip_prefix('='));
        values.next().map(|value| value.trim_matches('"').to_owned())
    }
}

/// Checks that netd has refused something, as the contract wants it.
fn is_refused(outcome: &Outcome, status: i32) -> Result<()> {
    ensure!(outcome.status == Some(status), "it has to be refused with {status}: {outcome}");
    let is_one_line = outcome.stderr.lines().count() == 1 || status == 2;
    ensure!(outcome.stderr.starts_with("error: ") && is_one_line, "not a line: {outcome}");
    ensure!(outcome.stdout.is_empty(), "it has an answer: {outcome}");
    Ok(())
}

/// All that is pinned, in order.
fn pins(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pins(&path)?);
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}
