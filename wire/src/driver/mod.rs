//! Runs one end of a session over a carrier.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::carrier::Carrier;
use crate::endpoint::Limits;
use crate::frame::{End, FrameError};

/// The SSH bytes of a session, both directions. Dropping or shutting down the writing half says `Fin`.
#[derive(Debug)]
pub struct SshStream {}
/// The reading half.
#[derive(Debug)]
pub struct SshReader {}
/// The writing half.
#[derive(Debug)]
pub struct SshWriter {}

/// Puts the recording into the session's stream. Clones share it.
#[derive(Clone, Debug)]
pub struct RecordSink {}

/// What the other end says to a client beside SSH bytes.
#[derive(Debug)]
pub struct Incoming {}

/// A notice or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A sentence for the user; untrusted text.
    Notice(String),
    /// Why the session ended; nothing follows.
    End(End),
}

/// Acts on the session from beside its stream. Clones share it.
#[derive(Clone, Debug)]
pub struct SessionHandle {}

/// How a driver ended in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// We said the end, and it was sent.
    Said(End),
    /// The peer said the end.
    Heard(End),
    /// Both directions finished and everything was dropped, without an `End`.
    Finished,
}

/// Why a driver failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The peer sent what is no frame.
    #[error("peer sent a bad frame")]
    Frame(#[from] FrameError),
    /// The peer broke a rule of the protocol.
    #[error("peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The transport ended without an `End`.
    #[error("transport closed before the session ended")]
    Cut,
    /// The transport broke.
    #[error("transport broke")]
    Io(#[source] io::Error),
}

/// Why a record could not be taken or did not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordLost {
    /// No acknowledgement came for too long.
    #[error("recording is not acknowledged")]
    Stalled,
    /// The stream is gone.
    #[error("recording stream is closed")]
    Closed,
}

/// Record bytes that were not acknowledged when their stream ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub chunks: Vec<Bytes>,
    /// Whether the recording is complete with these bytes.
    pub ended: bool,
}

impl Leftover {
    /// The offset after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset
            + self
                .chunks
                .iter()
                .map(|chunk| chunk.len() as u64)
                .sum::<u64>()
    }

    /// Appends what the recording still had to say.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.chunks.push(bytes);
        }
    }
}

/// The agent's end of a session. The returned future is its only driver.
pub fn agent_end<C: Carrier>(
    carrier: C,
    limits: Limits,
) -> (
    SshStream,
    RecordSink,
    SessionHandle,
    impl Future<Output = Result<Closed, DriverError>> + Send + 'static,
) {
    let _ = (carrier, limits);
    (SshStream {}, RecordSink {}, SessionHandle {}, async {
        Err(DriverError::Cut)
    })
}

/// The client's end of a session. The returned future is its only driver.
pub fn client_end<C: Carrier>(
    carrier: C,
    limits: Limits,
) -> (
    SshStream,
    Incoming,
    SessionHandle,
    impl Future<Output = Result<Closed, DriverError>> + Send + 'static,
) {
    let _ = (carrier, limits);
    (SshStream {}, Incoming {}, SessionHandle {}, async {
        Err(DriverError::Cut)
    })
}

/// Sends what is left over of a recording on a stream of its own, and drops from `leftover` what is acknowledged.
///
/// # Errors
/// [`DriverError`]; what was acknowledged before is dropped all the same.
pub async fn send_leftover<C: Carrier>(
    carrier: C,
    leftover: &mut Leftover,
    stall: Duration,
) -> Result<(), DriverError> {
    let _ = (carrier, leftover, stall);
    Err(DriverError::Cut)
}

impl SshStream {
    /// Both halves, each with its own waker.
    #[must_use]
    pub fn into_split(self) -> (SshReader, SshWriter) {
        (SshReader {}, SshWriter {})
    }
}

impl SshReader {
    /// The next bytes without a copy; `None` at the end.
    ///
    /// # Errors
    /// When the transport broke.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

impl Incoming {
    /// The next thing said; `None` once the driver ended without an end.
    pub async fn next(&mut self) -> Option<Said> {
        None
    }
}

impl SessionHandle {
    /// Says the end after everything that is queued; later SSH bytes and records are refused.
    pub fn end(&self, end: End) {
        let _ = end;
    }

    /// Says a sentence for the user (agent's end).
    pub fn notice(&self, text: impl Into<String>) {
        let _: String = text.into();
    }

    /// SSH bytes so far: (received from the peer, sent to the peer).
    #[must_use]
    pub fn counters(&self) -> (u64, u64) {
        (0, 0)
    }
}

impl RecordSink {
    /// Waits for room: until fewer bytes than the bound are unacknowledged.
    ///
    /// # Errors
    /// [`RecordLost`].
    pub async fn ready(&self) -> Result<(), RecordLost> {
        Err(RecordLost::Closed)
    }

    /// Queues record bytes at once, before any SSH byte written after this returns, and returns the offset after
    /// them. Never waits; callers await [`RecordSink::ready`] first.
    ///
    /// # Errors
    /// [`RecordLost::Closed`].
    pub fn append_now(&self, bytes: Bytes) -> Result<u64, RecordLost> {
        let _ = bytes;
        Err(RecordLost::Closed)
    }

    /// [`RecordSink::ready`], then [`RecordSink::append_now`]; with a bound of 0 also waits until it is durable.
    ///
    /// # Errors
    /// [`RecordLost`].
    pub async fn append(&self, bytes: Bytes) -> Result<u64, RecordLost> {
        self.ready().await?;
        self.append_now(bytes)
    }

    /// Says that the recording is complete.
    ///
    /// # Errors
    /// [`RecordLost::Closed`].
    pub fn finish(&self) -> Result<u64, RecordLost> {
        Err(RecordLost::Closed)
    }

    /// Everything before this offset is durable.
    #[must_use]
    pub fn acked(&self) -> u64 {
        0
    }

    /// Waits until everything before `offset` is durable.
    ///
    /// # Errors
    /// [`RecordLost::Stalled`] at the deadline, [`RecordLost::Closed`].
    pub async fn wait_acked(&self, offset: u64, deadline: Duration) -> Result<(), RecordLost> {
        let _ = (offset, deadline);
        Err(RecordLost::Closed)
    }

    /// What was not acknowledged, once the driver has ended; `None` before that, if nothing is left, or if it was
    /// taken already.
    #[must_use]
    pub fn take_leftover(&self) -> Option<Leftover> {
        None
    }
}

macro_rules! stub {
    ($($name:ident),*) => {$(
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    )*};
}
stub!(SshStream);
impl AsyncRead for SshReader {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
impl AsyncWrite for SshWriter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
