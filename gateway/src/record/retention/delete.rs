//! The end of one recording: tombstone first, then the journal, then the bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use doorward_audit::log::LeafKind;
use doorward_audit::receipt::{self, Kind, Statement};
use doorward_audit::{RecordingDeleted, SessionIndex, TOMBSTONE_NAMESPACE, Tombstone, TombstoneStatement};
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use crate::record::bucket::{Bucket, BucketError};
use crate::record::store::{Claim, Inner};
use crate::record::{index, layout, remote};

/// Deletes a recording that has expired by `now`, unless it is held, open, or not what we thought.
pub(super) async fn delete(store: &Arc<Inner>, session: Uuid, now: u64) -> io::Result<()> {
    let _alone = store.retention.changing.lock().await;
    let (Some(dir), Some(folder)) = (
        layout::session_dir(&store.root, session),
        layout::session_folder(session),
    ) else {
        return Ok(());
    };
    if store.retention.holds(session) {
        return Ok(());
    }
    let Some(_claim) = Claim::take(store, session) else {
        return Err(io::Error::other("it is in use"));
    };
    let bucket = store.shipping.as_ref().map(|shipping| &shipping.bucket);
    let entry = match index::read(&store.root, session)? {
        Some(entry) => Some(entry),
        None => match bucket {
            Some(bucket) => remote::index(bucket, session).await?,
            None => None,
        },
    };
    let Some(entry) = entry else {
        // Somebody else has deleted it.
        gone(store, session);
        return Ok(());
    };
    store.retention.note(&entry);
    let due = entry.keep_until.filter(|until| entry.ended.is_some() && *until <= now);
    let Some(keep_until) = due else { return Ok(()) };
    if let Some(bucket) = bucket
        && let Some(hold) = remote::hold(bucket, session).await.map_err(io::Error::other)?
    {
        store.retention.seen(session, Some(hold));
        return Ok(());
    }
    if let Some(shipping) = &store.shipping {
        // What was not sent need not be sent any more.
        shipping.forget(session);
    }

    let (text, link, ours) = tombstone(store, &entry, keep_until, &dir, &folder, bucket).await?;
    let sha256 = doorward_audit::hex(digest(&SHA256, text.as_bytes()).as_ref());
    let blocking = (dir.clone(), text);
    run(move || match blocking.0.exists() {
        true => layout::replace(&blocking.0, layout::TOMBSTONE, blocking.1.as_bytes()),
        false => Ok(()),
    })
    .await?;
    if ours {
        store.journal.append(RecordingDeleted {
            session,
            why: EXPIRED.to_owned(),
            keep_until,
            link,
        });
        store.journal.log(LeafKind::Tombstone { session, sha256 });
    }
    if let Some(bucket) = bucket {
        let erased = bucket.erase_folder(&folder, layout::TOMBSTONE, layout::INDEX).await;
        erased.map_err(io::Error::other)?;
    }
    run(move || clear(&dir)).await?;
    gone(store, session);
    tracing::info!(%session, "an expired recording was deleted");
    Ok(())
}

fn gone(store: &Inner, session: Uuid) {
    store.retention.forget(session);
    store.index.with(|index| index.remove(session));
}

/// The tombstone that stands, or a new one; its link, and whether it is ours to say.
async fn tombstone(
    store: &Inner,
    entry: &SessionIndex,
    keep_until: u64,
    dir: &Path,
    folder: &str,
    bucket: Option<&Bucket>,
) -> io::Result<(String, [u8; 32], bool)> {
    let name = format!("{folder}/{}", layout::TOMBSTONE);
    let standing = match (layout::read(&dir.join(layout::TOMBSTONE))?, bucket) {
        (Some(text), _) => Some(text),
        (None, Some(bucket)) => bucket
            .read(&name)
            .await
            .map_err(io::Error::other)?
            .map(|text| text.to_vec()),
        (None, None) => None,
    };
    if let Some(text) = standing {
        let text = String::from_utf8(text).map_err(io::Error::other)?;
        let stone = Tombstone::parse(&text).map_err(io::Error::other)?;
        if stone.statement().session != entry.session {
            return Err(io::Error::other("the tombstone of another session lies there"));
        }
        // Ours, from before a crash: said again, because it may not have been.
        let ours = stone.verify(store.credential.public_key());
        let link = from_hex(&stone.statement().link).unwrap_or_default();
        return Ok((text, link, ours));
    }
    let last = last_closing(dir, entry.session, bucket).await?;
    let dated = store.credential.dated();
    let dated = dated.ok_or_else(|| io::Error::other("the gateway has no link certificate yet"))?;
    let link = from_hex(&last.link).ok_or_else(|| io::Error::other("its last receipt has no link"))?;
    let statement = TombstoneStatement {
        v: TombstoneStatement::VERSION,
        session: entry.session,
        workspace: entry.workspace.clone(),
        why: EXPIRED.to_owned(),
        at: dated.unix_ms(),
        keep_until,
        offset: last.offset,
        link: last.link,
        gateway_certificate: dated.text().to_owned(),
    };
    let signed = Tombstone::sign(statement, |text| store.credential.sign(TOMBSTONE_NAMESPACE, text));
    let text = signed.and_then(|signed| signed.to_text()).map_err(io::Error::other)?;
    if let Some(bucket) = bucket {
        match bucket.create(&name, text.clone().into(), &Default::default()).await {
            Ok(()) => {}
            // Another gateway was first.
            Err(BucketError::Conflict(_)) => return Ok((text, link, false)),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok((text, link, true))
}

/// The last closing receipt, from wherever the receipts are.
async fn last_closing(dir: &Path, session: Uuid, bucket: Option<&Bucket>) -> io::Result<Statement> {
    let text = match (layout::read(&dir.join(layout::RECEIPTS))?, bucket) {
        (Some(text), _) => text,
        (None, Some(bucket)) => match remote::file(bucket, session, layout::RECEIPTS).await? {
            Some(content) if content.size <= MOST_RECEIPTS => {
                let mut text = Vec::new();
                content.bytes.take(MOST_RECEIPTS).read_to_end(&mut text).await?;
                text
            }
            _ => Vec::new(),
        },
        (None, None) => Vec::new(),
    };
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let mut receipts = text.lines().rev().filter_map(|line| receipt::parse(line).ok());
    let last = receipts.find(|receipt| receipt.statement().kind == Kind::Closing);
    last.map(|receipt| receipt.statement().clone())
        .ok_or_else(|| io::Error::other("it has no closing receipt"))
}

/// Removes all files but the tombstone; the index last, because it leads here.
fn clear(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| !path.ends_with(layout::TOMBSTONE));
    paths.sort_by_key(|path| path.ends_with(layout::INDEX));
    paths.iter().try_for_each(|path| layout::remove(path))?;
    layout::sync_dir(dir)
}

async fn run(act: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut link = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in link.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(link)
}

const EXPIRED: &str = "expired";
/// More than the receipts of any recording, in bytes.
const MOST_RECEIPTS: u64 = 64 * 1024 * 1024;
