//! The two data paths. Every test of the daemon runs in each: `cargo xtask test` runs them once for every
//! value of `NETD_TEST_DATAPATH`.

use std::{env, fmt};

/// How packets get between an uplink and a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// Redirected past the host's stack.
    Fast,
    /// Routed by the host's stack.
    Stack,
}

impl DataPath {
    /// The one that this run of the tests is about; the fast one where nobody says.
    ///
    /// # Panics
    /// Where the variable names neither.
    pub fn under_test() -> Self {
        match env::var("NETD_TEST_DATAPATH").as_deref() {
            Ok("stack") => Self::Stack,
            Ok("fast") | Err(_) => Self::Fast,
            Ok(other) => panic!("NETD_TEST_DATAPATH is fast or stack, not {other}"),
        }
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "fast",
            Self::Stack => "stack",
        })
    }
}
