//! Those who were turned away: counted all, put on record at a bounded rate.
//!
//! Anybody can knock, and whoever has any login at all can be refused as often as they like. A journal that takes a line for each
//! is a way to fill a disk, so that lines are taken from buckets: one for all who did not say who they are, one for each person,
//! which holds so much that nobody empties it unseen. The next line says how many were left out before it.

use std::{collections::HashMap, net::SocketAddr, time::Instant};

use doorward_audit::Denied;

use crate::{Gateway, guarded::Guarded, metrics, refusal::Refusal};

/// The buckets of lines.
#[derive(Debug, Default)]
pub struct TurnedAway {
    unknown: Guarded<Option<Bucket>>,
    people: Guarded<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    lines: f64,
    filled: Instant,
    left_out: u64,
}

/// How many lines may come at once, and how many come back in a second.
#[derive(Debug, Clone, Copy)]
struct Size {
    most: f64,
    per_second: f64,
}

impl Bucket {
    fn full(size: Size, now: Instant) -> Self {
        Self {
            lines: size.most,
            filled: now,
            left_out: 0,
        }
    }

    fn fill(&mut self, size: Size, now: Instant) {
        let since = now.saturating_duration_since(self.filled);
        self.lines = (self.lines + since.as_secs_f64() * size.per_second).min(size.most);
        self.filled = now;
    }

    /// Takes a line, if there is one, and says how many were left out since the last.
    fn take(&mut self, size: Size, now: Instant) -> Option<u64> {
        self.fill(size, now);
        if self.lines < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl TurnedAway {
    fn unknown(&self, now: Instant) -> Option<u64> {
        self.unknown.with(|bucket| {
            let bucket = bucket.get_or_insert_with(|| Bucket::full(UNKNOWN, now));
            bucket.take(UNKNOWN, now)
        })
    }

    fn person(&self, user: &str, now: Instant) -> Option<u64> {
        self.people.with(|people| {
            if people.len() >= MOST_PEOPLE && !people.contains_key(user) {
                // Who was not refused for a while starts anew; with so many who were, all others share one.
                people.retain(|_, bucket| {
                    bucket.fill(PERSON, now);
                    bucket.lines < PERSON.most || bucket.left_out > 0
                });
            }
            let user = if people.len() < MOST_PEOPLE || people.contains_key(user) {
                user
            } else {
                ""
            };
            if let Some(bucket) = people.get_mut(user) {
                return bucket.take(PERSON, now);
            }
            people
                .entry(user.to_owned())
                .or_insert_with(|| Bucket::full(PERSON, now))
                .take(PERSON, now)
        })
    }
}

impl Gateway {
    /// Counts, logs and puts on record that somebody unknown was turned away; the workspace is empty where none was asked for.
    pub(crate) fn turn_away(&self, refusal: &Refusal, workspace: &str, peer: SocketAddr) {
        metrics::refused(refusal.code());
        tracing::debug!(%peer, "turned away: {refusal}");
        let Some(left_out) = self.turned_away.unknown(Instant::now()) else {
            return;
        };
        let said = if refusal.detail().is_empty() {
            refusal.text()
        } else {
            refusal.detail()
        };
        self.journal.append(Denied {
            user: None,
            workspace: workspace.to_owned(),
            code: refusal.code().as_str().to_owned(),
            detail: with_count(said, left_out),
            client_address: peer.to_string(),
        });
    }

    /// Puts on record that a person was refused; the workspace is empty where none was asked for.
    pub(crate) fn denied(&self, user: &str, workspace: &str, refusal: &Refusal, peer: SocketAddr) {
        let Some(left_out) = self.turned_away.person(user, Instant::now()) else {
            return;
        };
        self.journal.append(Denied {
            user: Some(user.to_owned()),
            workspace: workspace.to_owned(),
            code: refusal.code().as_str().to_owned(),
            detail: with_count(refusal.detail(), left_out),
            client_address: peer.to_string(),
        });
    }
}

fn with_count(said: &str, left_out: u64) -> String {
    match left_out {
        0 => said.to_owned(),
        count => format!("{said} (before this {count} more were turned away and not put on record)")
            .trim_start()
            .to_owned(),
    }
}

const UNKNOWN: Size = Size {
    most: 200.0,
    per_second: 20.0,
};
const PERSON: Size = Size {
    most: 1000.0,
    per_second: 2.0,
};
/// The most people whose refusals are counted apart.
const MOST_PEOPLE: usize = 8192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let turned_away = TurnedAway::default();
        let begin = Instant::now();
        let taken = (0..10_000).filter(|_| turned_away.unknown(begin).is_some()).count();
        assert_eq!(taken, 200);
        assert_eq!(turned_away.unknown(begin + Duration::from_secs(1)), Some(9_800));
        assert_eq!(turned_away.unknown(begin + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn a_person_fills_no_disk_and_hides_nobody_else() {
        let turned_away = TurnedAway::default();
        let begin = Instant::now();
        let taken = (0..10_000).filter(|_| turned_away.person("mallory", begin).is_some());
        assert_eq!(taken.count(), 1000);
        assert_eq!(turned_away.person("bob", begin), Some(0));
        assert_eq!(turned_away.unknown(begin), Some(0));
        let later = begin + Duration::from_secs(1);
        assert_eq!(turned_away.person("mallory", later), Some(9_000));
        for number in 0..2 * MOST_PEOPLE {
            turned_away.person(&number.to_string(), later);
        }
        assert!(turned_away.people.with(|people| people.len()) <= MOST_PEOPLE + 1);
        // Those who were quiet since are forgotten, those who were left out are not.
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(turned_away.person("carol", much_later), Some(0));
        assert!(turned_away.people.with(|people| people.len()) < 10);
    }
}
