//! How many signings may begin: in all, and for one person. A storm at the gateway's door is no storm at Vault's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::VaultError;

/// The two limits.
#[derive(Debug)]
pub(super) struct Limits {
    all: Mutex<Bucket>,
    per_user: Mutex<HashMap<String, Bucket>>,
    rate: Rate,
    user_rate: Rate,
}

/// So many at once, and then one every so often.
#[derive(Debug, Clone, Copy)]
struct Rate {
    every: Duration,
    burst: Duration,
}

impl Rate {
    fn new(count: u32, within: Duration) -> Self {
        let every = within / count.max(1);
        Self {
            every,
            burst: within.saturating_sub(every),
        }
    }
}

/// The generic cell rate algorithm: the time at which everything that was let through so far would have been paid for.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// When the next one may begin; it is taken only if that is no later than `latest`.
    fn take(&mut self, rate: Rate, now: Instant, latest: Instant) -> Option<Instant> {
        let paid = self.0.map_or(now, |paid| paid.max(now));
        let begin = now.max(paid.checked_sub(rate.burst).unwrap_or(now));
        (begin <= latest).then(|| {
            self.0 = Some(paid + rate.every);
            begin
        })
    }

    fn is_idle(self, now: Instant) -> bool {
        self.0.is_none_or(|paid| paid <= now)
    }
}

impl Limits {
    pub(super) fn new(per_second: u32, per_user_per_minute: u32) -> Self {
        Self {
            all: Mutex::default(),
            per_user: Mutex::default(),
            rate: Rate::new(per_second, Duration::from_secs(1)),
            user_rate: Rate::new(per_user_per_minute, Duration::from_secs(60)),
        }
    }

    /// Waits for a turn. A person's limit is looked at first and never waited for.
    ///
    /// # Errors
    /// [`VaultError::UserTooFast`]; [`VaultError::Busy`] at once where the turn would come after `deadline`.
    pub(super) async fn turn(&self, user: Option<&str>, deadline: Instant) -> Result<(), VaultError> {
        let now = Instant::now();
        if let Some(user) = user {
            self.count(user, now)?;
        }
        let begin = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.take(self.rate, now, deadline)
        };
        tokio::time::sleep_until(begin.ok_or(VaultError::Busy)?).await;
        Ok(())
    }

    fn count(&self, user: &str, now: Instant) -> Result<(), VaultError> {
        let mut users = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MOST_USERS && !users.contains_key(user) {
            users.retain(|_, bucket| !bucket.is_idle(now));
            if users.len() >= MOST_USERS {
                return Err(VaultError::Busy);
            }
        }
        let taken = users.entry(user.to_owned()).or_default().take(self.user_rate, now, now);
        taken.map(|_| ()).ok_or(VaultError::UserTooFast)
    }
}

/// How many people are counted at once.
const MOST_USERS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn past_the_rate_signings_wait_in_turn_and_past_the_deadline_they_are_refused() {
        let limits = Limits::new(10, 1000);
        let begun = Instant::now();
        let deadline = begun + 2 * SECOND;
        for _ in 0..10 {
            limits.turn(None, deadline).await.unwrap();
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "a second's worth at once");
        limits.turn(None, deadline).await.unwrap();
        assert!(
            begun.elapsed() >= SECOND / 10 && begun.elapsed() < SECOND / 5,
            "{:?}",
            begun.elapsed()
        );

        let (limits, begun) = (Limits::new(10, 1000), Instant::now());
        let deadline = begun + 2 * SECOND;
        let turns = (0..100).map(|_| limits.turn(None, deadline));
        let ended = futures_util::future::join_all(turns).await;
        let good = ended.iter().filter(|turn| turn.is_ok()).count();
        assert_eq!(
            good,
            10 + 20,
            "a second's worth at once, then ten in each of two seconds"
        );
        assert!(ended.iter().all(|turn| matches!(turn, Ok(()) | Err(VaultError::Busy))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_person_cannot_use_up_what_is_there_for_all() {
        let limits = Limits::new(1000, 6);
        let deadline = Instant::now() + SECOND;
        for _ in 0..6 {
            limits.turn(Some("bob"), deadline).await.unwrap();
        }
        assert_eq!(limits.turn(Some("bob"), deadline).await, Err(VaultError::UserTooFast));
        limits.turn(Some("alice"), deadline).await.unwrap();
        tokio::time::advance(10 * SECOND).await;
        let deadline = Instant::now() + SECOND;
        limits.turn(Some("bob"), deadline).await.unwrap();
        assert_eq!(limits.turn(Some("bob"), deadline).await, Err(VaultError::UserTooFast));
    }

    #[tokio::test(start_paused = true)]
    async fn the_people_that_are_counted_are_bounded() {
        let limits = Limits::new(1_000_000, 6);
        let now = Instant::now();
        for number in 0..MOST_USERS {
            limits.count(&number.to_string(), now).unwrap();
        }
        assert_eq!(limits.count("one more", now), Err(VaultError::Busy));
        assert_eq!(limits.count("7", now), Ok(()), "who is counted already still is");
        limits.count("one more", now + 60 * SECOND).unwrap();
        assert_eq!(limits.per_user.lock().unwrap().len(), 1);
    }
}
