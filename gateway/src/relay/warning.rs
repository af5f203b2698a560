//! Saying ahead of time that a session ends: because it comes to its longest time, or because its workspace is stopped.
//!
//! The longest time is counted by a clock that never steps; when a workspace is stopped is a time of day, which may be moved
//! while the session is open.

use std::time::{Duration, SystemTime};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::workspace::Stop;

/// The warnings that are still to come.
#[derive(Debug)]
pub(super) struct Warnings {
    end: Instant,
    /// How long before the end; the next is the last.
    ahead: Vec<Duration>,
    stops: watch::Receiver<Option<Stop>>,
    up_time: Option<UpTime>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The user is told a sentence, and when it ends is put on record.
    Warning {
        text: String,
        ends: SystemTime,
        why: &'static str,
    },
    /// The user is told a sentence.
    News(String),
    /// The workspace is stopped.
    Stopped,
}

/// A workspace that is stopped at a known time.
#[derive(Debug)]
struct UpTime {
    stop: Stop,
    /// Warnings that were not given yet; the next is the last.
    ahead: Vec<Duration>,
    warned: bool,
}

impl Warnings {
    /// For a session that lasts at most so long from now, in a workspace that is stopped as `stops` says. A short session has no
    /// warnings that would come at its beginning; who enters a workspace that is stopped soon is told so.
    pub(super) fn new(now: Instant, longest: Duration, mut stops: watch::Receiver<Option<Stop>>) -> Self {
        let up_time = stops.borrow_and_update().clone().map(UpTime::new);
        Self {
            end: now + longest,
            ahead: AHEAD.into_iter().filter(|ahead| *ahead < longest).collect(),
            stops,
            up_time,
        }
    }

    /// The next thing that is due. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Due {
        loop {
            let longest = async {
                match self.ahead.last() {
                    Some(ahead) => sleep_until(self.end - *ahead).await,
                    None => std::future::pending().await,
                }
            };
            let wait = self.up_time.as_ref().map(|up_time| up_time.wait(SystemTime::now()));
            let up_time = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let changed = async {
                // Where nobody can move it any more it stays.
                if self.stops.changed().await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = longest => if let Some(due) = self.take() {
                    return due;
                },
                () = changed => {
                    let stop = self.stops.borrow_and_update().clone();
                    if let Some(news) = self.moved(stop, SystemTime::now()) {
                        return news;
                    }
                }
                () = up_time => if let Some(due) = self.up_time.as_mut().and_then(|one| one.due(SystemTime::now())) {
                    return due;
                },
            }
        }
    }

    /// The warning of the longest time that is due.
    fn take(&mut self) -> Option<Due> {
        let ahead = self.ahead.pop()?;
        Some(Due::Warning {
            text: format!(
                "this session ends in {}: that is the longest time that your role allows",
                humantime::format_duration(ahead)
            ),
            ends: SystemTime::now() + ahead,
            why: "longest",
        })
    }

    /// Takes another time; the sentence for who was warned of the one before.
    fn moved(&mut self, stop: Option<Stop>, now: SystemTime) -> Option<Due> {
        let same = |up_time: &UpTime| stop.as_ref().is_some_and(|stop| stop.at == up_time.stop.at);
        if self.up_time.as_ref().is_some_and(same) {
            return None;
        }
        let warned = self.up_time.take().is_some_and(|up_time| up_time.warned);
        self.up_time = stop.map(UpTime::new);
        match &mut self.up_time {
            // It is told of the new end anyway.
            Some(up_time) if up_time.wait(now).is_zero() => None,
            Some(up_time) if warned => {
                up_time.warned = true;
                Some(Due::News(format!(
                    "the workspace is not stopped yet: it has another {}",
                    whole(up_time.left(now))
                )))
            }
            None if warned => Some(Due::News("the workspace is no longer stopped at a set time".to_owned())),
            _ => None,
        }
    }
}

impl UpTime {
    fn new(stop: Stop) -> Self {
        let mut ahead = stop.warn.to_vec();
        ahead.sort_unstable();
        Self {
            stop,
            ahead,
            warned: false,
        }
    }

    fn left(&self, now: SystemTime) -> Duration {
        self.stop.at.duration_since(now).unwrap_or_default()
    }

    /// How long nothing is due; never so long that a clock that was set goes unnoticed.
    fn wait(&self, now: SystemTime) -> Duration {
        let left = self.left(now);
        let ahead = self.ahead.last().copied().unwrap_or_default();
        left.saturating_sub(ahead).min(LOOK_EVERY)
    }

