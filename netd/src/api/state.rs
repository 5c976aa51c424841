//! The objects of `netd state`.

use serde::{Deserialize, Serialize};

/// The longest document that is imported: each network, endpoint and published port that can exist takes less
/// than a third of it.
pub const MAX_STATE_BYTES: usize = 32 << 20;

/// The desired state as [`crate::api::Request::StateExport`] gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateText {
    pub text: String,
}

/// What has become of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportInfo {
    /// The names of the networks that exist now.
    pub networks: Vec<String>,
    /// The names of the endpoints that exist now.
    pub endpoints: Vec<String>,
    pub left_out: Vec<LeftOut>,
}

/// An endpoint that could not be brought about, since its sandbox is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub endpoint: String,
    pub reason: String,
}
