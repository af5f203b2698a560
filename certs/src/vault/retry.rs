//! Another attempt, a few times, with a growing and random pause, all within one deadline.

use std::time::Duration;

use rand::{TryRng as _, rngs::SysRng};
use tokio::time::Instant;

use super::VaultError;

/// Tries until it works, fails for good, or neither another attempt nor its pause fits before `deadline`.
///
/// # Errors
/// That of the last attempt.
pub(super) async fn within<T, F>(deadline: Instant, mut attempt: impl FnMut() -> F) -> Result<T, VaultError>
where
    F: Future<Output = Result<T, VaultError>>,
{
    let mut longest = FIRST_PAUSE;
    for _ in 1..MOST_ATTEMPTS {
        let error = match attempt().await {
            Err(error) if error.passes() => error,
            ended => return ended,
        };
        let pause = match &error {
            VaultError::RateLimited {
                retry_after: Some(after),
                ..
            } => *after + jitter(FIRST_PAUSE),
            _ => jitter(longest),
        };
        // A pause that leaves no time for an attempt only keeps the person waiting.
        if Instant::now() + pause + SHORTEST_ATTEMPT > deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        longest = (longest * 3).min(LONGEST_PAUSE);
    }
    attempt().await
}

/// Between half of `longest` and all of it, so that many who failed together do not come back together.
#[must_use]
pub fn jitter(longest: Duration) -> Duration {
    // Without random bytes the pause is the longest one.
    let random = SysRng.try_next_u32().unwrap_or(u32::MAX);
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// How often one thing is tried at most.
pub(super) const MOST_ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> VaultError {
        VaultError::Broken {
            address: String::new(),
            why: String::new(),
        }
    }

    /// How often it was tried, how it ended, and how long that took.
    async fn run(
        deadline: Duration,
        answers: Vec<Result<u32, VaultError>>,
    ) -> (usize, Result<u32, VaultError>, Duration) {
        let begun = Instant::now();
        let mut tries = 0;
        let ended = within(begun + deadline, || {
            tries += 1;
            std::future::ready(answers.get(tries - 1).unwrap_or(answers.last().unwrap()).clone())
        })
        .await;
        (tries, ended, begun.elapsed())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_does_not_is_not() {
        assert!(matches!(run(LONG, vec![Ok(1)]).await, (1, Ok(1), Duration::ZERO)));
        let (tries, ended, _) = run(LONG, vec![Err(broken()), Ok(2)]).await;
        assert_eq!((tries, ended), (2, Ok(2)));
        let (tries, ended, took) = run(LONG, vec![Err(VaultError::Busy)]).await;
        assert_eq!((tries, ended, took), (1, Err(VaultError::Busy), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_pauses_are_bounded() {
        let (tries, ended, took) = run(LONG, vec![Err(broken())]).await;
        assert_eq!((tries, ended), (4, Err(broken())));
        let most = FIRST_PAUSE + FIRST_PAUSE * 3 + FIRST_PAUSE * 9;
        assert!(took >= most / 2 && took <= most, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_goes_past_the_deadline() {
        let (tries, _, took) = run(Duration::from_millis(200), vec![Err(broken())]).await;
        assert_eq!((tries, took), (1, Duration::ZERO));
        let limited = |seconds| VaultError::RateLimited {
            address: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let (tries, _, took) = run(Duration::from_secs(4), vec![Err(limited(3600))]).await;
        assert_eq!((tries, took), (1, Duration::ZERO), "an hour is not waited for");
        let (tries, ended, took) = run(Duration::from_secs(4), vec![Err(limited(2)), Ok(3)]).await;
        assert_eq!((tries, ended), (2, Ok(3)));
        assert!(took >= Duration::from_secs(2), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_differ() {
        let pauses: std::collections::BTreeSet<_> = (0..32).map(|_| jitter(FIRST_PAUSE)).collect();
        assert!(pauses.len() > 1);
        assert!(
            pauses
                .iter()
                .all(|pause| (FIRST_PAUSE / 2..=FIRST_PAUSE).contains(pause))
        );
    }
}
