//! A buffer beneath the streams of a link, flushed when its owner says so and not when its user does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A pipe whose flushes are put off until [`Gather::poll_push`]. Clones are the same pipe; one task polls them all.
#[derive(Debug)]
pub(super) struct Gather<IO>(Arc<Mutex<Inner<IO>>>);

#[derive(Debug)]
struct Inner<IO> {
    io: IO,
    out: BytesMut,
    /// Something was written to `io` that it may hold back.
    unflushed: bool,
    /// How much was read while something waits.
    read: usize,
}

/// How much is gathered before it is written.
const FULL: usize = 64 * 1024;
/// How much may be read before what waits is sent after all.
const PATIENCE: usize = 64 * 1024;

impl<IO> Clone for Gather<IO> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Gather<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            out: BytesMut::new(),
            unflushed: false,
            read: 0,
        })))
    }

    /// Writes out everything and flushes it.
    pub(super) fn poll_push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_push(cx)
    }

    /// Writes out everything, then closes our direction.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_push(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Inner<IO> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            self.unflushed = true;
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.out.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read = 0;
        ready!(self.poll_write_out(cx))?;
        // idle: give the memory back
        self.out = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> futures_util::io::AsyncRead for Gather<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let mut buffer = ReadBuf::new(to);
        ready!(Pin::new(&mut inner.io).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        inner.read += count;
        Poll::Ready(Ok(count))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> futures_util::io::AsyncWrite for Gather<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.out.len() >= FULL {
            ready!(inner.poll_write_out(cx))?;
        }
        if inner.out.is_empty() {
            inner.read = 0;
            if bytes.len() >= FULL {
                inner.unflushed = true;
                return Pin::new(&mut inner.io).poll_write(cx, bytes);
            }
        }
        let count = bytes.len().min(FULL);
        inner.out.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.read >= PATIENCE && (inner.unflushed || !inner.out.is_empty()) {
            return inner.poll_push(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}
