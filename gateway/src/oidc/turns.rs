//! Turns at asking others about tokens that nobody knows: so many a second, and no address gets all of them.
//!
//! Anybody can show nonsense. Behind a balancer that hides addresses all are one, and what one may have is the bound on all.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{crowd::Held, guarded::Guarded};

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
    held: Held<IpAddr>,
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
                turns.held.give_back(&whose);
            }
            // The generic cell rate algorithm, with a second's worth at once.
            let due = turns.given.back().map_or(now, |(until, _)| *until);
            let wait = due.duration_since(now).saturating_sub(BURST);
            let most = (patience + BURST).as_nanos() / self.every.as_nanos().max(1);
            let most = usize::try_from(most).unwrap_or(MOST_TURNS).clamp(1, MOST_TURNS);
            if wait > patience || !turns.held.take(&source, most, GREED) {
                return None;
            }
            turns.given.push_back((due + self.every, source));
            Some(wait)
        })
    }
}

/// How many times as many turns as are free one address may hold: they come back soon.
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
    fn turns_come_evenly_and_a_flood_of_one_address_leaves_some_for_others() {
        let line = Line::new(Duration::from_millis(100));
        let (begin, patience) = (Instant::now(), Duration::from_secs(1));
        let turns = |source: u8, now: Instant| -> Vec<Duration> {
            std::iter::from_fn(|| line.turn(address(source), now, patience)).collect()
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
        assert_eq!(line.turns.with(|turns| (turns.given.len(), turns.held.count())), (1, 1));
    }
}
