//! `cargo xtask lint`: everything that is checked without running our code.
//!
//! All checks run even if an early one fails, so that one call shows everything there is to repair.

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{self, Flavour},
    house_rules, process, programs,
    toolchain::Toolchain,
    workspace::Workspace,
};

type Check = fn(&Workspace) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("rustfmt", rustfmt),
    ("clippy", clippy),
    ("clippy on netd-ebpf", clippy_ebpf),
    ("fuzz targets", fuzz_targets),
    ("house rules", check_house_rules),
    ("cargo-deny", cargo_deny),
];

/// Runs every check.
///
/// # Errors
/// Fails with the names of the checks that failed, after all of them have run.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    require_component(workspace, "fmt", "rustfmt")?;
    require_component(workspace, "clippy", "clippy")?;
    // `netd` embeds the object, so not even clippy gets through it without one.
    ebpf::build(workspace, Flavour::Plain)?;

    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        eprintln!("xtask: {name}");
        if let Err(error) = check(workspace) {
            eprintln!("xtask: {name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    eprintln!("xtask: lint is clean");
    Ok(())
}

fn rustfmt(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo("fmt").args(["--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo_build("clippy");
    for package in ["netd", "netd-common", "netd-tests", "xtask"] {
        cargo.args(["--package", package]);
    }
    process::run(cargo.args(["--all-targets", "--", "-D", "warnings"]))
}

fn clippy_ebpf(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::prepare(workspace)?;
    let mut cargo = ebpf::cargo(workspace, &toolchain, "clippy", Flavour::Plain);
    process::run(cargo.args(["--bins", "--examples", "--", "-D", "warnings"]))
}

/// They are no members of the workspace.
fn fuzz_targets(workspace: &Workspace) -> Result<()> {
    let manifest = ["--manifest-path", "tests/fuzz/Cargo.toml"];
    process::run(workspace.cargo("fmt").args(manifest).arg("--check"))?;
    let mut cargo = workspace.cargo_build("clippy");
    // Without libFuzzer itself, which is compiled from C++.
    process::run(cargo.args(manifest).args(["--no-default-features", "--", "-D", "warnings"]))
}

fn check_house_rules(workspace: &Workspace) -> Result<()> {
    house_rules::check(workspace, &ebpf::path(workspace, Flavour::Plain))
}

fn cargo_deny(workspace: &Workspace) -> Result<()> {
    if programs::find("cargo-deny").is_none() {
        eprintln!("xtask: cargo-deny is not installed, deny.toml is not checked");
        return Ok(());
    }
    // Not `advisories`: it fetches a database, and what it says changes without a change of ours.
    process::run(workspace.cargo("deny").args(["check", "bans", "licenses", "sources"]))
}

/// The toolchain file lists no components, so a machine may lack one.
fn require_component(workspace: &Workspace, subcommand: &str, component: &str) -> Result<()> {
    process::output(workspace.cargo(subcommand).arg("--version")).map(|_version| ()).with_context(
        || {
            format!(
                "the toolchain's component {component} is missing; \
                 `rustup component add {component}` adds it"
            )
        },
    )
}
