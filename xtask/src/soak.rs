//! `cargo xtask soak`: thousands of random operations on one daemon, and a model of what should exist.
//!
//! It is the test that `cargo xtask test` runs with few operations and always the same ones; here their number,
//! the data path and the seed are chosen.

use anyhow::Result;

use crate::{test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many operations are done on each data path
    #[arg(long, default_value_t = 24_000)]
    operations: u32,
    /// The data path of networks that do not choose one; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
    /// Does the operations of an earlier run, which has printed its seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds what is needed and does the operations.
///
/// # Errors
/// Fails if something is missing, does not compile, or anything is otherwise than the model says.
pub(crate) fn soak(workspace: &Workspace, args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| std::process::id().into());
    let settings = [
        ("NETD_SOAK_OPERATIONS", args.operations.to_string()),
        ("NETD_SOAK_SEED", seed.to_string()),
    ];
    let name = "soak::what_exists_is_what_was_asked_for_whatever_happens";
    test::system_test(workspace, name, &test::chosen(args.datapath.as_deref()), &settings)
}
