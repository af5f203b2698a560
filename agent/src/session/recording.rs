//! The recording of one session: one recorder for all of its channels, one place where bytes are counted.
//!
//! A block is made and queued under one lock, so the order of the chain is the order of the stream. When
//! [`Recording::record`] returns, the record stands in the stream before any SSH byte that is written afterwards.
//!
//! Where records are not acknowledged a strict recording lets its callers wait, and is lost after a while; a best-effort one
//! lets them go on, and counts what it leaves out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use doorward_audit::{
    Coverage, Ended, Event, HEAD_NAMESPACE, IdeServerSeen, MasksSet, Opened, Recorder, Refused, Stamped,
};
use doorward_certs::HostKey;
use doorward_wire::{Leftover, RecordLost, RecordSink};
use ssh_key::{HashAlg, SshSig};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod quiet;

use super::missing::Missing;
use super::pauses::Pauses;
use super::strictness::Strictness;
use crate::mask::{Masks, Patterns, mask_event};

/// The recording of one session.
#[derive(Debug)]
pub(crate) struct Recording {
    sink: RecordSink,
    key: HostKey,
    began: Instant,
    strictness: Strictness,
    masks: Arc<Masks>,
    next_channel: AtomicU32,
    lost: OnceLock<Loss>,
    broke: CancellationToken,
    /// Told when something begins to be missing.
    missed: Notify,
    /// Told when packing begins to hold memory.
    packing: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recorder: Recorder,
    /// What is masked, as the recording has said.
    patterns: Arc<Patterns>,
    tally: Tally,
    /// Servers of IDEs that were seen.
    ide_servers: Vec<&'static str>,
    missing: Missing,
    pauses: Pauses,
    refusals: u64,
    /// Blocks that the stream no longer took.
    unsent: Vec<Bytes>,
}

/// Bytes and channels that passed the taps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Channels that were opened.
    pub(crate) channels: u32,
    /// Bytes in both directions.
    pub(crate) seen: u64,
    /// Bytes that stand in the recording.
    pub(crate) recorded: u64,
    /// Bytes that are only hashed and counted.
    pub(crate) digested: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.channels = self.channels.saturating_add(other.channels);
        self.seen = self.seen.saturating_add(other.seen);
        self.recorded = self.recorded.saturating_add(other.recorded);
        self.digested = self.digested.saturating_add(other.digested);
    }
}

/// Why a recording is lost.
#[derive(Debug, Clone)]
struct Loss {
    lost: RecordLost,
    why: String,
}

impl Recording {
    /// Begins the recording of a session with its first event.
    pub(crate) fn begin(
        sink: RecordSink,
        key: HostKey,
        strictness: Strictness,
        masks: Arc<Masks>,
        session: Uuid,
        opened: impl FnOnce(u64) -> Opened,
    ) -> Result<Self, RecordLost> {
        let patterns = masks.current();
        let recording = Self {
            sink,
            key,
            began: Instant::now(),
            strictness,
            masks,
            next_channel: AtomicU32::new(0),
            lost: OnceLock::new(),
            broke: CancellationToken::new(),
            missed: Notify::new(),
            packing: Notify::new(),
            state: Mutex::new(State {
                recorder: Recorder::new(session),
                patterns: Arc::clone(&patterns),
                tally: Tally::default(),
                ide_servers: Vec::new(),
                missing: Missing::default(),
                pauses: Pauses::default(),
                refusals: 0,
                unsent: Vec::new(),
            }),
        };
        let mut first = vec![opened(unix_ms()).into()];
        if !patterns.is_empty() {
            first.push(masks_set(&patterns));
        }
        recording.put_all(&mut recording.state(), first, Tally::default())?;
        Ok(recording)
    }

    /// Records that the server of an IDE runs beside the session, once for each product.
    pub(crate) fn ide_server(&self, product: &'static str) {
        let mut state = self.state();
        if !state.ide_servers.contains(&product) {
            state.ide_servers.push(product);
            let seen = IdeServerSeen {
                product: product.to_owned(),
            };
            // That the recording is lost is noticed by whoever records next.
            let _ = self.put_in(&mut state, seen.into(), Tally::default());
        }
    }

    /// What is masked in streams.
    pub(crate) fn patterns(&self) -> Arc<Patterns> {
        self.masks.current()
    }

