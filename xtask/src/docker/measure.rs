//! `cargo xtask docker`: how long Docker's containers and ports take with netd, beside Docker's own rules.
//!
//! They are tests that `cargo xtask test` runs with a handful; here their number is chosen, and the daemon is built in
//! release mode.

use anyhow::Result;

use crate::{build, docker, test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often a container is started
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// How many ports a container publishes; more than once for several
    #[arg(long, default_values_t = [1000, 10_000], value_parser = clap::value_parser!(u32).range(1..=40_000))]
    ports: Vec<u32>,
    /// The data path of the networks; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
}

/// Builds what is needed, measures and prints.
///
/// # Errors
/// Fails if something is missing, does not compile, or a packet crosses networks.
pub(crate) fn docker(workspace: &Workspace, args: &Args) -> Result<()> {
    docker::ensure(workspace)?;
    let netd = build::build(workspace, &build::Args::plain(true))?;
    let paths = test::chosen(args.datapath.as_deref());
    let settings = |what: &str, number: u32| {
        [
            ("NETD_BIN", netd.display().to_string()),
            (
                if what == "STARTS" { "NETD_DOCKER_STARTS" } else { "NETD_DOCKER_PORTS" },
                number.to_string(),
            ),
            // Waiting has a deadline, and Docker's own rules are slow.
            ("NETD_TEST_SLOWNESS", "20".to_owned()),
        ]
    };
    let name = "docker_host::measure::";
    for ports in &args.ports {
        let test = format!("{name}many_ports_cost_what_they_cost");
        test::system_test(workspace, &test, &paths, &settings("PORTS", *ports))?;
    }
    let test = format!("{name}a_published_port_answers_soon_after_the_start_and_no_neighbour_does");
    test::system_test(workspace, &test, &paths, &settings("STARTS", args.starts))
}
