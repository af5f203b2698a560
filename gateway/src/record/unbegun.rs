//! Sessions that were let in while the store was away: what the store must know to begin their recordings later.
//!
//! A note for each lies in the gateway's state folder, beside the journal, without which nobody is let in. So a gateway that was
//! started again still knows whose records an agent offers, and for how long they are kept. A note becomes the recording's folder
//! once the store takes it, and is gone then. It refuses nothing: a note that cannot be written is named in the log.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use doorward_audit::SessionIndex;
use uuid::Uuid;

use super::store::{Claim, Inner};
use super::{Failure, index, layout};
use crate::guarded::Guarded;

/// The notes.
#[derive(Default)]
pub(super) struct Unbegun {
    /// Nothing is noted without a folder.
    dir: Option<PathBuf>,
    notes: Guarded<BTreeMap<Uuid, Note>>,
}

#[derive(Clone)]
struct Note {
    entry: SessionIndex,
    /// It is of an earlier life of the gateway: nobody here takes care of the session.
    earlier: bool,
}

impl Unbegun {
    /// The notes of an earlier life. One that cannot be read is named in the log and stays. Blocks.
    pub(super) fn open(dir: Option<PathBuf>) -> io::Result<Self> {
        let mut notes = BTreeMap::new();
        if let Some(dir) = &dir {
            layout::make_dir(dir)?;
            for file in std::fs::read_dir(dir)? {
                let file = file?;
                let name = file.file_name();
                let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
                let Some(session) = name.and_then(|name| Uuid::try_parse(name).ok()) else {
                    continue;
                };
                match std::fs::read(file.path()).and_then(|text| Ok(serde_json::from_slice::<SessionIndex>(&text)?)) {
                    Ok(entry) if entry.session == session => {
                        notes.insert(session, Note { entry, earlier: true });
                    }
                    Ok(_) => tracing::error!(%session, "a note of a session names another one"),
                    Err(error) => tracing::error!(%session, %error, "a note of a session cannot be read"),
                }
            }
        }
        Ok(Self {
            dir,
            notes: Guarded::new(notes),
        })
    }

    /// Notes a session; durable when this returns. Blocks.
    fn put(&self, entry: SessionIndex) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        layout::replace(dir, &name(entry.session), &index::text(&entry)?)?;
        self.notes
            .with(|notes| notes.insert(entry.session, Note { entry, earlier: false }));
        Ok(())
    }

    fn find(&self, session: Uuid) -> Option<Note> {
        self.notes.with(|notes| notes.get(&session).cloned())
    }

    /// Whether a session is noted.
    pub(super) fn has(&self, session: Uuid) -> bool {
        self.notes.with(|notes| notes.contains_key(&session))
    }

    /// A recording has begun. Blocks.
    fn forget(&self, session: Uuid) {
        if self.notes.with(|notes| notes.remove(&session)).is_none() {
            return;
        }
        if let Some(dir) = &self.dir
            && let Err(error) = layout::remove(&dir.join(name(session)))
        {
            // At the next start it is found to have begun.
            tracing::warn!(%session, %error, "the note of a session stays");
        }
    }

    /// The sessions of an earlier life.
    pub(super) fn earlier(&self) -> Vec<Uuid> {
        self.notes.with(|notes| {
            let earlier = notes.iter().filter(|(_, note)| note.earlier);
            earlier.map(|(session, _)| *session).collect()
        })
    }
}

impl Inner {
    /// Notes a session whose recording cannot begin yet. Blocks.
    pub(super) fn note_unbegun(&self, entry: SessionIndex) {
        let session = entry.session;
        if let Err(error) = self.unbegun.put(entry) {
            tracing::error!(%session, %error, "a session whose recording waits for the store cannot be noted");
        }
    }

    /// Notes how such a session ended, unless its recording has begun meanwhile. Blocks.
    pub(super) fn note_end(&self, session: Uuid, reason: String) {
        if let Some(Note { entry, .. }) = self.unbegun.find(session) {
            self.note_unbegun(SessionIndex {
                reason: Some(reason),
                ..entry
            });
        }
    }

    /// Makes the folder of a session that was only noted, durably; whether there was a note. Blocks.
    pub(super) fn begin_noted(self: &Arc<Self>, session: Uuid) -> Result<bool, Failure> {
        let Some(Note { entry, earlier }) = self.unbegun.find(session) else {
            return Ok(false);
        };
        let dir = layout::session_dir(&self.root, session)
            .ok_or_else(|| Failure::Storage("keep a session without a time in its id".into()))?;
        let Some(_claim) = Claim::take(self, session) else {
            return Ok(false);
        };
        // A crash may have come before the note was removed.
        let known = dir.join(layout::INDEX).exists() || dir.join(layout::TOMBSTONE).exists();
        if !known {
            self.make_folder(&dir, entry, |dir, entry| {
                layout::make_dir(dir)?;
                index::write(dir, entry)?;
                layout::sync_session(dir)
            })?;
            if earlier {
                self.unclosed.with(|unclosed| unclosed.insert(session));
            }
        }
        self.unbegun.forget(session);
        Ok(true)
    }

    /// Makes the folders of what an earlier life has noted, as far as the disk takes them. Blocks.
    pub(super) fn begin_earlier(self: &Arc<Self>) {
        for session in self.unbegun.earlier() {
            if let Err(error) = self.begin_noted(session) {
                return tracing::debug!(%session, %error, "a session of before cannot be recorded yet");
            }
        }
    }

    /// A recording has begun in the ordinary way. Blocks.
    pub(super) fn has_begun(&self, session: Uuid) {
        self.unbegun.forget(session);
    }
}

fn name(session: Uuid) -> String {
    format!("{session}{SUFFIX}")
}

const SUFFIX: &str = ".json";
