//! The command line: what can be typed, and what is done for it.
//!
//! A command becomes one request to the daemon and its answer one text or one JSON document. Nothing
//! is decided here but the form; `run` alone is no request, `main` starts the daemon for it.

mod connect;
mod conntrack;
mod docker;
mod doctor;
mod documents;
mod endpoint;
mod network;
mod output;
mod port;
mod state;
mod stats;
mod stop;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ColorChoice, Parser, Subcommand};
use thiserror::Error;

pub use documents::{man_pages, print_completions};
pub use state::{ExportArgs, StateCommand};
pub use stop::{StopArgs, Stopped};

use crate::{
    api::{Item, Request, UnexpectedItem},
    client::{Client, ClientError},
    config::{ConfigError, DEFAULT_SOCKET, RunOptions, XdpMode},
    model::DatapathMode,
    store::StoreError,
};
use connect::connect;
use output::Output;

/// Container networks without iptables: bridges, published ports and masquerading in eBPF.
#[derive(Debug, Parser)]
#[command(name = "netd", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Options that every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The daemon's socket [default: /run/netd/netd.sock]
    #[arg(long, global = true, env = "NETD_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Print names only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Run {
        /// End the daemon that runs here and go on in its place
        #[arg(long)]
        takeover: bool,
        #[command(flatten)]
        args: RunArgs,
    },
    /// End the daemon; the networks go on working
    Stop(StopArgs),
    #[command(flatten)]
    Ask(AskCommand),
    /// The desired state as a document: a backup, or the way to another host
    #[command(subcommand)]
    State(StateCommand),
    /// Look for what stops netd on this host, or is not as it should be, and say what to do; needs no daemon
    Doctor(RunArgs),
    /// Print a completion script
    Completions {
        /// The shell that it is for
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Where the pages are written; it is made where it does not exist
        dir: Option<PathBuf>,
    },
}

/// The commands that are requests to the daemon.
#[derive(Debug, Subcommand)]
pub enum AskCommand {
    /// Networks: bridges with their subnets
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Endpoints: attachments of sandboxes to networks
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// Published ports
    #[command(subcommand)]
    Port(port::PortCommand),
    /// The connection table
    #[command(subcommand)]
    Conntrack(conntrack::ConntrackCommand),
    /// An existing Docker host: its networks, with netd in the place of iptables and the proxy
    #[command(subcommand)]
    Docker(docker::DockerCommand),
    /// Counters by reason, network, endpoint and published port
    Stats,
}

/// Where a daemon keeps what is its own, and how it treats packets.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration [default: /etc/netd/netd.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the state is kept [default: /var/lib/netd]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where programs and maps are pinned [default: /sys/fs/bpf/netd]
    #[arg(long, value_name = "DIR")]
    bpffs: Option<PathBuf>,
    /// How packets get from an uplink to a container, where the network does not say it [default: auto]
    #[arg(long, value_name = "MODE")]
    datapath: Option<DatapathMode>,
    /// Which uplinks drop hostile frames in their drivers [default: auto]
    #[arg(long, value_name = "MODE")]
    xdp: Option<XdpMode>,
    /// A device that leads out; all that can be one by default
    #[arg(long = "uplink", value_name = "IFNAME")]
    uplinks: Vec<String>,
}

impl RunArgs {
    /// The options of a daemon that is started with these arguments.
    pub fn options(self, global: &GlobalArgs) -> RunOptions {
        RunOptions {
            config: self.config,
            socket: global.socket.clone(),
            state_dir: self.state_dir,
            bpffs: self.bpffs,
            datapath: self.datapath,
            xdp: self.xdp,
            uplinks: self.uplinks,
        }
    }
}

impl GlobalArgs {
    /// The socket that clients use.
    pub fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET))
    }
}

