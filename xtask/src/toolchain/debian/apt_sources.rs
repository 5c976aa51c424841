//! Reads apt's sources in both formats (sources.list(5)) to learn which Debian mirror the host uses.
//!
//! Nothing here knows the name of a mirror: an entry counts if its address ends in `debian`, as every
//! mirror of the main archive does, which leaves out security archives, other distributions and
//! vendors' own repositories.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Debian's own keys, where an entry names none.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A mirror of the Debian archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) uri: String,
    keyring: Option<String>,
}

impl Mirror {
    /// The one-line form of an entry for `suite` on this mirror.
    pub(super) fn source_line(&self, suite: &str) -> String {
        let default = Path::new(DEBIAN_KEYRING).is_file().then_some(DEBIAN_KEYRING);
        let signed_by = match self.keyring.as_deref().or(default) {
            Some(keyring) => format!("[signed-by={keyring}] "),
            None => String::new(),
        };
        format!("deb {signed_by}{} {suite} main\n", self.uri)
    }
}

/// The mirrors in `sources.list` and `sources.list.d`, each once.
pub(super) fn debian_mirrors(etc_apt: &Path) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for file in source_files(etc_apt) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let is_deb822 = file.extension().is_some_and(|extension| extension == "sources");
        let found = if is_deb822 { from_deb822(&text) } else { from_one_line(&text) };
        for mirror in found {
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    mirrors
}

fn source_files(etc_apt: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(etc_apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    parts.retain(|file| {
        file.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    });
    parts.sort();
    parts.insert(0, etc_apt.join("sources.list"));
    parts
}

/// Reads `deb [options] uri suite component...`, one entry a line.
fn from_one_line(text: &str) -> Vec<Mirror> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Mirror> {
    let mut rest = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
    let mut keyring = None;
    if let Some((options, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let mut options = options.split_whitespace();
        keyring = options.find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
        rest = after;
    }
    let uri = rest.split_whitespace().next()?;
    is_debian(uri).then(|| Mirror { uri: uri.to_owned(), keyring })
}

/// Reads stanzas of `Key: value`, separated by empty lines.
fn from_deb822(text: &str) -> Vec<Mirror> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).flat_map(deb822_stanza).collect()
}

fn deb822_stanza(lines: &[&str]) -> Vec<Mirror> {
    let value = |key: &str| {
        let fields = lines.iter().filter_map(|line| line.split_once(':'));
        let mut wanted = fields.filter(|(name, _)| name.eq_ignore_ascii_case(key));
        wanted.next().map_or("", |(_, value)| value.trim())
    };
    let is_binary = value("Types").split_whitespace().any(|kind| kind == "deb");
    if !is_binary || value("Enabled").eq_ignore_ascii_case("no") {
        return Vec::new();
    }
    // Signed-By may also hold the key itself; then Debian's own keyring has to do.
    let keyring = Some(value("Signed-By")).filter(|keyring| keyring.starts_with('/'));
    let uris = value("URIs").split_whitespace().filter(|uri| is_debian(uri));
    uris.map(|uri| Mirror { uri: uri.to_owned(), keyring: keyring.map(str::to_owned) }).collect()
}

fn is_debian(uri: &str) -> bool {
    let last = uri.trim_end_matches('/').rsplit('/').next();
    // Debian's cloud images name their mirrors in a file: mirror+file:/etc/apt/mirrors/debian.list
    last == Some("debian") || last == Some("debian.list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(mirrors: &[Mirror]) -> Vec<&str> {
        mirrors.iter().map(|mirror| mirror.uri.as_str()).collect()
    }

    #[test]
    fn one_line_entries_of_the_archive_are_found() {
        let text = "# deb http://old.example/debian sid main\n\
                    deb-src http://mirror.example/debian trixie main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ trixie main\n\
                    deb http://mirror.example/debian-security trixie-security main\n\
                    deb http://mirror.example/ubuntu noble main\n";
        let mirrors = from_one_line(text);
        assert_eq!(uris(&mirrors), ["http://mirror.example/debian/"]);
        assert_eq!(mirrors[0].keyring.as_deref(), Some("/k.gpg"));
    }

    #[test]
    fn deb822_stanzas_of_the_archive_are_found() {
        let text = "Types: deb deb-src\n\
                    # a comment\n\
                    URIs: http://a.example/debian mirror+file:/etc/apt/mirrors/debian.list\n\
                    Suites: trixie\n\
                    Signed-By: /k.gpg\n\
                    \n\
                    Types: deb\n\
                    Enabled: no\n\
                    URIs: http://b.example/debian\n\
                    \n\
                    Types: deb\n\
                    URIs: http://c.example/debian-security\n";
        let mirrors = from_deb822(text);
        let expected = ["http://a.example/debian", "mirror+file:/etc/apt/mirrors/debian.list"];
        assert_eq!(uris(&mirrors), expected);
        assert_eq!(mirrors[1].keyring.as_deref(), Some("/k.gpg"));
    }

    #[test]
    fn a_mirror_becomes_a_source_of_another_suite() {
        let mirror = Mirror { uri: "http://m.example/debian".into(), keyring: Some("/k".into()) };
        assert_eq!(
            mirror.source_line("trixie-backports"),
            "deb [signed-by=/k] http://m.example/debian trixie-backports main\n"
        );
    }
}
