//! The SSH bytes of a session as an ordinary stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::{Over, Shared, User};
use std::sync::Arc;

/// The SSH bytes of a session, both directions.
///
/// Shutting down or dropping the writing half ends our direction (`Fin`) after what was written; the other direction
/// goes on. Dropping the reading half discards what still comes. Flushing is not needed: what is written is on its way.
#[derive(Debug)]
pub struct SshStream {
    reader: SshReader,
    writer: SshWriter,
}

/// The reading half of an [`SshStream`].
#[derive(Debug)]
pub struct SshReader(User);

/// The writing half of an [`SshStream`].
#[derive(Debug)]
pub struct SshWriter(User);

impl SshStream {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            reader: SshReader(User::new(shared)),
            writer: SshWriter(User::new(shared)),
        }
    }

    /// Both halves, each with its own waker.
    #[must_use]
    pub fn into_split(self) -> (SshReader, SshWriter) {
        (self.reader, self.writer)
    }
}

impl SshReader {
    /// The next bytes without a copy; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `ConnectionAborted` when the stream broke before its end.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The next bytes without a copy; `None` at the end.
    ///
    /// # Errors
    /// `ConnectionAborted` when the stream broke before its end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.poll_take(cx, |endpoint| endpoint.read_chunk(usize::MAX))
    }

    fn poll_take<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut crate::endpoint::Endpoint) -> Option<T>,
    ) -> Poll<io::Result<Option<T>>> {
        self.0.act(|state| {
            if let Some(taken) = take(&mut state.endpoint) {
                return Poll::Ready(Ok(Some(taken)));
            }
            if state.endpoint.is_read_to_end() || state.over == Some(Over::Clean) {
                return Poll::Ready(Ok(None));
            }
            if state.over.is_some() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            state.park_reader(cx);
            Poll::Pending
        })
    }
}

impl Drop for SshReader {
    fn drop(&mut self) {
        self.0.act(|state| state.endpoint.stop_reading());
    }
}

impl AsyncRead for SshReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if to.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // every byte handed out was written by the copy; the rest of the buffer may be uninitialised, so
        // only the initialised part is offered
        let taken = self.poll_take(cx, |endpoint| {
            let count = endpoint.read(to.initialize_unfilled());
            (count > 0).then(|| to.advance(count))
        })?;
        taken.map(|_| Ok(()))
    }
}

impl SshWriter {
    fn finish(&self) {
        self.0.act(|state| state.endpoint.finish_writing());
    }
}

impl Drop for SshWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl AsyncWrite for SshWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.0.act(|state| {
            if state.over.is_some() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut count = 0;
            while count < bytes.len() {
                match state.endpoint.write(&bytes[count..]) {
                    Ok(0) => break,
                    Ok(taken) => count += taken,
                    Err(_) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
            if count == 0 {
                state.park_writer(cx);
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, to)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
