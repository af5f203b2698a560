//! How long recordings are kept: holds, which nobody can delete around, and the end of what need not be kept any longer.
//!
//! A deletion leaves a signed tombstone, which is written before anything is removed, so that a crash in between looks like what it
//! is and is finished later. Where the bucket locks objects it enforces all this against the gateway as well.

mod delete;
mod hold;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::SessionIndex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::store::Inner;
use super::{index, layout};
use crate::guarded::Guarded;

/// A recording that nobody may delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Which.
    pub session: Uuid,
    /// Who had it held.
    pub by: String,
    /// Since when, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// What is known of how long recordings are kept.
#[derive(Default)]
pub(super) struct Retention {
    /// When the closed ones may go, Unix milliseconds.
    due: Guarded<BTreeMap<Uuid, u64>>,
    holds: Guarded<BTreeMap<Uuid, Hold>>,
    /// A hold and a deletion must not pass one another.
    changing: tokio::sync::Mutex<()>,
}

impl Retention {
    /// Reads what the directory says of its recordings.
    ///
    /// # Errors
    /// A hold is there and cannot be read: a gateway that has lost its holds must not delete what they hold.
    pub(super) fn read(&self, root: &Path) -> io::Result<()> {
        layout::each(root, |session, dir| {
            if let Some(text) = layout::read(&dir.join(layout::HOLD))? {
                let hold: Hold = serde_json::from_slice(&text)?;
                self.holds.with(|holds| holds.insert(session, hold));
            }
            match index::read(root, session) {
                Ok(entry) => entry.iter().for_each(|entry| self.note(entry)),
                Err(error) => tracing::warn!(%session, %error, "recording cannot be read"),
            }
            Ok(())
        })
    }

    /// A recording's index says until when it is kept.
    pub(super) fn note(&self, entry: &SessionIndex) {
        self.due.with(|due| match (entry.ended, entry.keep_until) {
            (Some(_), Some(until)) => due.insert(entry.session, until),
            _ => due.remove(&entry.session),
        });
    }

    /// A hold was seen in the bucket, or is no longer there.
    pub(super) fn seen(&self, session: Uuid, hold: Option<Hold>) {
        self.holds.with(|holds| match hold {
            Some(hold) => holds.insert(session, hold),
            None => holds.remove(&session),
        });
    }

    pub(super) fn holds(&self, session: Uuid) -> bool {
        self.holds.with(|holds| holds.contains_key(&session))
    }

    /// All holds, oldest session first.
    pub(super) fn all(&self) -> Vec<Hold> {
        self.holds.with(|holds| holds.values().cloned().collect())
    }

    fn expired(&self, now: u64) -> Vec<Uuid> {
        let due = self.due.with(|due| {
            let due = due.iter().filter(|(_, until)| **until <= now);
            due.map(|(session, _)| *session).collect::<Vec<_>>()
        });
        due.into_iter().filter(|session| !self.holds(*session)).collect()
    }

    fn postpone(&self, session: Uuid, until: u64) {
        self.due.with(|due| due.insert(session, until));
    }

    fn forget(&self, session: Uuid) {
        self.due.with(|due| due.remove(&session));
    }
}

/// Deletes what has expired, until `stop`.
pub(super) async fn expire(store: Arc<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        for session in store.retention.expired(store.credential.unix_ms()) {
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = delete::delete(&store, session).await {
                tracing::warn!(%session, %error, "an expired recording cannot be deleted yet");
                store
                    .retention
                    .postpone(session, store.credential.unix_ms() + TRY_AGAIN_MS);
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const TRY_AGAIN_MS: u64 = 60_000;
