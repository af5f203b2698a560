//! Group commit: sessions that have something to store are served in rounds, by few workers.
//!
//! A round begins at once after a quiet time and otherwise one interval after the last one began,
//! so that a keystroke becomes durable in one fsync and a hundred busy sessions share the disk.
//!
//! While the spool holds its limit, recordings that go on are set aside with what they brought: nothing of it is acknowledged, so
//! that their agents stop, and nothing has failed. One that ends is still written, or its end would be lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::slot::Slot;
use super::store::Inner;
use super::{Closing, Failure};
use crate::guarded::Guarded;

/// Recordings that wait for a worker. Each stands here at most once.
pub(super) struct Commits {
    queue: Guarded<Vec<Arc<Slot>>>,
    /// Those that wait for room in the spool.
    aside: Guarded<BTreeMap<Uuid, Weak<Slot>>>,
    wake: Notify,
    hurry: Notify,
    interval: Duration,
}

impl Commits {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            queue: Guarded::new(Vec::new()),
            aside: Guarded::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            interval,
        }
    }

    /// Puts a slot, which is not in yet, into the next round.
    pub(super) fn submit(&self, slot: &Arc<Slot>) {
        self.queue.with(|queue| queue.push(Arc::clone(slot)));
        self.wake.notify_one();
    }

    /// Has the next round begin now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    fn take(&self) -> Vec<Arc<Slot>> {
        self.queue.with(std::mem::take)
    }

    /// The spool has room again: what was set aside goes on.
    pub(super) fn go_on(&self) {
        let aside = self.aside.with(std::mem::take);
        if aside.is_empty() {
            return;
        }
        tracing::info!(recordings = aside.len(), "the spool has room again");
        for slot in aside.into_values().filter_map(|slot| slot.upgrade()) {
            if slot.queue() {
                self.submit(&slot);
            }
        }
    }

    /// Sets a recording aside for which the spool has no room, unless it ends; whether it was.
    fn set_aside(&self, store: &Inner, slot: &Arc<Slot>) -> bool {
        let Some(Err(why)) = store.shipping.as_ref().map(|shipping| shipping.ready()) else {
            return false;
        };
        if !slot.stands_back() {
            return false;
        }
        let first = self.aside.with(|aside| {
            let first = aside.is_empty();
            aside.insert(slot.session, Arc::downgrade(slot));
            first
        });
        if first {
            tracing::error!(why, "open recordings wait: the record store cannot take more");
        }
        // Room that came meanwhile found nothing to go on with.
        if store.shipping.as_ref().is_some_and(|shipping| shipping.ready().is_ok()) {
            self.go_on();
        }
        true
    }
}

/// Serves rounds until `stop`, and then what is left.
pub(super) async fn serve(store: Arc<Inner>, stop: CancellationToken) {
    let workers = Arc::new(Semaphore::new(WORKERS));
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = store.commits.wake.notified() => {}
            () = stop.cancelled() => break,
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = store.commits.hurry.notified() => {}
            () = stop.cancelled() => {}
        }
        next = Instant::now() + store.commits.interval;
        round(&store, &workers).await;
    }
    loop {
        // Whoever is still at work may put a slot back.
        drop(workers.acquire_many(WORKERS as u32).await);
        if store.commits.queue.with(|queue| queue.is_empty()) {
            break;
        }
        round(&store, &workers).await;
    }
}

async fn round(store: &Arc<Inner>, workers: &Arc<Semaphore>) {
    for slot in store.commits.take() {
        let Ok(permit) = Arc::clone(workers).acquire_owned().await else {
            return;
        };
        let owner = Arc::clone(store);
        store.tasks.spawn_blocking(move || {
            if owner.commits.set_aside(&owner, &slot) {
                drop(permit);
                return;
            }
            work(&owner, &slot);
            if let Some(urgent) = slot.rest() {
                owner.commits.submit(&slot);
                if urgent {
                    owner.commits.hurry();
                }
            }
            drop(permit);
        });
    }
}

/// Stores what waits in a slot, and closes it if that was asked for.
fn work(store: &Inner, slot: &Arc<Slot>) {
    let waiting = slot.take();
    slot.writer.with(|writer| {
        if let Some(key) = waiting.key {
            writer.expect_key(key);
        }
        let mut failure = slot.progress.borrow().failure.clone();
        if failure.is_none() {
            let mut chunks = waiting.chunks.into_iter();
            failure = chunks.try_for_each(|chunk| writer.absorb(chunk)).err();
            let turned = writer.has_heads();
            // What came before a fault of the chain is good and stays.
            if !matches!(failure, Some(Failure::Storage(_)))
                && let Err(broken) = writer.commit().and_then(|_| store.countersign(slot, writer))
            {
                failure = Some(broken);
            }
            if let Some(Failure::Storage(text)) = &failure {
                store.health.fail(text);
            }
            let durable = writer.durable();
            if let Some(shipping) = &store.shipping {
                shipping.written(slot, durable, turned);
            }
            // Where an acknowledgement waits for the bucket, whoever ships says how far it has come.
            let waits = store.shipping.as_ref().is_some_and(|shipping| shipping.stored);
            slot.progress.send_if_modified(|now| {
                let durable = if waits { now.durable } else { durable };
                let changed = now.durable != durable || failure.is_some();
                now.durable = durable;
                now.failure.clone_from(&failure);
                changed
            });
        }
        if let Some(closing) = waiting.closing {
            close(store, slot, writer, failure.as_ref(), &closing);
        }
    });
}

fn close(store: &Inner, slot: &Slot, writer: &mut super::writer::Writer, failure: Option<&Failure>, closing: &Closing) {
    let closed = match failure {
        Some(Failure::Storage(text)) => Err(Failure::Storage(text.clone())),
        _ => store.close(slot.session, writer, closing),
    };
    let claim = slot.claim.with(Option::take);
    if let Err(failure) = &closed {
        // In this order: whoever hears of the failure finds what it left.
        store.broken(slot.session, writer.durable(), closing);
        store.health.fail(&failure.to_string());
    }
    drop(claim);
    slot.progress.send_modify(|now| now.closed = Some(closed.map(Box::new)));
}

/// Few: they stand in fsync, and more of them on one disk gain nothing.
const WORKERS: usize = 4;
