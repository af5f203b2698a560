//! The words of a session end: its bounds, its role, what it may refuse and what it hears.

use std::time::Duration;

use crate::frame::End;

/// The bounds of one end of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most SSH bytes under way in each direction that the receiver has not consumed. Both ends of a session
    /// use the same.
    pub window: usize,
    /// The most record bytes that may be unacknowledged before [`crate::RecordSink::ready`] waits. 0: each append
    /// waits until it is durable.
    pub record_unacked: usize,
    /// How long record bytes may wait without any progress of acknowledgements before sinks fail.
    pub record_stall: Duration,
    /// How long to wait for the peer to close after we did.
    pub linger: Duration,
    /// After how long without a frame from the peer the client's end asks for one; the agent's end never does.
    pub ping: Duration,
    /// After how long without a frame from the peer the client's end gives its tunnel up.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 2 * 1024 * 1024,
            record_unacked: 4 * 1024 * 1024,
            record_stall: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(90),
        }
    }
}

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The agent's: it alone sends records and notices.
    Agent,
    /// The client's.
    Client,
}

/// A rule of the protocol that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolFault {
    /// Bytes are missing before those that came.
    #[error("bytes {expected} to {offset} are missing")]
    Gap {
        /// The offset that was due.
        expected: u64,
        /// The offset that came.
        offset: u64,
    },
    /// More bytes than the window allows.
    #[error("more than {window} bytes that were not acknowledged")]
    WindowExceeded {
        /// The window in bytes.
        window: u64,
    },
    /// Bytes after the stream's end, or an end before its last byte.
    #[error("bytes after the end of the stream")]
    AfterFin,
    /// An acknowledgement of bytes that were never sent.
    #[error("acknowledgement of {offset}, sent were {sent}")]
    AckBeyond {
        /// The offset acknowledged.
        offset: u64,
        /// The offset after the last byte sent.
        sent: u64,
    },
    /// A frame that this peer may not send.
    #[error("frame of kind {0} is not the peer's to send")]
    Forbidden(u8),
    /// A frame after the peer had said the end.
    #[error("frame after the end")]
    AfterEnd,
    /// An offset beyond 64 bits.
    #[error("offset overflows")]
    Overflow,
    /// A resumed stream cannot go on where the peer says.
    #[error("cannot resume at {offset}: kept are {start} to {end}")]
    Unresumable {
        /// The offset at which the peer wants to go on.
        offset: u64,
        /// The first offset kept.
        start: u64,
        /// The offset after the last byte sent.
        end: u64,
    },
}

/// What the other end says beside bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A sentence for the user; untrusted text.
    Notice(String),
    /// Why the session ended; nothing follows.
    End(End),
}

/// What a frame changed, so that the right waiters wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// There are SSH bytes to read, or their end.
    pub readable: bool,
    /// There is room to write, or nobody to write to.
    pub writable: bool,
    /// More of the recording is durable.
    pub recorded: bool,
    /// Something was said.
    pub said: bool,
}

impl std::ops::BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.readable |= other.readable;
        self.writable |= other.writable;
        self.recorded |= other.recorded;
        self.said |= other.said;
    }
}

/// Why nothing can be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session stream is finished")]
pub struct Finished;
