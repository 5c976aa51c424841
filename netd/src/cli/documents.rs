//! What is made of the command line's own description: completion scripts and manual pages.

use std::{fs, io::Write, path::Path};

use clap::CommandFactory as _;

use super::{Cli, CliError};

/// Prints a completion script to `out`.
///
/// # Errors
/// Where it cannot be written.
pub fn print_completions(shell: clap_complete::Shell, out: &mut dyn Write) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netd", &mut script);
    Ok(out.write_all(&script)?)
}

/// Prints netd(1) to `out`, or writes it and a page for each command into a directory.
///
/// # Errors
/// Where they cannot be written.
pub fn man_pages(dir: Option<&Path>, out: &mut dyn Write) -> Result<(), CliError> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return Ok(out.write_all(&page)?);
    };
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|source| CliError::Pages { path: dir.to_owned(), source })
}
