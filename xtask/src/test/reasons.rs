//! Which reasons the suite's packets have met in the kernel: the programs' own branch coverage.
//!
//! Every test that loads the programs appends what their counters say to one file (`netd_tests::reasons`).
//! A whole run fails if a reason was met by none of them; a part of one only says how many were.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// Where tests find the path of the file.
pub(super) const VARIABLE: &str = "NETD_REASONS_FILE";

/// Reasons that no test can provoke in the kernel, and why not. They are met on the host model.
const UNPROVOKED: &[(&str, &str)] =
    &[("no_memory", "the kernel always has memory for a packet's headers")];

/// The file.
pub(super) fn file(workspace: &Workspace) -> PathBuf {
    workspace.target().join("reasons-met")
}

/// Forgets what an earlier run has met.
///
/// # Errors
/// Where the file cannot be removed.
pub(super) fn forget(workspace: &Workspace) -> Result<()> {
    let file = file(workspace);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Prints how many reasons were met, and after a whole run each with its packets.
///
/// # Errors
/// Where a whole run has not met one of them.
pub(super) fn report(workspace: &Workspace, is_whole: bool) -> Result<()> {
    let told = fs::read_to_string(file(workspace)).unwrap_or_default();
    let met = sums(&told);
    if met.is_empty() && !is_whole {
        return Ok(());
    }
    if is_whole {
        met.iter().for_each(|(name, packets)| println!("{packets:>12} {name}"));
    }
    let hit = met.values().filter(|packets| **packets > 0).count();
    println!("reasons hit: {hit} of {}", met.len());
    let missing = missing(&met);
    if is_whole && (met.is_empty() || !missing.is_empty()) {
        bail!("no test's packet has met: {}", missing.join(", "));
    }
    Ok(())
}

/// Packets by reason, over all the lines `NAME PACKETS`.
fn sums(text: &str) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for (name, packets) in text.lines().filter_map(|line| line.split_once(' ')) {
        *sums.entry(name).or_default() += packets.parse::<u64>().unwrap_or(0);
    }
    sums
}

fn missing<'a>(met: &BTreeMap<&'a str, u64>) -> Vec<&'a str> {
    let is_missing = |(name, packets): &(&&str, &u64)| {
        **packets == 0 && UNPROVOKED.iter().all(|(unprovoked, _)| unprovoked != *name)
    };
    met.iter().filter(is_missing).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_one_test_has_met_is_met() {
        let met = sums("published 0\nnot_ip 3\nno_memory 0\npublished 0\nnot_ip 4\n");
        assert_eq!(met, BTreeMap::from([("no_memory", 0), ("not_ip", 7), ("published", 0)]));
        assert_eq!(missing(&met), ["published"]);
        assert!(missing(&sums("published 1\n")).is_empty());
    }
}
