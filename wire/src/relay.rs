//! Passes a session through the gateway: SSH frames from one carrier to the other, record frames to the caller.
//!
//! It reads headers alone. A frame that its side may not send (records from a client, acknowledgements of records
//! from anybody) is that side's fault and ends its stream. Offsets and windows are judged by the two ends; what the
//! relay itself holds is bounded by [`RelayLimits`].

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::carrier::Carrier;
use crate::frame::{End, Frame};
use crate::frames::{FrameStream, StreamError};

/// A session in passage. One task owns it; [`Relay::next`] drives everything.
#[derive(Debug)]
pub struct Relay<C, A> {
    client: Port<C>,
    agent: Port<A>,
    events: VecDeque<Event>,
    counters: Counters,
    limits: RelayLimits,
}

/// What the caller of a relay has to know or do.
#[derive(Debug)]
pub enum Event {
    /// Record bytes from the agent. They are to be stored and then acknowledged by [`Relay::ack_records`].
    Record {
        /// Offset of the first byte in the session's recording.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The recording ends at this offset.
    RecordEnd {
        /// The length of the recording.
        offset: u64,
    },
    /// A side said that the session is over. The other side gets it too, in order, unless the caller has said
    /// an end already. After the client's the agent's last records still follow.
    Ended {
        /// Who said it.
        by: Side,
        /// What it said.
        end: End,
    },
    /// A side's stream closed, or broke if there is a fault.
    Gone {
        /// Which side.
        side: Side,
        /// Why, if not in order.
        fault: Option<RelayFault>,
    },
    /// Both sides are gone: nothing more will come.
    Over,
}

/// One of a relay's sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's tunnel.
    Client,
    /// The agent's stream.
    Agent,
}

/// What went wrong on a side.
#[derive(Debug, thiserror::Error)]
pub enum RelayFault {
    /// Its stream broke, or carried what is no frame.
    #[error("stream broke")]
    Stream(#[from] StreamError),
    /// It sent a frame that its side may not send.
    #[error("frame of kind {0} is not this side's to send")]
    Forbidden(u8),
}

/// How many bytes passed: SSH ciphertext as the gateway counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From the client to the agent.
    pub client_to_agent: u64,
    /// From the agent to the client.
    pub agent_to_client: u64,
    /// Record bytes from the agent.
    pub records: u64,
}

/// The bounds of a relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// How many bytes may wait for a side before the other is read no further. More than the ends' window, so that
    /// a client that does not read holds up no records.
    pub queue: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { queue: 3 * 1024 * 1024 }
    }
}

/// How many bytes are gathered for a side before they are sent.
const BATCH: usize = 128 * 1024;
/// How many turns are taken before other tasks get theirs.
const TURNS: usize = 16;

#[derive(Debug)]
struct Port<C> {
    stream: FrameStream<C>,
    /// It still sends.
    receiving: bool,
    /// It still takes.
    sending: bool,
    /// An end was queued for it.
    told: bool,
    /// Nothing may follow the end that was queued for it.
    ended: bool,
    heard: Instant,
}

impl<C: Carrier> Port<C> {
    fn new(carrier: C) -> Self {
        Self {
            stream: FrameStream::new(carrier),
            receiving: true,
            sending: true,
            told: false,
            ended: false,
            heard: Instant::now(),
        }
    }

    fn queue(&mut self, frame: &Frame) {
        if self.sending {
            self.stream.queue(frame);
        }
    }

    fn queue_whole(&mut self, whole: Bytes) {
        if self.sending {
            self.stream.queue_whole(whole);
        }
    }

    /// Answers a ping, unless the side asks without reading.
    fn pong(&mut self, number: u64) {
        if self.stream.queued() < BATCH {
            self.queue(&Frame::Pong(number));
        }
    }

    fn end(&mut self, end: &End) {
        self.ended = true;
        self.tell(end);
    }

