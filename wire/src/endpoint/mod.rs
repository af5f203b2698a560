//! One end of a session stream: what may be sent, what has arrived, what must be kept. No I/O, no clock.
//!
//! Everything that the application says goes through one queue in the order in which it said it; that is why a
//! record always leaves before the SSH bytes that were written after it. SSH bytes under way are bounded by the
//! peer's acknowledgements, which it sends as it consumes: they are the flow control, and what they do not cover is
//! kept to be sent again on a resumed stream. Records are kept until they are durable; the caller bounds them.
//!
//! An agent that hears an end because its recording cannot be kept ([`RECORDING_UNAVAILABLE`]) is asked to end: its stream
//! goes on until it says its own end, so that it can say in the channels why, and with which exit status.

mod inbox;
mod resume;
mod retained;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::carrier::Outbox;
use crate::frame::{DATA_HEADER, End, Frame, MAX_CONTENT, RECORDING_UNAVAILABLE, data_header, kind};
use inbox::Inbox;
use retained::Retained;
pub use terms::{Effects, Finished, Limits, ProtocolFault, Role, Said};

#[derive(Debug)]
enum Item {
    /// SSH bytes behind room for their frame's header.
    Data(BytesMut),
    /// SSH bytes that were sent before.
    Again(Bytes),
    Record(Bytes),
    Fin,
    RecordEnd,
    Notice(String),
    End(End),
}

/// One end of a session stream.
#[derive(Debug)]
pub struct Endpoint {
    role: Role,
    window: u64,
    queue: VecDeque<Item>,
    data: Retained,
    acked: u64,
    written: u64,
    fin: bool,
    records: Retained,
    recorded: u64,
    record_end: bool,
    records_stopped: bool,
    inbox: Inbox,
    ack_due: bool,
    pings: VecDeque<Frame>,
    said_end: Option<End>,
    heard: VecDeque<Said>,
    heard_end: Option<End>,
}

/// Writes up to this many bytes are put together into one frame while it waits.
const GATHER: usize = 16 * 1024;
/// Notices and pongs beyond this many are dropped while nobody takes them.
const ASIDE: usize = 16;

impl Endpoint {
    /// An end at the start of its session.
    #[must_use]
    pub fn new(role: Role, limits: &Limits) -> Self {
        Self {
            role,
            window: limits.window.max(1) as u64,
            queue: VecDeque::new(),
            data: Retained::default(),
            acked: 0,
            written: 0,
            fin: false,
            records: Retained::default(),
            recorded: 0,
            record_end: false,
            records_stopped: false,
            inbox: Inbox::default(),
            ack_due: false,
            pings: VecDeque::new(),
            said_end: None,
            heard: VecDeque::new(),
            heard_end: None,
        }
    }

