//! When the workspace was used last, and when a gateway is told.
//!
//! What counts is decided in `evidence.rs`. The newest moment is kept for the whole workspace; each link tells its gateway
//! of it, at a rate that the gateway says, and not at all to a gateway that does not say that it understands.

mod evidence;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub(crate) use evidence::Evidence;

/// The last use of a workspace.
#[derive(Debug)]
pub(crate) struct LastUse {
    began: Instant,
    floor: u64,
    /// Milliseconds since `began` at which it was told last: a busy channel tells it once a second.
    told: AtomicU64,
    marks: watch::Sender<Marks>,
}

/// What the links see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Marks {
    last: Option<Instant>,
    /// Sessions that have ended.
    ended: u64,
}

impl LastUse {
    /// Nothing was used yet. Channels without a terminal are used in a minute in which `floor` bytes pass.
    pub(crate) fn new(floor: u64) -> Self {
        Self {
            began: Instant::now(),
            floor,
            told: AtomicU64::new(u64::MAX),
            marks: watch::Sender::default(),
        }
    }

    /// It is used now.
    pub(crate) fn now(&self) {
        let now = self.began.elapsed();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
        let told = self.told.load(Ordering::Relaxed);
        if told == u64::MAX || millis.saturating_sub(told) >= ONCE_IN.as_millis() as u64 {
            // Two that come here at once tell the same moment.
            self.told.store(millis, Ordering::Relaxed);
            self.marks.send_modify(|marks| marks.last = Some(self.began + now));
        }
    }

    /// A session has ended: what is not told yet is told without waiting for its turn.
    pub(crate) fn session_ended(&self) {
        self.marks.send_modify(|marks| marks.ended += 1);
    }

    /// What is to be told over one link, at most once in `every`.
    pub(crate) fn reports(&self, every: Duration) -> Reports {
        Reports {
            marks: self.marks.subscribe(),
            every: every.max(ONCE_IN),
            said: None,
            at: None,
            ended: 0,
        }
    }
}

/// A channel's share in the use of its workspace.
#[derive(Debug)]
pub(crate) struct Used {
    evidence: Mutex<Evidence>,
}

impl Used {
    pub(crate) fn new(of: &LastUse) -> Self {
        Self {
            evidence: Mutex::new(Evidence::new(of.floor)),
        }
    }

    /// Its program has a terminal.
    pub(crate) fn on_terminal(&self) {
        self.evidence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on_terminal();
    }

    /// Bytes passed.
    pub(crate) fn passed(&self, of: &LastUse, bytes: u64) {
        let now = of.began.elapsed();
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if evidence.passed(bytes, now) {
            drop(evidence);
            of.now();
        }
    }
}

/// What one gateway is told.
#[derive(Debug)]
pub(crate) struct Reports {
    marks: watch::Receiver<Marks>,
    every: Duration,
    /// The use that was told last.
    said: Option<Instant>,
    /// When.
    at: Option<Instant>,
    /// Ended sessions that were heeded.
    ended: u64,
}

impl Reports {
    /// Waits until there is something to tell and its turn has come; how long ago the workspace was used. Dropping the future
    /// loses nothing; it counts as told once it resolves.
    pub(crate) async fn due(&mut self) -> Duration {
        loop {
            let marks = *self.marks.borrow_and_update();
            let Some(last) = marks.last.filter(|last| self.said != Some(*last)) else {
                self.ended = marks.ended;
                self.changed().await;
                continue;
            };
            let pause = if marks.ended == self.ended { self.every } else { ONCE_IN };
            let wait = self.at.map_or(Duration::ZERO, |at| pause.saturating_sub(at.elapsed()));
            if wait.is_zero() {
                (self.said, self.at, self.ended) = (Some(last), Some(Instant::now()), marks.ended);
                return last.elapsed();
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.changed() => {}
            }
        }
    }

    async fn changed(&mut self) {
        if self.marks.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Uses within one second are one.
const ONCE_IN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something is due without any waiting.
    async fn due(reports: &mut Reports) -> bool {
        tokio::select! {
            biased;
            _ = reports.due() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn the_first_use_is_told_at_once_and_the_next_ones_in_their_turn() {
        let last = LastUse::new(8192);
        let mut reports = last.reports(Duration::from_secs(3600));
        assert!(!due(&mut reports).await, "nothing was used");
        last.now();
        assert!(due(&mut reports).await);
        assert!(!due(&mut reports).await, "told twice");
        // Another use, of another second.
        last.marks
            .send_modify(|marks| marks.last = Some(Instant::now() + Duration::from_millis(1)));
        assert!(!due(&mut reports).await, "out of its turn");
        // The end of a session does not wait for the hour.
        reports.at = Instant::now().checked_sub(ONCE_IN);
        assert!(!due(&mut reports).await);
        last.session_ended();
        assert!(due(&mut reports).await);
        last.session_ended();
        assert!(!due(&mut reports).await, "there is nothing new");
    }

    #[tokio::test]
    async fn a_link_that_comes_later_hears_of_what_was_before() {
        let last = LastUse::new(8192);
        last.now();
        let mut reports = last.reports(Duration::from_secs(15));
        assert!(due(&mut reports).await);
    }

    #[test]
    fn a_channel_counts_by_its_evidence() {
        let last = LastUse::new(1000);
        let used = Used::new(&last);
        used.passed(&last, 999);
        assert_eq!(last.marks.borrow().last, None);
        used.passed(&last, 1);
        assert!(last.marks.borrow().last.is_some());
        let (last, typed) = (LastUse::new(1000), Used::new(&last));
        typed.on_terminal();
        typed.passed(&last, 1);
        assert!(last.marks.borrow().last.is_some());
    }
}