    /// What is masked by now, if it is no longer this.
    pub(crate) fn newer_patterns(&self, known: &Arc<Patterns>) -> Option<Arc<Patterns>> {
        self.masks.newer(known)
    }

    /// Records an event and counts what it stands for; waits while too much is unacknowledged. Best-effort it never waits:
    /// then the event may be left out, which is counted, and one that opens a channel fails.
    pub(crate) async fn record(&self, event: impl Into<Event>, tally: Tally) -> Result<(), RecordLost> {
        if self.strictness.is_best_effort() {
            return self.put_if_room(event.into(), tally);
        }
        let paused = self.ready(None).await?;
        let offset = {
            let mut state = self.state();
            if let Some(paused) = paused {
                self.put_in(&mut state, paused, Tally::default())?;
            }
            self.put_in(&mut state, event.into(), tally)?
        };
        self.until_durable(None, offset).await
    }

    /// Records bytes of a channel, and says whether they are recorded: best-effort they may be counted alone. `seen` of them
    /// passed just now; `recorded` of them stand in the events.
    pub(crate) async fn content(
        &self,
        channel: u32,
        seen: u64,
        recorded: u64,
        mut events: Vec<Event>,
    ) -> Result<bool, RecordLost> {
        let tally = Tally {
            seen,
            recorded,
            ..Tally::default()
        };
        if !self.strictness.is_best_effort() {
            let paused = self.ready(Some(channel)).await?;
            events.splice(..0, paused);
            let offset = self.put_all(&mut self.state(), events, tally)?;
            return self.until_durable(Some(channel), offset).await.map(|()| true);
        }
        let mut state = self.state();
        let (waiting, _) = self.sink.waiting();
        // Once something is missing, half of the bound must be free again: not a gap for every other chunk.
        let most = self.strictness.unacked as u64;
        let most = if state.missing.is_empty() { most } else { most / 2 };
        if waiting >= most.max(1) {
            state.missing.bytes(channel, recorded, self.at());
            state.tally.seen = state.tally.seen.saturating_add(seen);
            drop(state);
            self.missed.notify_one();
            return Ok(false);
        }
        self.tell_missing(&mut state)?;
        self.put_all(&mut state, events, tally).map(|_| true)
    }

    /// Waits until there is room below the bound; the event that says so, if that took long.
    async fn ready(&self, channel: Option<u32>) -> Result<Option<Event>, RecordLost> {
        let (waiting, _) = self.sink.waiting();
        let began = Instant::now();
        self.sink.ready().await.map_err(|lost| self.lose(lost))?;
        Ok(self.paused(channel, waiting, began.elapsed()))
    }

    /// Where nothing is shown that is not durable: waits until it is.
    async fn until_durable(&self, channel: Option<u32>, offset: u64) -> Result<(), RecordLost> {
        if self.strictness.unacked > 0 {
            return Ok(());
        }
        let (waiting, _) = self.sink.waiting();
        let began = Instant::now();
        let stored = self.sink.wait_acked(offset, self.strictness.stall).await;
        stored.map_err(|lost| self.lose(lost))?;
        if let Some(paused) = self.paused(channel, waiting, began.elapsed()) {
            self.put(paused, Tally::default())?;
        }
        Ok(())
    }

    fn paused(&self, channel: Option<u32>, waiting: u64, lasted: Duration) -> Option<Event> {
        self.state().pauses.tell(channel, waiting, lasted).map(Event::from)
    }

    /// Records an event unless far too much is unacknowledged.
    fn put_if_room(&self, event: Event, tally: Tally) -> Result<(), RecordLost> {
        let (waiting, _) = self.sink.waiting();
        if waiting < self.strictness.unacked as u64 + EVENTS_BEYOND {
            return self.put(event, tally).map(drop);
        }
        if tally.channels > 0 {
            return Err(RecordLost::Stalled);
        }
        let mut state = self.state();
        state.missing.event(self.at());
        state.tally += tally;
        drop(state);
        self.missed.notify_one();
        Ok(())
    }

    /// Watches over the acknowledgements for as long as the session lasts. A strict recording is lost once they stall, also
    /// while nothing happens in the session; a best-effort one says what was missing once they are back.
    pub(crate) async fn watch(&self) -> String {
        if !self.strictness.is_best_effort() {
            self.sink.stalled().await;
            self.lose(RecordLost::Stalled);
            return self.loss();
        }
        loop {
            self.missed.notified().await;
            self.sink.fewer_than((self.strictness.unacked as u64 / 2).max(1)).await;
            // That the recording is lost is noticed by whoever records next.
            let _ = self.tell_missing(&mut self.state());
        }
    }

