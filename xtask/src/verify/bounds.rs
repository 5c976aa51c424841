//! What each program may cost: the file that `cargo xtask verify` holds them to.
//!
//! The figures are those of the last `--accept`, with a tenth on top, so that a change of the compiler or of
//! the kernel's mind does not fail, and one that nobody has looked at does.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::workspace::Workspace;

/// How much more than accepted is let pass. Units: percent.
const SLACK_PERCENT: u32 = 10;

/// What a program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Instructions that the verifier walked.
    pub(super) verified: u32,
    /// The deepest chain of calls. Units: bytes.
    pub(super) stack: u32,
}

/// Costs by program.
pub(super) type Bounds = BTreeMap<String, Cost>;

/// Writes the costs as the ones accepted.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn accept(workspace: &Workspace, costs: Bounds) -> Result<()> {
    let path = path(workspace);
    fs::write(&path, render(&costs)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("accepted: {}", path.display());
    Ok(())
}

/// Holds the costs to the ones accepted.
///
/// # Errors
/// Where a program costs too much, is new, or has gone.
pub(super) fn check(workspace: &Workspace, costs: &Bounds) -> Result<()> {
    let path = path(workspace);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let accepted = parse(&text).with_context(|| format!("{} is broken", path.display()))?;
    let violations = violations(&accepted, costs);
    if violations.is_empty() {
        println!(
            "All {} programs are within {SLACK_PERCENT} % of {}.",
            costs.len(),
            path.display()
        );
        return Ok(());
    }
    bail!(
        "{}\nif that is as it has to be, `cargo xtask verify --accept` writes {}",
        violations.join("\n"),
        path.display()
    );
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("netd-ebpf/verified.json")
}

fn violations(accepted: &Bounds, costs: &Bounds) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, cost) in costs {
        let Some(bound) = accepted.get(name) else {
            violations.push(format!("{name} is new and has no bounds"));
            continue;
        };
        let rows = [
            ("verified instructions", cost.verified, bound.verified),
            ("bytes of stack", cost.stack, bound.stack),
        ];
        for (what, is, was) in rows {
            if is > was.saturating_add(was / (100 / SLACK_PERCENT)) {
                violations.push(format!("{name}: {is} {what}, more than {was} by a tenth"));
            }
        }
    }
    let gone = accepted.keys().filter(|name| !costs.contains_key(*name));
    violations.extend(gone.map(|name| format!("{name} has bounds and is gone")));
    violations
}

/// A program a line, so that a change shows in a diff as what it is.
fn render(costs: &Bounds) -> String {
    let row = |(name, cost): (&String, &Cost)| {
        format!("  {}: {}", json!(name), json!({ "verified": cost.verified, "stack": cost.stack }))
    };
    let rows: Vec<String> = costs.iter().map(row).collect();
    format!("{{\n{}\n}}\n", rows.join(",\n"))
}

fn parse(text: &str) -> Result<Bounds> {
    let value: Value = serde_json::from_str(text)?;
    let programs = value.as_object().context("no object")?;
    let number = |cost: &Value, key: &str| {
        let number = cost[key].as_u64().and_then(|number| u32::try_from(number).ok());
        number.with_context(|| format!("no number {key}"))
    };
    let cost = |(name, cost): (&String, &Value)| {
        let cost = Cost { verified: number(cost, "verified")?, stack: number(cost, "stack")? };
        Ok((name.clone(), cost))
    };
    programs.iter().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(rows: &[(&str, u32, u32)]) -> Bounds {
        rows.iter()
            .map(|&(name, verified, stack)| (name.to_owned(), Cost { verified, stack }))
            .collect()
    }

    #[track_caller]
    fn check(costs: &[(&str, u32, u32)], expected: &[&str]) {
        assert_eq!(violations(&bounds(&[("a", 1000, 100)]), &bounds(costs)), expected);
    }

    #[test]
    fn a_tenth_more_is_let_pass_and_no_more() {
        check(&[("a", 1100, 110)], &[]);
        check(&[("a", 10, 1)], &[]);
        check(&[("a", 1101, 100)], &["a: 1101 verified instructions, more than 1000 by a tenth"]);
        check(&[("a", 1000, 111)], &["a: 111 bytes of stack, more than 100 by a tenth"]);
    }

    #[test]
    fn programs_that_come_and_go_are_told() {
        check(&[("a", 1, 1), ("b", 1, 1)], &["b is new and has no bounds"]);
        check(&[], &["a has bounds and is gone"]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bounds = bounds(&[("from_uplink", 15_000, 256), ("to_uplink", 1, 0)]);
        assert_eq!(parse(&render(&bounds)).unwrap(), bounds);
        assert_eq!(render(&bounds).lines().count(), 4);
    }
}
