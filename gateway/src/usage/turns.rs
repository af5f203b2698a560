//! When each workspace's use is published: at once the first time, then once in its interval, the latest value each time.
//! No clock and no I/O: the caller says when it is.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use doorward_certs::WorkspaceName;
use tokio::time::Instant;

/// All workspaces with something to publish, or that had something not long ago.
#[derive(Debug, Default)]
pub(super) struct Turns {
    all: BTreeMap<WorkspaceName, Turn>,
    /// Nobody's turn comes before: the server was away.
    paused: Option<Instant>,
    /// Failures of servers in a row.
    failures: u32,
}

#[derive(Debug, Default)]
struct Turn {
    wanted: Option<SystemTime>,
    sent: Option<SystemTime>,
    not_before: Option<Instant>,
    flying: bool,
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is published, or is nobody's business any more.
    Done,
    /// This one could not be.
    Failed,
    /// Nothing could be: the server is away.
    Away,
}

impl Turns {
    /// A workspace was used then.
    pub(super) fn want(&mut self, name: &WorkspaceName, at: SystemTime) {
        let turn = self.all.entry(name.clone()).or_default();
        turn.wanted = turn.wanted.max(Some(at));
    }

    /// Takes the next whose turn has come; `hurry` heeds no interval.
    pub(super) fn take(&mut self, now: Instant, hurry: bool) -> Option<(WorkspaceName, SystemTime)> {
        if !hurry && self.paused.is_some_and(|until| until > now) {
            return None;
        }
        let has_come = |turn: &Turn| hurry || turn.not_before.is_none_or(|at| at <= now);
        let (name, turn) = self.all.iter_mut().find(|(_, turn)| turn.is_due() && has_come(turn))?;
        turn.flying = true;
        Some((name.clone(), turn.wanted?))
    }

    /// When somebody's turn comes next, if anybody waits.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.all.values().filter(|turn| turn.is_due());
        let first = waiting.filter_map(|turn| turn.not_before).min()?;
        Some(first.max(self.paused.unwrap_or(first)))
    }

    /// What came of the turn of one.
    pub(super) fn done(
        &mut self,
        name: &WorkspaceName,
        sent: SystemTime,
        outcome: Outcome,
        every: Duration,
        now: Instant,
    ) {
        let Some(turn) = self.all.get_mut(name) else { return };
        turn.flying = false;
        turn.not_before = Some(now + every);
        match outcome {
            Outcome::Done => {
                turn.sent = Some(sent);
                (self.failures, self.paused) = (0, None);
            }
            Outcome::Failed => {}
            Outcome::Away => {
                self.failures = self.failures.saturating_add(1);
                self.paused = Some(now + FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE));
            }
        }
    }

    /// Forgets those that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&WorkspaceName) -> bool) {
        self.all.retain(|name, turn| turn.flying || is_there(name));
    }
}

impl Turn {
    fn is_due(&self) -> bool {
        !self.flying && self.wanted > self.sent
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    fn name(text: &str) -> WorkspaceName {
        WorkspaceName::try_from(text).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_goes_at_once_and_the_latest_in_its_turn() {
        let (mut turns, now, one) = (Turns::default(), Instant::now(), name("a"));
        turns.want(&one, at(1));
        assert_eq!(turns.take(now, false), Some((one.clone(), at(1))));
        turns.want(&one, at(2));
        assert_eq!(turns.take(now, false), None, "it is under way");
        turns.done(&one, at(1), Outcome::Done, EVERY, now);
        turns.want(&one, at(4));
        turns.want(&one, at(3));
        assert_eq!(turns.take(now + EVERY / 2, false), None);
        assert_eq!(turns.next(), Some(now + EVERY));
        assert_eq!(turns.take(now + EVERY, false), Some((one.clone(), at(4))));
        turns.done(&one, at(4), Outcome::Done, EVERY, now + EVERY);
        assert_eq!(turns.next(), None, "nothing is new");
        turns.want(&one, at(5));
        assert_eq!(
            turns.take(now + EVERY, true),
            Some((one, at(5))),
            "the last before the end"
        );
    }

    #[test]
    fn a_server_that_is_away_is_left_alone_for_longer_and_longer() {
        let (mut turns, mut now, one) = (Turns::default(), Instant::now(), name("a"));
        turns.want(&one, at(1));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(turns.take(now, false).is_some());
            turns.done(&one, at(1), Outcome::Away, Duration::from_secs(1), now);
            let next = turns.next().unwrap();
            pauses.push(next - now);
            assert_eq!(turns.take(next - Duration::from_millis(1), false), None);
            now = next;
        }
        assert!(pauses.is_sorted() && pauses[8] == LONGEST_PAUSE, "{pauses:?}");
        assert!(turns.take(now, false).is_some());
        turns.done(&one, at(1), Outcome::Done, EVERY, now);
        turns.want(&name("b"), at(1));
        assert!(turns.take(now, false).is_some(), "no pause is left");
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let mut turns = Turns::default();
        turns.want(&name("a"), at(1));
        turns.keep(|_| false);
        assert_eq!(turns.take(Instant::now(), true), None);
    }
}
