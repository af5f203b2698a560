//! The events of file transfers (sftp) in a session's recording, as the agent writes them.
//!
//! What is in the files is not copied: a file that is closed says how much passed and its hash.

use bytes::Bytes;
use minicbor::{CborLen, Decode, Encode};

/// A file operation was asked for and answered (draft-ietf-secsh-filexfer-02). It stands in the stream before its answer.
///
/// Reading, writing and listing have no event of their own: [`FileClosed`] and [`FolderListed`] sum them up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct FileOperation {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// The operation: `open`, `remove`, `rename`, `setstat`, and so on.
    #[n(1)]
    pub operation: String,
    /// The path as the client sent it; for an operation on an open file, that under which it was opened.
    #[cbor(n(2), with = "crate::cbor::shared")]
    pub path: Bytes,
    /// The other path of `rename`, `symlink`, `hardlink` and `copy-data`; empty where there is none.
    #[cbor(n(3), with = "crate::cbor::shared")]
    pub target: Bytes,
    /// How: the flags of `open`, the attributes of `setstat`; empty where there is nothing to say.
    #[n(4)]
    pub detail: String,
    /// The answer's code (`SSH_FX_…`): 0 is success.
    #[n(5)]
    pub status: u32,
}

/// A file was closed, by the client or with the channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct FileClosed {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// The path under which it was opened.
    #[cbor(n(1), with = "crate::cbor::shared")]
    pub path: Bytes,
    /// What was read, if it was open for reading.
    #[n(2)]
    pub read: Option<FileBytes>,
    /// What was written, if it was open for writing.
    #[n(3)]
    pub written: Option<FileBytes>,
}

/// What passed through a file in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct FileBytes {
    /// How many bytes, each time that it passed counted.
    #[n(0)]
    pub bytes: u64,
    /// Offset of the first one.
    #[n(1)]
    pub from: u64,
    /// SHA-256 of all of them where each piece followed the one before; absent where they were not sequential.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sha256: Option<[u8; 32]>,
}

/// A folder was listed, in part or whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct FolderListed {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Its path as the client sent it.
    #[cbor(n(1), with = "crate::cbor::shared")]
    pub path: Bytes,
    /// Names that were given out.
    #[n(2)]
    pub names: u64,
}
