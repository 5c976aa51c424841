//! `netd doctor`: what on this host stops netd, or is not as it should be, and what to do about it.
//!
//! ```text
//!   gather (effects, reads only) -> facts -> checks (pure) -> findings
//! ```
//! Nothing on the host is changed. What cannot be found out is said by the checks that need it, and keeps no other
//! from being made.

mod checks;
mod facts;
mod gather;

use std::io;

use serde::Serialize;

use crate::config::RunOptions;

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, which does not change.
    pub check: &'static str,
    pub status: Status,
    pub message: String,
    /// A command line, where there is one, or else what to do.
    pub fix: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// netd works, but something is not as somebody may expect.
    Finding,
    /// netd does not start, or does not work on an uplink.
    Fatal,
}

/// Looks at the host on which a daemon with these options runs, or is to run.
///
/// # Errors
/// Where there is no event loop to read netlink with.
pub fn examine(options: &RunOptions) -> io::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let facts = runtime.block_on(gather::gather(options));
    Ok(checks::judge(&facts))
}
