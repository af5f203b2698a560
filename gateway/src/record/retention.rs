//! How long recordings are kept: holds, which nobody can delete around, and the end of what need not be kept any longer.
//!
//! A deletion leaves a signed tombstone, which is written before anything is removed, so that a crash in between looks like what it
//! is and is finished later. Where the bucket locks objects it enforces all this against the gateway as well.

mod clock;
mod delete;
mod hold;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use doorward_audit::{ClockBelieved, ClockDoubted, SessionIndex};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(super) use self::clock::RetentionClock;
use self::clock::{Change, Look};
pub use self::clock::{believed, confirm};
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

/// The clock says another time than what has passed since it was believed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// By how much.
    pub apart: Duration,
    /// How many recordings would be deleted if it was right.
    pub held_back: usize,
}

/// What is known of how long recordings are kept.
#[derive(Default)]
pub(super) struct Retention {
    /// When the closed ones may go, Unix milliseconds.
    due: Guarded<BTreeMap<Uuid, u64>>,
    holds: Guarded<BTreeMap<Uuid, Hold>>,
    doubt: Guarded<Option<Doubt>>,
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

    /// How many wait for a clock that is doubted, by which they are due.
    fn held_back(&self, look: &Look, clock: u64) -> usize {
        self.expired(clock).len().saturating_sub(self.expired(look.now).len())
    }

    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt.with(|doubt| *doubt)
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
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Ok(look) = blocking(&store, |store| store.look()).await else {
            continue;
        };
        for session in store.retention.expired(look.now) {
            if stop.is_cancelled() {
                break;
            }
            if let Err(error) = delete::delete(&store, session, look.now).await {
                tracing::warn!(%session, %error, "an expired recording cannot be deleted yet");
                store.retention.postpone(session, look.now + TRY_AGAIN_MS);
            }
        }
    }
    // It goes on from there when the gateway is started again.
    let _ = blocking(&store, |store| store.clock.keep(true)).await;
}

async fn blocking<T: Send + 'static>(
    store: &Arc<Inner>,
    act: impl FnOnce(&Inner) -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || act(&store)).await
}

impl Inner {
    /// Looks at the clock, and says where it begins or ceases to be doubted. Blocks.
    fn look(&self) -> Look {
        let clock = self.credential.unix_ms();
        let look = self.clock.look(clock);
        let doubt = look.doubted.then(|| Doubt {
            apart: Duration::from_millis(clock.abs_diff(look.believed)),
            held_back: self.retention.held_back(&look, clock),
        });
        self.retention.doubt.with(|known| *known = doubt);
        match (look.change, doubt) {
            (Some(Change::Doubted), Some(doubt)) => {
                let (clock_says, believed) = (shown(clock), shown(look.believed));
                tracing::error!(
                    clock_says,
                    believed,
                    held_back = doubt.held_back,
                    "the clock is doubted, and deletes no recording: set it right, or say that it is right with \
                     `doorward-gateway confirm-clock`"
                );
                self.journal.append(ClockDoubted {
                    clock,
                    believed: look.believed,
                    held_back: doubt.held_back as u64,
                });
            }
            (Some(Change::Agrees { from }), _) => self.believe(clock, from, "agrees"),
            (Some(Change::Confirmed { from }), _) => self.believe(clock, from, "confirmed"),
            _ => {}
        }
        look
    }

    fn believe(&self, clock: u64, believed: u64, why: &str) {
        let (clock_says, was_believed) = (shown(clock), shown(believed));
        tracing::warn!(
            clock_says,
            was_believed,
            why,
            "the clock is believed, recordings are deleted by it"
        );
        self.journal.append(ClockBelieved {
            clock,
            believed,
            why: why.to_owned(),
        });
    }
}

fn shown(unix_ms: u64) -> String {
    crate::locks::rfc3339(UNIX_EPOCH + Duration::from_millis(unix_ms))
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const TRY_AGAIN_MS: u64 = 60_000;
