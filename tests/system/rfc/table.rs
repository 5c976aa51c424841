//! The table in `COMPLIANCE.md`: read, checked row by row, and written anew.

use std::sync::LazyLock;

use netd_tests::compliance;

use super::{Row, pass::Findings, rfc4787, rfc5382, rfc5508, rfc7857};

/// The part of `COMPLIANCE.md`.
const PART: &str = "rfc";

/// Its head.
const HEAD: &str = "| test | requirement | netd | netd by the RFCs | iptables |\n\
                    | --- | --- | --- | --- | --- |\n";

/// Every RFC's rows, and what they find.
const PARTS: [(&[Row], &LazyLock<Findings>); 4] = [
    (rfc4787::ROWS, &rfc4787::FOUND),
    (rfc5382::ROWS, &rfc5382::FOUND),
    (rfc5508::ROWS, &rfc5508::FOUND),
    (rfc7857::ROWS, &rfc7857::FOUND),
];

/// The table with these cells.
fn table(cells: impl Fn(&LazyLock<Findings>, &str) -> [String; 3]) -> String {
    let rows = PARTS.into_iter().flat_map(|(rows, found)| rows.iter().map(move |row| (row, found)));
    rows.fold(HEAD.to_owned(), |table, (row, found)| table + &line(row, &cells(found, row.name)))
}

/// What the table says of a row; nothing where it does not know it.
pub(super) fn cells(name: &str) -> [String; 3] {
    let part = compliance::part(PART);
    let line = part.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
    let mut cells = line.unwrap_or_default().trim_end_matches(" |").split(" | ").skip(2);
    std::array::from_fn(|_| cells.next().unwrap_or_default().to_owned())
}

/// A row with what was found.
fn line(row: &Row, found: &[String; 3]) -> String {
    let family = if row.is_v4_only() { " (IPv4)" } else { "" };
    format!("| `{}` | {}{family} | {} |\n", row.name, row.says, found.join(" | "))
}

/// Compares what was found with the table.
#[track_caller]
pub(super) fn check(found: &Findings, name: &str) {
    let hint = "COMPLIANCE.md says otherwise; cargo xtask compliance writes it anew";
    assert_eq!(found.get(name), Some(&cells(name)), "{hint}");
}

#[test]
fn the_table_has_every_row_and_no_other() {
    if compliance::is_written() {
        compliance::write_part(PART, &table(|found, name| found[name].clone()));
    }
    assert_eq!(compliance::part(PART), table(|_, name| cells(name)));
}
