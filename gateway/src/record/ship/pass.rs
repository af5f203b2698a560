//! One pass over one session: what the bucket lacks of it, in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use uuid::Uuid;

use super::known::Known;
use super::snapshot::{self, LocalFile, Snapshot};
use super::{Shipping, Waiting};
use crate::record::bucket::{BucketError, Protection};
use crate::record::pieces::piece_name;
use crate::record::slot::Slot;
use crate::record::store::{Inner, unix_ms};
use crate::record::{Failure, layout};

/// Sends what the bucket lacks of a session.
pub(super) async fn ship(store: &Arc<Inner>, shipping: &Shipping, session: Uuid) -> Result<(), BucketError> {
    let Some((slot, state, since)) = shipping.waiting.with(|waiting| {
        let one = waiting.get(&session)?;
        Some((one.slot.upgrade(), Arc::clone(&one.known), one.since))
    }) else {
        return Ok(());
    };
    let Some(here) = snapshot(store, session, slot.clone()).await? else {
        // Open and nobody's, or gone: whoever closes it says so.
        shipping.forget(session);
        return Ok(());
    };
    // A session that never opens is forgotten at once: not worth an object.
    if here.stream_len() == 0 && (here.ended.is_none() || since.elapsed() < FORGOTTEN_WITHIN) {
        if here.ended.is_some() {
            shipping.again(session);
            shipping.wake.notify_one();
        }
        return Ok(());
    }
    let Some(folder) = layout::session_folder(session) else {
        return Ok(());
    };
    let mut state = state.lock().await;
    let known = match &mut *state {
        Some(known) => known,
        empty => empty.insert(Known::look(&shipping.bucket, &folder, &here).await?),
    };
    let pass = Pass {
        shipping,
        folder,
        here: &here,
        protection: store.protection(session, here.keep_until),
    };
    pass.send(
        known,
        |stored| shipping.advance(session, stored, slot.as_deref()),
        || store.protection(session, here.keep_until),
    )
    .await?;
    if let Some(ended) = here.ended {
        let inner = Arc::clone(store);
        let marked = tokio::task::spawn_blocking(move || snapshot::mark(&inner, session, ended)).await;
        let failed = |error: std::io::Error| BucketError::Down(format!("be noted in the spool: {error}"));
        if marked
            .map_err(std::io::Error::other)
            .and_then(|done| done)
            .map_err(failed)?
        {
            shipping.done(session, here.stream_len());
        }
    }
    Ok(())
}

async fn snapshot(store: &Arc<Inner>, session: Uuid, slot: Option<Arc<Slot>>) -> Result<Option<Snapshot>, BucketError> {
    let inner = Arc::clone(store);
    let taken = tokio::task::spawn_blocking(move || Snapshot::take(&inner, session, slot.as_ref())).await;
    let taken = taken.map_err(std::io::Error::other).and_then(|done| done);
    taken.map_err(|error| BucketError::Down(format!("be fed: the spool cannot be read: {error}")))
}

struct Pass<'p> {
    shipping: &'p Shipping,
    folder: String,
    here: &'p Snapshot,
    protection: Protection,
}

