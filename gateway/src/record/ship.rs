//! From the spool to the bucket: what is durable in the directory is sent, oldest session first, and tried again for as long as it
//! takes.
//!
//! Nothing is taken from the spool before the bucket has all of its session. While the bucket is away the spool fills up to its
//! limit, and then the record store is down: that is said, no session begins, and nothing is acknowledged until there is room.

mod known;
mod pass;
mod snapshot;
mod sweep;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bucket::{Bucket, BucketError};
use super::slot::Slot;
use super::store::Inner;
use crate::config::{Acknowledge, S3};
use crate::guarded::Guarded;
use known::Known;

pub(super) use snapshot::SHIPPED;
pub(super) use sweep::sweep;

/// The way to the bucket.
pub(super) struct Shipping {
    pub(super) bucket: Bucket,
    /// Whether an acknowledgement waits for the bucket.
    pub(super) stored: bool,
    interval: Duration,
    limit: u64,
    pub(super) keep: Duration,
    waiting: Guarded<BTreeMap<Uuid, Waiting>>,
    wake: Notify,
    trouble: Guarded<Option<String>>,
}

/// A session of which the bucket may lack something.
struct Waiting {
    slot: Weak<Slot>,
    /// Since when the bucket lacks something.
    since: Instant,
    /// Bytes of the stream in the spool, and in the bucket.
    written: u64,
    shipped: u64,
    /// Whether there is something to send.
    dirty: bool,
    /// Whether the bucket has other bytes than we: then only a person can help.
    conflict: bool,
    known: Arc<tokio::sync::Mutex<Option<Known>>>,
}

/// What the bucket lacks, for probes and numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes of recordings.
    pub bytes: u64,
    /// How long the oldest of them has waited.
    pub age: Duration,
    /// Recordings that the bucket has with other content.
    pub conflicts: usize,
}

impl Shipping {
    pub(super) fn new(settings: &S3) -> Result<Self, BucketError> {
        Ok(Self::over(Bucket::new(settings)?, settings))
    }

    pub(super) fn over(bucket: Bucket, settings: &S3) -> Self {
        Self {
            bucket,
            stored: settings.acknowledge == Acknowledge::Stored,
            interval: settings.ship_interval,
            limit: settings.spool_limit,
            keep: settings.spool_keep,
            waiting: Guarded::default(),
            wake: Notify::new(),
            trouble: Guarded::default(),
        }
    }

    /// An open recording has come so far in the spool; `turned` when a segment ended.
    pub(super) fn written(&self, slot: &Arc<Slot>, durable: u64, turned: bool) {
        let dirty = self.stored || turned;
        self.note(slot.session, durable, dirty, Arc::downgrade(slot));
    }

    /// A recording is closed and stands in the spool with so many bytes.
    pub(super) fn closed(&self, session: Uuid, durable: u64) {
        self.note(session, durable, true, Weak::new());
    }

    fn note(&self, session: Uuid, durable: u64, dirty: bool, slot: Weak<Slot>) {
        self.waiting.with(|waiting| {
            let one = waiting.entry(session).or_insert_with(|| Waiting {
                slot: Weak::new(),
                since: Instant::now(),
                written: 0,
                shipped: 0,
                dirty: false,
                conflict: false,
                known: Arc::default(),
            });
            if one.written == one.shipped {
                one.since = Instant::now();
            }
            one.written = one.written.max(durable);
            one.slot = slot;
            one.dirty |= dirty;
        });
        if dirty {
            self.wake.notify_one();
        }
    }