impl GlobalArgs {
    /// Whether what is written there is to have colours.
    pub fn is_colored(&self, stream: &impl IsTerminal) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Unexpected(#[from] UnexpectedItem),
    #[error("the answer cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} cannot be read: {source}; give a file that `netd state export` has written")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written: {source}; nothing has changed there")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {max} bytes, which no state of netd's is: give another file")]
    TooLarge { path: PathBuf, max: usize },
    #[error("endpoint {endpoint} is left out: {reason}")]
    LeftOut { endpoint: String, reason: String },
    #[error("the manual pages cannot be written to {path}: {source}; name another directory")]
    Pages { path: PathBuf, source: io::Error },
    /// The checks of `netd doctor` that say so.
    #[error("netd cannot run on this host as it is: {0}; do what is said under fix")]
    Stopped(String),
    /// Several objects, each of which failed for its own reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<CliError>),
}

impl CliError {
    /// The exit status that goes with it (`contract.md` 2).
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(error) if error.is_not_reachable() => ExitCode::from(3),
            _ if self.is_broken_pipe() => ExitCode::SUCCESS,
            Self::Client(_)
            | Self::Unexpected(_)
            | Self::Output(_)
            | Self::Config(_)
            | Self::Store(_)
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::TooLarge { .. }
            | Self::LeftOut { .. }
            | Self::Pages { .. }
            | Self::Stopped(_)
            | Self::Several(_) => ExitCode::FAILURE,
        }
    }

    /// Says what went wrong, a line for each object. A reader that has seen enough is no failure.
    pub fn report(&self) {
        if !self.is_broken_pipe() {
            for line in self.to_string().lines() {
                eprintln!("error: {line}");
            }
        }
    }

    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// A connection to the daemon, and where its answers go.
struct Session<'a> {
    client: Client,
    output: Output<'a>,
}

/// Runs a command that asks the daemon, and prints to `out`.
///
/// # Errors
/// Where the daemon cannot be reached or refuses.
pub fn ask(command: AskCommand, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let output = Output::new(global, out);
    let mut session = Session { client: connect(global.socket())?, output };
    match command {
        AskCommand::Network(command) => command.run(&mut session),
        AskCommand::Endpoint(command) => command.run(&mut session),
        AskCommand::Port(command) => command.run(&mut session),
        AskCommand::Conntrack(command) => command.run(&mut session),
        AskCommand::Docker(command) => command.run(&mut session),
        AskCommand::Stats => stats::run(&mut session),
    }?;
    Ok(session.output.flush()?)
}

/// Asks the daemon to end; whether there was one.
///
/// # Errors
/// Where it refuses.
pub fn stop(args: &StopArgs, global: &GlobalArgs) -> Result<Stopped, CliError> {
    stop::run(args, global)
}

/// Looks at the host and prints what was found to `out`.
///
/// # Errors
/// Where something stops netd.
pub fn doctor(args: RunArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CliError> {
    doctor::run(args, global, out)
}

/// Writes the desired state to `out` or to a file, or brings one about.
///
/// # Errors
/// Where there is no state to be had, the daemon refuses, or an endpoint is left out.
pub fn state(
    command: StateCommand,
    global: &GlobalArgs,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    command.run(global, out)
}

/// Makes a request and gives its items as `T`; warnings among them go to stderr.
fn items<T: TryFrom<Item, Error = UnexpectedItem>>(
    client: &mut Client,
    request: Request,
) -> Result<impl Iterator<Item = Result<T, CliError>>, CliError> {
    let answer = client.request(request)?;
    Ok(answer.filter_map(|item| match item {
        Ok(Item::Warning(warning)) => {
            eprintln!("warning: {warning}");
            None
        }
        Ok(item) => Some(T::try_from(item).map_err(CliError::from)),
        Err(error) => Some(Err(error.into())),
    }))
}

/// Makes a request whose answer is short.
fn all<T: TryFrom<Item, Error = UnexpectedItem>>(
    client: &mut Client,
    request: Request,
) -> Result<Vec<T>, CliError> {
    items(client, request)?.collect()
}

/// Makes a request whose answer is one item.
fn one<T: TryFrom<Item, Error = UnexpectedItem>>(
    client: &mut Client,
    request: Request,
) -> Result<T, CliError> {
    all(client, request)?.pop().ok_or(CliError::Unexpected(UnexpectedItem))
}

/// Reads `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), KeyValueError> {
    let (key, value) = text.split_once('=').ok_or(KeyValueError::NoValue)?;
    if key.is_empty() { Err(KeyValueError::NoKey) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Why a text is no `KEY=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum KeyValueError {
    #[error("write KEY=VALUE")]
    NoValue,
    #[error("the key before = is missing")]
    NoKey,
}

#[cfg(test)]
mod tests;
