//! `netd stop`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, GlobalArgs, connect::connect};
use crate::{
    api::{Item, Request},
    client::ClientError,
    config::RunOptions,
};

/// `netd stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// Also remove every link, program, map and device of netd; needs no daemon
    #[arg(long)]
    detach: bool,
    /// The configuration of a daemon that no longer runs
    #[arg(long, value_name = "FILE", requires = "detach")]
    config: Option<PathBuf>,
    /// The state of a daemon that no longer runs
    #[arg(long, value_name = "DIR", requires = "detach")]
    state_dir: Option<PathBuf>,
    /// The pins of a daemon that no longer runs
    #[arg(long, value_name = "DIR", requires = "detach")]
    bpffs: Option<PathBuf>,
}

/// What became of the request to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The daemon has ended.
    Daemon,
    /// There is no daemon; what it left is to be removed, as these options say where.
    NoDaemon(RunOptions),
}

pub(super) fn run(args: &StopArgs, global: &GlobalArgs) -> Result<Stopped, CliError> {
    let mut client = match connect(global.socket()) {
        Err(ClientError::NotReachable { .. }) if args.detach => {
            return Ok(Stopped::NoDaemon(RunOptions {
                config: args.config.clone(),
                socket: global.socket.clone(),
                state_dir: args.state_dir.clone(),
                bpffs: args.bpffs.clone(),
                ..RunOptions::default()
            }));
        }
        client => client?,
    };
    for item in client.request(Request::Stop { detach: args.detach })? {
        if let Item::Warning(warning) = item? {
            eprintln!("warning: {warning}");
        }
    }
    client.wait_until_closed()?;
    Ok(Stopped::Daemon)
}
