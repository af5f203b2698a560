//! What can be wrong with a recording, and where: the classes are a closed set with stable codes.

use std::fmt;

/// The kind of a fault. Its code is part of the interface of `doorward verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// A segment file is not there.
    MissingSegment,
    /// The stream ends in the middle, or before the place that a receipt names.
    Truncated,
    /// Bytes differ from those that were chained or signed.
    Altered,
    /// Blocks are out of place: removed, swapped, repeated, or of another stream.
    Spliced,
    /// A signature does not fit its statement.
    BadSignature,
    /// A signature fits, but its key is not one that may sign this.
    UntrustedKey,
    /// There is no closing receipt: an open session, or a copy from before its end.
    NoClosing,
    /// The copy is older than what is known to have existed.
    RolledBack,
    /// Not in the format, or beyond its bounds.
    Malformed,
    /// The author's own statement of coverage contradicts the events.
    Coverage,
    /// A file could not be read.
    Unreadable,
}

impl Class {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingSegment => "missing-segment",
            Self::Truncated => "truncated",
            Self::Altered => "altered",
            Self::Spliced => "spliced",
            Self::BadSignature => "bad-signature",
            Self::UntrustedKey => "untrusted-key",
            Self::NoClosing => "no-closing",
            Self::RolledBack => "rolled-back",
            Self::Malformed => "malformed",
            Self::Coverage => "coverage",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A place in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Place {
    /// Index of the segment.
    pub segment: u32,
    /// Sequence number of the block that was expected there.
    pub seq: u64,
    /// Byte offset of that block in the whole stream.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segment {}, block {}, offset {}",
            self.segment, self.seq, self.offset
        )
    }
}

/// The first thing that is wrong with a stream of blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class} at {place}: {text}")]
pub struct Fault {
    /// Its kind.
    pub class: Class,
    /// Where it was found.
    pub place: Place,
    /// A sentence for people. Holds no byte of the recording.
    pub text: String,
}

impl Fault {
    pub(crate) fn new(class: Class, place: Place, text: impl Into<String>) -> Self {
        Self {
            class,
            place,
            text: text.into(),
        }
    }
}

/// What can fail when a recording is written or exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key did not sign.
    #[error("cannot sign")]
    Sign(#[source] ssh_key::Error),
    /// A signature could not be encoded or was made for another namespace.
    #[error("signature cannot be used: {0}")]
    Signature(&'static str),
    /// A receipt is not in the format.
    #[error("receipt is malformed: {0}")]
    Receipt(&'static str),
    /// The recording is damaged.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The export could not be written.
    #[error("cannot write the export")]
    Write(#[source] std::io::Error),
    /// The channel that was asked for is not in the recording.
    #[error("the recording has no {}", match .0 {
        Some(channel) => format!("channel {channel}"),
        None => "channel in which something runs".to_owned(),
    })]
    NoChannel(Option<u32>),
}

impl Error {
    /// A word from a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sign(_) => "sign",
            Self::Signature(_) => "signature",
            Self::Receipt(_) => "receipt",
            Self::Fault(fault) => fault.class.code(),
            Self::Write(_) => "write",
            Self::NoChannel(_) => "no-channel",
        }
    }
}
