//! Whether Docker's networks are netd's work.

use super::{Verdict, Verdicts, or_ok};
use crate::doctor::facts::Facts;

pub(super) fn docker(facts: &Facts) -> Verdicts<'_> {
    let docker = facts.docker.as_ref()?;
    let conflicts = docker.conflicts.iter().map(|conflict| {
        let message = format!("Docker's networks are left alone: {}", conflict.message());
        Verdict::finding(message, conflict.fix())
    });
    let faults = docker.faults.iter().map(|fault| {
        Verdict::finding(
            format!("not all of Docker's is taken up: {fault}"),
            "netd docker status   # and what it says",
        )
    });
    let ok = if docker.is_here {
        "Docker leaves the packets of its networks to netd"
    } else {
        "there is no Docker here, or it is not followed"
    };
    Ok(or_ok(conflicts.chain(faults).collect(), ok))
}
