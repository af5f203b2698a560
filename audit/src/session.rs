//! The events of a session's recording, as the agent writes them.

use bytes::Bytes;
use minicbor::{CborLen, Decode, Encode};
use uuid::Uuid;

/// The session began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Opened {
    /// The session, equal to the stream's id.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Wall clock of the agent at nanosecond 0, Unix milliseconds.
    #[n(1)]
    pub started_unix_ms: u64,
    /// Name of the workspace.
    #[n(2)]
    pub workspace: String,
    /// The one life of that name which this was.
    #[n(3)]
    pub workspace_uid: String,
    /// The account in the workspace.
    #[n(4)]
    pub login: String,
    /// Who: the key id of the session's certificate.
    #[n(5)]
    pub user: String,
    /// Serial of the session's certificate.
    #[n(6)]
    pub serial: u64,
    /// Version of the agent.
    #[n(7)]
    pub agent_version: String,
    /// The agent's host certificate, as its SSH wire blob; its key signs the heads.
    #[cbor(n(8), with = "crate::cbor::shared")]
    pub host_certificate: Bytes,
    /// What was granted: the extensions of the session's certificate, name and value.
    #[n(9)]
    pub terms: Vec<(String, String)>,
    /// Where the client came from, as the gateway says.
    #[n(10)]
    pub client_address: String,
}

/// A channel was opened (RFC 4254, 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ChannelOpened {
    /// Number of the channel, unique in the session.
    #[n(0)]
    pub channel: u32,
    /// `session`, `direct-tcpip`, and so on; a forward adds its destination after a space.
    #[n(1)]
    pub kind: String,
}

/// A terminal was granted (RFC 4254, 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Pty {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// The value of `TERM`.
    #[cbor(n(1), with = "crate::cbor::shared")]
    pub term: Bytes,
    /// Columns.
    #[n(2)]
    pub cols: u32,
    /// Rows.
    #[n(3)]
    pub rows: u32,
    /// Encoded terminal modes: opcode and argument (RFC 4254, 8).
    #[n(4)]
    pub modes: Vec<(u8, u32)>,
}

/// The window changed (RFC 4254, 6.7).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Resized {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Columns.
    #[n(1)]
    pub cols: u32,
    /// Rows.
    #[n(2)]
    pub rows: u32,
}

/// An environment variable was asked for (RFC 4254, 6.4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Env {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Its value.
    #[cbor(n(2), with = "crate::cbor::shared")]
    pub value: Bytes,
    /// Whether it was set.
    #[n(3)]
    pub accepted: bool,
}

/// A shell was started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Shell {
    /// The channel.
    #[n(0)]
    pub channel: u32,
}

/// A command was started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Exec {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// The command as the client sent it.
    #[cbor(n(1), with = "crate::cbor::shared")]
    pub command: Bytes,
}

/// A subsystem was started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Subsystem {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Its name, `sftp` for example.
    #[n(1)]
    pub name: String,
}

/// Bytes towards the client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Output {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// 1 standard output or the terminal, 2 standard error.
    #[n(1)]
    pub stream: u8,
    /// Exactly what was sent, but for what a [`Masked`](crate::Masked) before it replaces.
    #[cbor(n(2), with = "crate::cbor::shared")]
    pub bytes: Bytes,
}

/// Bytes from the client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Input {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Exactly what came, but for what a [`Masked`](crate::Masked) before it replaces.
    #[cbor(n(1), with = "crate::cbor::shared")]
    pub bytes: Bytes,
}

/// From here on a stream is hashed and counted, no longer copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct DigestStarted {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// 0 standard input, 1 standard output, 2 standard error.
    #[n(1)]
    pub stream: u8,
    /// Bytes of the stream that were recorded before.
    #[n(2)]
    pub at_byte: u64,
}

/// The hash and the length of a whole stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Digest {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// 0 standard input, 1 standard output, 2 standard error.
    #[n(1)]
    pub stream: u8,
    /// Bytes of the whole stream, with the part that was recorded.
    #[n(2)]
    pub bytes: u64,
    /// SHA-256 of the whole stream.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
}

/// A signal was asked for (RFC 4254, 6.9).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Signal {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Its name without `SIG`.
    #[n(1)]
    pub name: String,
}

/// The process ended (RFC 4254, 6.10).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Exit {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// Exit status, if it exited.
    #[n(1)]
    pub status: Option<u32>,
    /// Signal without `SIG`, if one ended it.
    #[n(2)]
    pub signal: Option<String>,
    /// Whether it left a core.
    #[n(3)]
    pub core_dumped: bool,
}

/// The channel ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ChannelClosed {
    /// The channel.
    #[n(0)]
    pub channel: u32,
}

/// Something was asked for and not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Refused {
    /// The channel, if it was asked for in one.
    #[n(0)]
    pub channel: Option<u32>,
    /// What was asked for.
    #[n(1)]
    pub what: String,
    /// Why it was refused.
    #[n(2)]
    pub why: String,
}

/// Bytes that are missing from the recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Gap {
    /// The channel, if they belonged to one.
    #[n(0)]
    pub channel: Option<u32>,
    /// How many.
    #[n(1)]
    pub bytes: u64,
    /// Why they are missing.
    #[n(2)]
    pub why: String,
    /// When the first of them passed, in nanoseconds since the stream opened.
    #[n(3)]
    pub from: Option<u64>,
    /// How long after it the last of them passed, in milliseconds.
    #[n(4)]
    pub milliseconds: Option<u64>,
}

/// A strict session stood still until more of its record was stored, and then went on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Paused {
    /// The channel that waited, if it was one.
    #[n(0)]
    pub channel: Option<u32>,
    /// Bytes of the record that were not acknowledged when it began.
    #[n(1)]
    pub unacknowledged: u64,
    /// How long it lasted.
    #[n(2)]
    pub milliseconds: u64,
    /// So many pauses that have no event of their own: this one has the most unacknowledged bytes of them and the sum of their times.
    #[n(3)]
    pub pauses: Option<u64>,
}

/// What the recording covers, written once near its end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Coverage {
    /// Channels that were opened: equals the number of [`ChannelOpened`].
    #[n(0)]
    pub channels: u32,
    /// Bytes that passed the taps, both directions.
    #[n(1)]
    pub bytes_seen: u64,
    /// Bytes that are in [`Output`] and [`Input`] events: equals their sum.
    #[n(2)]
    pub bytes_recorded: u64,
    /// Bytes that are only hashed and counted.
    #[n(3)]
    pub bytes_digested: u64,
    /// SSH ciphertext from the client that the agent read.
    #[n(4)]
    pub client_to_agent: u64,
    /// SSH ciphertext to the client that the agent wrote.
    #[n(5)]
    pub agent_to_client: u64,
    /// What was there and passed no tap, in words.
    #[n(6)]
    pub not_captured: Option<Vec<String>>,
}

/// The session ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Ended {
    /// A sentence for people.
    #[n(0)]
    pub reason: String,
    /// A word from a closed set.
    #[n(1)]
    pub code: String,
}
