//! Many streams over one link: yamux behind our own names and bounds.
//!
//! One future drives the link. Beneath yamux lies a buffer that is flushed once per wakeup, because yamux itself
//! flushes after every frame. Each stream's window and the number of streams are bounded; a stream that nobody reads
//! holds up no other. There are no keepalives here: those belong to the control stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};

use super::gather::Gather;
use crate::carrier::{Carrier, Outbox};

/// Which side of the link we are; it decides nothing but the numbers of streams.
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
    /// How many bytes beyond 256 KiB for each possible stream the peer may have under way over all streams; streams
    /// that are read fast over a long way get larger windows out of it.
    pub extra_window: usize,
    /// How many streams that the peer opened may wait for [`MuxIncoming::accept`]; more are reset.
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
pub struct Mux {
    open: mpsc::Sender<oneshot::Sender<Result<MuxStream, MuxError>>>,
    close: watch::Sender<bool>,
}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct MuxIncoming {
    streams: mpsc::Receiver<MuxStream>,
}

/// One stream of a link.
#[derive(Debug)]
pub struct MuxStream {
    stream: yamux::Stream,
    shut: bool,
    _open: Open,
}

/// Counts a stream while it is open.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// yamux closes the whole connection when its own bound is passed, so ours comes first by this margin.
const MARGIN: usize = 64;
/// How many streams are opened between two turns of the connection; less than [`MARGIN`].
const OPENINGS: usize = 32;
/// The window that yamux grants each stream from the start.
const CREDIT: usize = yamux::DEFAULT_CREDIT as usize;
/// How long closing a link may take.
const CLOSING: Duration = Duration::from_secs(5);
/// The largest data frame that we send.
const SPLIT: usize = 64 * 1024;

/// Starts streams over `io`. The returned future is the link's only driver: nothing moves unless it is polled, and
/// dropping it breaks every stream. It ends when either side closes the link, or when the link fails.
pub fn mux<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: IO,
    side: Side,
    limits: MuxLimits,
) -> (
    Mux,
    MuxIncoming,
    impl Future<Output = Result<(), MuxError>> + Send + 'static,
) {
    crate::heap::prepare();
    let mode = match side {
        Side::Gateway => yamux::Mode::Client,
        Side::Agent => yamux::Mode::Server,
    };
    let streams = limits.streams + MARGIN;
    let mut config = yamux::Config::default();
    // the window may never be less than what all streams may have, at any moment between these calls
    config
        .set_max_connection_receive_window(None)
        .set_max_num_streams(streams)
        .set_max_connection_receive_window(Some(streams * CREDIT + limits.extra_window))
        .set_split_send_size(SPLIT);
    let gather = Gather::new(io);
    let (open, openings) = mpsc::channel(OPENINGS);
    let (incoming, accepted) = mpsc::channel(limits.backlog.max(1));
    let (close, closing) = watch::channel(false);
    let driver = Driver {
        connection: yamux::Connection::new(gather.clone(), config, mode),
        gather,
        openings,
        waiting: VecDeque::new(),
        incoming,
        count: Arc::new(AtomicUsize::new(0)),
        most: limits.streams,
    };
    let close_all = close.clone();
    let run = async move {
        let outcome = driver.run(closing).await;
        close_all.send_replace(true);
        outcome
    };
    (Mux { open, close }, MuxIncoming { streams: accepted }, run)
}

struct Driver<IO> {
    connection: yamux::Connection<Gather<IO>>,
    gather: Gather<IO>,
    openings: mpsc::Receiver<oneshot::Sender<Result<MuxStream, MuxError>>>,
    waiting: VecDeque<oneshot::Sender<Result<MuxStream, MuxError>>>,
    incoming: mpsc::Sender<MuxStream>,
    count: Arc<AtomicUsize>,
    most: usize,
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<IO> {
    async fn run(mut self, mut closing: watch::Receiver<bool>) -> Result<(), MuxError> {
        let outcome = {
            let mut told = std::pin::pin!(closing.wait_for(|closing| *closing));
            poll_fn(|cx| match self.poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(outcome),
                Poll::Pending => told.as_mut().poll(cx).map(|_| Ok(())),
            })
            .await
        };
        let close = async {
            if outcome.is_ok() {
                // what streams had sent before goes out
                poll_fn(|cx| self.poll_idle(cx)).await;
            }
            // this wakes whoever waits on a stream; yamux's own way of closing would leave readers waiting
            drop(self.connection);
            let _ = poll_fn(|cx| self.gather.poll_shutdown(cx)).await;
        };
        // a peer that does not read is left when the time is up
        let _ = tokio::time::timeout(CLOSING, close).await;
        outcome
    }

