//! One open recording between the task that feeds it and the worker that writes it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use doorward_audit::SessionIndex;
use ssh_key::PublicKey;
use tokio::sync::watch;
use uuid::Uuid;

use super::store::{Claim, Inner};
use super::writer::Writer;
use super::{Closing, Failure};
use crate::guarded::Guarded;

/// How far a recording has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Bytes of the stream that are durable. Only these may be acknowledged.
    pub durable: u64,
    /// Why no further byte will become durable.
    pub failure: Option<Failure>,
    pub(super) closed: Option<Result<Box<SessionIndex>, Failure>>,
}

/// What waits for the worker.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) chunks: Vec<Bytes>,
    pub(super) key: Option<PublicKey>,
    pub(super) closing: Option<Closing>,
    /// Bytes in `chunks`.
    waiting: usize,
    /// Bytes of the stream that arrived.
    received: u64,
    /// Whether the slot stands in the queue or is being worked on.
    queued: bool,
    /// Whether no more may be put in.
    ended: bool,
    /// Whether somebody waits for every byte.
    awaited: bool,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.closing.is_none()
    }

    fn is_urgent(&self) -> bool {
        self.waiting >= URGENT || self.closing.is_some() || self.awaited && self.waiting > 0
    }
}

/// The shared part of a recording.
pub(super) struct Slot {
    pub(super) session: Uuid,
    pub(super) inbox: Guarded<Inbox>,
    /// Only the worker touches it, and a slot has one worker at a time.
    pub(super) writer: Guarded<Writer>,
    pub(super) progress: watch::Sender<Progress>,
    /// The sole right to this session's folder, given back once the recording is closed.
    pub(super) claim: Guarded<Option<Claim>>,
}

impl Slot {
    pub(super) fn new(session: Uuid, writer: Writer, claim: Claim) -> Self {
        let durable = writer.durable();
        Self {
            session,
            inbox: Guarded::new(Inbox {
                received: durable,
                ..Inbox::default()
            }),
            writer: Guarded::new(writer),
            progress: watch::Sender::new(Progress {
                durable,
                ..Progress::default()
            }),
            claim: Guarded::new(Some(claim)),
        }
    }

    /// The slot of a recording that goes on. Where an acknowledgement waits for the bucket, how much of it is there is found
    /// out first.
    pub(super) fn resumed(session: Uuid, writer: Writer, claim: Claim, waits: bool) -> Self {
        let slot = Self::new(session, writer, claim);
        if waits {
            slot.progress.send_modify(|now| now.durable = 0);
        }
        slot
    }

    /// Takes what waits. The slot stays `queued` until [`Slot::rest`].
    pub(super) fn take(&self) -> Inbox {
        self.inbox.with(|inbox| {
            inbox.waiting = 0;
            Inbox {
                chunks: std::mem::take(&mut inbox.chunks),
                key: inbox.key.take(),
                closing: inbox.closing.take(),
                ..Inbox::default()
            }
        })
    }

    /// Leaves what waits where it is, out of the queue, until somebody asks again. Refused if the recording is to be closed, or
    /// nothing waits.
    pub(super) fn stands_back(&self) -> bool {
        self.inbox.with(|inbox| {
            let may = inbox.closing.is_none() && !inbox.chunks.is_empty();
            inbox.queued &= !may;
            may
        })
    }

    /// Whether the slot must be put into the queue, because it is not there.
    pub(super) fn queue(&self) -> bool {
        self.inbox.with(|inbox| !std::mem::replace(&mut inbox.queued, true))
    }

    /// The worker is done. If something came meanwhile, the slot must queue again, and the answer
    /// says whether that is urgent.
    pub(super) fn rest(&self) -> Option<bool> {
        self.inbox.with(|inbox| {
            inbox.queued = !inbox.is_empty();
            inbox.queued.then(|| inbox.is_urgent())
        })
    }
}

/// A recording that a session feeds. Dropping it closes the recording as abandoned.
pub struct Recording {
    slot: Arc<Slot>,
    store: Weak<Inner>,
    ended: bool,
}

impl Recording {
    pub(super) fn new(slot: Arc<Slot>, store: Weak<Inner>) -> Self {
        Self {
            slot,
            store,
            ended: false,
        }
    }