    /// Queues an end, and still lets follow what comes.
    fn tell(&mut self, end: &End) {
        if !std::mem::replace(&mut self.told, true) {
            self.queue(&Frame::End(end.clone()));
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        if self.sending
            && let Poll::Ready(Err(error)) = self.stream.poll_flush(cx)
        {
            self.sending = false;
            return Err(error);
        }
        Ok(())
    }

    /// Closes our direction; whether that works makes no difference any more.
    fn close(&mut self, cx: &mut Context<'_>) {
        if self.sending && self.stream.poll_close(cx).is_ready() {
            self.sending = false;
        }
    }
}

impl<C: Carrier, A: Carrier> Relay<C, A> {
    /// Relays between these two.
    pub fn new(client: C, agent: A, limits: RelayLimits) -> Self {
        crate::heap::prepare();
        Self {
            client: Port::new(client),
            agent: Port::new(agent),
            events: VecDeque::new(),
            counters: Counters::default(),
            limits,
        }
    }

    /// Moves bytes until there is something for the caller. Dropping the future loses nothing.
    ///
    /// What follows a record in the agent's stream goes to the client only after that record was returned here and
    /// this was called again.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Moves bytes until there is something for the caller.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..TURNS {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if !self.client.receiving && !self.agent.receiving {
                self.flush(cx);
                return Poll::Ready(Event::Over);
            }
            // the caller has heard of everything that stands before what is queued now
            if self.client.stream.queued() >= BATCH || self.agent.stream.queued() >= BATCH {
                self.flush(cx);
            }
            let mut more = self.read_agent(cx);
            more |= self.read_client(cx);
            if !self.events.is_empty() {
                continue;
            }
            let full = (!self.client_has_room(), !self.agent_has_room());
            self.flush(cx);
            // what was not read for want of room is read now: nothing else would wake us for it
            more |= full.0 && self.client_has_room() || full.1 && self.agent_has_room();
            if !more && self.events.is_empty() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the agent that its recording is durable up to this offset; goes out with the next call of `next`.
    pub fn ack_records(&mut self, offset: u64) {
        self.agent.queue(&Frame::RecordAck { offset });
    }

    /// Tells the user a sentence.
    pub fn notice(&mut self, text: impl Into<String>) {
        if !self.client.ended {
            self.client.queue(&Frame::Notice { text: text.into() });
        }
    }

    /// Ends the session towards both sides, after what is queued; only the first end counts for each. The agent's
    /// last records still follow.
    pub fn end(&mut self, end: &End) {
        self.client.end(end);
        self.agent.end(end);
    }

    /// Asks the agent to end the session, with [`crate::RECORDING_UNAVAILABLE`]: it says in the channels why, and then its own
    /// end. Until it does, or [`Relay::end`] is called, everything goes on as before.
    pub fn ask_to_end(&mut self, end: &End) {
        self.agent.tell(end);
    }

    /// What has passed so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When a side was last heard of.
    #[must_use]
    pub fn heard(&self, side: Side) -> Instant {
        match side {
            Side::Client => self.client.heard,
            Side::Agent => self.agent.heard,
        }
    }

    /// Flushes and closes both sides at once, each at the latest when `deadline` has passed. What a side still
    /// sends is read and dropped until it closes too, so that nothing on its way to it is lost.
    pub async fn close(self, deadline: Duration) {
        let until = Instant::now() + deadline;
        let (client, agent) = (finish(self.client), finish(self.agent));
        // too late is as good as closed
        let _ = tokio::time::timeout_at(until, async { tokio::join!(client, agent) }).await;
    }

    /// Reads frames from the agent; says whether there may be more.
    fn read_agent(&mut self, cx: &mut Context<'_>) -> bool {
        let mut got = 0;
        while self.agent.receiving && got < BATCH && self.client_has_room() {
            let (frame, whole) = match self.agent.stream.poll_next_whole(cx) {
                Poll::Pending => {
                    note(&mut self.agent.heard, got);
                    return false;
                }
                Poll::Ready(next) => match self.taken(next, Side::Agent) {
                    Some(next) => next,
                    None => return true,
                },
            };
            got += whole.len();
            match frame {
                Frame::Data { bytes, .. } => {
                    self.counters.agent_to_client += bytes.len() as u64;
                    self.pass_to_client(whole);
                }
                Frame::Ack { .. } | Frame::Fin { .. } | Frame::Notice { .. } => self.pass_to_client(whole),
                Frame::Record { offset, bytes } => {
                    self.counters.records += bytes.len() as u64;
                    self.events.push_back(Event::Record { offset, bytes });
                }
                Frame::RecordEnd { offset } => self.events.push_back(Event::RecordEnd { offset }),
                Frame::End(end) => {
                    self.client.end(&end);
                    self.events.push_back(Event::Ended { by: Side::Agent, end });
                }
                Frame::Ping(number) => self.agent.pong(number),
                Frame::Pong(_) => {}
                Frame::RecordAck { .. } => self.fault(Side::Agent, RelayFault::Forbidden(frame.kind())),
            }
        }
        note(&mut self.agent.heard, got);
        self.agent.receiving && self.client_has_room()
    }

