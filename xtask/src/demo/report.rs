//! What the demo prints: titles, commands, and for each that was tried whether it went as expected.

use std::io::{self, Stdout, Write as _};

use super::check::{Check, Finding};

/// How wide the verdicts are before the commands, and commands before what is said about them.
const VERDICT_WIDTH: usize = 21;
const COMMAND_WIDTH: usize = 66;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
/// White on red.
const ALARM: &str = "1;37;41";

/// The demo's output, line by line as it happens.
pub(super) struct Report {
    out: Stdout,
    is_colored: bool,
    as_expected: u32,
    surprises: u32,
}

impl Report {
    pub(super) fn new(is_colored: bool) -> Self {
        Self { out: io::stdout(), is_colored, as_expected: 0, surprises: 0 }
    }

    /// Says what the next lines show.
    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(BOLD, text);
        writeln!(self.out, "\n{text}")
    }

    /// A command that is about to be run.
    pub(super) fn step(&mut self, line: &str) -> io::Result<()> {
        let line = self.painted(DIM, &format!("$ {line}"));
        writeln!(self.out, "  {line}")
    }

    /// What a command has answered.
    pub(super) fn answer(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            writeln!(self.out, "{indent}{line}")?;
        }
        Ok(())
    }

    /// A command that was tried.
    pub(super) fn check(&mut self, check: &Check, finding: &Finding) -> io::Result<()> {
        let (verdict, style) = if finding.is_expected {
            self.as_expected += 1;
            (format!("{}, as expected", finding.outcome.word()), GREEN)
        } else {
            self.surprises += 1;
            (format!("{}, NOT {}", finding.outcome.word(), check.expected.word()), ALARM)
        };
        let verdict = self.painted(style, &format!("{verdict:<VERDICT_WIDTH$}"));
        let detail = self.painted(DIM, &format!("# {}", finding.detail));
        writeln!(self.out, "  {verdict} {:<COMMAND_WIDTH$} {detail}", check.line)
    }

    /// Ends the demo; whether all went as expected.
    pub(super) fn sum_up(&mut self) -> io::Result<bool> {
        let Self { as_expected, surprises, .. } = *self;
        let (text, style) = match surprises {
            0 => (format!("All {as_expected} as expected."), GREEN),
            1 => (format!("1 surprise, {as_expected} as expected."), ALARM),
            more => (format!("{more} surprises, {as_expected} as expected."), ALARM),
        };
        let text = self.painted(style, &text);
        writeln!(self.out, "\n{text}")?;
        Ok(surprises == 0)
    }

    /// Says how somebody gets into the demo that is left up, and what to try there.
    pub(super) fn invitation(&mut self, pid: &str, lines: &[String]) -> io::Result<()> {
        writeln!(
            self.out,
            "\nThe demo stays up. In another terminal, as root, this opens a shell on its host:\n\n  \
             nsenter --target {pid} --mount --net\n\nwhere such commands work:\n"
        )?;
        for line in lines {
            writeln!(self.out, "  {line}")?;
        }
        writeln!(self.out, "\nEnter or Ctrl-C ends the demo and removes everything.")
    }

    fn painted(&self, style: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
