//! All rows of an RFC, one after the other with every setup at once. Rows that need nothing of their own
//! share a host: to make one for each costs more than to try it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use netd_tests::{data_path::DataPath, oracle::lab::Lab};

use super::{OWN, Row, Setup, table};

/// What each row finds with each setup, as the table has it.
pub(crate) type Findings = BTreeMap<&'static str, [String; 3]>;

/// How often a row that finds something else than the table says is tried again: on a busy machine, a
/// packet may arrive too late to be seen.
const RETRIES: u32 = 2;

/// Tries every row.
pub(crate) fn findings(rows: &'static [Row]) -> Findings {
    let columns: [Vec<String>; 3] = thread::scope(|scope| {
        let begun = Setup::ALL.map(|setup| scope.spawn(move || column(rows, setup)));
        begun.map(|column| column.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let cells = |at: usize| columns.each_ref().map(|column| column[at].clone());
    rows.iter().enumerate().map(|(at, row)| (row.name, cells(at))).collect()
}

/// What the rows find with a setup. iptables has no data paths, and what is set for the RFCs does not depend
/// on them, so these are tried once.
fn column(rows: &[Row], setup: Setup) -> Vec<String> {
    let written = |row: &Row| table::cells(row.name)[setup as usize].clone();
    if setup != Setup::Netd && DataPath::under_test() == DataPath::Stack {
        return rows.iter().map(written).collect();
    }
    let mut shared = setup.lab(OWN);
    rows.iter().map(|row| settled(row, setup, &mut shared, &written(row))).collect()
}

fn settled(row: &Row, setup: Setup, shared: &mut Lab, written: &str) -> String {
    let mut found = String::new();
    for _ in 0..=RETRIES {
        let mut own = row.settings.map(|settings| setup.lab(settings));
        found = cell(row, own.as_mut().unwrap_or(shared));
        if found == written {
            break;
        }
    }
    found
}

/// A row that breaks is told to its own test, and not to the others.
fn cell(row: &Row, lab: &mut Lab) -> String {
    let found = catch_unwind(AssertUnwindSafe(|| row.found(lab)));
    found.map_or_else(|_| "broken".to_owned(), |found| found.to_string())
}
