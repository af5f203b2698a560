//! Many streams over one link.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::carrier::{Carrier, Outbox};

/// Which side of the link we are; it decides nothing but stream numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The gateway.
    Gateway,
    /// The agent.
    Agent,
}

/// The bounds of a link.
#[derive(Clone, Copy, Debug)]
pub struct MuxLimits {
    /// The most streams at once.
    pub streams: usize,
    /// How many bytes beyond 256 KiB per stream the peer may have under way over all streams.
    pub extra_window: usize,
    /// How many accepted streams may wait for [`MuxIncoming::accept`].
    pub backlog: usize,
}

impl Default for MuxLimits {
    fn default() -> Self {
        Self {
            streams: 1024,
            extra_window: 32 * 1024 * 1024,
            backlog: 64,
        }
    }
}

/// Why a link's streams ended.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// The link is closed.
    #[error("link is closed")]
    Closed,
    /// As many streams are open as the bounds allow.
    #[error("too many streams on the link")]
    TooMany,
    /// The link failed.
    #[error("link failed")]
    Failed(#[source] yamux::ConnectionError),
}

/// Opens streams on a link. Clones open on the same link.
#[derive(Clone, Debug)]
pub struct Mux {}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct MuxIncoming {}

/// One stream of a link.
#[derive(Debug)]
pub struct MuxStream {}

/// Starts streams over `io`. The returned future is the link's only driver: nothing moves unless it is polled. It
/// ends when the link is closed by either side, or failed.
pub fn mux<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: IO,
    side: Side,
    limits: MuxLimits,
) -> (
    Mux,
    MuxIncoming,
    impl Future<Output = Result<(), MuxError>> + Send + 'static,
) {
    let _ = (io, side, limits);
    (Mux {}, MuxIncoming {}, async { Err(MuxError::Closed) })
}

impl Mux {
    /// Opens a stream.
    ///
    /// # Errors
    /// [`MuxError::Closed`], [`MuxError::TooMany`].
    pub async fn open(&self) -> Result<MuxStream, MuxError> {
        Err(MuxError::Closed)
    }

    /// Closes the link: streams get what was sent before, then the driver ends.
    pub fn close(&self) {}

    /// Waits until the link is closed or failed.
    pub async fn closed(&self) {}
}

impl MuxIncoming {
    /// The next stream that the peer opened; `None` once the link is closed.
    pub async fn accept(&mut self) -> Option<MuxStream> {
        None
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

impl Carrier for MuxStream {
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_send(&mut self, _: &mut Context<'_>, _: &mut Outbox) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}
