//! What of a session may be sent at this moment: durable bytes alone, that nobody will change. All calls block.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use doorward_audit::{Outcome, SessionIndex};
use uuid::Uuid;

use crate::record::slot::Slot;
use crate::record::store::{Claim, Inner};
use crate::record::{index, layout};

/// What there is of a session.
pub(super) struct Snapshot {
    pub(super) dir: PathBuf,
    /// In the order in which they are sent.
    pub(super) files: Vec<LocalFile>,
    /// The index's text.
    pub(super) index: Bytes,
    /// Whether the recording is closed, and when it ended.
    pub(super) ended: Option<u64>,
    /// Until when it is kept.
    pub(super) keep_until: Option<u64>,
}

/// A file of the spool.
pub(super) struct LocalFile {
    pub(super) name: String,
    /// How much of it is durable.
    pub(super) len: u64,
    /// Whether it will not grow.
    pub(super) whole: bool,
}

impl Snapshot {
    /// Of an open recording, or of a closed one; `None` while it is neither, or is not here.
    pub(super) fn take(inner: &Inner, session: Uuid, slot: Option<&Arc<Slot>>) -> io::Result<Option<Self>> {
        let open = slot.filter(|slot| slot.progress.borrow().closed.is_none());
        match open {
            // The worker holds the writer while it writes and syncs.
            Some(slot) => slot
                .writer
                .with(|writer| Self::of(inner, session, Some(writer.durable()))),
            None => Self::of(inner, session, None),
        }
    }

    fn of(inner: &Inner, session: Uuid, durable: Option<u64>) -> io::Result<Option<Self>> {
        let Some(dir) = layout::session_dir(&inner.root, session) else {
            return Ok(None);
        };
        let Some(entry) = index::read(&inner.root, session)? else {
            return Ok(None);
        };
        if durable.is_none() && entry.ended.is_none() {
            return Ok(None);
        }
        let files = files(&dir, durable, &entry)?;
        let index = fs::read(dir.join(layout::INDEX))?.into();
        Ok(Some(Self {
            dir,
            files,
            index,
            keep_until: entry.keep_until,
            ended: entry.ended.filter(|_| durable.is_none()),
        }))
    }

    /// The bytes of the stream that this holds.
    pub(super) fn stream_len(&self) -> u64 {
        let segments = self.files.iter();
        let segments = segments.filter(|file| layout::segment_index(&file.name).is_some());
        segments.map(|file| file.len).sum()
    }
}

fn files(dir: &std::path::Path, durable: Option<u64>, entry: &SessionIndex) -> io::Result<Vec<LocalFile>> {
    let mut segments = Vec::new();
    let mut others = Vec::new();
    for found in fs::read_dir(dir)? {
        let found = found?;
        let Ok(name) = found.file_name().into_string() else {
            continue;
        };
        if !layout::is_ours(&name) || [layout::INDEX, layout::HOLD, layout::TOMBSTONE].contains(&&*name) {
            continue;
        }
        let len = found.metadata()?.len();
        match layout::segment_index(&name) {
            Some(at) => segments.push((at, name, len)),
            None => others.push((name, len)),
        }
    }
    segments.sort_unstable();
    others.sort_unstable();
    let complete = durable.is_none() && entry.outcome == Some(Outcome::Complete);
    let count = segments.len();
    let mut left = durable.unwrap_or(u64::MAX);
    let mut files = Vec::new();
    for (place, (_, name, len)) in segments.into_iter().enumerate() {
        let good = len.min(left);
        left -= good;
        files.push(LocalFile {
            name,
            len: good,
            whole: good == len && (complete || place + 1 < count),
        });
    }
    files.extend(others.into_iter().map(|(name, len)| LocalFile {
        // Receipts are appended to until nothing can follow; what was set aside stays as it is.
        whole: complete || name != layout::RECEIPTS,
        name,
        len,
    }));
    Ok(files)
}

/// Notes that the bucket has all of a closed session, unless somebody has gone on with it.
pub(super) fn mark(inner: &Arc<Inner>, session: Uuid, ended: u64) -> io::Result<bool> {
    let Some(dir) = layout::session_dir(&inner.root, session) else {
        return Ok(false);
    };
    let Some(_claim) = Claim::take(inner, session) else {
        return Ok(false);
    };
    match index::read(&inner.root, session)? {
        Some(entry) if entry.ended == Some(ended) => layout::replace(&dir, SHIPPED, b"").map(|()| true),
        _ => Ok(false),
    }
}

/// The file that says so. It has no other content than its age.
pub(in crate::record) const SHIPPED: &str = ".shipped";