    /// Takes SSH bytes to send, as many as there is room for; 0 means: wait for an acknowledgement.
    ///
    /// # Errors
    /// [`Finished`] after [`Endpoint::finish_writing`] or an end in either direction.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Finished> {
        if self.fin || self.said_end.is_some() || self.is_ended() {
            return Err(Finished);
        }
        let room = usize::try_from(self.window - (self.written - self.acked)).unwrap_or(usize::MAX);
        let count = bytes.len().min(room).min(MAX_CONTENT);
        if count == 0 {
            return Ok(0);
        }
        let bytes = &bytes[..count];
        self.written += count as u64;
        if let Some(Item::Data(waiting)) = self.queue.back_mut()
            && waiting.len() + count <= GATHER
        {
            waiting.extend_from_slice(bytes);
            return Ok(count);
        }
        let mut frame = BytesMut::with_capacity(DATA_HEADER + count);
        frame.extend_from_slice(&[0; DATA_HEADER]);
        frame.extend_from_slice(bytes);
        self.queue.push_back(Item::Data(frame));
        Ok(count)
    }

    /// Whether [`Endpoint::write`] would take something or fail.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.written - self.acked < self.window || self.fin || self.said_end.is_some() || self.is_ended()
    }

    /// Ends our stream of SSH bytes; the other direction goes on.
    pub fn finish_writing(&mut self) {
        if !self.fin && self.said_end.is_none() {
            self.fin = true;
            self.queue.push_back(Item::Fin);
        }
    }

    /// Whether our stream of SSH bytes has been ended.
    #[must_use]
    pub fn is_finished_writing(&self) -> bool {
        self.fin
    }

    /// Whether the streams of SSH bytes have ended in both directions.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.fin && self.inbox.is_finished()
    }

    /// Takes record bytes and returns the offset after them. The caller bounds [`Endpoint::unrecorded`].
    ///
    /// # Errors
    /// [`Finished`] after [`Endpoint::finish_records`] or our own end.
    pub fn record(&mut self, bytes: Bytes) -> Result<u64, Finished> {
        if self.record_end || self.records_stopped || self.said_end.is_some() {
            return Err(Finished);
        }
        if !bytes.is_empty() {
            self.recorded += bytes.len() as u64;
            self.queue.push_back(Item::Record(bytes));
        }
        Ok(self.recorded)
    }

    /// Says that the recording is complete, and returns its length.
    pub fn finish_records(&mut self) -> u64 {
        if !self.record_end && self.said_end.is_none() {
            self.record_end = true;
            self.queue.push_back(Item::RecordEnd);
        }
        self.recorded
    }

    /// Takes no more of the recording, without saying that it is complete.
    pub fn stop_records(&mut self) {
        self.records_stopped = true;
    }

    /// Everything of the recording before this offset is durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.records.start()
    }

    /// How many record bytes are not durable.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.recorded - self.records.start()
    }

    /// Takes every record byte that is not durable, with the offset of the first, and whether the recording was
    /// complete with them.
    pub fn take_unrecorded(&mut self) -> (u64, Vec<Bytes>, bool) {
        let offset = self.records.start();
        let mut chunks: Vec<Bytes> = self.records.take_back().into();
        self.queue.retain_mut(|item| match item {
            Item::Record(bytes) => {
                chunks.push(std::mem::take(bytes));
                false
            }
            _ => true,
        });
        (offset, chunks, self.record_end)
    }

    /// Says a sentence to the user.
    pub fn notice(&mut self, text: String) {
        let waiting = self.queue.iter().filter(|item| matches!(item, Item::Notice(_))).count();
        if self.said_end.is_none() && waiting < ASIDE {
            self.queue.push_back(Item::Notice(text));
        }
    }

    /// Says the end, after everything said before. Only the first counts.
    pub fn end(&mut self, end: End) {
        if self.said_end.is_none() {
            self.said_end = Some(end.clone());
            self.queue.push_back(Item::End(end));
        }
    }

    /// The end that we said.
    #[must_use]
    pub fn said_end(&self) -> Option<&End> {
        self.said_end.as_ref()
    }

    /// The end that the peer said.
    #[must_use]
    pub fn heard_end(&self) -> Option<&End> {
        self.heard_end.as_ref()
    }

    /// Whether the peer asks us to end, and waits for what we still have to say.
    #[must_use]
    pub fn is_asked_to_end(&self) -> bool {
        let heard = self.heard_end.as_ref();
        self.role == Role::Agent && heard.is_some_and(|end| end.exit == RECORDING_UNAVAILABLE)
    }

    /// Whether the peer's end has ended our stream of SSH bytes.
    fn is_ended(&self) -> bool {
        self.heard_end.is_some() && !self.is_asked_to_end()
    }

    /// The next thing that the peer said beside bytes.
    pub fn hear(&mut self) -> Option<Said> {
        self.heard.pop_front()
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self, number: u64) {
        if self.pings.len() < ASIDE {
            self.pings.push_back(Frame::Ping(number));
        }
    }

    /// Takes a frame that arrived.
    ///
    /// # Errors
    /// The rule that the peer broke; the stream is then of no use any more.
    pub fn handle(&mut self, frame: Frame) -> Result<Effects, ProtocolFault> {
        let mut effects = Effects::default();
        if self.heard_end.is_some() {
            match frame {
                Frame::RecordAck { .. } | Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Data { .. } | Frame::Fin { .. } | Frame::Ack { .. } if self.is_asked_to_end() => {}
                _ => return Err(ProtocolFault::AfterEnd),
            }
        }
        match frame {
            Frame::Data { offset, bytes } => {
                effects.readable = self.inbox.accept(offset, bytes, self.window)?;
                self.note_consumed();
            }
            Frame::Fin { offset } => {
                self.inbox.finish(offset)?;
                effects.readable = true;
            }
            Frame::Ack { offset } => {
                let sent = self.data.end();
                if offset > sent {
                    return Err(ProtocolFault::AckBeyond { offset, sent });
                }
                if offset > self.acked {
                    self.acked = offset;
                    self.data.release(offset);
                    effects.writable = true;
                }
            }
            Frame::RecordAck { offset } if self.role == Role::Agent => {
                let sent = self.records.end();
                if offset > sent {
                    return Err(ProtocolFault::AckBeyond { offset, sent });
                }
                if offset > self.records.start() {
                    self.records.release(offset);
                    effects.recorded = true;
                }
            }
            Frame::Notice { text } if self.role == Role::Client => {
                if self.heard.len() < ASIDE {
                    self.heard.push_back(Said::Notice(text));
                    effects.said = true;
                }
            }
            Frame::End(end) => {
                self.heard.push_back(Said::End(end.clone()));
                self.heard_end = Some(end);
                let asked = self.is_asked_to_end();
                if !asked {
                    self.queue.retain(|item| !is_ssh(item));
                }
                effects = Effects {
                    readable: true,
                    writable: true,
                    // Who waits for an acknowledgement learns that there will be none.
                    recorded: asked,
                    said: true,
                };
            }
            Frame::Ping(number) => {
                if self.pings.len() < ASIDE {
                    self.pings.push_back(Frame::Pong(number));
                }
            }
            Frame::Pong(_) => {}
            other => return Err(ProtocolFault::Forbidden(other.kind())),
        }
        Ok(effects)
    }

    /// Consumes SSH bytes into `to`; 0 if none are here.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let count = self.inbox.read(to);
        self.note_consumed();
        count
    }

    /// Consumes up to `most` SSH bytes without a copy.
    pub fn read_chunk(&mut self, most: usize) -> Option<Bytes> {
        let chunk = self.inbox.pop(most);
        self.note_consumed();
        chunk
    }

    /// Whether SSH bytes, or their end, can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.inbox.is_empty() || self.is_read_to_end()
    }

    /// Whether everything was read and nothing will come.
    #[must_use]
    pub fn is_read_to_end(&self) -> bool {
        let ended = self.is_ended() || (self.is_asked_to_end() && self.said_end.is_some());
        self.inbox.is_over() || (ended && self.inbox.is_empty())
    }

    /// Nobody will read any more.
    pub fn stop_reading(&mut self) {
        self.inbox.discard();
        self.note_consumed();
    }

    /// SSH bytes that arrived so far; what a resuming peer has to know.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inbox.received()
    }

    /// SSH bytes sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.data.end()
    }

    /// Whether consumed bytes wait to be acknowledged, at the latest after a short while.
    #[must_use]
    pub fn owes_ack(&self) -> bool {
        self.inbox.unannounced() > 0
    }

    /// Acknowledges with the next [`Endpoint::transmit`], however little it is.
    pub fn ack_now(&mut self) {
        self.ack_due |= self.owes_ack();
    }

    /// Whether [`Endpoint::transmit`] has something.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.ack_due || !self.queue.is_empty() || !self.pings.is_empty()
    }

    /// Moves frames into `out` until it holds `budget` bytes or nothing is left. They count as sent.
    pub fn transmit(&mut self, out: &mut Outbox, budget: usize) {
        while let Some(frame) = self.pings.pop_front() {
            put(out, &frame);
        }
        if self.ack_due || (!self.queue.is_empty() && self.owes_ack()) {
            self.ack_due = false;
            put(
                out,
                &Frame::Ack {
                    offset: self.inbox.announce(),
                },
            );
        }
        while out.held() < budget {
            let Some(item) = self.queue.pop_front() else {
                break;
            };
            self.transmit_item(item, out);
        }
    }

    fn transmit_item(&mut self, item: Item, out: &mut Outbox) {
        match item {
            Item::Data(mut frame) => {
                let header = data_header(kind::DATA, self.data.end(), frame.len() - DATA_HEADER);
                frame[..DATA_HEADER].copy_from_slice(&header);
                let frame = frame.freeze();
                self.data.push(frame.slice(DATA_HEADER..));
                out.push(frame);
            }
            Item::Again(mut bytes) => {
                let rest = bytes.split_off(bytes.len().min(MAX_CONTENT));
                put(
                    out,
                    &Frame::Data {
                        offset: self.data.end(),
                        bytes: bytes.clone(),
                    },
                );
                self.data.push(bytes);
                if !rest.is_empty() {
                    self.queue.push_front(Item::Again(rest));
                }
            }
            Item::Record(mut bytes) => {
                let rest = bytes.split_off(bytes.len().min(MAX_CONTENT));
                put(
                    out,
                    &Frame::Record {
                        offset: self.records.end(),
                        bytes: bytes.clone(),
                    },
                );
                self.records.push(bytes);
                if !rest.is_empty() {
                    self.queue.push_front(Item::Record(rest));
                }
            }
            Item::Fin => put(
                out,
                &Frame::Fin {
                    offset: self.data.end(),
                },
            ),
            Item::RecordEnd => put(
                out,
                &Frame::RecordEnd {
                    offset: self.records.end(),
                },
            ),
            Item::Notice(text) => put(out, &Frame::Notice { text }),
            Item::End(end) => put(out, &Frame::End(end)),
        }
    }

    fn note_consumed(&mut self) {
        if self.inbox.unannounced() >= (256 * 1024).min(self.window / 4).max(1) {
            self.ack_due = true;
        }
    }
}

fn is_ssh(item: &Item) -> bool {
    matches!(item, Item::Data(_) | Item::Again(_) | Item::Fin)
}

/// Appends a frame to what goes out.
pub(crate) fn put(out: &mut Outbox, frame: &Frame) {
    if let Some(content) = out.put(|to| frame.encode_header(to)) {
        out.push(content);
    }
}
