//! `session.json`: what lists and searches show of a session. Convenience, not evidence: it is
//! not signed and `verify` does not read it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How a session's recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With its last head.
    Complete,
    /// Without: the agent or its pod was lost. What was stored before is whole.
    Abnormal,
}

/// The index entry of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SessionIndex {
    /// The session.
    pub session: Uuid,
    /// Who.
    pub user: String,
    /// Name of the workspace.
    pub workspace: String,
    /// Which life of that name.
    pub workspace_uid: String,
    /// The account in the workspace.
    pub login: String,
    /// Begin, Unix milliseconds; RFC 3339 in the file.
    #[serde(with = "crate::time")]
    pub started: u64,
    /// End, Unix milliseconds; RFC 3339 in the file. Missing while the session is open.
    #[serde(with = "crate::time::optional", default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// How the recording ended. Missing while the session is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// A sentence about the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of the recording that are stored.
    pub record_bytes: u64,
    /// Until when it is kept, Unix milliseconds; RFC 3339 in the file. Missing: for ever.
    #[serde(with = "crate::time::optional", default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<u64>,
    /// Where the client came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<String>,
}
