//! What the RFCs on address translation ask for, tried with netd and with iptables: a test for each row,
//! which finds what the table in `COMPLIANCE.md` says.
//!
//! `cargo xtask compliance` writes the table anew from what the rows find.

mod common;
mod pass;
mod rfc4787;
mod rfc5382;
mod rfc5508;
mod rfc7857;
mod table;

use std::fmt;

use netd_tests::{
    family::Family,
    oracle::{
        lab::{Lab, Settings},
        side::Engine,
    },
};

/// What a row finds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    /// It is as asked for.
    Yes,
    /// It is, as far as this goes.
    Partly(&'static str),
    /// It is not.
    No,
}

impl From<bool> for Found {
    fn from(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::Partly(how) => write!(f, "partly: {how}"),
            Self::No => f.write_str("no"),
        }
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// netd as it comes.
    Netd,
    /// netd, told to keep to the RFCs.
    Rfc,
    /// iptables as it comes.
    Iptables,
}

impl Setup {
    /// All of them, in the order of the table's columns.
    pub(crate) const ALL: [Self; 3] = [Self::Netd, Self::Rfc, Self::Iptables];

    /// A host of this kind.
    #[track_caller]
    fn lab(self, settings: Settings) -> Lab {
        match self {
            Self::Netd => Lab::new(Engine::Netd, settings),
            Self::Rfc => {
                let (profile, network) = (Some("rfc"), "--nat eim");
                Lab::new(Engine::Netd, Settings { profile, network, ..settings })
            }
            Self::Iptables => Lab::new(Engine::Iptables, settings),
        }
    }
}

/// A host for one row alone, which changes something there.
pub(crate) const OWN: Settings =
    Settings { profile: None, timeouts: "", network: "", sysctls: &[] };

/// To what a row is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is about IPv4 alone.
    V4,
}

/// A requirement and the way to try it.
pub(crate) struct Row {
    /// The test's name: the RFC, the requirement, what it is about.
    pub(crate) name: &'static str,
    /// The requirement.
    pub(crate) says: &'static str,
    /// Tries it with one engine and one family.
    pub(crate) check: fn(&Lab) -> Found,
    /// What has to be set for it, on a host of its own; others share one.
    pub(crate) settings: Option<Settings>,
    /// What it is limited to.
    pub(crate) marks: &'static [Mark],
}

impl Row {
    fn is_v4_only(&self) -> bool {
        self.marks.contains(&Mark::V4)
    }

    /// Tries it on a host: the worst of both families.
    fn found(&self, lab: &mut Lab) -> Found {
        let families = if self.is_v4_only() { &Family::BOTH[..1] } else { &Family::BOTH };
        let of = |family: &Family| {
            lab.turn_to(*family);
            (self.check)(lab)
        };
        families.iter().map(of).max().unwrap_or(Found::Yes)
    }
}

/// Makes the rows of an RFC, and a test for each.
macro_rules! rows {
    ($($(#[$mark:ident])* $name:ident: $says:literal, $check:expr $(, with $settings:expr)?;)*) => {
        pub(crate) const ROWS: &[$crate::rfc::Row] = &[$($crate::rfc::Row {
            name: stringify!($name),
            says: $says,
            check: $check,
            settings: rows!(@settings $($settings)?),
            marks: &[$($crate::rfc::Mark::$mark),*],
        }),*];

        /// What all of them find: the first test that needs it tries them.
        pub(crate) static FOUND: std::sync::LazyLock<$crate::rfc::pass::Findings> =
            std::sync::LazyLock::new(|| $crate::rfc::pass::findings(ROWS));

        $(#[test]
        fn $name() {
            $crate::rfc::table::check(&FOUND, stringify!($name));
        })*
    };
    (@settings $settings:expr) => { Some($settings) };
    (@settings) => { None };
}
pub(crate) use rows;
