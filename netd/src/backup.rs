//! The desired state as a document: what `netd state export` writes and `netd state import` reads. Pure.
//!
//! It holds what users want, and what the host's own addresses are made from, so that it serves as a backup and
//! for moving to another host. The data path's secret is not in it: a secret has no business in a backup, and
//! each host makes its own. Fields that are not known are refused, for to leave one out may open what was closed.

mod check;
mod request;

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use check::CheckError;

use crate::{
    desired::Desired,
    model::{Endpoint, Network},
};

/// The form of the document. A change that older versions would misunderstand bumps it; a field that is added
/// does not, since they refuse it.
const FORMAT: u32 = 1;

/// What is written of a desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// [`FORMAT`].
    netd_state: u32,
    /// The netd that wrote it, for people.
    version: String,
    /// The host's own IPv6 prefix, [`crate::ipam::ula_prefix`].
    ula_prefix: Ipv6Net,
    /// By name.
    networks: Vec<Network>,
    /// By name.
    endpoints: Vec<Endpoint>,
    allowed: BTreeSet<(String, String)>,
}

/// The part of a [`Backup`] that every format has.
#[derive(Deserialize)]
struct Header {
    netd_state: u32,
    #[serde(default)]
    version: String,
}

/// Why a text is no [`Backup`].
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("this is not a state of netd: {source}; give what `netd state export` has written")]
    Malformed { source: serde_json::Error },
    #[error(
        "the state is of format {found}, this netd knows {FORMAT}: use netd {version:?}, which wrote it, or a \
         later one"
    )]
    Format { found: u32, version: String },
    #[error(
        "the state has {field:?}, which this netd does not know: use netd {version:?}, which wrote it, or take \
         the field out"
    )]
    UnknownField { field: String, version: String },
}

impl Backup {
    /// What there is to write of a desired state, on a host with that prefix of its own.
    pub fn new(desired: &Desired, ula_prefix: Ipv6Net) -> Self {
        // What Docker has is Docker's to keep.
        let own = || desired.networks.values().filter(|network| network.manager.is_netd());
        let endpoints = desired.endpoints.values().filter(|it| !desired.is_dockers(it));
        let is_own = |name: &String| own().any(|network| network.name == *name);
        Self {
            netd_state: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ula_prefix,
            networks: own().cloned().collect(),
            endpoints: endpoints.cloned().collect(),
            allowed: desired
                .allowed
                .iter()
                .filter(|(a, b)| is_own(a) && is_own(b))
                .cloned()
                .collect(),
        }
    }

    /// The document: the same state gives the same text.
    ///
    /// # Errors
    /// Where there is something that JSON cannot say; nothing of a desired state is.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// Where it is none, of another format, or says more than is understood.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let malformed = |source| ReadError::Malformed { source };
        let Header { netd_state: found, version } =
            serde_json::from_str(text).map_err(malformed)?;
        if found != FORMAT {
            return Err(ReadError::Format { found, version });
        }
        let mut unknown = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let backup = serde_ignored::deserialize(&mut json, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        let backup = backup.map_err(malformed)?;
        match unknown {
            Some(field) => Err(ReadError::UnknownField { field, version }),
            None => Ok(backup),
        }
    }
}

#[cfg(test)]
mod tests;
