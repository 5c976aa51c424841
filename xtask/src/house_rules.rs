//! The rules of this repository that neither rustc nor clippy can check.
//!
//! - Dependencies point one way: between crates (`manifests`) and inside the daemon (`modules`).
//! - The eBPF object has no way to panic and calls no memory routine (`object_code`).

mod manifests;
mod modules;
mod object_code;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{bpf_object::BpfObject, workspace::Workspace};

/// Checks every rule and reports all violations at once.
///
/// # Errors
/// Fails if a rule is violated or cannot be checked.
pub(crate) fn check(workspace: &Workspace, object: &Path) -> Result<()> {
    let mut violations = manifests::violations(workspace)?;
    violations.extend(modules::violations(&workspace.root().join("netd/src"))?);
    violations.extend(object_code::violations(&BpfObject::read(object)?));
    if violations.is_empty() {
        return Ok(());
    }
    for violation in &violations {
        eprintln!("house rule: {violation}");
    }
    bail!("{} violations of the house rules", violations.len());
}
