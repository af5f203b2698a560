//! Runs one end of a session over a carrier: one future that polls both directions, beside handles that only touch
//! shared queues.
//!
//! Per wakeup it reads what is there, sends what is queued and flushes once. It owns the session's deadlines: the
//! late acknowledgement, the wait for the peer to close, and on the client's end the signs of life.

mod beside;
mod records;
mod shared;
mod ssh_stream;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::carrier::{Carrier, Outbox};
use crate::endpoint::{Effects, Limits, Role};
pub use crate::endpoint::{ProtocolFault, Said};
use crate::frame::{End, FrameDecoder, FrameError};
use crate::frames::StreamError;
pub use beside::{Incoming, SessionHandle};
pub use records::{Leftover, RecordLost, RecordSink, send_leftover};
use shared::{Over, Shared};
pub use ssh_stream::{SshReader, SshStream, SshWriter};

/// How a driver ended in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer said the end.
    Heard(End),
    /// We said the end, and it was sent.
    Said(End),
    /// Every handle was dropped and what they had said was sent, without an end.
    Finished,
}

/// Why a driver failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The peer sent what is no frame.
    #[error("peer sent a bad frame")]
    Frame(#[from] FrameError),
    /// The peer broke a rule of the protocol.
    #[error("peer broke the protocol")]
    Protocol(#[from] ProtocolFault),
    /// The transport was closed before the session ended.
    #[error("transport was closed before the session ended")]
    Cut,
    /// The peer gave no sign of life for too long.
    #[error("peer is silent")]
    Silent,
    /// The transport broke.
    #[error("transport broke")]
    Io(#[source] io::Error),
}

impl From<StreamError> for DriverError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Frame(error) => Self::Frame(error),
            StreamError::Io(error) => Self::Io(error),
        }
    }
}

/// The agent's end of a session. The returned future is its only driver: nothing moves unless it is polled, and
/// dropping it breaks the session.
///
/// When the peer says the end, SSH bytes stop, but records go on until [`SessionHandle::end`] is called or every
/// handle is dropped.
pub fn agent_end<C: Carrier>(
    carrier: C,
    limits: Limits,
) -> (
    SshStream,
    RecordSink,
    SessionHandle,
    impl Future<Output = Result<Closed, DriverError>> + Send + 'static,
) {
    let shared = Shared::new(Role::Agent, limits);
    let (stream, sink) = (SshStream::new(&shared), RecordSink::new(&shared));
    (
        stream,
        sink,
        SessionHandle::new(&shared),
        Driver::new(carrier, shared, Role::Agent),
    )
}

/// The client's end of a session. The returned future is its only driver: nothing moves unless it is polled, and
/// dropping it breaks the session.
pub fn client_end<C: Carrier>(
    carrier: C,
    limits: Limits,
) -> (
    SshStream,
    Incoming,
    SessionHandle,
    impl Future<Output = Result<Closed, DriverError>> + Send + 'static,
) {
    let shared = Shared::new(Role::Client, limits);
    let (stream, incoming) = (SshStream::new(&shared), Incoming::new(&shared));
    (
        stream,
        incoming,
        SessionHandle::new(&shared),
        Driver::new(carrier, shared, Role::Client),
    )
}

/// How many bytes are gathered before they are handed to the carrier.
const BATCH: usize = 128 * 1024;
/// How many chunks are read before it is the other direction's turn.
const CHUNKS: usize = 16;
/// How many turns are taken before other tasks get theirs.
const TURNS: usize = 16;
/// After how long consumed bytes are acknowledged, however few they are.
const LATE_ACK: Duration = Duration::from_millis(500);

struct Driver<C> {
    carrier: C,
    shared: Arc<Shared>,
    role: Role,
    decoder: FrameDecoder,
    out: Outbox,
    unflushed: bool,
    /// The peer closed its direction.
    eof: bool,
    /// We close ours, at the latest by then.
    closing: Option<Instant>,
    /// Everything was said; the carrier has to take some of it until then.
    leave_by: Option<Instant>,
    closed: bool,
    ack_at: Option<Instant>,
    heard_at: Instant,
    pinged: u64,
    ping_at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    outcome: Over,
}