    /// Reads frames from the client; says whether there may be more.
    fn read_client(&mut self, cx: &mut Context<'_>) -> bool {
        let mut got = 0;
        while self.client.receiving && got < BATCH && self.agent_has_room() {
            let (frame, whole) = match self.client.stream.poll_next_whole(cx) {
                Poll::Pending => {
                    note(&mut self.client.heard, got);
                    return false;
                }
                Poll::Ready(next) => match self.taken(next, Side::Client) {
                    Some(next) => next,
                    None => return true,
                },
            };
            got += whole.len();
            match frame {
                Frame::Data { bytes, .. } => {
                    self.counters.client_to_agent += bytes.len() as u64;
                    self.pass_to_agent(whole);
                }
                Frame::Ack { .. } | Frame::Fin { .. } => self.pass_to_agent(whole),
                Frame::End(end) => {
                    // It is the client's word, and no more than that.
                    let end = End { exit: 0, ..end };
                    self.agent.end(&end);
                    self.events.push_back(Event::Ended { by: Side::Client, end });
                }
                Frame::Ping(number) => self.client.pong(number),
                Frame::Pong(_) => {}
                Frame::Notice { .. } | Frame::Record { .. } | Frame::RecordAck { .. } | Frame::RecordEnd { .. } => {
                    self.fault(Side::Client, RelayFault::Forbidden(frame.kind()))
                }
            }
        }
        note(&mut self.client.heard, got);
        self.client.receiving && self.agent_has_room()
    }

    fn client_has_room(&self) -> bool {
        !self.client.sending || self.client.stream.queued() < self.limits.queue
    }

    fn agent_has_room(&self) -> bool {
        !self.agent.sending || self.agent.stream.queued() < self.limits.queue
    }

    fn pass_to_client(&mut self, whole: Bytes) {
        if !self.client.ended {
            self.client.queue_whole(whole);
        }
    }

    fn pass_to_agent(&mut self, whole: Bytes) {
        if !self.agent.ended {
            self.agent.queue_whole(whole);
        }
    }

    /// The frame, or `None` with an event if there will be no more.
    fn taken<T>(&mut self, next: Result<Option<T>, StreamError>, side: Side) -> Option<T> {
        match next {
            Ok(Some(next)) => Some(next),
            Ok(None) => {
                self.gone(side, None);
                None
            }
            Err(error) => {
                self.fault(side, error.into());
                None
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.client.receiving {
            // it waits for us to close; the agent may still wait for acknowledgements
            self.client.close(cx);
        } else if let Err(error) = self.client.flush(cx) {
            self.fault(Side::Client, error.into());
        }
        if let Err(error) = self.agent.flush(cx) {
            self.fault(Side::Agent, error.into());
        }
    }

    fn fault(&mut self, side: Side, fault: RelayFault) {
        match side {
            Side::Client => self.client.sending = false,
            Side::Agent => self.agent.sending = false,
        }
        self.gone(side, Some(fault));
    }

    fn gone(&mut self, side: Side, fault: Option<RelayFault>) {
        let receiving = match side {
            Side::Client => &mut self.client.receiving,
            Side::Agent => &mut self.agent.receiving,
        };
        if std::mem::take(receiving) {
            self.events.push_back(Event::Gone { side, fault });
        }
    }
}

fn note(heard: &mut Instant, got: usize) {
    if got > 0 {
        *heard = Instant::now();
    }
}

async fn finish<C: Carrier>(mut port: Port<C>) {
    if !port.sending || port.stream.close().await.is_err() {
        return;
    }
    while port.receiving {
        match port.stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
