//! `cargo xtask hitless`: thousands of connections under a daemon that is restarted, killed and replaced, none of
//! which may notice.
//!
//! It is the test that `cargo xtask test` runs with few connections; here their number, what becomes of the
//! daemon, the builds and the data path are chosen.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{build, test, workspace::Workspace};

/// How many times longer than in an ordinary run of the tests may take what the daemon does with so large a table.
const SLOWNESS: &str = "4";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many connections carry data all the time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(4..=100_000))]
    flows: u32,
    /// How many more fill the connection table
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(..=8_000_000))]
    idle_flows: u32,
    /// How many times the daemon is restarted
    #[arg(long, default_value_t = 20)]
    restarts: u32,
    /// How many times it is killed
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// How many times the other build takes over, and gives back
    #[arg(long, default_value_t = 20, requires = "other_netd")]
    upgrades: u32,
    /// Another build of netd, for upgrades to it and back
    #[arg(long, value_name = "FILE")]
    other_netd: Option<PathBuf>,
    /// The build that is tested; by default one of this checkout in release mode
    #[arg(long, value_name = "FILE")]
    netd: Option<PathBuf>,
    /// The data path that is tried; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
}

/// Builds what is needed and lets the flows go on.
///
/// # Errors
/// Fails if something is missing, does not compile, or a flow loses a byte.
pub(crate) fn hitless(workspace: &Workspace, args: &Args) -> Result<()> {
    let netd = match &args.netd {
        Some(netd) => netd.clone(),
        None => build::build(workspace, &build::Args::plain(true))?,
    };
    let mut settings = vec![
        ("NETD_BIN", whole(&netd)?),
        ("NETD_TEST_SLOWNESS", SLOWNESS.to_owned()),
        ("NETD_HITLESS_FLOWS", args.flows.to_string()),
        ("NETD_HITLESS_IDLE_FLOWS", args.idle_flows.to_string()),
        ("NETD_HITLESS_RESTARTS", args.restarts.to_string()),
        ("NETD_HITLESS_KILLS", args.kills.to_string()),
        ("NETD_HITLESS_UPGRADES", args.upgrades.to_string()),
    ];
    if let Some(other) = &args.other_netd {
        settings.push(("NETD_OTHER_BIN", whole(other)?));
    }
    let name = "hitless::no_flow_notices_that_the_daemon_comes_and_goes";
    test::system_test(workspace, name, &test::chosen(args.datapath.as_deref()), &settings)
}

/// The path as the tests need it, which run elsewhere.
fn whole(path: &Path) -> Result<String> {
    let found =
        fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(found.display().to_string())
}
