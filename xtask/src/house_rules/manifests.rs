//! Which crate of the workspace may depend on which.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{process, workspace::Workspace};

/// Members and the members each may depend on, in every kind of dependency. `netd` gets the eBPF
/// object as bytes, never as a crate, and xtask has to build when nothing else does.
const ALLOWED: &[(&str, &[&str])] = &[
    ("netd-common", &[]),
    ("netd-ebpf", &["netd-common"]),
    ("netd", &["netd-common"]),
    ("netd-tests", &["netd-common"]),
    ("xtask", &[]),
];

pub(super) fn violations(workspace: &Workspace) -> Result<Vec<String>> {
    let mut cargo = workspace.cargo("metadata");
    cargo.args(["--no-deps", "--format-version", "1"]);
    let metadata = serde_json::from_str(&process::output(&mut cargo)?)
        .context("cargo metadata wrote something that is not JSON")?;
    check(&metadata)
}

fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut violations = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(member, _)| *member == name) else {
            violations.push(format!("crate {name} is not in the table of {}", file!()));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let dependency_name = dependency["name"].as_str().unwrap_or_default();
            let is_member = !dependency["path"].is_null();
            if is_member && !allowed.contains(&dependency_name) {
                violations.push(format!("crate {name} may not depend on {dependency_name}"));
            }
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_packages(packages: Value, expected: &[&str]) {
        assert_eq!(check(&json!({ "packages": packages })).unwrap(), expected);
    }

    #[test]
    fn a_dependency_against_the_direction_is_named() {
        let common = json!({ "name": "netd-common", "path": "/netd-common" });
        let registry = json!({ "name": "netd", "path": null });
        check_packages(json!([{ "name": "netd", "dependencies": [common.clone()] }]), &[]);
        check_packages(json!([{ "name": "xtask", "dependencies": [registry] }]), &[]);
        check_packages(
            json!([{ "name": "xtask", "dependencies": [common] }]),
            &["crate xtask may not depend on netd-common"],
        );
    }
}
