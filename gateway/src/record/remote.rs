//! What the bucket has and the spool has not: recordings of other gateways, and our own that the spool no longer keeps.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::SessionIndex;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bucket::{Bucket, BucketError};
use super::pieces::{Stored, StoredFile};
use super::retention::Hold;
use super::store::Inner;
use super::{Content, FileEntry, layout};

/// The files of a session, by name.
pub(super) async fn files(bucket: &Bucket, session: Uuid) -> io::Result<Vec<FileEntry>> {
    let Some(stored) = stored(bucket, session).await? else {
        return Ok(Vec::new());
    };
    let entries = stored
        .0
        .into_iter()
        .map(|(name, file)| FileEntry { size: file.len(), name });
    Ok(entries.collect())
}

/// One file of a session, whole or put together of its pieces; `None` if it is not there.
pub(super) async fn file(bucket: &Bucket, session: Uuid, name: &str) -> io::Result<Option<Content>> {
    let Some(folder) = layout::session_folder(session) else {
        return Ok(None);
    };
    let whole = bucket.stream(&format!("{folder}/{name}")).await;
    if let Some((size, stream)) = whole.map_err(io::Error::other)? {
        let bytes = Box::pin(StreamReader::new(stream.map_err(io::Error::other)));
        return Ok(Some(Content { size, bytes }));
    }
    let Some(stored) = stored(bucket, session).await? else {
        return Ok(None);
    };
    let Some(file) = stored.0.get(name) else {
        return Ok(None);
    };
    Ok(Some(Content {
        size: file.len(),
        bytes: read(bucket.clone(), &folder, name, file),
    }))
}

fn read(bucket: Bucket, folder: &str, name: &str, file: &StoredFile) -> std::pin::Pin<Box<dyn AsyncRead + Send>> {
    let objects: Vec<_> = file
        .objects(name)
        .into_iter()
        .map(|(object, size)| (format!("{folder}/{object}"), size))
        .collect();
    let whole = futures_util::stream::iter(objects)
        .then(move |(object, size)| {
            let bucket = bucket.clone();
            async move {
                match bucket.stream(&object).await? {
                    Some((found, stream)) if found == size => Ok(stream),
                    // A piece may have become part of the whole meanwhile: the reader asks again.
                    _ => Err(BucketError::Down(format!("give {object} as it was listed"))),
                }
            }
        })
        .try_flatten()
        .map_err(io::Error::other);
    Box::pin(StreamReader::new(Box::pin(whole)))
}

async fn stored(bucket: &Bucket, session: Uuid) -> io::Result<Option<Stored>> {
    let Some(folder) = layout::session_folder(session) else {
        return Ok(None);
    };
    let listed = bucket.list(&folder).await.map_err(io::Error::other)?;
    Ok(Some(Stored::of(&folder, &listed)))
}

/// The index of a session; `None` if there is none, or it is another session's.
pub(super) async fn index(bucket: &Bucket, session: Uuid) -> io::Result<Option<SessionIndex>> {
    let Some(folder) = layout::session_folder(session) else {
        return Ok(None);
    };
    let text = bucket.read(&format!("{folder}/{}", layout::INDEX)).await;
    let Some(text) = text.map_err(io::Error::other)? else {
        return Ok(None);
    };
    let found: SessionIndex = serde_json::from_slice(&text)?;
    Ok(Some(found).filter(|found| found.session == session))
}

/// Brings a session back into the spool, whole or not at all, so that it can go on here.
pub(super) async fn restore(inner: &Inner, bucket: &Bucket, session: Uuid) -> io::Result<()> {
    let (Some(dir), Some(folder)) = (
        layout::session_dir(&inner.root, session),
        layout::session_folder(session),
    ) else {
        return Ok(());
    };
    if tokio::fs::try_exists(&dir).await? || index(bucket, session).await?.is_none() {
        return Ok(());
    }
    let beside = dir.with_file_name(format!(".{session}.fetch-{}", Uuid::new_v4()));
    let fetched = fetch(bucket, &folder, session, &beside).await;
    let placed = match fetched {
        Ok(()) => tokio::fs::rename(&beside, &dir).await,
        Err(error) => Err(error),
    };
    if let Err(error) = placed {
        let _ = tokio::fs::remove_dir_all(&beside).await;
        return Err(error);
    }
    tokio::task::spawn_blocking(move || layout::sync_session(&dir))
        .await
        .map_err(io::Error::other)?
}