    /// What is due; of several warnings that were missed it is one.
    fn due(&mut self, now: SystemTime) -> Option<Due> {
        let left = self.left(now);
        if left.is_zero() {
            return Some(Due::Stopped);
        }
        let before = self.ahead.len();
        self.ahead.retain(|ahead| *ahead < left);
        if self.ahead.len() == before {
            return None;
        }
        self.warned = true;
        let more = match self.stop.extendable {
            true => ", unless somebody keeps it (`doorward keep`)",
            false => "",
        };
        Some(Due::Warning {
            text: format!(
                "the workspace is stopped in {}: its up-time is over then{more}",
                whole(left)
            ),
            ends: self.stop.at,
            why: "up-time",
        })
    }
}

/// In whole seconds, and whole minutes where that is about right: a timer that fires a little late says the time that was meant.
fn whole(left: Duration) -> humantime::FormattedDuration {
    let seconds = left.as_secs() + u64::from(left.subsec_millis() > 0);
    humantime::format_duration(Duration::from_secs(match seconds {
        600.. => seconds.div_ceil(60) * 60,
        _ => seconds,
    }))
}

/// So long before the end, the last first.
const AHEAD: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
];
const LOOK_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(at: SystemTime) -> Stop {
        Stop {
            at,
            warn: [60, 300, 900].map(Duration::from_secs).into(),
            extendable: false,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn all(longest: u64) -> Vec<String> {
        let (_, stops) = watch::channel(None);
        let mut warnings = Warnings::new(Instant::now(), Duration::from_secs(longest), stops);
        std::iter::from_fn(|| warnings.take()).map(text).collect()
    }

    fn text(due: Due) -> String {
        match due {
            Due::Warning { text, .. } | Due::News(text) => text,
            Due::Stopped => "stopped".to_owned(),
        }
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

    #[test]
    fn a_workspace_that_is_stopped_is_told_of_ahead_and_ends() {
        let mut one = UpTime::new(stop(at(10_000)));
        assert_eq!(one.wait(at(0)), LOOK_EVERY, "a clock may be set meanwhile");
        let (mut now, mut said) = (at(8_000), Vec::new());
        while !said.iter().any(|text| text == "stopped") {
            now += one.wait(now).max(Duration::from_millis(1));
            said.extend(one.due(now).map(text));
        }
        assert_eq!(now, at(10_000));
        let lead: Vec<_> = said.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(
            lead,
            [
                "the workspace is stopped in 15m",
                "the workspace is stopped in 5m",
                "the workspace is stopped in 1m",
                "stopped"
            ]
        );
    }

    #[test]
    fn who_enters_late_or_whose_clock_was_set_is_told_once_and_truly() {
        let mut one = UpTime::new(stop(at(1000)));
        assert!(one.wait(at(850)).is_zero());
        assert!(text(one.due(at(850)).unwrap()).contains("in 2m 30s:"));
        assert_eq!(one.due(at(851)), None);
        assert!(text(one.due(at(945)).unwrap()).contains("in 55s:"));
        assert_eq!(one.due(at(2000)), Some(Due::Stopped));
    }

    #[test]
    fn a_moved_end_is_the_new_one_and_told_to_who_was_warned() {
        let (_, stops) = watch::channel(Some(stop(at(1000))));
        let mut warnings = Warnings::new(Instant::now(), Duration::from_secs(9), stops);
        assert_eq!(warnings.moved(Some(stop(at(2000))), at(0)), None, "nobody was warned");
        assert_eq!(warnings.moved(Some(stop(at(2000))), at(0)), None, "nothing has changed");
        let due = |warnings: &mut Warnings, now| warnings.up_time.as_mut().unwrap().due(at(now));
        assert!(due(&mut warnings, 1200).is_some());
        let news = warnings.moved(Some(stop(at(9200))), at(1200)).map(text).unwrap();
        assert_eq!(news, "the workspace is not stopped yet: it has another 2h 14m");
        assert_eq!(due(&mut warnings, 1300), None);
        // Nearer than a warning: that is said by the warning itself.
        assert_eq!(warnings.moved(Some(stop(at(1500))), at(1300)), None);
        assert!(text(due(&mut warnings, 1300).unwrap()).contains("in 3m 20s:"));
        assert!(warnings.moved(None, at(1310)).is_some());
        assert!(warnings.up_time.is_none());
    }
}
