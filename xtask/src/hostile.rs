//! `cargo xtask hostile`: the attack on the walls between networks, for as long as wanted.
//!
//! It is the test that `cargo xtask test` runs for some seconds; here only the time, the data path and the
//! seed are chosen.

use anyhow::Result;

use crate::{test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the attack takes on each data path
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The data path that is attacked; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
    /// Sends the packets of an earlier run, which has printed its seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds what is needed and attacks.
///
/// # Errors
/// Fails if something is missing, does not compile, or a packet arrives where it may not.
pub(crate) fn hostile(workspace: &Workspace, args: &Args) -> Result<()> {
    let chosen = [
        ("NETD_HOSTILE_SECONDS", Some(args.seconds.to_string())),
        ("NETD_HOSTILE_SEED", args.seed.map(|seed| seed.to_string())),
    ];
    let chosen: Vec<(&str, String)> =
        chosen.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let paths = test::chosen(args.datapath.as_deref());
    test::system_test(workspace, "hostile::nothing_crosses_networks", &paths, &chosen)
}
