//! The `netd` program: the daemon and its command line.

use std::{io, process::ExitCode};

use clap::Parser as _;
use netd::{
    cli::{self, Cli, CliError, Command, GlobalArgs, Stopped},
    daemon, detach,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    log_to_stderr(&global, matches!(command, Command::Run { .. }));
    match command {
        Command::Run { takeover, args } => status_of(daemon::run(args.options(&global), takeover)),
        Command::Stop(args) => match cli::stop(&args, &global) {
            Ok(Stopped::Daemon) => ExitCode::SUCCESS,
            Ok(Stopped::NoDaemon(options)) => status_of(detach::run(options)),
            Err(error) => failure(&error),
        },
        Command::State(command) => cli::state(command, &global, &mut io::stdout().lock())
            .map_or_else(|e| failure(&e), succeed),
        Command::Doctor(args) => cli::doctor(args, &global, &mut io::stdout().lock())
            .map_or_else(|e| failure(&e), succeed),
        Command::Completions { shell } => cli::print_completions(shell, &mut io::stdout().lock())
            .map_or_else(|e| failure(&e), succeed),
        Command::Man { dir } => cli::man_pages(dir.as_deref(), &mut io::stdout().lock())
            .map_or_else(|e| failure(&e), succeed),
        Command::Ask(command) => cli::ask(command, &global, &mut io::stdout().lock())
            .map_or_else(|e| failure(&e), succeed),
    }
}

fn succeed((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn failure(error: &CliError) -> ExitCode {
    error.report();
    error.exit_code()
}

fn status_of(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, leaving out those whose words the error before them has taken up.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string().replace('\n', "; ")) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// Logs to stderr, which stdout, the answer, is kept clear of. `RUST_LOG` goes before `-v` and `-q`.
fn log_to_stderr(global: &GlobalArgs, is_daemon: bool) {
    let level = match (global.verbose, global.quiet) {
        (0, true) => "warn",
        (0, false) if is_daemon => "info",
        (0, false) => "warn",
        (1, _) => "debug",
        (2.., _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(global.is_colored(&io::stderr()))
        // Where nobody reads the log any more it cannot be said there either, and trying to would end the daemon.
        .log_internal_errors(false)
        .init();
}
