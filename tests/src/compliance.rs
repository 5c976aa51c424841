//! `COMPLIANCE.md`: parts of it are written by tests, and compared by them.

use std::{env, fs, path::PathBuf};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../COMPLIANCE.md")
}

fn text() -> String {
    fs::read_to_string(path()).unwrap_or_else(|error| panic!("COMPLIANCE.md: {error}"))
}

/// Whether the parts are to be written, as `cargo xtask compliance` asks for.
pub fn is_written() -> bool {
    env::var_os("NETD_COMPLIANCE_WRITE").is_some()
}

/// The part of a name.
///
/// # Panics
/// Where there is none.
#[track_caller]
pub fn part(name: &str) -> String {
    split(&text(), name)[1].clone()
}

/// Replaces the part of a name. Only one test may do so at a time.
///
/// # Panics
/// Where there is none, or the file cannot be written.
#[track_caller]
pub fn write_part(name: &str, part: &str) {
    let [before, _, after] = split(&text(), name);
    let written = fs::write(path(), before + part + &after);
    written.unwrap_or_else(|error| panic!("COMPLIANCE.md: {error}"));
}

/// What stands before a part, the part, and what follows.
#[track_caller]
fn split(text: &str, name: &str) -> [String; 3] {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->\n"));
    let ends = text.find(&begin).map(|at| at + begin.len()).zip(text.find(&end));
    let (from, to) = ends.unwrap_or_else(|| panic!("COMPLIANCE.md has no part {name}"));
    [text[..from].to_owned(), text[from..to].to_owned(), text[to..].to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_between_its_marks() {
        let text = "a\n<!-- begin x -->\nb\n<!-- end x -->\nc\n";
        let [before, part, after] = split(text, "x");
        assert_eq!(part, "b\n");
        assert_eq!(before + &part + &after, text);
    }
}
