//! The record store: recordings in a directory, durable before they are acknowledged.
//!
//! A [`Recording`] takes the bytes of one session as they arrive and never waits. Workers check
//! the chain, write segments and make them durable, many sessions at a time; what is durable shows
//! in [`Progress`], and only that may be acknowledged. The store never rewrites a block, never
//! takes a failed fsync for a good one, and refuses new sessions while its disk refuses bytes.

mod bucket;
mod commit;
#[cfg(test)]
pub(crate) mod fixture;
mod index;
mod keeper;
mod layout;
mod pieces;
mod receipts;
mod recovery;
mod remote;
mod repair;
mod retention;
mod ship;
mod slot;
mod store;
#[cfg(test)]
mod tests;
mod unbegun;
mod writer;

use std::fs::File as StdFile;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncRead;

use crate::config;

pub use index::Filter;
pub(crate) use layout::is_ours;
pub use retention::{Doubt, Hold, believed, confirm};
pub use ship::Backlog;
pub use slot::{Progress, Recording};
pub use store::{ResumeError, Store};

/// Where recordings lie and how often they are made durable.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of all recordings; made when it is missing.
    pub directory: PathBuf,
    /// Least time between two rounds of fsync. The first bytes after a quiet time do not wait.
    pub commit_interval: Duration,
    /// The object store behind the folder.
    pub s3: Option<config::S3>,
    /// Where sessions are noted that begin while the disk refuses; made when it is missing. Elsewhere than `directory`.
    pub unbegun: Option<PathBuf>,
    /// The folder of the gateway's state, where the time is kept that was believed last.
    pub state: Option<PathBuf>,
    /// By how much the clock may differ from that and be believed.
    pub clock_leap: Duration,
}

impl From<&config::Records> for Options {
    fn from(records: &config::Records) -> Self {
        Self {
            directory: records.directory.clone(),
            commit_interval: records.commit_interval,
            s3: records.s3.clone(),
            unbegun: None,
            state: None,
            clock_leap: records.clock_leap,
        }
    }
}

/// Who opened a session, for the index.
#[derive(Debug, Clone)]
pub struct Start {
    /// The session, a version 7 UUID.
    pub session: uuid::Uuid,
    /// Who.
    pub user: String,
    /// Name of the workspace.
    pub workspace: String,
    /// The one life of that name.
    pub workspace_uid: String,
    /// The account in the workspace.
    pub login: String,
    /// Where the client came from.
    pub client_address: String,
    /// How long the recording is kept after its end; for ever if `None`.
    pub keep: Option<Duration>,
}

/// What the gateway says at the end of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// A sentence for people. The outcome itself is not said here: a recording is complete if and
    /// only if the agent's final head is stored.
    pub reason: String,
    /// What the gateway counted; `None` where it does not know, then the last receipt's word stands.
    pub counted: Option<Counted>,
}

/// SSH ciphertext that the gateway passed on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// From the client.
    pub client_bytes: u64,
    /// From the agent.
    pub agent_bytes: u64,
}

/// A file of a recording.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileEntry {
    /// Its name, without a folder.
    pub name: String,
    /// Its size in bytes at the time of asking.
    pub size: u64,
}

/// The bytes of a file of a recording, wherever it lies.
pub struct Content {
    /// How many there are; a recording that is still written may have more later.
    pub size: u64,
    /// The bytes.
    pub bytes: Pin<Box<dyn AsyncRead + Send>>,
}

/// Why a recording cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The agent's stream does not fit its own chain, or its heads are not the workspace's.
    #[error("the recording does not hold together: {0}")]
    Chain(String),
    /// The agent sent more than it may send ahead of the acknowledgements, or out of order.
    #[error("the agent broke the rules of the record stream: {0}")]
    Protocol(&'static str),
    /// Somebody else's bytes stand in the object store where ours belong.
    #[error("the recording cannot be stored: {0}")]
    Conflict(String),
    /// The disk.
    #[error("the record store cannot {0}")]
    Storage(String),
}

impl Failure {
    fn storage(what: &str, error: &io::Error) -> Self {
        Self::Storage(format!("{what}: {error}"))
    }

    /// A word from a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Chain(_) => "record-chain",
            Self::Protocol(_) => "record-protocol",
            Self::Conflict(_) => "record-conflict",
            Self::Storage(_) => "record-store",
        }
    }
}

/// How bytes are made durable. One function, so that a test can let a disk lie as real ones do.
#[derive(Clone, Copy)]
struct Disk {
    sync: fn(&StdFile) -> io::Result<()>,
}

impl Disk {
    const REAL: Self = Self {
        sync: StdFile::sync_data,
    };
}