impl Pass<'_> {
    /// Sends all files; `advanced` hears how much of the stream the bucket has.
    async fn send(
        &self,
        known: &mut Known,
        advanced: impl Fn(u64),
        again: impl Fn() -> Protection,
    ) -> Result<(), BucketError> {
        let in_pieces = self.shipping.stored || self.here.ended.is_some();
        let something = in_pieces || self.here.files.iter().any(|file| file.whole);
        // Who it is stands first, so that nothing lies there that nobody can find.
        if something && known.index.is_none() {
            self.index(known).await?;
        }
        let mut stream = 0;
        let mut gapless = true;
        for file in &self.here.files {
            let name = format!("{}/{}", self.folder, file.name);
            if !known.whole.contains(&file.name) {
                if file.whole {
                    self.whole(known, file, &name).await?;
                } else if in_pieces {
                    self.pieces(known, file, &name).await?;
                }
            }
            if layout::segment_index(&file.name).is_some() && gapless {
                let there = match known.whole.contains(&file.name) {
                    true => file.len,
                    false => known.len(&file.name),
                };
                stream += there;
                gapless = there == file.len;
                advanced(stream);
            }
        }
        if self.here.ended.is_some() {
            self.index(known).await?;
        }
        self.tidy(known).await?;
        if self.here.ended.is_some() {
            self.protect(again()).await?;
        }
        Ok(())
    }

    async fn index(&self, known: &mut Known) -> Result<(), BucketError> {
        if known.index.as_ref() != Some(&self.here.index) {
            let name = format!("{}/{}", self.folder, layout::INDEX);
            self.shipping.bucket.replace(&name, self.here.index.clone()).await?;
            known.index = Some(self.here.index.clone());
        }
        Ok(())
    }

    async fn whole(&self, known: &mut Known, file: &LocalFile, name: &str) -> Result<(), BucketError> {
        let path = self.here.dir.join(&file.name);
        self.shipping
            .bucket
            .create_from(name, &path, file.len, &self.protection)
            .await?;
        known.whole.insert(file.name.clone());
        let pieces = known.pieces.remove(&file.name).unwrap_or_default();
        let pieces = pieces.into_iter().map(|offset| piece_name(&file.name, offset));
        known.superseded.extend(pieces);
        known.lens.remove(&file.name);
        Ok(())
    }

    async fn pieces(&self, known: &mut Known, file: &LocalFile, name: &str) -> Result<(), BucketError> {
        loop {
            let from = known.len(&file.name);
            let len = (file.len - from).min(LARGEST_PIECE);
            if len == 0 {
                return Ok(());
            }
            let bytes = self.read(file, from, len).await?;
            // Pieces make room for the whole, so that nothing keeps them until the recording is closed.
            let bucket = &self.shipping.bucket;
            bucket
                .create(&piece_name(name, from), bytes, &Protection::default())
                .await?;
            known.pieces.entry(file.name.clone()).or_default().push(from);
            known.lens.insert(file.name.clone(), from + len);
        }
    }

    async fn read(&self, file: &LocalFile, from: u64, len: u64) -> Result<Bytes, BucketError> {
        let read = async {
            let mut open = tokio::fs::File::open(self.here.dir.join(&file.name)).await?;
            open.seek(std::io::SeekFrom::Start(from)).await?;
            let mut bytes = Vec::new();
            open.take(len).read_to_end(&mut bytes).await?;
            match bytes.len() as u64 == len {
                true => Ok(Bytes::from(bytes)),
                false => Err(std::io::Error::other("a file has become shorter")),
            }
        };
        read.await
            .map_err(|error| BucketError::Down(format!("be fed: the spool cannot be read: {error}")))
    }

    /// A closed recording is kept for so long after its end, which nobody knew while it was sent.
    /// A hold may have come meanwhile: one that comes later finds all objects by itself.
    async fn protect(&self, protection: Protection) -> Result<(), BucketError> {
        let bucket = &self.shipping.bucket;
        if protection == Protection::default() {
            return Ok(());
        }
        for found in bucket.list(&self.folder).await? {
            if found.name.ends_with(layout::HOLD) || found.name.ends_with(layout::TOMBSTONE) {
                continue;
            }
            if let Some(until) = &protection.retain_until {
                bucket.retain(&found.name, until).await?;
            }
            if protection.held {
                bucket.hold(&found.name).await?;
            }
        }
        Ok(())
    }

    /// Removes the pieces that whole files stand in for.
    async fn tidy(&self, known: &mut Known) -> Result<(), BucketError> {
        let mut deletes: Vec<BoxFuture<'_, _>> = Vec::with_capacity(known.superseded.len());
        for piece in &known.superseded {
            let name = format!("{}/{piece}", self.folder);
            deletes.push(Box::pin(async move { self.shipping.bucket.erase(&name).await }));
        }
        let mut deletes = futures_util::stream::iter(deletes).buffered(DELETES_AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            deleted?;
        }
        drop(deletes);
        known.superseded.clear();
        Ok(())
    }
}

impl Inner {
    /// What a new object of a session is protected by, where the bucket can.
    fn protection(&self, session: Uuid, keep_until: Option<u64>) -> Protection {
        if !self.shipping.as_ref().is_some_and(|shipping| shipping.bucket.locks) {
            return Protection::default();
        }
        // A store refuses a time that has passed.
        let until = keep_until.filter(|until| *until > unix_ms() + 1000);
        Protection {
            retain_until: until.and_then(|until| {
                let at = jiff::Timestamp::from_millisecond(i64::try_from(until).ok()?).ok()?;
                Some(at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
            }),
            held: self.retention.holds(session),
        }
    }
}

impl Shipping {
    /// The bucket has so much of a session's stream.
    fn advance(&self, session: Uuid, stored: u64, slot: Option<&Slot>) {
        self.waiting.with(|waiting| {
            if let Some(one) = waiting.get_mut(&session) {
                one.shipped = one.shipped.max(stored);
            }
        });
        if let Some(slot) = slot.filter(|_| self.stored) {
            slot.progress.send_if_modified(|now| {
                let more = stored > now.durable;
                now.durable = now.durable.max(stored);
                more
            });
        }
    }

    /// The bucket has all of a closed session.
    fn done(&self, session: Uuid, stored: u64) {
        self.waiting.with(|waiting| {
            let all = |one: &Waiting| one.written <= stored && !one.dirty;
            if waiting.get(&session).is_some_and(all) {
                waiting.remove(&session);
            }
        });
    }
}

/// Somebody else's bytes stand where ours belong: said loudly, and no byte more is acknowledged.
pub(super) fn give_up(shipping: &Shipping, session: Uuid, error: &BucketError) {
    tracing::error!(%session, fault = %error, "a recording cannot be stored; it stays in the spool");
    let slot = shipping.waiting.with(|waiting| {
        let one = waiting.get_mut(&session)?;
        one.conflict = true;
        one.slot.upgrade()
    });
    if let Some(slot) = slot.filter(|_| shipping.stored) {
        slot.progress.send_modify(|now| {
            now.failure.get_or_insert(Failure::Conflict(error.to_string()));
        });
    }
}

/// The most that goes into one piece, in bytes.
const LARGEST_PIECE: u64 = 8 * 1024 * 1024;
const DELETES_AT_ONCE: usize = 16;
/// A session that was refused after its recording began is forgotten within this time.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);
