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
    /// How many containers are started at once
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    containers: u32,
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
    let run = |test: &str, what: &'static str, number: u32| {
        let settings = [
            ("NETD_BIN", netd.display().to_string()),
            (what, number.to_string()),
            // Waiting has a deadline, and Docker's own rules are slow.
            ("NETD_TEST_SLOWNESS", "5".to_owned()),
        ];
        test::system_test(workspace, &format!("docker_host::{test}"), &paths, &settings)
    };
    for ports in &args.ports {
        run("measure::many_ports_cost_what_they_cost", "NETD_DOCKER_PORTS", *ports)?;
    }
    let test = "lifecycle::many_containers_that_start_at_once_are_all_there";
    run(test, "NETD_DOCKER_CONTAINERS", args.containers)?;
    let test = "measure::a_published_port_answers_soon_after_the_start_and_no_neighbour_does";
    run(test, "NETD_DOCKER_STARTS", args.starts)
}
