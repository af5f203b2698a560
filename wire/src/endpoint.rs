//! One end of a session stream, without I/O.

use std::time::Duration;

/// The bounds of one end of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most SSH bytes under way in each direction that the receiver has not consumed.
    pub window: usize,
    /// The most record bytes that may be unacknowledged before [`crate::RecordSink::ready`] waits. 0: each append
    /// waits until it is durable.
    pub record_unacked: usize,
    /// How long the oldest unacknowledged record byte may wait for an acknowledgement before sinks fail.
    pub record_stall: Duration,
    /// How long to wait for the peer to close after we did.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 2 * 1024 * 1024,
            record_unacked: 4 * 1024 * 1024,
            record_stall: Duration::from_secs(30),
            linger: Duration::from_secs(5),
        }
    }
}
