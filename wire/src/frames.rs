//! Frames over a carrier: reads them, gathers what is to be sent, and flushes once per wakeup.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::carrier::{Carrier, Outbox};
use crate::frame::{Frame, FrameDecoder, FrameError};

/// A carrier that speaks frames.
#[derive(Debug)]
pub struct FrameStream<C> {
    carrier: C,
    decoder: FrameDecoder,
    out: Outbox,
    unflushed: bool,
    ended: bool,
}

/// Why frames cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer sent what is no frame.
    #[error("peer sent a bad frame")]
    Frame(#[from] FrameError),
    /// The transport broke.
    #[error("transport broke")]
    Io(#[from] io::Error),
}

impl<C: Carrier> FrameStream<C> {
    /// Speaks frames over this carrier.
    pub fn new(carrier: C) -> Self {
        Self {
            carrier,
            decoder: FrameDecoder::new(),
            out: Outbox::new(),
            unflushed: false,
            ended: false,
        }
    }

    /// The carrier. Frames that were queued and not flushed are lost.
    pub fn into_inner(self) -> C {
        self.carrier
    }

    /// The next frame; `None` once the peer closed its direction between two frames.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, StreamError>> {
        self.poll_next_whole(cx).map_ok(|next| next.map(|(frame, _)| frame))
    }

    /// The next frame with its own bytes, as they came.
    pub(crate) fn poll_next_whole(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<(Frame, Bytes)>, StreamError>> {
        loop {
            if let Some(next) = self.decoder.next_whole()? {
                return Poll::Ready(Ok(Some(next)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.carrier.poll_receive(cx))? {
                Some(chunk) => self.decoder.push(chunk),
                None => {
                    self.ended = true;
                    self.decoder.finish()?;
                }
            }
        }
    }

    /// The next frame; dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Queues a frame. The caller bounds the queue by looking at [`FrameStream::queued`].
    pub fn queue(&mut self, frame: &Frame) {
        if let Some(content) = self.out.put(|to| frame.encode_header(to)) {
            self.out.push(content);
        }
    }

    /// Queues a frame in its own bytes.
    pub(crate) fn queue_whole(&mut self, whole: Bytes) {
        self.out.push(whole);
    }

    /// How many bytes are queued that the carrier has not taken.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out.held()
    }

    /// Hands what is queued to the carrier and flushes it.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if !self.out.is_empty() {
            self.unflushed = true;
            if self.carrier.poll_send(cx, &mut self.out)?.is_pending() {
                return Poll::Pending;
            }
        }
        if self.unflushed {
            ready!(self.carrier.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands what is queued to the carrier and flushes it.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Queues a frame and flushes.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), StreamError> {
        self.queue(frame);
        self.flush().await
    }

    /// Flushes, then closes our direction.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_flush(cx))?;
        ready!(self.carrier.poll_close(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Flushes, then closes our direction.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn close(&mut self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_close(cx)).await
    }
}
