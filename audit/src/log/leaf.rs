//! Leaves: one fact each, as a line of JSON. The bytes of the line are what is hashed.
//!
//! A leaf names no person and no workspace: a log may be read by more people than the recordings.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{index::Outcome, receipt};

/// The longest leaf, in bytes, without its line feed.
pub const MAX_LEAF: usize = 4096;

const VERSION: u8 = 1;

/// What a leaf states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum LeafKind {
    /// The log begins.
    LogStarted {
        /// Its name.
        log: String,
        /// The log of this gateway before it, where there was one: `NAME SIZE ROOT`, the root in hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
    },
    /// A session was opened: there must be a recording.
    Opened {
        /// The session.
        session: Uuid,
    },
    /// The gateway signed a receipt for a head.
    Head {
        /// The session.
        session: Uuid,
        /// Number of the head block.
        seq: u64,
        /// Link after the head block, hexadecimal.
        link: String,
        /// SHA-256 of the receipt's line without its line feed, hexadecimal.
        receipt: String,
    },
    /// The gateway closed a recording.
    Closing {
        /// The session.
        session: Uuid,
        /// Number of the last block.
        seq: u64,
        /// Link after it, hexadecimal.
        link: String,
        /// How it ended.
        outcome: Outcome,
        /// SHA-256 of the receipt's line without its line feed, hexadecimal.
        receipt: String,
    },
    /// A session never opened, and its folder was removed.
    Forgotten {
        /// The session.
        session: Uuid,
    },
    /// A recording was deleted as the rules say, and this proves it.
    Tombstone {
        /// The session.
        session: Uuid,
        /// SHA-256 of the tombstone's file, hexadecimal.
        sha256: String,
    },
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Version of the leaf, 1.
    pub v: u8,
    /// When it was made, Unix milliseconds; RFC 3339 in the text.
    #[serde(with = "crate::time")]
    pub at: u64,
    /// What it states.
    #[serde(flatten)]
    pub kind: LeafKind,
}

/// Why a leaf cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("leaf is malformed: {0}")]
pub struct LeafError(&'static str);

impl LeafKind {
    /// For a receipt that was written.
    pub fn of_receipt(said: &receipt::Statement, line: &str) -> Self {
        let receipt = receipt::digest(line);
        let (session, seq, link) = (said.session, said.seq, said.link.clone());
        match said.outcome {
            None => Self::Head {
                session,
                seq,
                link,
                receipt,
            },
            Some(outcome) => Self::Closing {
                session,
                seq,
                link,
                outcome,
                receipt,
            },
        }
    }

    /// The session that it is about.
    pub fn session(&self) -> Option<Uuid> {
        match self {
            Self::LogStarted { .. } | Self::Unknown => None,
            Self::Opened { session }
            | Self::Head { session, .. }
            | Self::Closing { session, .. }
            | Self::Forgotten { session }
            | Self::Tombstone { session, .. } => Some(*session),
        }
    }
}

impl Leaf {
    /// A leaf of this version.
    pub fn new(at: u64, kind: LeafKind) -> Self {
        Self { v: VERSION, at, kind }
    }

    /// Its text, without a line feed.
    ///
    /// # Errors
    /// It is longer than any leaf.
    pub fn to_text(&self) -> Result<String, LeafError> {
        let text = serde_json::to_string(self).map_err(|_| LeafError("cannot be encoded"))?;
        if text.len() > MAX_LEAF {
            return Err(LeafError("too long"));
        }
        Ok(text)
    }

    /// Reads a text. Members and kinds that it does not know are passed over: they are hashed all the same.
    ///
    /// # Errors
    /// It is no leaf of this version.
    pub fn parse(text: &str) -> Result<Self, LeafError> {
        if text.len() > MAX_LEAF {
            return Err(LeafError("too long"));
        }
        let leaf: Self = serde_json::from_str(text).map_err(|_| LeafError("not in the format"))?;
        if leaf.v != VERSION {
            return Err(LeafError("its version is unknown"));
        }
        Ok(leaf)
    }
}
