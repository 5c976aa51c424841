//! One thing that is tried: the command, what is expected of it, and what came of it.

use std::{
    net::IpAddr,
    process::{Child, Output},
};

use anyhow::{Context as _, Result};

use super::{
    server::{self, Server},
    shell,
    world::World,
};

/// A command to try. It is split at white space, and printed as it is run.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) line: String,
    pub(super) expected: Expected,
}

/// What is to come of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The page of this server, which has seen this source; `None` where any source will do.
    Page { server: &'static str, seen: Option<IpAddr> },
    /// An answer to the ping.
    Reply,
    /// A refusal by the host, which has no such port.
    Refused,
    /// Silence.
    NoAnswer,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Refused,
    NoAnswer,
    /// The command could not do its work, or got something else than it should.
    Failed,
}

/// What came of a command, compared with what was expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) outcome: Outcome,
    pub(super) is_expected: bool,
    /// More about it, for people.
    pub(super) detail: String,
}

/// Runs commands all at once. Servers are asked afterwards whom they have seen last, so a server may
/// be among them once a family.
///
/// # Errors
/// Fails if one cannot be run.
pub(super) fn run_all(world: &World, checks: Vec<Check>) -> Result<Vec<(Check, Finding)>> {
    let start = |check: Check| Ok((shell::start(&check.line)?, check));
    let started: Vec<(Child, Check)> = checks.into_iter().map(start).collect::<Result<_>>()?;
    let finish = |(child, check): (Child, Check)| {
        let output = child.wait_with_output().context("cannot wait for a command")?;
        let finding = judge(&check, &output, world)?;
        Ok((check, finding))
    };
    started.into_iter().map(finish).collect()
}

fn judge(check: &Check, output: &Output, world: &World) -> Result<Finding> {
    let outcome = Outcome::of(&check.line, output.status.code());
    if let (Expected::Page { server, seen }, Outcome::Ok) = (&check.expected, outcome) {
        let server = world.server(server)?;
        return judge_page(server, *seen, &String::from_utf8_lossy(&output.stdout));
    }
    let detail = match outcome {
        Outcome::Ok => "it answers".to_owned(),
        Outcome::Refused => "connection refused".to_owned(),
        Outcome::NoAnswer => "no answer".to_owned(),
        Outcome::Failed => last_line(&output.stderr),
    };
    Ok(Finding { outcome, is_expected: outcome == check.expected.outcome(), detail })
}

fn judge_page(server: &Server, expected: Option<IpAddr>, page: &str) -> Result<Finding> {
    let name = server.name;
    let failed = |detail| Finding { outcome: Outcome::Failed, is_expected: false, detail };
    let as_expected = |detail| Finding { outcome: Outcome::Ok, is_expected: true, detail };
    if page != server::page(name) {
        return Ok(failed(format!("this is not the page of {name}: {}", page.trim())));
    }
    let Some(expected) = expected else {
        return Ok(as_expected(format!("the page of {name}")));
    };
    Ok(match server.last_source(expected.is_ipv4())? {
        Some(seen) if seen == expected => as_expected(format!("{name} sees {seen}")),
        Some(seen) => failed(format!("{name} sees {seen} rather than {expected}")),
        None => failed(format!("{name} sees nobody")),
    })
}

impl Expected {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Page { .. } | Self::Reply => Outcome::Ok,
            Self::Refused => Outcome::Refused,
            Self::NoAnswer => Outcome::NoAnswer,
        }
    }

    /// The word for people, to whom both refusals are one.
    pub(super) fn word(&self) -> &'static str {
        self.outcome().word()
    }
}

impl Outcome {
    /// What an exit status means, by the manuals of curl and of iputils' ping.
    fn of(line: &str, code: Option<i32>) -> Self {
        let runs = |program: &str| line.split_whitespace().any(|word| word == program);
        match code {
            Some(0) => Self::Ok,
            Some(7) if runs("curl") => Self::Refused,
            Some(28) if runs("curl") => Self::NoAnswer,
            Some(1) if runs("ping") => Self::NoAnswer,
            _ => Self::Failed,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused | Self::NoAnswer => "refused",
            Self::Failed => "failed",
        }
    }
}

fn last_line(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim().lines().last().unwrap_or("it says nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_words_for_no_are_refusals() {
        let curl = "ip netns exec web curl http://192.0.2.1/";
        let ping = "ip netns exec web ping 192.0.2.1";
        for (line, code, outcome) in [
            (curl, Some(0), Outcome::Ok),
            (curl, Some(7), Outcome::Refused),
            (curl, Some(28), Outcome::NoAnswer),
            // ip's own: there is no such namespace. A server's error; a program that is missing.
            (curl, Some(1), Outcome::Failed),
            (curl, Some(22), Outcome::Failed),
            (curl, None, Outcome::Failed),
            (ping, Some(0), Outcome::Ok),
            (ping, Some(1), Outcome::NoAnswer),
            (ping, Some(2), Outcome::Failed),
        ] {
            assert_eq!(Outcome::of(line, code), outcome, "{line}: {code:?}");
        }
    }
}
