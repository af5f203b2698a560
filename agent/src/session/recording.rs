//! The recording of one session: one recorder for all of its channels, one place where bytes are counted.
//!
//! A block is made and queued under one lock, so the order of the chain is the order of the stream. When
//! [`Recording::record`] returns, the record stands in the stream before any SSH byte that is written afterwards.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use doorward_audit::{Coverage, Ended, Event, HEAD_NAMESPACE, Opened, Recorder, Refused, Stamped};
use doorward_certs::HostKey;
use doorward_wire::{Leftover, RecordLost, RecordSink};
use ssh_key::{HashAlg, SshSig};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The recording of one session.
#[derive(Debug)]
pub(crate) struct Recording {
    sink: RecordSink,
    key: HostKey,
    began: Instant,
    /// Wait for durability after every event (the bound of unacknowledged bytes is 0).
    durable_first: bool,
    stall: Duration,
    next_channel: AtomicU32,
    lost: OnceLock<RecordLost>,
    broke: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recorder: Recorder,
    tally: Tally,
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

/// How long records may stay unacknowledged, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strictness {
    /// Bytes that may be unacknowledged; 0 shows nothing that is not durable.
    pub(crate) unacked: usize,
    /// How long an acknowledgement may take.
    pub(crate) stall: Duration,
}

impl Recording {
    /// Begins the recording of a session with its first event.
    pub(crate) fn begin(
        sink: RecordSink,
        key: HostKey,
        strictness: Strictness,
        session: Uuid,
        opened: impl FnOnce(u64) -> Opened,
    ) -> Result<Self, RecordLost> {
        let recording = Self {
            sink,
            key,
            began: Instant::now(),
            durable_first: strictness.unacked == 0,
            stall: strictness.stall,
            next_channel: AtomicU32::new(0),
            lost: OnceLock::new(),
            broke: CancellationToken::new(),
            state: Mutex::new(State {
                recorder: Recorder::new(session),
                tally: Tally::default(),
                refusals: 0,
                unsent: Vec::new(),
            }),
        };
        recording.put(opened(unix_ms()).into(), Tally::default())?;
        Ok(recording)
    }

    /// Records an event and counts what it stands for; waits while too much is unacknowledged.
    pub(crate) async fn record(&self, event: impl Into<Event>, tally: Tally) -> Result<(), RecordLost> {
        self.sink.ready().await.map_err(|lost| self.lose(lost))?;
        let offset = self.put(event.into(), tally)?;
        if self.durable_first {
            self.sink
                .wait_acked(offset, self.stall)
                .await
                .map_err(|lost| self.lose(lost))?;
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
            // That the recording is lost is noticed by whoever records next.
            let _ = self.put(
                Refused {
                    channel,
                    what: what.into(),
                    why: why.into(),
                }
                .into(),
                Tally::default(),
            );
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

    /// Resolves when the recording is lost.
    pub(crate) async fn broken(&self) -> RecordLost {
        self.broke.cancelled().await;
        self.lost.get().copied().unwrap_or(RecordLost::Closed)
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
            let mut events = Vec::with_capacity(3);
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
            events.push(Stamped::new(
                at,
                Ended {
                    reason: reason.to_owned(),
                    code: code.to_owned(),
                },
            ));
            events.push(Stamped::new(
                at,
                Coverage {
                    channels: tally.channels,
                    bytes_seen: tally.seen,
                    bytes_recorded: tally.recorded,
                    bytes_digested: tally.digested,
                    client_to_agent: ciphertext.0,
                    agent_to_client: ciphertext.1,
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
        if let Some(lost) = self.lost.get() {
            return Err(*lost);
        }
        let mut state = self.state();
        let blocks = state.recorder.append(&[Stamped { at: self.at(), event }]);
        state.tally += tally;
        let mut offset = self.send(&mut state, blocks).map_err(|lost| self.lose(lost))?;
        if state.recorder.head_due() {
            offset = self.head(&mut state, false).map_err(|lost| self.lose(lost))?;
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
        let first = *self.lost.get_or_init(|| lost);
        self.broke.cancel();
        first
    }

    fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves counters and a recorder that are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
