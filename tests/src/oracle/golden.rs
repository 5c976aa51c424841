//! Docker's rule sets as moby's own tests keep them, and what their names say.
//!
//! `tests/oracle/moby-iptables/README.md` tells where they come from.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::family::Family;

/// The bridge of every rule set.
pub const BRIDGE: &str = "br-dummy";

/// The device that only WSL2 has.
const WSL2_DEVICE: &str = "loopback0";

/// How containers are reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// By published ports of the host.
    Nat,
    /// As well at any of their own ports.
    NatUnprotected,
    /// By their own addresses at published ports.
    Routed,
}

impl Mode {
    /// As Docker and netd call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::NatUnprotected => "nat-unprotected",
            Self::Routed => "routed",
        }
    }
}

/// What a rule set was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Options {
    /// The userland proxy is off.
    pub hairpin: bool,
    /// Nothing gets in or out.
    pub internal: bool,
    /// Containers may talk to each other.
    pub icc: bool,
    /// What leaves is masqueraded.
    pub masquerade: bool,
    /// It gets an address that was chosen.
    pub snat: bool,
    /// How it is reached.
    pub mode: Mode,
    /// The port is published on the loopback address.
    pub bind_localhost: bool,
    /// There is a network at all.
    pub has_network: bool,
}

impl Options {
    /// Reads the name of a file; `cleaned` and `no` stand for no network.
    pub fn of_name(name: &str) -> Option<(Self, Family)> {
        let (options, family) = name.strip_suffix(".golden")?.split_once("__")?;
        let family = if family == "ip6tables" { Family::V6 } else { Family::V4 };
        let mut values: BTreeMap<&str, &str> =
            options.split(',').filter_map(|option| option.split_once('=')).collect();
        let mut flag = |key| values.remove(key).is_some_and(|value| value == "true");
        let [hairpin, internal, icc] = ["hairpin", "internal", "icc"].map(&mut flag);
        let [masquerade, snat, bind_localhost] = ["masq", "snat", "bindlh"].map(&mut flag);
        let _wsl2 = flag("wsl2mirrored");
        let mode = match values.remove("gwm") {
            Some("nat") | None => Mode::Nat,
            Some("nat-unprotected") => Mode::NatUnprotected,
            Some("routed") => Mode::Routed,
            Some(_) => return None,
        };
        let has_network = !options.starts_with("cleaned") && options != "no";
        let known =
            Self { hairpin, internal, icc, masquerade, snat, mode, bind_localhost, has_network };
        values.is_empty().then_some((known, family))
    }
}

impl std::fmt::Display for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hairpin, internal, icc, masquerade, snat, mode, bind_localhost, has_network } =
            self;
        if !has_network {
            return write!(f, "no network, hairpin={hairpin}");
        }
        if *internal {
            return write!(f, "hairpin={hairpin},internal=true,icc={icc}");
        }
        let mode = mode.name();
        write!(
            f,
            "hairpin={hairpin},icc={icc},masq={masquerade},snat={snat},gwm={mode},bindlh={bind_localhost}"
        )
    }
}

/// Rule sets of one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Options that it was made for, the first of those that have it.
    pub options: Options,
    /// The texts for `iptables-restore` and `ip6tables-restore`, as they are in the files.
    pub texts: [String; 2],
    /// The files, by their names.
    pub files: Vec<String>,
}

/// Every rule set there is, those of equal meaning as one: rules for a device that no host has but one
/// under WSL2 say nothing on others.
///
/// # Panics
/// Where a file cannot be read or understood.
pub fn all() -> Vec<RuleSet> {
    let directory = directory();
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".golden"));
    names.sort();
    let mut by_stem: BTreeMap<String, (Options, [String; 2], Vec<String>)> = BTreeMap::new();
    for name in names {
        let text = fs::read_to_string(directory.join(&name)).unwrap_or_default();
        let (options, family) =
            Options::of_name(&name).unwrap_or_else(|| panic!("what is {name}?"));
        let stem = name.split("__").next().unwrap_or_default().replace(",wsl2mirrored=true", "");
        let row = by_stem.entry(stem).or_insert_with(|| (options, Default::default(), Vec::new()));
        let place = &mut row.1[usize::from(family == Family::V6)];
        let is_same = place.is_empty() || meaning(place) == meaning(&text);
        assert!(is_same, "{name} means something else than its siblings");
        // The file without the rules for WSL2 sorts after the one with them, and is the one to load.
        *place = text;
        row.2.push(name);
    }
    grouped(by_stem.into_values())
}

fn grouped(rows: impl Iterator<Item = (Options, [String; 2], Vec<String>)>) -> Vec<RuleSet> {
    let mut sets: Vec<RuleSet> = Vec::new();
    for (options, texts, files) in rows {
        let same = |set: &&mut RuleSet| {
            set.options.hairpin == options.hairpin
                && set.options.has_network == options.has_network
                && set.texts.each_ref().map(|text| meaning(text))
                    == texts.each_ref().map(|text| meaning(text))
        };
        match sets.iter_mut().find(same) {
            Some(set) => set.files.extend(files),
            None => sets.push(RuleSet { options, texts, files }),
        }
    }
    sets
}

/// The rules that can match, without the counters.
fn meaning(text: &str) -> Vec<&str> {
    let is_rule = |line: &&str| !line.starts_with(':') && !line.contains(WSL2_DEVICE);
    text.lines().filter(is_rule).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle/moby-iptables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one_rule_set() {
        let sets = all();
        let files: usize = sets.iter().map(|set| set.files.len()).sum();
        assert_eq!(files, 284);
        assert!(sets.iter().all(|set| set.texts.iter().all(|text| text.contains("COMMIT"))));
        assert_eq!(sets.len(), 75);
    }

    #[test]
    fn a_name_says_what_the_rules_are_for() {
        let name = "hairpin=true,internal=false,icc=false,masq=true,snat=false,gwm=routed,bindlh=true,wsl2mirrored=true__iptables.golden";
        let (options, family) = Options::of_name(name).unwrap();
        assert_eq!(family, Family::V4);
        assert!(options.hairpin && !options.icc && options.masquerade && options.bind_localhost);
        assert_eq!(options.mode, Mode::Routed);
        assert!(!Options::of_name("no__ip6tables.golden").unwrap().0.has_network);
        assert_eq!(Options::of_name("gwm=other__iptables.golden"), None);
    }
}
