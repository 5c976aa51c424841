//! The checks, in the order in which they are shown. Pure: each judges facts, and names a fix.

mod devices;
mod docker;
mod firewall;
mod machine;
mod networks;

#[cfg(test)]
mod tests;

use super::{
    Finding, Status,
    facts::{Facts, Unknown},
};

/// One of the things that a check has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    status: Status,
    message: String,
    fix: Option<String>,
}

type Verdicts<'a> = Result<Vec<Verdict>, &'a Unknown>;

/// A check by its name, which scripts rely on.
type Check = (&'static str, for<'a> fn(&'a Facts) -> Verdicts<'a>);

const CHECKS: [Check; 23] = [
    ("configuration", machine::configuration),
    ("privileges", machine::privileges),
    ("kernel", machine::kernel),
    ("programs", machine::programs),
    ("cgroup", machine::cgroup),
    ("bpffs", machine::bpffs),
    ("state", machine::state),
    ("daemon", machine::daemon),
    ("sysctls", machine::sysctls),
    ("uplinks", devices::uplinks),
    ("xdp", devices::xdp),
    ("classifiers", devices::classifiers),
    ("rp_filter", devices::rp_filter),
    ("accept_ra", devices::accept_ra),
    ("managers", devices::managers),
    ("leftovers", firewall::leftovers),
    ("forward_policy", firewall::forward_policy),
    ("br_netfilter", firewall::br_netfilter),
    ("data_path", firewall::data_path),
    ("mtu", networks::mtu),
    ("subnets", networks::subnets),
    ("ports", networks::ports),
    ("docker", docker::docker),
];

/// Makes every check.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    CHECKS.into_iter().flat_map(|(name, check)| findings(name, check(facts))).collect()
}

fn findings(check: &'static str, verdicts: Verdicts<'_>) -> Vec<Finding> {
    let verdicts = verdicts.unwrap_or_else(|Unknown(why)| {
        let message = format!("could not be looked at: {why}");
        vec![Verdict { status: Status::Finding, message, fix: None }]
    });
    let finding =
        |Verdict { status, message, fix }: Verdict| Finding { check, status, message, fix };
    verdicts.into_iter().map(finding).collect()
}

impl Verdict {
    fn ok(message: impl Into<String>) -> Self {
        Self { status: Status::Ok, message: message.into(), fix: None }
    }

    fn finding(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Finding, message: message.into(), fix: Some(fix.into()) }
    }

    fn fatal(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Fatal, message: message.into(), fix: Some(fix.into()) }
    }
}

/// All that was found, or that it is well.
fn or_ok(found: Vec<Verdict>, ok: impl Into<String>) -> Vec<Verdict> {
    if found.is_empty() { vec![Verdict::ok(ok)] } else { found }
}
