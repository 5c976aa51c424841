//! `cargo xtask oracle` and `compliance`: netd beside iptables, for as long as wanted, and what is written
//! about it.
//!
//! Both run tests of the system layer with settings that these read.

use anyhow::Result;

use crate::{test, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many rule sets and batches of packets are made up
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// The data path that is tried; every one by default
    #[arg(long, value_name = "NAME", value_parser = test::DATA_PATHS)]
    datapath: Option<String>,
    /// Makes up the same again as an earlier run, which has printed its seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds what is needed and compares netd with iptables on made-up packets.
///
/// # Errors
/// Fails if something is missing, does not compile, or an unknown difference shows.
pub(crate) fn oracle(workspace: &Workspace, args: &Args) -> Result<()> {
    let chosen = [
        ("NETD_ORACLE_ROUNDS", args.rounds.to_string()),
        ("NETD_ORACLE_SEED", args.seed.unwrap_or_else(|| std::process::id().into()).to_string()),
    ];
    let paths = test::chosen(args.datapath.as_deref());
    test::system_test(
        workspace,
        "oracle::made_up::netd_does_what_iptables_does_with_made_up_packets",
        &paths,
        &chosen,
    )
}

/// Builds what is needed and writes the tables of `COMPLIANCE.md` anew.
///
/// # Errors
/// Fails if something is missing, does not compile, or a requirement cannot be tried.
pub(crate) fn compliance(workspace: &Workspace) -> Result<()> {
    let write = [("NETD_COMPLIANCE_WRITE", "yes".to_owned())];
    for name in [
        "oracle::every_known_difference_is_told",
        "rfc::table::the_table_has_every_row_and_no_other",
    ] {
        test::system_test(workspace, name, &test::DATA_PATHS[..1], &write)?;
    }
    Ok(())
}
