//! What carries a session stream: a mux stream, a WebSocket tunnel, or any other pipe of bytes.
//!
//! A carrier hands over what arrived as [`Bytes`] without copying where it can, and takes whole batches of chunks.
//! It knows nothing of frames.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

/// A reliable, ordered pipe of bytes in both directions.
pub trait Carrier: Send + Unpin + 'static {
    /// The next chunk that arrived, never empty; `None` once the peer closed its direction cleanly.
    ///
    /// # Errors
    /// Those of the transport; a stream that broke off is an error, never an end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;

    /// Takes chunks from the front of `out`; ready once `out` is empty. What was taken may stay buffered until
    /// [`Carrier::poll_flush`].
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<()>>;

    /// Pushes out what was taken.
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Flushes, then closes our direction.
    ///
    /// # Errors
    /// Those of the transport.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Chunks on their way out, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    held: usize,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Appends a chunk; small ones are gathered into one buffer, large ones kept as they are.
    pub fn push(&mut self, chunk: Bytes) {
        self.held += chunk.len();
        if chunk.len() <= SMALL {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.seal();
            self.chunks.push_back(chunk);
        }
    }

    /// Lets `write` append to the buffer of small parts.
    pub(crate) fn put<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let before = self.tail.len();
        let value = write(&mut self.tail);
        self.held += self.tail.len() - before;
        value
    }

    /// Takes the first chunk.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.seal();
        let chunk = self.chunks.pop_front()?;
        self.held -= chunk.len();
        Some(chunk)
    }

    /// Puts back what could not be sent of the chunk just taken.
    pub fn unpop(&mut self, rest: Bytes) {
        if !rest.is_empty() {
            self.held += rest.len();
            self.chunks.push_front(rest);
        }
    }

    /// The first chunk that waits.
    pub fn first(&mut self) -> Option<&Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        self.chunks.front()
    }

    /// Forgets the first `count` bytes, which were sent.
    pub fn sent(&mut self, mut count: usize) {
        self.seal();
        self.held = self.held.saturating_sub(count);
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > count {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.chunks.pop_front();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    fn slices<'a>(&'a mut self, to: &mut [io::IoSlice<'a>]) -> usize {
        self.seal();
        let mut count = 0;
        for (slot, chunk) in to.iter_mut().zip(&self.chunks) {
            *slot = io::IoSlice::new(chunk);
            count += 1;
        }
        count
    }
}

/// Chunks up to this many bytes are copied together rather than sent alone.
const SMALL: usize = 4 * 1024;
/// How much is read at once from a plain pipe.
const READ: usize = 64 * 1024;

/// Any pipe of bytes as a carrier, with one copy per direction.
#[derive(Debug)]
pub struct Plain<IO> {
    io: IO,
    buffer: BytesMut,
}

impl<IO> Plain<IO> {
    /// Carries over this pipe.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
        }
    }

    /// The pipe.
    pub fn into_inner(self) -> IO {
        self.io
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Carrier for Plain<IO> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.buffer.reserve(READ);
        match tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.buffer) {
            Poll::Pending => {
                // idle: give the memory back
                self.buffer = BytesMut::new();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Some(self.buffer.split().freeze()))),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let sent = {
                let mut slices = [io::IoSlice::new(&[]); 16];
                let count = out.slices(&mut slices);
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.sent(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