async fn fetch(bucket: &Bucket, folder: &str, session: Uuid, beside: &Path) -> io::Result<()> {
    let made = beside.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Some(day) = made.parent() {
            layout::make_dir(day)?;
        }
        layout::make_new_dir(&made)
    })
    .await
    .map_err(io::Error::other)??;
    let Some(stored) = stored(bucket, session).await? else {
        return Ok(());
    };
    for (name, file) in &stored.0 {
        let mut from = read(bucket.clone(), folder, name, file);
        let path = beside.join(name);
        let to = tokio::task::spawn_blocking(move || layout::create_new(&path)).await;
        let mut to = tokio::fs::File::from_std(to.map_err(io::Error::other)??);
        let copied = tokio::io::copy(&mut from, &mut to).await?;
        if copied != file.len() {
            return Err(io::Error::other(format!(
                "the object store gave {copied} bytes of {name}"
            )));
        }
        to.flush().await?;
        to.sync_all().await?;
    }
    Ok(())
}

/// Follows what other gateways have put into the bucket, until `stop`.
pub(super) async fn follow(store: Arc<Inner>, stop: CancellationToken) {
    let Some(shipping) = store.shipping.clone() else { return };
    let mut seen = HashMap::new();
    let mut looks = 0_u32;
    loop {
        let all = looks.is_multiple_of(ALL_DAYS_EVERY);
        tokio::select! {
            () = stop.cancelled() => return,
            looked = look(&store, &shipping.bucket, &mut seen, all) => match looked {
                Ok(()) => looks = looks.wrapping_add(1),
                Err(error) => tracing::debug!(%error, "recordings of other gateways are not seen at the moment"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN.mul_f64(rand::random_range(0.7..1.0))) => {}
        }
    }
}

/// Reads the indexes that have changed, of the newest days or of all.
async fn look(
    store: &Inner,
    bucket: &Bucket,
    seen: &mut HashMap<Uuid, Option<String>>,
    all: bool,
) -> Result<(), BucketError> {
    let mut days = bucket.folders().await?;
    days.retain(|day| layout::is_day(day));
    days.sort_unstable_by(|a, b| b.cmp(a));
    if !all {
        days.truncate(NEWEST_DAYS);
    }
    let mut held = HashSet::new();
    for day in days {
        for found in bucket.list(&day).await? {
            if let Some(session) = session_of(&found.name, layout::HOLD) {
                held.insert(session);
                if !store.retention.holds(session) {
                    store.retention.seen(session, hold(bucket, session).await?);
                }
            }
            let Some(session) = session_of(&found.name, layout::INDEX) else {
                continue;
            };
            if seen.get(&session) == Some(&found.tag) {
                continue;
            }
            match index(bucket, session).await {
                // What the spool has is newer.
                Ok(Some(entry)) => {
                    if !layout::session_dir(&store.root, session).is_some_and(|dir| dir.exists()) {
                        store.retention.note(&entry);
                        store.index.with(|index| index.put(entry));
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%session, %error, "recording cannot be read"),
            }
            seen.insert(session, found.tag);
        }
    }
    // Released by another gateway.
    for known in store.retention.all() {
        if all && !held.contains(&known.session) && hold(bucket, known.session).await?.is_none() {
            store.retention.seen(known.session, None);
        }
    }
    Ok(())
}

/// The hold of a session. One that cannot be read is one.
pub(super) async fn hold(bucket: &Bucket, session: Uuid) -> Result<Option<Hold>, BucketError> {
    let Some(folder) = layout::session_folder(session) else {
        return Ok(None);
    };
    let Some(text) = bucket.read(&format!("{folder}/{}", layout::HOLD)).await? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| Hold {
        session,
        by: String::new(),
        at: String::new(),
        reason: "the hold cannot be read".to_owned(),
    })))
}

/// The session whose folder the object lies in, if it has this name there.
fn session_of(name: &str, wanted: &str) -> Option<Uuid> {
    let (folder, file) = name.rsplit_once('/')?;
    let session = Uuid::try_parse(folder.rsplit_once('/')?.1).ok()?;
    (file == wanted && layout::session_folder(session)? == folder).then_some(session)
}

const LOOK_AGAIN: Duration = Duration::from_secs(15);
const NEWEST_DAYS: usize = 2;
const ALL_DAYS_EVERY: u32 = 240;
