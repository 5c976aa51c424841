//! `netd state`.

mod file;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use super::{CliError, GlobalArgs, connect::connect, one, output::Output};
use crate::{
    api::{ImportInfo, Request, StateText},
    backup::Backup,
    client::ClientError,
    config::RunOptions,
    ipam,
    store::Store,
};

/// What can be done with the whole desired state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Write networks, endpoints, published ports and allowances; needs no daemon
    Export(ExportArgs),
    /// Bring about what a document holds; netd must have no networks
    Import {
        /// What `netd state export` has written; - is stdin
        file: PathBuf,
    },
}

/// `netd state export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Where to; stdout without it and for -
    file: Option<PathBuf>,
    /// The configuration of a daemon that does not run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state of a daemon that does not run
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateCommand {
    /// Makes the request and writes the answer.
    pub(super) fn run(self, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CliError> {
        match self {
            Self::Export(args) => export(&args, global, out),
            Self::Import { file } => import(file, &mut Output::new(global, out), global),
        }
    }
}

fn export(args: &ExportArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let text = match connect(global.socket()) {
        Err(ClientError::NotReachable { .. }) => stored(args)?,
        client => one::<StateText>(&mut client?, Request::StateExport)?.text,
    };
    match args.file.as_deref().filter(|file| !is_standard(file)) {
        None => Ok(out.write_all(text.as_bytes())?),
        Some(path) => file::replace(path, text.as_bytes())
            .map_err(|source| CliError::Write { path: path.to_owned(), source }),
    }
}

/// What a daemon has stored that does not run.
fn stored(args: &ExportArgs) -> Result<String, CliError> {
    let (config, state_dir) = (args.config.clone(), args.state_dir.clone());
    let config = RunOptions { config, state_dir, ..RunOptions::default() }.resolve()?;
    let stored = Store::read(&config.daemon.state_dir)?;
    let backup = Backup::new(&stored.desired, ipam::ula_prefix(stored.ula_global_id));
    Ok(backup.to_text().map_err(io::Error::from)?)
}

fn import(path: PathBuf, output: &mut Output<'_>, global: &GlobalArgs) -> Result<(), CliError> {
    let text = file::read(&path)?;
    let mut client = connect(global.socket())?;
    let info: ImportInfo = one(&mut client, Request::StateImport { text })?;
    show(&info, output)?;
    output.flush()?;
    if info.left_out.is_empty() {
        return Ok(());
    }
    // The rest has come about; but who runs this in a script must not take it for all.
    let errors = info.left_out.into_iter();
    Err(CliError::Several(
        errors.map(|it| CliError::LeftOut { endpoint: it.endpoint, reason: it.reason }).collect(),
    ))
}

fn show(info: &ImportInfo, output: &mut Output<'_>) -> io::Result<()> {
    if output.json {
        return output.json(info);
    }
    let kind = |kind| if output.quiet { "" } else { kind };
    let (network, endpoint) = (kind("network "), kind("endpoint "));
    for name in &info.networks {
        output.line(format_args!("{network}{name}"))?;
    }
    for name in &info.endpoints {
        output.line(format_args!("{endpoint}{name}"))?;
    }
    Ok(())
}

fn is_standard(path: &std::path::Path) -> bool {
    path.as_os_str() == "-"
}
