//! The recording's way into the session's stream, and what is left of it when the stream breaks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::shared::{Shared, State, User};
use super::{DriverError, ProtocolFault};
use crate::carrier::Carrier;
use crate::frame::{Frame, MAX_CONTENT};
use crate::frames::FrameStream;
use crate::frames::StreamError;

/// Puts the recording into the session's stream. Clones share it.
///
/// What was appended leaves before any SSH byte that is written afterwards. What is not acknowledged as durable is
/// kept, bounded by [`crate::Limits::record_unacked`] as long as callers await [`RecordSink::ready`].
#[derive(Clone, Debug)]
pub struct RecordSink(User);

/// Why a record could not be taken, or is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordLost {
    /// No acknowledgement came for too long.
    #[error("recording is not acknowledged")]
    Stalled,
    /// The stream is gone, or the recording was finished.
    #[error("recording stream is closed")]
    Closed,
    /// The gateway has asked for the session's end, because it cannot store the recording.
    #[error("the gateway cannot keep it")]
    Refused,
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

/// How much may be appended beyond the bound once the stream is gone, so that a recording can be closed in order.
const AFTERWARDS: u64 = 1024 * 1024;

impl RecordSink {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(User::new(shared))
    }

    /// Waits for room: until fewer bytes than the bound are unacknowledged.
    ///
    /// # Errors
    /// [`RecordLost::Stalled`] if no acknowledgement came for [`crate::Limits::record_stall`] while bytes waited for
    /// one, [`RecordLost::Closed`].
    pub async fn ready(&self) -> Result<(), RecordLost> {
        let most = (self.0.limits.record_unacked as u64).max(1);
        self.wait(None, |state| state.over.is_none() && state.endpoint.unrecorded() < most)
            .await
    }

    /// Queues record bytes at once, before any SSH byte written after this returns, and returns the offset after
    /// them. Never waits; callers await [`RecordSink::ready`] first.
    ///
    /// When the stream is gone the bytes are kept for [`RecordSink::take_leftover`], up to 1 MiB beyond the bound.
    ///
    /// # Errors
    /// [`RecordLost::Closed`] after [`RecordSink::finish`], after the end was said, or when no more is kept.
    pub fn append_now(&self, bytes: Bytes) -> Result<u64, RecordLost> {
        let most = self.0.limits.record_unacked as u64 + AFTERWARDS;
        self.0.act(|state| {
            let waiting = state.endpoint.unrecorded();
            if state.over.is_some() && waiting + bytes.len() as u64 > most {
                return Err(RecordLost::Closed);
            }
            if waiting == 0 {
                state.record_progress = Instant::now();
            }
            state.endpoint.record(bytes).map_err(|_| RecordLost::Closed)
        })
    }

    /// [`RecordSink::ready`], then [`RecordSink::append_now`]; with a bound of 0 it then waits until the bytes are
    /// durable.
    ///
    /// # Errors
    /// [`RecordLost`].
    pub async fn append(&self, bytes: Bytes) -> Result<u64, RecordLost> {
        self.ready().await?;
        let offset = self.append_now(bytes)?;
        if self.0.limits.record_unacked == 0 {
            self.wait(None, |state| state.endpoint.durable() >= offset).await?;
        }
        Ok(offset)
    }

    /// Says that the recording is complete, and returns its length.
    pub fn finish(&self) -> u64 {
        self.0.act(|state| state.endpoint.finish_records())
    }

    /// Everything before this offset is durable.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.0.lock().endpoint.durable()
    }

    /// How many bytes are not acknowledged, and for how long nothing was.
    #[must_use]
    pub fn waiting(&self) -> (u64, Duration) {
        let state = self.0.lock();
        (state.endpoint.unrecorded(), state.record_progress.elapsed())
    }

    /// Waits until fewer than `most` bytes are unacknowledged, however long that takes; for ever once the stream is gone.
    pub async fn fewer_than(&self, most: u64) {
        loop {
            let mut told = std::pin::pin!(self.0.recorded.notified());
            told.as_mut().enable();
            let enough = {
                let state = self.0.lock();
                state.over.is_none() && state.endpoint.unrecorded() < most
            };
            if enough {
                return;
            }
            told.await;
        }
    }

    /// Resolves once bytes have waited for [`crate::Limits::record_stall`] without any acknowledgement, also while nobody
    /// appends; never once the stream is gone.
    pub async fn stalled(&self) {
        let stall = self.0.limits.record_stall;
        loop {
            let until = {
                let state = self.0.lock();
                let now = Instant::now();
                if state.over.is_some() {
                    None
                } else if state.endpoint.unrecorded() == 0 {
                    // What begins to wait from now on is late after that at the earliest.
                    Some(now + stall)
                } else if now >= state.record_progress + stall {
                    return;
                } else {
                    Some(state.record_progress + stall)
                }
            };
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until everything before `offset` is durable.
    ///
    /// # Errors
    /// [`RecordLost::Stalled`] when `deadline` has passed or acknowledgements stall, [`RecordLost::Closed`].
    pub async fn wait_acked(&self, offset: u64, deadline: Duration) -> Result<(), RecordLost> {
        self.wait(Some(Instant::now() + deadline), |state| {
            state.endpoint.durable() >= offset
        })
        .await
    }

    /// What was not acknowledged, once the driver has ended; `None` before that, if nothing is left, or if it was
    /// taken already. Nothing can be appended after it was taken.
    #[must_use]
    pub fn take_leftover(&self) -> Option<Leftover> {
        let mut state = self.0.lock();
        state.over?;
        state.endpoint.stop_records();
        let (offset, chunks, ended) = state.endpoint.take_unrecorded();
        (!chunks.is_empty()).then_some(Leftover { offset, chunks, ended })
    }

    async fn wait(&self, deadline: Option<Instant>, mut enough: impl FnMut(&State) -> bool) -> Result<(), RecordLost> {
        let stall = self.0.limits.record_stall;
        loop {
            let mut told = std::pin::pin!(self.0.recorded.notified());
            told.as_mut().enable();
            let until = {
                let state = self.0.lock();
                let now = Instant::now();
                let stalled = state.record_progress + stall;
                let waiting = state.endpoint.unrecorded() > 0;
                if state.over.is_some() {
                    return if enough(&state) {
                        Ok(())
                    } else {
                        Err(RecordLost::Closed)
                    };
                }
                if waiting && now >= stalled {
                    return Err(RecordLost::Stalled);
                }
                if enough(&state) {
                    return Ok(());
                }
                if state.endpoint.is_asked_to_end() {
                    return Err(RecordLost::Refused);
                }
                if deadline.is_some_and(|deadline| now >= deadline) {
                    return Err(RecordLost::Stalled);
                }
                deadline.map_or(stalled, |deadline| deadline.min(stalled))
            };
            // told or too late: either way the state says what is next
            let _ = timeout_at(until, told).await;
        }
    }
}

impl Leftover {
    /// The offset after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    }

    /// Appends what the recording still had to say.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.chunks.push(bytes);
        }
    }

    /// Forgets everything before `offset`.
    pub fn release(&mut self, offset: u64) {
        while self.offset < offset {
            let Some(first) = self.chunks.first_mut() else {
                return;
            };
            let over = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
            if over < first.len() {
                drop(first.split_to(over));
                self.offset = offset;
            } else {
                self.offset += first.len() as u64;
                self.chunks.remove(0);
            }
        }
    }
}