    fn tell_missing(&self, state: &mut State) -> Result<(), RecordLost> {
        for gap in state.missing.take() {
            self.put_in(state, gap.into(), Tally::default())?;
        }
        Ok(())
    }

    /// Records a refusal without waiting. After [`REFUSALS`] of them they are only counted.
    pub(crate) fn refused(&self, channel: Option<u32>, what: impl Into<String>, why: impl Into<String>) {
        let within = {
            let mut state = self.state();
            state.refusals += 1;
            state.refusals <= REFUSALS
        };
        if within {
            let refused = Refused {
                channel,
                what: what.into(),
                why: why.into(),
            };
            // That the recording is lost is noticed by whoever records next.
            let _ = self.put(refused.into(), Tally::default());
        }
    }

    /// Counts bytes for which there is no event.
    pub(crate) fn count(&self, tally: Tally) {
        self.state().tally += tally;
    }

    /// A number for a new channel, unique in the session.
    pub(crate) fn next_channel(&self) -> u32 {
        self.next_channel.fetch_add(1, Ordering::Relaxed)
    }

    /// Resolves when the recording is lost, with the reason in words.
    pub(crate) async fn broken(&self) -> String {
        self.broke.cancelled().await;
        self.loss()
    }

    /// Why the recording is lost, in words; empty while it is not.
    pub(crate) fn loss(&self) -> String {
        self.lost.get().map(|loss| loss.why.clone()).unwrap_or_default()
    }

    /// The gateway cannot store it.
    pub(crate) fn refuse(&self) {
        self.lose(RecordLost::Refused);
    }

    /// How long an acknowledgement may take.
    pub(crate) fn stall(&self) -> Duration {
        self.strictness.stall
    }

    /// Whether nothing is shown that is not durable.
    pub(crate) fn shows_what_is_durable(&self) -> bool {
        self.strictness.unacked == 0
    }

    /// Whether it is lost because the stream that carried it is gone.
    pub(crate) fn went_with_its_stream(&self) -> bool {
        self.lost.get().is_some_and(|loss| loss.lost == RecordLost::Closed)
    }

