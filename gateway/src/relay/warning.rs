//! Saying ahead of time that a session comes to its longest time.

use std::time::Duration;

use tokio::time::Instant;

/// The warnings that are still to come.
#[derive(Debug)]
pub(super) struct Warnings {
    end: Instant,
    /// How long before the end; the next is the last.
    ahead: Vec<Duration>,
}

impl Warnings {
    /// For a session that lasts at most so long from now. A short one has no warnings that would come at its beginning.
    pub(super) fn new(now: Instant, longest: Duration) -> Self {
        Self {
            end: now + longest,
            ahead: AHEAD.into_iter().filter(|ahead| *ahead < longest).collect(),
        }
    }

    /// When the next is due; never, if there is none.
    pub(super) async fn due(&self) {
        match self.ahead.last() {
            Some(ahead) => tokio::time::sleep_until(self.end - *ahead).await,
            None => std::future::pending().await,
        }
    }

    /// The sentence that is due.
    pub(super) fn take(&mut self) -> Option<String> {
        let ahead = humantime::format_duration(self.ahead.pop()?);
        Some(format!(
            "this session ends in {ahead}: that is the longest time that your role allows"
        ))
    }
}

/// So long before the end, the last first.
const AHEAD: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all(longest: u64) -> Vec<String> {
        let mut warnings = Warnings::new(Instant::now(), Duration::from_secs(longest));
        std::iter::from_fn(|| warnings.take()).collect()
    }

    #[tokio::test]
    async fn each_comes_once_and_a_short_session_has_fewer() {
        let lead = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
        assert_eq!(
            all(3600).iter().map(lead).collect::<Vec<_>>(),
            [
                "this session ends in 15m",
                "this session ends in 5m",
                "this session ends in 1m"
            ]
        );
        assert_eq!(all(301).len(), 2);
        assert_eq!(all(60).len(), 0);
    }
}