    /// Ready once nothing that streams have sent waits here, or the link is gone.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return self.gather.poll_push(cx).map(|_| ()),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MuxError>> {
        loop {
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    // one too many is dropped, which resets it: whoever opens without being accepted waits for nobody
                    if self.count.load(Ordering::Relaxed) < self.most {
                        let _ = self.incoming.try_send(MuxStream::new(stream, &self.count));
                    }
                    continue;
                }
                Poll::Ready(Some(Err(yamux::ConnectionError::Closed)) | None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(MuxError::Failed(error))),
                Poll::Pending => {}
            }
            if self.open(cx)? {
                continue;
            }
            return match self.gather.poll_push(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(MuxError::Failed(error.into()))),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        }
    }

    /// Opens the streams that are asked for; says whether the connection is to be polled again.
    fn open(&mut self, cx: &mut Context<'_>) -> Result<bool, MuxError> {
        while self.waiting.len() < OPENINGS {
            match self.openings.poll_recv(cx) {
                Poll::Ready(Some(reply)) => self.waiting.push_back(reply),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let mut opened = false;
        while let Some(reply) = self.waiting.pop_front() {
            if reply.is_closed() {
                continue;
            }
            if self.count.load(Ordering::Relaxed) >= self.most {
                let _ = reply.send(Err(MuxError::TooMany));
                continue;
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    opened = true;
                    // a caller that has gone drops the stream, which is never seen by the peer
                    let _ = reply.send(Ok(MuxStream::new(stream, &self.count)));
                }
                Poll::Ready(Err(error)) => return Err(MuxError::Failed(error)),
                Poll::Pending => {
                    self.waiting.push_front(reply);
                    break;
                }
            }
        }
        Ok(opened)
    }
}

impl Mux {
    /// Opens a stream. The peer learns of it with the first bytes.
    ///
    /// # Errors
    /// [`MuxError::Closed`], [`MuxError::TooMany`].
    pub async fn open(&self) -> Result<MuxStream, MuxError> {
        let (reply, answer) = oneshot::channel();
        self.open.send(reply).await.map_err(|_| MuxError::Closed)?;
        answer.await.map_err(|_| MuxError::Closed)?
    }

    /// Closes the link: what was sent before still goes out, then the driver ends.
    pub fn close(&self) {
        self.close.send_replace(true);
    }

    /// Waits until the link is closed, has failed, or is being closed.
    pub async fn closed(&self) {
        let mut closed = self.close.subscribe();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => {}
            () = self.open.closed() => {}
        }
    }

    /// Whether the link is closed, has failed, or is being closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.open.is_closed() || *self.close.borrow()
    }
}

impl MuxIncoming {
    /// The next stream that the peer opened; `None` once the link is closed.
    pub async fn accept(&mut self) -> Option<MuxStream> {
        self.streams.recv().await
    }
}

impl MuxStream {
    fn new(stream: yamux::Stream, count: &Arc<AtomicUsize>) -> Self {
        Self {
            stream,
            shut: false,
            _open: Open::new(count),
        }
    }

    /// yamux shows a reset, and the loss of the whole link, as an end in order.
    fn ended(&self) -> io::Result<()> {
        if !self.shut && self.stream.is_closed() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_close(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(Pin::new(&mut self.stream).poll_read(cx, to.initialize_unfilled()))?;
        if count == 0 && to.remaining() > 0 {
            return Poll::Ready(self.ended());
        }
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut(cx)
    }
}

impl Carrier for MuxStream {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(packet)) if packet.as_ref().is_empty() => {}
                Some(Ok(packet)) => return Poll::Ready(Ok(Some(Bytes::from_owner(packet)))),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(self.ended().map(|()| None)),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<()>> {
        loop {
            let Some(chunk) = out.first() else {
                return Poll::Ready(Ok(()));
            };
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, chunk))?;
            out.sent(count);
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // what was taken is with the link's driver, which flushes by itself
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut(cx)
    }
}

#[cfg(test)]
mod tests;