impl<C: Carrier> Driver<C> {
    fn new(carrier: C, shared: Arc<Shared>, role: Role) -> Self {
        crate::heap::prepare();
        let now = Instant::now();
        Self {
            carrier,
            role,
            decoder: FrameDecoder::new(),
            out: Outbox::new(),
            unflushed: false,
            eof: false,
            closing: None,
            leave_by: None,
            closed: false,
            ack_at: None,
            heard_at: now,
            pinged: 0,
            ping_at: (role == Role::Client).then(|| now + shared.limits.ping),
            sleep: None,
            outcome: Over::Broken,
            shared,
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Closed, DriverError>> {
        for _ in 0..TURNS {
            let more = self.receive(cx)?;
            self.send(cx)?;
            if let Some(closed) = self.close(cx)? {
                return Poll::Ready(Ok(closed));
            }
            if !more && !self.keep_time(cx)? {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what is there. Says whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, DriverError> {
        if self.eof {
            return Ok(false);
        }
        for count in 0..CHUNKS {
            match self.carrier.poll_receive(cx) {
                Poll::Pending => {
                    if count > 0 {
                        self.note_heard();
                    }
                    return Ok(false);
                }
                Poll::Ready(Ok(Some(chunk))) => self.decode(chunk)?,
                Poll::Ready(Ok(None)) => {
                    self.eof = true;
                    self.decoder.finish()?;
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return self.broke(error).map(|()| true),
            }
        }
        self.note_heard();
        Ok(true)
    }

    fn decode(&mut self, chunk: bytes::Bytes) -> Result<(), DriverError> {
        self.decoder.push(chunk);
        let mut effects = Effects::default();
        let mut state = self.shared.lock();
        let outcome = loop {
            match self.decoder.next() {
                Ok(Some(frame)) => match state.endpoint.handle(frame) {
                    Ok(effect) => effects |= effect,
                    Err(fault) => break Err(fault.into()),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        if effects.recorded {
            state.record_progress = Instant::now();
        }
        let wake = state.wakers(effects);
        drop(state);
        drop(wake);
        if effects.recorded {
            self.shared.recorded.notify_waiters();
        }
        outcome
    }

    /// A transport that breaks after the end was said or heard does no harm.
    fn broke(&mut self, error: io::Error) -> Result<(), DriverError> {
        if self.closing.is_some() {
            self.eof = true;
            self.closed = true;
            return Ok(());
        }
        Err(DriverError::Io(error))
    }

    fn note_heard(&mut self) {
        if self.role == Role::Client || self.ack_at.is_none() {
            let now = Instant::now();
            self.heard_at = now;
            if self.role == Role::Client {
                self.ping_at = Some(now + self.shared.limits.ping);
            }
            if self.ack_at.is_none() {
                self.ack_at = Some(now + LATE_ACK);
            }
        }
    }

    /// Sends what is queued until there is no more or the carrier takes no more, and flushes once.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), DriverError> {
        if self.closed || self.eof {
            return Ok(());
        }
        loop {
            if self.out.is_empty() && self.closing.is_none() {
                let mut state = self.shared.lock();
                state.endpoint.transmit(&mut self.out, BATCH);
                if self.out.is_empty() {
                    state.park_driver(cx);
                }
            }
            if self.out.is_empty() {
                break;
            }
            self.unflushed = true;
            let held = self.out.held();
            let sent = self.carrier.poll_send(cx, &mut self.out);
            if self.out.held() < held {
                self.leave_by = None;
            }
            match sent {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.broke(error),
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed {
            match self.carrier.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return self.broke(error),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Ends the session once everything was said, and returns how it ended once it has.
    fn close(&mut self, cx: &mut Context<'_>) -> Result<Option<Closed>, DriverError> {
        if self.closing.is_none() {
            let state = self.shared.lock();
            let endpoint = &state.endpoint;
            let sent = self.out.is_empty() && !self.unflushed && !endpoint.has_output();
            let said = endpoint.said_end().is_some() && sent;
            let heard = endpoint.heard_end().is_some() && self.role == Role::Client;
            let dropped = state.users == 0 && sent;
            let leaving = endpoint.said_end().is_some() || state.users == 0;
            let over = endpoint.said_end().is_some() || endpoint.heard_end().is_some() || endpoint.is_finished();
            let gone = self.eof && over;
            if !(said || heard || dropped || gone) {
                drop(state);
                return match self.eof {
                    true => Err(DriverError::Cut),
                    false if leaving => self.leave().map(|()| None),
                    false => Ok(None),
                };
            }
            drop(state);
            self.closing = Some(Instant::now() + self.shared.limits.linger);
        }
        if !self.closed {
            match self.carrier.poll_close(cx) {
                Poll::Ready(Ok(())) => self.closed = true,
                Poll::Ready(Err(error)) => self.broke(error)?,
                Poll::Pending => {}
            }
        }
        let late = self.closing.is_some_and(|by| Instant::now() >= by);
        let done = self.closed && self.eof;
        if !done && !late {
            return Ok(None);
        }
        let state = self.shared.lock();
        Ok(Some(match (state.endpoint.heard_end(), state.endpoint.said_end()) {
            (Some(end), _) => Closed::Heard(end.clone()),
            (None, Some(end)) => Closed::Said(end.clone()),
            (None, None) => Closed::Finished,
        }))
    }

    /// There is nothing more to come from us, but the carrier has not taken it all: that may not last for ever.
    fn leave(&mut self) -> Result<(), DriverError> {
        let now = Instant::now();
        let by = *self.leave_by.get_or_insert(now + self.shared.limits.linger);
        if now >= by { Err(DriverError::Silent) } else { Ok(()) }
    }

    /// Acts on what is due. Says whether anything was.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Result<bool, DriverError> {
        let times = [self.ack_at, self.ping_at, self.closing, self.leave_by];
        let Some(next) = times.into_iter().flatten().min() else {
            return Ok(false);
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        // a sleep that ends too early is set again then: cheaper than moving it with every chunk
        if sleep.deadline() > next || sleep.is_elapsed() {
            sleep.as_mut().reset(next);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.ack_at) {
            let mut state = self.shared.lock();
            state.endpoint.ack_now();
            let unread = state.endpoint.is_readable() && !state.endpoint.is_read_to_end();
            self.ack_at = unread.then_some(now + LATE_ACK);
        }
        if due(self.ping_at) {
            if now.duration_since(self.heard_at) >= self.shared.limits.silence {
                return Err(DriverError::Silent);
            }
            self.pinged += 1;
            self.shared.lock().endpoint.ping(self.pinged);
            let silent = self.heard_at + self.shared.limits.silence;
            self.ping_at = Some((now + self.shared.limits.ping).min(silent.max(now + PING_LEAST)));
        }
        Ok(true)
    }
}

/// The least time between two pings.
const PING_LEAST: Duration = Duration::from_millis(100);

impl<C: Carrier> Future for Driver<C> {
    type Output = Result<Closed, DriverError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.run(cx);
        if let Poll::Ready(outcome) = &outcome {
            self.outcome = if outcome.is_ok() { Over::Clean } else { Over::Broken };
            self.shared.end(self.outcome);
        }
        outcome
    }
}

impl<C> Drop for Driver<C> {
    fn drop(&mut self) {
        self.shared.end(self.outcome);
    }
}