    /// Whether the recording is lost.
    pub(crate) fn is_broken(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Records the end: the reason, what is covered, the last head. Then waits until all of it is durable.
    pub(crate) async fn finish(
        &self,
        reason: &str,
        code: &str,
        ciphertext: (u64, u64),
        deadline: Duration,
    ) -> Result<(), RecordLost> {
        let last = {
            let mut state = self.state();
            let at = self.at();
            let gaps = state.missing.take();
            let mut events: Vec<Stamped> = gaps.into_iter().map(|gap| Stamped::new(at, gap)).collect();
            events.extend(state.pauses.rest().map(|paused| Stamped::new(at, paused)));
            if let Some(more) = state.refusals.checked_sub(REFUSALS).filter(|more| *more > 0) {
                let why = format!("{more} further refusals are only counted");
                events.push(Stamped::new(
                    at,
                    Refused {
                        channel: None,
                        what: "requests".into(),
                        why,
                    },
                ));
            }
            let tally = state.tally;
            let mut ended = Ended {
                reason: reason.to_owned(),
                code: code.to_owned(),
            }
            .into();
            let mut masked = Vec::new();
            mask_event(&self.masks.current(), &mut ended, &mut masked);
            masked.push(ended);
            events.extend(masked.into_iter().map(|event| Stamped::new(at, event)));
            events.push(Stamped::new(
                at,
                Coverage {
                    channels: tally.channels,
                    bytes_seen: tally.seen,
                    bytes_recorded: tally.recorded,
                    bytes_digested: tally.digested,
                    client_to_agent: ciphertext.0,
                    agent_to_client: ciphertext.1,
                    not_captured: not_captured(&state.ide_servers),
                },
            ));
            let blocks = state.recorder.append(&events);
            let _ = self.send(&mut state, blocks);
            self.head(&mut state, true)
        };
        last?;
        let offset = self.sink.finish();
        self.sink.wait_acked(offset, deadline).await
    }

    /// What the gateway has not acknowledged, once the stream's driver has ended.
    pub(crate) fn leftover(&self) -> Option<Leftover> {
        let left = self.sink.take_leftover();
        let mut state = self.state();
        let unsent = std::mem::take(&mut state.unsent);
        if left.is_none() && unsent.is_empty() {
            return None;
        }
        let mut left = left.unwrap_or_else(|| {
            let length: u64 = unsent.iter().map(|chunk| chunk.len() as u64).sum();
            Leftover {
                offset: state.recorder.offset().saturating_sub(length),
                ..Leftover::default()
            }
        });
        for chunk in unsent {
            left.push(chunk);
        }
        left.ended = true;
        Some(left)
    }

    /// Makes the event's block and queues it; a head too where a segment is full.
    fn put(&self, event: Event, tally: Tally) -> Result<u64, RecordLost> {
        self.put_in(&mut self.state(), event, tally)
    }

    fn put_in(&self, state: &mut State, mut event: Event, tally: Tally) -> Result<u64, RecordLost> {
        let mut events = Vec::new();
        mask_event(&self.masks.current(), &mut event, &mut events);
        events.push(event);
        self.put_all(state, events, tally)
    }

    /// Puts events in that are masked already.
    fn put_all(&self, state: &mut State, mut events: Vec<Event>, tally: Tally) -> Result<u64, RecordLost> {
        if let Some(lost) = self.lost.get() {
            return Err(lost.lost);
        }
        if let Some(patterns) = self.masks.newer(&state.patterns) {
            events.insert(0, masks_set(&patterns));
            state.patterns = patterns;
        }
        let at = self.at();
        let events: Vec<Stamped> = events.into_iter().map(|event| Stamped { at, event }).collect();
        let held = state.recorder.memory();
        let blocks = state.recorder.append(&events);
        if held == 0 && state.recorder.memory() > 0 {
            self.packing.notify_one();
        }
        state.tally += tally;
        let mut offset = self.send(state, blocks).map_err(|lost| self.lose(lost))?;
        if state.recorder.head_due() {
            offset = self.head(state, false).map_err(|lost| self.lose(lost))?;
        }
        Ok(offset)
    }

    fn head(&self, state: &mut State, last: bool) -> Result<u64, RecordLost> {
        let sign = |statement: &[u8]| SshSig::sign(self.key.private_key(), HEAD_NAMESPACE, HashAlg::Sha512, statement);
        match state.recorder.head(unix_ms(), last, sign) {
            Ok(block) => self.send(state, block),
            Err(error) => {
                // An ed25519 key in memory signs; were it not to, the recording could not be proved.
                tracing::error!(%error, "cannot sign the recording's head");
                Err(RecordLost::Closed)
            }
        }
    }

    fn send(&self, state: &mut State, blocks: Bytes) -> Result<u64, RecordLost> {
        if !state.unsent.is_empty() {
            state.unsent.push(blocks);
            return Err(RecordLost::Closed);
        }
        self.sink
            .append_now(blocks.clone())
            .inspect_err(|_| state.unsent.push(blocks))
    }

    fn lose(&self, lost: RecordLost) -> RecordLost {
        let first = self.lost.get_or_init(|| {
            let (waiting, since) = self.sink.waiting();
            let why = match lost {
                RecordLost::Stalled => self.strictness.passed(waiting, since),
                RecordLost::Closed | RecordLost::Refused => lost.to_string(),
            };
            Loss { lost, why }
        });
        self.broke.cancel();
        first.lost
    }

    /// Since its beginning.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves counters and a recorder that are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes beyond the bound up to which a best-effort recording still takes events that are not content.
const EVENTS_BEYOND: u64 = 512 * 1024;
fn not_captured(ide_servers: &[&str]) -> Option<Vec<String>> {
    let terminals = ide_servers.iter().map(|product| format!("terminals inside {product}"));
    (!ide_servers.is_empty()).then(|| terminals.collect())
}

fn masks_set(patterns: &Patterns) -> Event {
    MasksSet {
        names: patterns.names(),
    }
    .into()
}

/// How many refusals of a session are recorded one by one.
const REFUSALS: u64 = 256;

/// The wall clock.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A recording shared by the channels of a session.
pub(crate) type SharedRecording = Arc<Recording>;
