//! `netd doctor`: how findings are shown.

use std::io::Write;

use super::{CliError, GlobalArgs, RunArgs, output::Output};
use crate::doctor::{self, Finding, Status};

/// Looks at the host and prints what was found; with `--quiet` only what is not well.
pub(super) fn run(args: RunArgs, global: &GlobalArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let mut findings = doctor::examine(&args.options(global))?;
    let counts = [Status::Ok, Status::Finding, Status::Fatal]
        .map(|status| findings.iter().filter(|finding| finding.status == status).count());
    let mut fatal: Vec<&'static str> =
        findings.iter().filter(|f| f.status == Status::Fatal).map(|f| f.check).collect();
    fatal.dedup();
    if global.quiet {
        findings.retain(|finding| finding.status != Status::Ok);
    }
    let mut output = Output::new(global, out);
    if global.json {
        output.json(&findings)?;
    } else {
        print(&mut output, &findings, global.is_colored(&std::io::stdout()))?;
        let [ok, found, stops] = counts;
        if !global.quiet {
            let s = if found == 1 { "" } else { "s" };
            output.line(format_args!("{ok} ok, {found} finding{s}, {stops} fatal"))?;
        }
    }
    output.flush()?;
    if fatal.is_empty() { Ok(()) } else { Err(CliError::Stopped(fatal.join(", "))) }
}

fn print(output: &mut Output<'_>, findings: &[Finding], is_colored: bool) -> std::io::Result<()> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, status, message, fix } in findings {
        let status = word(*status, is_colored);
        output.line(format_args!("{status}  {check:width$}  {message}"))?;
        if let Some(fix) = fix {
            output.line(format_args!("         {:width$}  fix: {fix}", ""))?;
        }
    }
    Ok(())
}

/// The status as wide as the longest, in green, yellow or red.
fn word(status: Status, is_colored: bool) -> String {
    let (word, color) = match status {
        Status::Ok => ("ok", 32),
        Status::Finding => ("finding", 33),
        Status::Fatal => ("fatal", 31),
    };
    let word = format!("{word:7}");
    if is_colored { format!("\x1b[{color}m{word}\x1b[0m") } else { word }
}