/// Sends what is left over of a recording on a stream of its own, and forgets what is acknowledged. The stream must
/// have been opened from the leftover's offset on.
///
/// # Errors
/// [`DriverError`]; what was acknowledged before is forgotten all the same. [`DriverError::Silent`] if no
/// acknowledgement came for `stall`.
pub async fn send_leftover<C: Carrier>(
    carrier: C,
    leftover: &mut Leftover,
    stall: Duration,
) -> Result<(), DriverError> {
    let mut stream = FrameStream::new(carrier);
    let (mut offset, end) = (leftover.offset, leftover.end());
    for chunk in leftover.chunks.clone() {
        for at in (0..chunk.len()).step_by(MAX_CONTENT) {
            let bytes = chunk.slice(at..chunk.len().min(at + MAX_CONTENT));
            let frame = Frame::Record {
                offset,
                bytes: bytes.clone(),
            };
            offset += bytes.len() as u64;
            within(stall, stream.send(&frame)).await?;
        }
    }
    if leftover.ended {
        within(stall, stream.send(&Frame::RecordEnd { offset: end })).await?;
    }
    while leftover.offset < end {
        match within(stall, stream.next()).await? {
            Some(Frame::RecordAck { offset: acked }) if acked <= end => leftover.release(acked),
            Some(Frame::RecordAck { offset }) => {
                return Err(ProtocolFault::AckBeyond { offset, sent: end }.into());
            }
            Some(frame) => return Err(ProtocolFault::Forbidden(frame.kind()).into()),
            None => return Err(DriverError::Cut),
        }
    }
    within(stall, stream.close()).await
}

async fn within<T>(stall: Duration, step: impl Future<Output = Result<T, StreamError>>) -> Result<T, DriverError> {
    let deadline = Instant::now() + stall;
    match timeout_at(deadline, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(DriverError::Silent),
    }
}
