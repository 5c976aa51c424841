//! `cargo xtask fuzz`: the targets of `tests/fuzz`, built with libFuzzer and run for a while.
//!
//! What cargo-fuzz would do is one set of flags, which stable rustc takes, so nothing is installed. Without
//! an address sanitizer, which would need a nightly: the code under test has no `unsafe` on the host.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{self, Flavour},
    process,
    workspace::Workspace,
};

/// Coverage for every branch and comparison of our code and of what it is linked with.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// The host model leaks the flows of each input on purpose; see `netd-common/tests/engine/tables.rs`.
const MAX_MEMORY_MB: u32 = 12_000;

/// A single input takes some hundred microseconds. Units: seconds.
const HANG_SECS: u32 = 5;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which target to run; each of them in turn where none is named
    target: Option<String>,
    /// For how long to run each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Makes the corpus that is committed one that reaches all that was reached
    #[arg(long)]
    keep: bool,
}

/// Runs the targets.
///
/// # Errors
/// Fails if one does not build, is not known, or has found something.
pub(crate) fn fuzz(workspace: &Workspace, args: &Args) -> Result<()> {
    let fuzzing = Fuzzing { workspace, targets: targets(workspace)? };
    let wanted: Vec<&String> = match &args.target {
        None => fuzzing.targets.iter().collect(),
        Some(name) => match fuzzing.targets.iter().find(|target| *target == name) {
            Some(target) => vec![target],
            None => bail!("{name} is no target; there are {}", fuzzing.targets.join(", ")),
        },
    };
    // `netd` embeds it.
    ebpf::build(workspace, Flavour::Plain)?;
    let built = fuzzing.build()?;
    let mut failed = Vec::new();
    for target in wanted {
        eprintln!("xtask: {target}, {} seconds", args.seconds);
        let program = built.join(target);
        let ran = fuzzing.run(&program, target, args.seconds);
        let keep = || if args.keep { fuzzing.keep(&program, target) } else { Ok(()) };
        if let Err(error) = ran.and_then(|()| keep()) {
            failed.push(format!("{target}: {error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!(
            "{}\nthe inputs are in {}; copied to tests/fuzz/corpus, they fail the ordinary tests",
            failed.join("\n"),
            fuzzing.findings().display()
        );
    }
    Ok(())
}

/// The targets are the programs of the package.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root().join("tests/fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

struct Fuzzing<'a> {
    workspace: &'a Workspace,
    targets: Vec<String>,
}

impl Fuzzing<'_> {
    /// Everything that fuzzing leaves behind.
    fn folder(&self) -> PathBuf {
        self.workspace.target().join("fuzz")
    }

    fn findings(&self) -> PathBuf {
        self.folder().join("findings")
    }

    /// Builds all targets: the folder where they are.
    fn build(&self) -> Result<PathBuf> {
        let rustc = process::output(self.workspace.command("rustc").arg("-vV"))?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say what it runs on")?;
        let mut cargo = self.workspace.cargo("build");
        // With a target named, the flags are not for build scripts.
        cargo.args(["--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--target", host]);
        cargo.arg("--target-dir").arg(self.folder());
        cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
        cargo.env("CARGO_INCREMENTAL", "0");
        process::run(&mut cargo)?;
        Ok(self.folder().join(host).join("release"))
    }

    /// Runs a target on its corpus and on what it found in earlier runs.
    fn run(&self, program: &PathBuf, target: &str, seconds: u32) -> Result<()> {
        let (found, findings) = (self.folder().join("corpus").join(target), self.findings());
        for folder in [&found, &findings] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut fuzzer = Command::new(program);
        fuzzer.arg(&found).arg(self.corpus(target));
        fuzzer.arg(format!("-artifact_prefix={}/{target}-", findings.display()));
        fuzzer.arg(format!("-max_total_time={seconds}"));
        fuzzer.arg(format!("-rss_limit_mb={MAX_MEMORY_MB}")).arg(format!("-timeout={HANG_SECS}"));
        process::run(fuzzer.args(["-print_final_stats=1", "-verbosity=1"]))
    }

    /// Makes the corpus that is committed one of few inputs, which reach all that its own and those found do.
    fn keep(&self, program: &PathBuf, target: &str) -> Result<()> {
        let (found, kept) = (self.folder().join("corpus").join(target), self.folder().join("kept"));
        let corpus = self.corpus(target);
        fs::create_dir(&kept).with_context(|| kept.display().to_string())?;
        let mut fuzzer = Command::new(program);
        // How often an edge is taken would make it ten times as many.
        fuzzer.args(["-set_cover_merge=1", "-use_counters=0"]).arg(&kept).arg(&corpus).arg(found);
        process::run(fuzzer.arg(format!("-rss_limit_mb={MAX_MEMORY_MB}")))?;
        fs::remove_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        fs::rename(&kept, &corpus).with_context(|| corpus.display().to_string())
    }

    fn corpus(&self, target: &str) -> PathBuf {
        self.workspace.root().join("tests/fuzz/corpus").join(target)
    }
}
