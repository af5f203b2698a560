//! The events of a session's recording, as the agent writes them, and their CBOR form.
//!
//! One event is the array `[at, kind, body]`; a body is a map with integer keys. A reader keeps
//! kinds that it does not know as [`Event::Unknown`] and passes over fields that it does not know.
//! The events of the gateway's journal are in [`crate::journal`].

use bytes::Bytes;
use minicbor::{
    CborLen, Decode, Decoder, Encode, Encoder, decode,
    encode::{self, Write},
};
use uuid::Uuid;

use crate::journal::*;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// Nanoseconds since the stream opened, by a clock that never steps back.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

impl Stamped {
    /// An event `at` nanoseconds after the stream opened.
    pub fn new(at: u64, event: impl Into<Event>) -> Self {
        Self {
            at,
            event: event.into(),
        }
    }
}

macro_rules! events {
    ($( $(#[$doc:meta])* $kind:literal $name:ident ),* $(,)?) => {
        /// What happened. The numbers of the kinds are part of the format.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Event {
            $( $(#[$doc])* $name($name), )*
            /// A kind that this version does not know, kept as it came.
            Unknown(Unknown),
        }

        impl Event {
            /// The number of the kind in the format.
            pub fn kind(&self) -> u32 {
                match self {
                    $( Self::$name(_) => $kind, )*
                    Self::Unknown(unknown) => unknown.kind,
                }
            }

            /// The name of the kind, `unknown` for a kind from the future.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$name(_) => stringify!($name), )*
                    Self::Unknown(_) => "Unknown",
                }
            }

            fn encode_body<W: Write>(
                &self,
                e: &mut Encoder<W>,
            ) -> Result<(), encode::Error<W::Error>> {
                match self {
                    $( Self::$name(body) => body.encode(e, &mut ()), )*
                    Self::Unknown(unknown) => {
                        e.writer_mut().write_all(&unknown.body).map_err(encode::Error::write)
                    }
                }
            }

            fn body_len(&self) -> usize {
                match self {
                    $( Self::$name(body) => body.cbor_len(&mut ()), )*
                    Self::Unknown(unknown) => unknown.body.len(),
                }
            }

            fn decode_body(kind: u32, d: &mut Decoder<'_>) -> Result<Self, decode::Error> {
                Ok(match kind {
                    $( $kind => Self::$name($name::decode(d, &mut ())?), )*
                    _ => {
                        let start = d.position();
                        d.skip()?;
                        let body = d.input().get(start..d.position()).unwrap_or_default();
                        Self::Unknown(Unknown { kind, body: Bytes::copy_from_slice(body) })
                    }
                })
            }
        }

        $(
            impl From<$name> for Event {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }
        )*
    };
}

events! {
    /// The session began; always the first event of a session's recording.
    1 Opened,
    /// The client opened a channel.
    2 ChannelOpened,
    /// A terminal was granted.
    3 Pty,
    /// The terminal changed its size.
    4 Resized,
    /// An environment variable was asked for.
    5 Env,
    /// A shell was started.
    6 Shell,
    /// A command was started.
    7 Exec,
    /// A subsystem was started.
    8 Subsystem,
    /// Bytes towards the client.
    9 Output,
    /// Bytes from the client.
    10 Input,
    /// From here on a stream is hashed and counted, no longer copied.
    11 DigestStarted,
    /// The hash and the length of a whole stream.
    12 Digest,
    /// A signal was asked for.
    13 Signal,
    /// The process ended.
    14 Exit,
    /// The channel ended.
    15 ChannelClosed,
    /// Something was asked for and not allowed.
    16 Refused,
    /// Bytes that are missing from the recording.
    17 Gap,
    /// What the recording covers, at its end.
    18 Coverage,
    /// The session ended.
    19 Ended,
    /// The gateway started.
    64 GatewayStarted,
    /// Somebody was denied.
    65 Denied,
    /// A certificate was signed.
    66 Signed,
    /// A session was opened.
    67 SessionOpened,
    /// A session ended.
    68 SessionEnded,
    /// The gateway signed a receipt for a head.
    69 HeadCountersigned,
    /// Somebody read a recording.
    70 RecordingViewed,
    /// The link to a workspace came up.
    71 LinkUp,
    /// The link to a workspace went down.
    72 LinkDown,
    /// A workspace was enrolled.
    73 Enrolled,
    /// The gateway stopped in order.
    74 GatewayStopped,
}

impl<C> Encode<C> for Stamped {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(3)?.u64(self.at)?.u32(self.event.kind())?;
        self.event.encode_body(e)
    }
}

impl<C> CborLen<C> for Stamped {
    fn cbor_len(&self, ctx: &mut C) -> usize {
        1 + self.at.cbor_len(ctx) + self.event.kind().cbor_len(ctx) + self.event.body_len()
    }
}

impl<'b, C> Decode<'b, C> for Stamped {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let extra = match d.array()? {
            Some(n) if n >= 3 => n - 3,
            _ => {
                return Err(decode::Error::message(
                    "an event is an array of three or more",
                ));
            }
        };
        let at = d.u64()?;
        let kind = d.u32()?;
        let event = Event::decode_body(kind, d)?;
        for _ in 0..extra {
            d.skip()?;
        }
        Ok(Self { at, event })
    }
}

/// An event of a kind that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The number of the kind.
    pub kind: u32,
    /// The CBOR of its body, exactly one item.
    pub body: Bytes,
}

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
    /// Exactly what was sent.
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
    /// Exactly what came.
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
