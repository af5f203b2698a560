//! Passes a session through the gateway: SSH frames from one carrier to the other, record frames to the caller.
//!
//! It reads headers alone. What a side may not send (records from a client, acknowledgements of records from
//! anybody) is that side's fault and ends its stream.

use std::time::Duration;

use bytes::Bytes;

use crate::carrier::Carrier;
use crate::frame::End;
use crate::frames::StreamError;

/// A session in passage. One task owns it; [`Relay::next`] drives everything.
#[derive(Debug)]
pub struct Relay<C, A> {
    client: C,
    agent: A,
}

/// What the caller of a relay has to know or do.
#[derive(Debug)]
pub enum Event {
    /// Record bytes from the agent.
    Record {
        /// Offset of the first byte in the session's recording.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The recording ends at this offset.
    RecordEnd {
        /// The length of the recording.
        offset: u64,
    },
    /// A side said that the session is over. If the agent said it, the client gets it too, in order; if the
    /// client said it, the agent does, and its last records still follow.
    Ended {
        /// Who said it.
        by: Side,
        /// What it said.
        end: End,
    },
    /// A side's stream closed or broke; with an error if it broke.
    Gone {
        /// Which side.
        side: Side,
        /// Why, if not in order.
        error: Option<RelayFault>,
    },
    /// Both sides are gone: there is nothing more to come.
    Over,
}

/// One of a relay's sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's tunnel.
    Client,
    /// The agent's stream.
    Agent,
}

/// What went wrong on a side.
#[derive(Debug, thiserror::Error)]
pub enum RelayFault {
    /// Its stream broke, or carried what is no frame.
    #[error("stream broke")]
    Stream(#[source] StreamError),
    /// It sent a frame that its side may not send.
    #[error("frame of kind {0} is not this side's to send")]
    Forbidden(u8),
    /// It took nothing for too long while the other side had bytes for it.
    #[error("took nothing for too long")]
    Stalled,
}

/// How many SSH bytes passed: ciphertext as the gateway counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From the client to the agent.
    pub client_to_agent: u64,
    /// From the agent to the client.
    pub agent_to_client: u64,
    /// Record bytes from the agent.
    pub records: u64,
}

/// The bounds of a relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// How many bytes may wait for a side before the other is read no further. At least twice the ends' window, so
    /// that records are never held up by a client that does not read.
    pub queue: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            queue: 6 * 1024 * 1024,
        }
    }
}

impl<C: Carrier, A: Carrier> Relay<C, A> {
    /// Relays between these two.
    pub fn new(client: C, agent: A, limits: RelayLimits) -> Self {
        let _ = limits;
        Self { client, agent }
    }

    /// Moves bytes until there is something for the caller. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        Event::Over
    }

    /// Tells the agent that its recording is durable up to this offset; goes out with the next call of `next`.
    pub fn ack_records(&mut self, offset: u64) {
        let _ = offset;
    }

    /// Tells the user a sentence.
    pub fn notice(&mut self, text: impl Into<String>) {
        let _: String = text.into();
    }

    /// Ends the session towards both sides, after what is queued. The agent's last records still follow.
    pub fn end(&mut self, end: &End) {
        let _ = end;
    }

    /// What has passed so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Flushes and closes both sides, each within the deadline.
    pub async fn close(self, deadline: Duration) {
        let _ = deadline;
    }
}
