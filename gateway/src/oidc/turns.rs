//! Who may have others asked about a token that is not known: so many at once, so many a second, and nobody all of it.
//!
//! Anybody can show nonsense. A place is had only by an address that holds no more than a multiple of what is free: so one
//! address alone can take a good part of what there is, several share it, and whoever comes new finds a place. Behind a
//! balancer that hides addresses all are one, and that part is the bound on all.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::guarded::Guarded;

/// Places that are held while somebody waits.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    held: Guarded<Held>,
}

/// A place of a [`Crowd`], given back when dropped.
#[derive(Debug)]
pub(super) struct Place<'c> {
    crowd: &'c Crowd,
    source: IpAddr,
}

/// Turns that come evenly, with a burst at first.
#[derive(Debug)]
pub(super) struct Line {
    every: Duration,
    turns: Guarded<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// When each turn that was given out is paid for, and whose it is.
    given: VecDeque<(Instant, IpAddr)>,
    held: Held,
}

/// How many places an address holds, and all together.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Crowd {
    /// So many places.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            held: Guarded::default(),
        }
    }

    /// A place for this source, if it may have one.
    pub(super) fn enter(&self, source: IpAddr) -> Option<Place<'_>> {
        let taken = self.held.with(|held| held.take(source, self.most, 1));
        taken.then(|| Place { crowd: self, source })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.crowd.held.with(|held| held.give_back(self.source));
    }
}

impl Line {
    /// A turn every so often.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            turns: Guarded::default(),
        }
    }

    /// How long the source has to wait for its turn; nothing if that is longer than its patience, or if it has more than its share
    /// of the turns. A turn is used up even if nobody waits for it any more: who goes away and comes back gains nothing.
    pub(super) fn turn(&self, source: IpAddr, now: Instant, patience: Duration) -> Option<Duration> {
        self.turns.with(|turns| {
            while let Some((until, whose)) = turns.given.front().copied()
                && until <= now
            {
                turns.given.pop_front();
                turns.held.give_back(whose);
            }
            // The generic cell rate algorithm, with a second's worth at once.
            let due = turns.given.back().map_or(now, |(until, _)| *until);
            let wait = due.duration_since(now).saturating_sub(BURST);
            let most = (patience + BURST).as_nanos() / self.every.as_nanos().max(1);
            let most = usize::try_from(most).unwrap_or(MOST_TURNS).clamp(1, MOST_TURNS);
            if wait > patience || !turns.held.take(source, most, GREED) {
                return None;
            }
            turns.given.push_back((due + self.every, source));
            Some(wait)
        })
    }
}

impl Held {
    /// One more place of `most`, unless the source holds `greed` times as many as are free.
    fn take(&mut self, source: IpAddr, most: usize, greed: usize) -> bool {
        let own = self.of.get(&source).copied().unwrap_or_default();
        let free = most.saturating_sub(self.all);
        if own >= free.saturating_mul(greed) {
            return false;
        }
        self.of.insert(source, own + 1);
        self.all += 1;
        true
    }

    fn give_back(&mut self, source: IpAddr) {
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.of.get_mut(&source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.of.remove(&source);
            }
        }
    }
}

/// How many times as many turns as are free one address may hold: they come back soon, places do when those who wait give up.
const GREED: usize = 3;
/// So much may come at once.
const BURST: Duration = Duration::from_secs(1);
/// The most turns that are given out ahead.
const MOST_TURNS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_crowd_of_one_address_leaves_places_for_others() {
        let crowd = Crowd::new(1000);
        let mut places = Vec::new();
        places.extend(std::iter::from_fn(|| crowd.enter(address(1))));
        assert_eq!(places.len(), 500);
        // However many addresses there are, the next finds a place.
        for more in 2..9 {
            places.extend(std::iter::from_fn(|| crowd.enter(address(more))));
            assert!(crowd.enter(address(200)).is_some(), "{more}");
        }
        drop(places);
        assert_eq!(crowd.held.with(|held| (held.all, held.of.len())), (0, 0));
        assert!(crowd.enter(address(1)).is_some());
    }

    #[test]
    fn turns_come_evenly_and_a_flood_of_one_address_leaves_some_for_others() {
        let line = Line::new(Duration::from_millis(100));
        let (begin, patience) = (Instant::now(), Duration::from_secs(1));
        let flood = |now: Instant| std::iter::from_fn(move || Some(now));
        let turns = |source: u8, now: Instant| -> Vec<Duration> {
            flood(now)
                .map_while(|now| line.turn(address(source), now, patience))
                .collect()
        };
        // 20 fit into a burst and the patience; 15 are three times as many as are left.
        let waits = turns(1, begin);
        assert_eq!(waits.len(), 15);
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 11);
        assert_eq!(waits.last(), Some(&Duration::from_millis(400)));
        assert_eq!(line.turn(address(2), begin, patience), Some(Duration::from_millis(500)));
        // What is paid for can be had again, at the rate and no faster.
        let later = begin + Duration::from_secs(1);
        assert!((8..=12).contains(&turns(1, later).len()));
        assert!(line.turn(address(3), later, patience).is_some());
        let much_later = later + Duration::from_secs(60);
        assert_eq!(line.turn(address(1), much_later, patience), Some(Duration::ZERO));
        assert_eq!(line.turns.with(|turns| (turns.given.len(), turns.held.all)), (1, 1));
    }
}
