//! `cargo xtask flood`: a table that runs full, at the size that it has on a host.
//!
//! It is the test that `cargo xtask test` runs with a small table; here only the sizes and the data path are
//! chosen.

use anyhow::{Result, ensure};

use crate::{test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many sources the SYNs come from, in each family
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    sources: u32,
    /// How many flows the table takes
    #[arg(long, default_value_t = 262_144)]
    max_flows: u32,
    /// The data path that is flooded; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
}

/// Builds what is needed and floods.
///
/// # Errors
/// Fails if something is missing, does not compile, or somebody else's connection does not work meanwhile.
pub(crate) fn flood(workspace: &Workspace, args: &Args) -> Result<()> {
    ensure!(args.sources > args.max_flows, "so few sources do not fill the table");
    let settings = [
        ("NETD_FLOOD_SOURCES", args.sources.to_string()),
        ("NETD_FLOOD_MAX_FLOWS", args.max_flows.to_string()),
    ];
    let name = "flood::a_flood_of_syns_leaves_everybody_elses_connections_alone";
    test::system_test(workspace, name, &test::chosen(args.datapath.as_deref()), &settings)
}
