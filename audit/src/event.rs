//! Events and their CBOR form.
//!
//! One event is the array `[at, kind, body]`; a body is a map with integer keys. A reader keeps
//! kinds that it does not know as [`Event::Unknown`] and passes over fields that it does not know.
//! The bodies are in `session.rs`, `file.rs`, `forward.rs`, `mask.rs` and `journal.rs`.

use bytes::Bytes;
use minicbor::{
    CborLen, Decode, Decoder, Encode, Encoder, decode,
    encode::{self, Write},
};

use crate::{file::*, forward::*, journal::*, mask::*, session::*};

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
    /// A file operation was asked for and answered.
    20 FileOperation,
    /// A file was closed: what passed through it.
    21 FileClosed,
    /// A folder was listed.
    22 FolderListed,
    /// Secrets are looked for in what is recorded.
    23 MasksSet,
    /// Bytes of a stream, or of a value, were replaced in the recording.
    24 Masked,
    /// A strict session stood still until more of its record was stored.
    25 Paused,
    /// The last bytes of a stream stand in no event yet.
    26 Withheld,
    /// A program was seen whose terminals are no channels.
    27 IdeServerSeen,
    /// A connection was made through a channel, or taken in for one.
    30 ForwardConnected,
    /// Such a connection ended.
    31 ForwardEnded,
    /// A connection could not be made.
    32 ForwardFailed,
    /// The workspace began to listen for the user.
    33 ListenerOpened,
    /// The workspace no longer listens.
    34 ListenerClosed,
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
    /// Somebody ended a session.
    75 SessionKilled,
    /// A person or a workspace was locked.
    76 Locked,
    /// A lock was taken away.
    77 Unlocked,
    /// Open sessions cannot be checked again: an identity provider does not answer.
    78 RecheckSuspended,
    /// The identity provider logged somebody out.
    79 LoggedOut,
    /// Somebody was let in while recordings could not be stored.
    80 BreakGlass,
    /// A recording was deleted.
    81 RecordingDeleted,
    /// A recording is held: nobody may delete it.
    82 HoldPlaced,
    /// A hold was taken away.
    83 HoldReleased,
    /// What agent and gateway counted was compared.
    84 Reconciled,
    /// Somebody outside attested a checkpoint of the log.
    85 Anchored,
    /// A workspace was not enrolled.
    86 EnrolRefused,
    /// Somebody had a sleeping workspace woken.
    88 WorkspaceWoken,
    /// Somebody asked that a workspace be left awake.
    95 WorkspaceKept,
    /// Somebody took that back.
    96 KeepReleased,
    /// A session's user was told that it ends soon.
    97 EndAnnounced,
    /// An object of the cluster lent some of what a session was granted.
    110 AccessLent,
    /// A workspace showed a host certificate that the gateway had not seen before.
    114 HostCertificateSeen,
    /// The clock says another time than is believed: it deletes no recording.
    122 ClockDoubted,
    /// The clock is believed again.
    123 ClockBelieved,
}

impl<C> Encode<C> for Stamped {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
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
                return Err(decode::Error::message("an event is an array of three or more"));
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
