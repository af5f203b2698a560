//! The messages of a link: hellos, the opening of streams, leftovers and liveness.
//!
//! On the wire a message is its length (`u32`, big-endian, at most [`MAX_MESSAGE`]) and one CBOR item. Fields that a
//! reader does not know are skipped, missing ones that are optional are `None`; unknown kinds of message, trailing
//! bytes and lengths beyond the bound are refused. [`Message::decode`] does no I/O and does not panic.

mod token;

use minicbor::{Decode, Encode};
use uuid::Uuid;
use zeroize::Zeroizing;

pub use token::{MAX_TOKEN, Token};

/// The longest encoded message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Any message of a link.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// First on a new link's control stream, from the gateway.
    #[n(0)]
    GatewayHello(#[n(0)] GatewayHello),
    /// The agent's answer, once it trusts the gateway.
    #[n(1)]
    AgentHello(#[n(0)] AgentHello),
    /// The gateway's answer to an enrolment.
    #[n(2)]
    Enrolled(#[n(0)] Enrolled),
    /// The link may be used.
    #[n(3)]
    LinkReady(#[n(0)] LinkReady),
    /// The link is refused; it closes after this.
    #[n(4)]
    LinkRefused(#[n(0)] Refused),
    /// First on every stream that the gateway opens.
    #[n(5)]
    StreamOpen(#[n(0)] StreamOpen),
    /// The agent's answer on that stream.
    #[n(6)]
    StreamAnswer(#[n(0)] StreamAnswer),
    /// On the control stream: recordings that the agent still holds.
    #[n(7)]
    Leftovers(#[n(0)] Leftovers),
    /// On the control stream, both directions: asks for a `Pong` with the same number.
    #[n(8)]
    Ping(#[n(0)] u64),
    /// Answers a `Ping`.
    #[n(9)]
    Pong(#[n(0)] u64),
    /// On the control stream, from the agent: sign a fresh host certificate.
    #[n(10)]
    Renew(#[n(0)] Renew),
    /// On the control stream, from the agent to a gateway whose hello asked for it: the workspace was used.
    #[n(20)]
    Used(#[n(0)] Used),
}

/// What the gateway says first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GatewayHello {
    /// [`crate::LINK_VERSION`] of the sender.
    #[n(0)]
    pub version: u16,
    /// The gateway's program version.
    #[n(1)]
    pub gateway_version: String,
    /// The link certificate, an OpenSSH certificate blob over the gateway's link key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub link_certificate: Vec<u8>,
    /// It understands [`Message::Used`], and wants one at most this often, in seconds; older ones say nothing and are told
    /// nothing.
    #[n(20)]
    pub use_every_s: Option<u32>,
}

/// What the agent says once it trusts the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AgentHello {
    /// [`crate::LINK_VERSION`] of the sender.
    #[n(0)]
    pub version: u16,
    /// The agent's program version.
    #[n(1)]
    pub agent_version: String,
    /// The workspace's name.
    #[n(2)]
    pub workspace: String,
    /// The workspace's UID.
    #[n(3)]
    pub workspace_uid: String,
    /// The host certificate, an OpenSSH certificate blob over the agent's key; absent when it asks for one.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub host_certificate: Option<Vec<u8>>,
    /// How it proves who it is when it asks for a host certificate.
    #[n(5)]
    pub enrol: Option<Enrol>,
}

/// The proof with which an agent asks for its host certificate: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrol {
    /// A one-time join token; empty where the proof is another.
    #[n(0)]
    pub token: Token,
    /// A token of the pod's service account, for the gateway's own audience and bound to the pod.
    #[n(1)]
    pub service_account_token: Option<Token>,
}

/// A fresh host certificate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// The OpenSSH certificate blob.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub host_certificate: Vec<u8>,
}

/// An agent's wish for a fresh host certificate before its own runs out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Renew {
    /// The proof, where a certificate that is still good is not enough.
    #[n(0)]
    pub enrol: Option<Enrol>,
}

/// When the workspace was used last: typed into, shown something of, moved bytes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Used {
    /// So many milliseconds ago. No moment, because the clocks of pods differ.
    #[n(0)]
    pub ago_ms: u64,
}

/// The link may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LinkReady {}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// One of a closed set of codes.
    #[n(0)]
    pub code: String,
    /// A sentence for the operator.
    #[n(1)]
    pub text: String,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StreamOpen {
    /// The link's control stream, opened first and once.
    #[n(0)]
    Control,
    /// An SSH session.
    #[n(1)]
    Session(#[n(0)] OpenSession),
    /// What is left over of a recording.
    #[n(2)]
    Records(#[n(0)] OpenRecords),
}

/// Opens an SSH session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OpenSession {
    /// The session's id.
    #[cbor(n(0), with = "uuid_bytes")]
    pub session: Uuid,
    /// The user certificate, an OpenSSH certificate blob.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub certificate: Vec<u8>,
    /// The client's address as the gateway saw it.
    #[n(2)]
    pub client_address: String,
    /// The client's program and version, as it said.
    #[n(3)]
    pub client_version: String,
}

/// Asks for what is left over of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OpenRecords {
    /// The session's id.
    #[cbor(n(0), with = "uuid_bytes")]
    pub session: Uuid,
    /// The offset from which the gateway wants bytes: all before it is durable.
    #[n(1)]
    pub from: u64,
}

/// The answer to a [`StreamOpen`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum StreamAnswer {
    /// The stream is open; frames follow.
    #[n(0)]
    Opened(#[n(0)] Opened),
    /// It is refused and closes.
    #[n(1)]
    Refused(#[n(0)] Refused),
}

/// What the agent says of a stream that it opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opened {}

/// The recordings that an agent still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leftovers {
    /// One per session.
    #[n(0)]
    pub sessions: Vec<LeftoverSession>,
}

/// What an agent still holds of one recording.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeftoverSession {
    /// The session's id.
    #[cbor(n(0), with = "uuid_bytes")]
    pub session: Uuid,
    /// The offset of the first byte that no acknowledgement covers.
    #[n(1)]
    pub first_unacked: u64,
    /// The offset after the last byte.
    #[n(2)]
    pub end: u64,
}

/// What is wrong with a message, or with reading or writing it.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes is longer than the limit")]
    Oversized(usize),
    /// Not a message that this version understands.
    #[error("malformed message")]
    Malformed(#[source] minicbor::decode::Error),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// It could not be encoded.
    #[error("message could not be encoded")]
    Encode,
    /// The peer closed the stream where a message should begin.
    #[error("stream ended before a message")]
    Closed,
    /// The stream ended inside a message.
    #[error("stream ended inside a message")]
    Truncated,
    /// The deadline passed.
    #[error("no message within {0:?}")]
    Deadline(std::time::Duration),
    /// Another message was due.
    #[error("expected {expected}, got another message")]
    Unexpected {
        /// What was due.
        expected: &'static str,
    },
    /// The stream failed.
    #[error("stream failed")]
    Io(#[source] std::io::Error),
}

impl Message {
    /// Encodes the message with its length before it.
    ///
    /// # Errors
    /// [`MessageError::Oversized`] beyond [`MAX_MESSAGE`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, MessageError> {
        // Wiped, for it may hold a token: then it fits, so that no copy is left where it grew.
        let room = match self {
            Self::AgentHello(_) | Self::Renew(_) => MAX_MESSAGE + 4,
            _ => 4,
        };
        let mut to = Zeroizing::new(Vec::with_capacity(room));
        to.resize(4, 0);
        minicbor::encode(self, &mut *to).map_err(|_| MessageError::Encode)?;
        let length = to.len() - 4;
        if length > MAX_MESSAGE {
            return Err(MessageError::Oversized(length));
        }
        let length = u32::try_from(length).map_err(|_| MessageError::Oversized(length))?;
        to[..4].copy_from_slice(&length.to_be_bytes());
        Ok(to)
    }

    /// Decodes a message without the length before it.
    ///
    /// # Errors
    /// [`MessageError::Oversized`], [`MessageError::Malformed`], [`MessageError::Trailing`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(MessageError::Oversized(bytes.len()));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        let message = decoder.decode().map_err(MessageError::Malformed)?;
        match bytes.len() - decoder.position() {
            0 => Ok(message),
            trailing => Err(MessageError::Trailing(trailing)),
        }
    }
}

mod uuid_bytes {
    use minicbor::decode::{Decoder, Error as DecodeError};
    use minicbor::encode::{Encoder, Error as EncodeError, Write};
    use uuid::Uuid;

    pub(super) fn encode<C, W: Write>(
        value: &Uuid,
        to: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        to.bytes(value.as_bytes()).map(|_| ())
    }

    pub(super) fn decode<C>(from: &mut Decoder<'_>, _: &mut C) -> Result<Uuid, DecodeError> {
        Uuid::from_slice(from.bytes()?).map_err(|_| DecodeError::message("a session id has 16 bytes"))
    }
}

#[cfg(test)]
mod tests;
