//! Running other programs, with errors that name the command and, if it is missing, its package.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::geteuid;

use crate::programs;

/// Runs a command with xtask's own stdin, stdout and stderr.
///
/// # Errors
/// Fails if the command cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| cannot_start(command, error))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Starts a command, which goes on by itself.
///
/// # Errors
/// Fails if it cannot be started.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| cannot_start(command, error))
}

/// Runs a command silently and returns what it wrote to stdout.
///
/// # Errors
/// Fails as [`run`] does; the error carries what the command wrote to stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", line(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not text", line(command)))
}

/// Waits for what runs beside.
///
/// # Errors
/// As that does.
pub(crate) fn join(beside: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Replaces xtask by a command, which gets its terminal and its signals; returns only if that fails.
pub(crate) fn replace_by(mut command: Command) -> anyhow::Error {
    let error = command.exec();
    cannot_start(&command, error)
}

/// A command that runs as root: through sudo unless we are root already.
///
/// # Errors
/// Fails if sudo is needed and not installed.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = programs::find("sudo") else {
        bail!("this needs root: run it as root or install sudo (Debian package sudo)");
    };
    let mut command = Command::new(sudo);
    command.arg("--").arg(program);
    Ok(command)
}

/// Whether we may do everything already.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The command as one would type it, without its environment.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A word that a shell reads back as it is.
pub(crate) fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Why a command did not start; names the package of a missing program.
pub(crate) fn cannot_start(command: &Command, error: io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() == io::ErrorKind::NotFound {
        return match programs::package_of(&program) {
            Some(package) => anyhow!("{program} is missing (Debian package {package})"),
            None => anyhow!("{program} is missing"),
        };
    }
    anyhow!(error).context(format!("cannot start `{}`", line(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_read_back_as_they_were() {
        assert_eq!(quote("/run/netd/netd.sock"), "/run/netd/netd.sock");
        assert_eq!(quote("my folder"), "'my folder'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let error = run(Command::new("false").arg("x y")).unwrap_err();
        assert!(error.to_string().starts_with("`false 'x y'` failed"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = cannot_start(&Command::new("xz"), io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "xz is missing (Debian package xz-utils)");
    }
}
