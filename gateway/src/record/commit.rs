//! Group commit: sessions that have something to store are served in rounds, by few workers.
//!
//! A round begins at once after a quiet time and otherwise one interval after the last one began,
//! so that a keystroke becomes durable in one fsync and a hundred busy sessions share the disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slot::Slot;
use super::store::Inner;
use super::{Closing, Failure};
use crate::guarded::Guarded;

/// Recordings that wait for a worker. Each stands here at most once.
pub(super) struct Commits {
    queue: Guarded<Vec<Arc<Slot>>>,
    wake: Notify,
    hurry: Notify,
    interval: Duration,
}

impl Commits {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            queue: Guarded::new(Vec::new()),
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
    while !store.commits.queue.with(|queue| queue.is_empty()) {
        round(&store, &workers).await;
        let _all = workers.acquire_many(WORKERS as u32).await;
    }
}

async fn round(store: &Arc<Inner>, workers: &Arc<Semaphore>) {
    for slot in store.commits.take() {
        let Ok(permit) = Arc::clone(workers).acquire_owned().await else {
            return;
        };
        let owner = Arc::clone(store);
        store.tasks.spawn_blocking(move || {
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
            let room = match &store.shipping {
                Some(shipping) if !waiting.chunks.is_empty() => shipping.ready().map_err(Failure::Storage),
                _ => Ok(()),
            };
            let stored = room.and_then(|()| waiting.chunks.into_iter().try_for_each(|chunk| writer.absorb(chunk)));
            failure = stored.err();
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
