//! Records that a broken link left behind: held in memory, bounded in bytes and time, until a gateway has stored them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Buf as _;
use doorward_wire::Leftover;
use doorward_wire::message::LeftoverSession;
use tokio::sync::watch;
use uuid::Uuid;

/// The leftovers of one workspace.
#[derive(Debug)]
pub(crate) struct Leftovers {
    most_bytes: usize,
    longest: Duration,
    held: Mutex<BTreeMap<Uuid, Held>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    leftover: Leftover,
    since: Instant,
}

impl Leftovers {
    /// Nothing yet; at most so many bytes for at most so long.
    pub(crate) fn new(most_bytes: usize, longest: Duration) -> Self {
        Self {
            most_bytes,
            longest,
            held: Mutex::default(),
            changed: watch::channel(0).0,
        }
    }

    /// Holds what a session left over. Where there is no room the oldest are let go of, and that is logged.
    pub(crate) fn keep(&self, session: Uuid, leftover: Leftover) {
        {
            let mut held = self.held();
            held.insert(
                session,
                Held {
                    leftover,
                    since: Instant::now(),
                },
            );
            self.trim(&mut held);
        }
        self.changed.send_modify(|version| *version += 1);
    }

    /// What is held.
    pub(crate) fn list(&self) -> Vec<LeftoverSession> {
        let mut held = self.held();
        self.trim(&mut held);
        held.iter()
            .map(|(session, held)| LeftoverSession {
                session: *session,
                first_unacked: held.leftover.offset,
                end: held.leftover.end(),
            })
            .collect()
    }

    /// Takes a leftover out, to be sent from this offset; what stands before it is stored already. `None` if it is not
    /// held, or not from there on.
    pub(crate) fn take(&self, session: Uuid, from: u64) -> Option<Leftover> {
        let mut held = self.held();
        let leftover = &held.get(&session)?.leftover;
        if from < leftover.offset || from > leftover.end() {
            return None;
        }
        let mut leftover = held.remove(&session)?.leftover;
        forget_before(&mut leftover, from);
        Some(leftover)
    }

    /// Hears when something new is held.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn trim(&self, held: &mut BTreeMap<Uuid, Held>) {
        let over_age = |held: &Held| held.since.elapsed() > self.longest;
        let size = |held: &Held| held.leftover.end() - held.leftover.offset;
        loop {
            let total: u64 = held.values().map(size).sum();
            let oldest = held
                .iter()
                .min_by_key(|(_, held)| held.since)
                .map(|(session, held)| (*session, over_age(held)));
            match oldest {
                Some((session, old)) if old || total > self.most_bytes as u64 => {
                    held.remove(&session);
                    tracing::error!(%session, "records that no gateway fetched are let go of");
                }
                _ => return,
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_before(leftover: &mut Leftover, from: u64) {
    let mut skip = from.saturating_sub(leftover.offset);
    leftover.offset = from;
    leftover.chunks.retain_mut(|chunk| {
        let cut = skip.min(chunk.len() as u64);
        skip -= cut;
        chunk.advance(usize::try_from(cut).unwrap_or(chunk.len()));
        !chunk.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn leftover(offset: u64, chunks: &[&'static str]) -> Leftover {
        let chunks = chunks
            .iter()
            .map(|chunk| Bytes::from_static(chunk.as_bytes()))
            .collect();
        Leftover {
            offset,
            chunks,
            ended: true,
        }
    }

    #[test]
    fn what_is_stored_already_is_cut_away() {
        let session = Uuid::now_v7();
        let held = Leftovers::new(1_000, Duration::from_secs(60));
        held.keep(session, leftover(10, &["abc", "defg", "h"]));
        assert_eq!((held.list()[0].first_unacked, held.list()[0].end), (10, 18));
        assert!(held.take(session, 9).is_none() && held.take(session, 19).is_none());
        let rest = held.take(session, 15).unwrap();
        assert_eq!(
            (rest.offset, rest.chunks),
            (15, vec![Bytes::from_static(b"fg"), Bytes::from_static(b"h")])
        );
        assert!(held.take(session, 15).is_none());
        held.keep(session, leftover(10, &["abc"]));
        assert!(held.take(session, 13).unwrap().chunks.is_empty());
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_or_no_time() {
        let held = Leftovers::new(6, Duration::from_secs(60));
        let sessions: Vec<_> = (0..4).map(|_| Uuid::now_v7()).collect();
        for session in &sessions {
            held.keep(*session, leftover(0, &["abc"]));
        }
        let left: Vec<_> = held.list().into_iter().map(|left| left.session).collect();
        assert_eq!(left, &sessions[2..]);
        let held = Leftovers::new(6, Duration::ZERO);
        held.keep(sessions[0], leftover(0, &["abc"]));
        assert!(held.list().is_empty());
    }
}
