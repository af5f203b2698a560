//! What may be shown once: bounded in all and for each who shows, and forgotten when it could not be shown any more.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::guarded::Guarded;

/// Things that were shown, by who showed them.
#[derive(Debug)]
pub(super) struct Seen {
    kept: Duration,
    most: usize,
    most_of_one: usize,
    table: Guarded<Table>,
}

#[derive(Debug, Default)]
struct Table {
    of: HashMap<[u8; 32], Vec<([u8; 32], Instant)>>,
    count: usize,
}

/// Why a thing is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotNew {
    /// It was shown before.
    Again,
    /// There is no room to remember it.
    Full,
}

impl Seen {
    /// Remembers for `kept`, at most `most` things, of one at most `most_of_one`.
    pub(super) fn new(kept: Duration, most: usize, most_of_one: usize) -> Self {
        Self {
            kept,
            most,
            most_of_one,
            table: Guarded::default(),
        }
    }

    /// Takes a thing that is shown for the first time.
    pub(super) fn take(&self, by: &str, what: &str) -> Result<(), NotNew> {
        self.take_at(digest(by), digest(what), Instant::now())
    }

    fn take_at(&self, by: [u8; 32], what: [u8; 32], now: Instant) -> Result<(), NotNew> {
        self.table.with(|table| {
            if table.count >= self.most {
                table.forget(now);
            }
            let room = table.count < self.most;
            let own = table.of.entry(by).or_default();
            let before = own.len();
            own.retain(|(_, until)| *until > now);
            table.count -= before - own.len();
            if own.iter().any(|(known, _)| *known == what) {
                return Err(NotNew::Again);
            }
            if !room || own.len() >= self.most_of_one {
                if own.is_empty() {
                    table.of.remove(&by);
                }
                return Err(NotNew::Full);
            }
            own.push((what, now + self.kept));
            table.count += 1;
            Ok(())
        })
    }
}

impl Table {
    fn forget(&mut self, now: Instant) {
        self.of.retain(|_, own| {
            own.retain(|(_, until)| *until > now);
            !own.is_empty()
        });
        self.count = self.of.values().map(Vec::len).sum();
    }
}

/// SHA-256.
pub(crate) fn digest(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_taken_once_and_again_when_it_is_too_old_to_matter() {
        let seen = Seen::new(Duration::from_secs(60), 10, 2);
        let (now, one, two) = (Instant::now(), digest("one"), digest("two"));
        assert_eq!(seen.take_at(one, one, now), Ok(()));
        assert_eq!(seen.take_at(one, one, now), Err(NotNew::Again));
        assert_eq!(seen.take_at(two, one, now), Ok(()));
        assert_eq!(seen.take_at(one, two, now), Ok(()));
        assert_eq!(seen.take_at(one, digest("three"), now), Err(NotNew::Full));
        assert_eq!(seen.take_at(one, one, now + Duration::from_secs(61)), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let seen = Seen::new(Duration::from_secs(60), 100, 2);
        let now = Instant::now();
        let taken = (0..1000)
            .filter(|number| seen.take_at(digest(&number.to_string()), digest("x"), now).is_ok())
            .count();
        assert_eq!(taken, 100);
        assert_eq!(seen.table.with(|table| table.of.len()), 100);
        let later = now + Duration::from_secs(61);
        assert_eq!(seen.take_at(digest("later"), digest("x"), later), Ok(()));
        assert_eq!(seen.table.with(|table| (table.of.len(), table.count)), (1, 1));
    }
}
