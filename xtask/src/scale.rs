//! `cargo xtask scale`: how long the daemon's start and its requests take on a host with many containers.
//!
//! It is the test that `cargo xtask test` runs with a handful of them; here their number is chosen, and the daemon
//! is built in release mode.

use anyhow::{Result, ensure};

use crate::{build, test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many networks there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=250))]
    networks: u32,
    /// How many containers there are, each on one network
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    endpoints: u32,
    /// How many ports are published, by all containers together
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    ports: u32,
    /// How often the daemon is started, and each request is made
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The data path of the networks; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
    /// Measures this netd instead
    #[arg(long, value_name = "NETD")]
    netd: Option<std::path::PathBuf>,
}

/// Builds what is needed, measures and prints a table.
///
/// # Errors
/// Fails if something is missing, does not compile, or a container is not there after a start.
pub(crate) fn scale(workspace: &Workspace, args: &Args) -> Result<()> {
    ensure!(args.ports >= args.endpoints, "each container publishes a port at least");
    let netd = match &args.netd {
        Some(netd) => netd.clone(),
        None => build::build(workspace, &build::Args::plain(true))?,
    };
    let settings = [
        ("NETD_BIN", netd.display().to_string()),
        ("NETD_SCALE_NETWORKS", args.networks.to_string()),
        ("NETD_SCALE_ENDPOINTS", args.endpoints.to_string()),
        ("NETD_SCALE_PORTS", args.ports.to_string()),
        ("NETD_SCALE_ROUNDS", args.rounds.to_string()),
        // Waiting has a deadline, and an earlier netd may be slow.
        ("NETD_TEST_SLOWNESS", "10".to_owned()),
    ];
    let name = "scale::every_container_is_there_after_a_start_whatever_was_gone";
    test::system_test(workspace, name, &test::chosen(args.datapath.as_deref()), &settings)
}
