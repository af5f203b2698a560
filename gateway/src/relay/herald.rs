//! Puts on record that a session's user was told of its end ahead of time.

use std::time::{SystemTime, UNIX_EPOCH};

use doorward_audit::EndAnnounced;
use uuid::Uuid;

use crate::journal::Journal;

/// Who puts it on record, and of which session.
#[derive(Clone)]
pub struct Herald(Option<(Uuid, Journal)>);

impl Herald {
    /// Of this session, in this journal.
    pub fn new(session: Uuid, journal: &Journal) -> Self {
        Self(Some((session, journal.clone())))
    }

    /// The user was told that the session ends then, and of what: `longest` or `up-time`.
    pub(super) fn announced(&self, ends: SystemTime, why: &'static str) {
        let Some((session, journal)) = &self.0 else { return };
        let ends = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        journal.append(EndAnnounced {
            session: *session,
            ends: u64::try_from(ends).unwrap_or(u64::MAX),
            why: why.to_owned(),
        });
    }
}

impl std::fmt::Debug for Herald {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Herald({:?})", self.0.as_ref().map(|(session, _)| session))
    }
}

#[cfg(test)]
impl Herald {
    /// Nobody.
    pub(super) fn nobody() -> Self {
        Self(None)
    }
}
