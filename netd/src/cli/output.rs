//! The one place that prints: the answer of a command, for people or for programs.

use std::{
    fmt,
    io::{self, BufWriter, Write},
};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{CliError, GlobalArgs};

/// Where the answer goes, and in which form.
pub(super) struct Output<'a> {
    out: BufWriter<&'a mut dyn Write>,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(global: &GlobalArgs, out: &'a mut dyn Write) -> Self {
        Self { out: BufWriter::new(out), json: global.json, quiet: global.quiet }
    }

    pub(super) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Prints one JSON document.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// Prints a JSON array, one item a line, as the items come: a million flows take no memory.
    pub(super) fn json_array<T: Serialize>(
        &mut self,
        items: impl Iterator<Item = Result<T, CliError>>,
    ) -> Result<(), CliError> {
        let mut separator = "[\n";
        for item in items {
            let item = item?;
            self.out.write_all(separator.as_bytes())?;
            serde_json::to_writer(&mut self.out, &item).map_err(io::Error::from)?;
            separator = ",\n";
        }
        let end = if separator == "[\n" { "[]\n" } else { "\n]\n" };
        Ok(self.out.write_all(end.as_bytes())?)
    }

    /// Prints a table without lines, so that it can be cut up by columns.
    pub(super) fn table<const N: usize>(
        &mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Prints what is known of an object, a line each, with an empty line before all but the first.
    pub(super) fn description(
        &mut self,
        is_first: bool,
        fields: &[(&str, String)],
    ) -> io::Result<()> {
        if !is_first {
            writeln!(self.out)?;
        }
        let width = fields.iter().map(|(key, _)| key.len() + 1).max().unwrap_or(0);
        for (key, value) in fields {
            let line = format!("{:width$} {value}", format!("{key}:"));
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The first of an id's digits, enough to tell it from others.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// An optional value, `-` where there is none.
pub(super) fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Several values in one cell, `-` where there is none.
pub(super) fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}