    /// The recording is gone, because its session never opened.
    pub(super) fn forget(&self, session: Uuid) {
        if self.waiting.with(|waiting| waiting.remove(&session)).is_some() {
            // Others may wait for its room.
            self.wake.notify_one();
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        self.waiting.with(|waiting| {
            let lacking = waiting.values().filter(|one| one.written > one.shipped);
            Backlog {
                bytes: lacking.clone().map(|one| one.written - one.shipped).sum(),
                age: lacking.map(|one| one.since.elapsed()).max().unwrap_or_default(),
                conflicts: waiting.values().filter(|one| one.conflict).count(),
            }
        })
    }

    /// Whether the spool takes more.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn ready(&self) -> Result<(), String> {
        if self.backlog().bytes < self.limit {
            return Ok(());
        }
        let why = self.trouble.with(|trouble| trouble.clone());
        let why = why.unwrap_or_else(|| "it is slower than the recordings".to_owned());
        Err(format!(
            "keep more in the spool, which holds its limit of {} bytes for the object store: {why}",
            self.limit
        ))
    }

    /// The sessions that have something to send, oldest first.
    fn take_dirty(&self) -> Vec<Uuid> {
        self.waiting.with(|waiting| {
            let dirty = waiting.iter_mut().filter(|(_, one)| one.dirty && !one.conflict);
            dirty
                .map(|(session, one)| {
                    one.dirty = false;
                    *session
                })
                .collect()
        })
    }

    fn again(&self, session: Uuid) {
        self.waiting.with(|waiting| {
            if let Some(one) = waiting.get_mut(&session) {
                one.dirty = true;
            }
        });
    }

    fn fail(&self, error: &BucketError) {
        let text = error.to_string();
        let first = self.trouble.with(|trouble| trouble.replace(text.clone()).is_none());
        if first {
            tracing::error!(fault = text, "recordings wait in the spool");
        } else {
            tracing::debug!(fault = text, "recordings still wait in the spool");
        }
    }

    fn recover(&self) {
        if self.trouble.with(Option::take).is_some() {
            tracing::info!("the object store takes recordings again");
        }
    }
}

/// Sends rounds until `stop`; then once more what is there.
pub(super) async fn serve(store: Arc<Inner>, stop: CancellationToken) {
    let Some(shipping) = store.shipping.clone() else { return };
    let mut pause = shipping.interval;
    loop {
        tokio::select! {
            () = shipping.wake.notified() => {}
            () = stop.cancelled() => break,
        }
        let good = round(&store, &shipping).await;
        pause = match good {
            true => shipping.interval,
            false => (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        };
        if !good {
            shipping.wake.notify_one();
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause, good)) => {}
            () = stop.cancelled() => break,
        }
    }
    // What is not sent now is sent after the next start.
    let _ = tokio::time::timeout(LAST_ROUND, round(&store, &shipping)).await;
}

/// Many gateways must not come back to a store at the same moment.
fn jittered(pause: Duration, good: bool) -> Duration {
    match good {
        true => pause,
        false => pause.mul_f64(rand::random_range(0.5..1.0)),
    }
}

/// Sends what there is; whether the store took it.
async fn round(store: &Arc<Inner>, shipping: &Arc<Shipping>) -> bool {
    let sessions = shipping.take_dirty();
    let mut passes: Vec<BoxFuture<'_, _>> = Vec::with_capacity(sessions.len());
    for session in sessions {
        passes.push(Box::pin(async move {
            (session, pass::ship(store, shipping, session).await)
        }));
    }
    let mut passes = futures_util::stream::iter(passes).buffered(AT_ONCE);
    let mut good = true;
    while let Some((session, passed)) = passes.next().await {
        if shipping.ready().is_ok() {
            store.commits.go_on();
        }
        match passed {
            Ok(()) => {}
            Err(error @ BucketError::Conflict(_)) => pass::give_up(shipping, session, &error),
            Err(error) => {
                shipping.again(session);
                shipping.fail(&error);
                good = false;
            }
        }
    }
    if good {
        shipping.recover();
    }
    // What was forgotten made room, too.
    if shipping.ready().is_ok() {
        store.commits.go_on();
    }
    good
}

/// How many sessions are sent at once.
const AT_ONCE: usize = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LAST_ROUND: Duration = Duration::from_secs(3);
