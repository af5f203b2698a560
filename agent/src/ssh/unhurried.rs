//! A stream that tells some things late.
//!
//! What is written while the connection's [`Inflow`] says so (a window of two bytes for a channel whose reader is
//! stuck) is held back for a moment, or until something else is written: order is kept, nothing waits for it, and a
//! client that trickles does so at a few packets a second instead of as fast as the wire allows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Inflow;

/// A stream that tells some things late. It holds back at most [`MOST`] bytes.
#[derive(Debug)]
pub(crate) struct Unhurried<S> {
    inner: S,
    inflow: Arc<Inflow>,
    held: Vec<u8>,
    sent: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Unhurried<S> {
    /// Holds back what this connection's inflow says.
    pub(crate) fn new(inner: S, inflow: Arc<Inflow>) -> Self {
        Self {
            inner,
            inflow,
            held: Vec::new(),
            sent: 0,
            timer: None,
        }
    }

    /// Sends what was held back.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.held.clear();
        self.sent = 0;
        self.timer = None;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Unhurried<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A connection always reads; so this is where time passes.
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
            && let Poll::Ready(Err(error)) = self.poll_release(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Unhurried<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.inflow.take_late() && self.sent == 0 && self.held.len() + bytes.len() <= MOST {
            self.held.extend_from_slice(bytes);
            if self.timer.is_none() {
                self.timer = Some(Box::pin(tokio::time::sleep_until(Instant::now() + LATE)));
                // The reader has to hear of the timer.
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        if !self.held.is_empty() {
            ready!(self.poll_release(cx))?;
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Flushing what is held would be hurrying.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How late.
const LATE: Duration = Duration::from_millis(25);
/// The most that is held back, in bytes: a few windows' worth of packets.
const MOST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::super::window::Level;
    use super::*;

    fn late(inflow: &Arc<Inflow>) {
        use super::super::window::Windows;
        let level = Arc::new(Level::new(inflow));
        level.set(Inflow::LONG + 1);
        let mut windows = Windows::new(Arc::clone(inflow));
        windows.open(0, level);
        windows.opened(0);
    }

    #[tokio::test]
    async fn what_is_late_waits_for_its_time_or_for_what_comes_next() {
        let inflow: Arc<Inflow> = Arc::default();
        let (inner, mut far) = duplex(1_024);
        let (mut reader, mut writer) = split(Unhurried::new(inner, Arc::clone(&inflow)));
        let reading = async {
            let mut nothing = [0; 1];
            reader.read(&mut nothing).await.unwrap()
        };
        let acting = async {
            let mut got = [0; 4];
            writer.write_all(b"soon").await.unwrap();
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"soon");
            late(&inflow);
            let began = Instant::now();
            writer.write_all(b"late").await.unwrap();
            writer.flush().await.unwrap();
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"late");
            assert!(began.elapsed() >= LATE);
            late(&inflow);
            writer.write_all(b"one ").await.unwrap();
            writer.write_all(b"two ").await.unwrap();
            let mut both = [0; 8];
            far.read_exact(&mut both).await.unwrap();
            assert_eq!(&both, b"one two ");
            late(&inflow);
            writer.write_all(b"last").await.unwrap();
            writer.shutdown().await.unwrap();
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"last");
            drop(far);
        };
        tokio::join!(reading, acting);
    }
}