    /// The session that is recorded.
    pub fn session(&self) -> Uuid {
        self.slot.session
    }

    /// Bytes of the stream that have arrived.
    pub fn received(&self) -> u64 {
        self.slot.inbox.with(|inbox| inbox.received)
    }

    /// The same for a test whose recording is in other hands.
    #[cfg(test)]
    pub(crate) fn received_by(&self) -> impl Fn() -> u64 + use<> {
        let slot = Arc::clone(&self.slot);
        move || slot.inbox.with(|inbox| inbox.received)
    }

    /// From the next bytes on, heads must be signed by this key.
    pub fn expect_key(&self, key: PublicKey) {
        self.slot.inbox.with(|inbox| inbox.key = Some(key));
    }

    /// Nothing is shown before it is durable: its rounds do not wait for the interval.
    pub fn await_each(&self) {
        self.slot.inbox.with(|inbox| inbox.awaited = true);
    }

    /// Hands in the bytes that stand at `offset` of the stream. Never waits.
    ///
    /// # Errors
    /// When bytes before `offset` are missing, or the agent is further ahead of the
    /// acknowledgements than any agent may be.
    pub fn append(&self, offset: u64, mut bytes: Bytes) -> Result<(), Failure> {
        let handed_in = self.slot.inbox.with(|inbox| {
            if inbox.ended {
                return Err(Failure::Protocol("the record went on after its end"));
            }
            let Some(known) = inbox.received.checked_sub(offset) else {
                return Err(Failure::Protocol("bytes of the record are missing"));
            };
            if known >= bytes.len() as u64 {
                return Ok(None);
            }
            let _ = bytes.split_to(usize::try_from(known).unwrap_or(0));
            if inbox.waiting + bytes.len() > MOST_WAITING {
                return Err(Failure::Protocol("the record is too far ahead of its acknowledgements"));
            }
            inbox.waiting += bytes.len();
            inbox.received += bytes.len() as u64;
            inbox.chunks.push(bytes);
            Ok(Some((!std::mem::replace(&mut inbox.queued, true), inbox.is_urgent())))
        })?;
        if let Some((fresh, urgent)) = handed_in {
            self.wake(fresh, urgent);
        }
        Ok(())
    }

    /// Has a worker look at the recording without new bytes.
    pub(super) fn commit(&self) {
        let fresh = self.slot.queue();
        self.wake(fresh, false);
    }

    fn wake(&self, fresh: bool, urgent: bool) {
        let Some(store) = self.store.upgrade() else { return };
        if fresh {
            store.commits.submit(&self.slot);
        }
        if urgent {
            store.commits.hurry();
        }
    }

    /// How far the recording has come, and a way to wait for more.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.slot.progress.subscribe()
    }

    /// Stores all that has arrived, sets aside what belongs to no whole block, and closes.
    ///
    /// # Errors
    /// When the disk refuses, or does not answer within `patience`. The store closes such a
    /// recording by itself once its disk works again.
    pub async fn finish(mut self, closing: Closing, patience: Duration) -> Result<SessionIndex, Failure> {
        let mut progress = self.progress();
        self.end(closing);
        let closed = tokio::time::timeout(patience, progress.wait_for(|now| now.closed.is_some()));
        match closed.await {
            Ok(Ok(now)) => match now.closed.clone() {
                Some(Ok(index)) => Ok(*index),
                Some(Err(failure)) => Err(failure),
                None => Err(Failure::Storage("close a recording".into())),
            },
            Ok(Err(_)) => Err(Failure::Storage("close a recording: it has stopped".into())),
            Err(_) => Err(Failure::Storage(format!("close a recording within {patience:?}"))),
        }
    }

    fn end(&mut self, closing: Closing) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let fresh = self.slot.inbox.with(|inbox| {
            inbox.ended = true;
            inbox.closing = Some(closing);
            !std::mem::replace(&mut inbox.queued, true)
        });
        self.wake(fresh, true);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(Closing {
            reason: "the gateway abandoned the session".into(),
            counted: None,
        });
    }
}

/// Most bytes of one recording that may wait for the disk. Agents stay far below it: they stop
/// at a bound of their own for what is not acknowledged.
const MOST_WAITING: usize = 16 * 1024 * 1024;
/// So many waiting bytes end the waiting for company.
const URGENT: usize = 512 * 1024;
