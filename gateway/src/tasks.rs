//! Who owns the gateway's tasks, and how they are told to end.
//!
//! Stopping has three steps, each a token that every task may watch: `stopping` (no new work; sessions go on),
//! `ending` (the drain deadline has passed, or a second signal came: sessions end with a sentence), `closing` (sessions
//! are over: links and other background tasks return). There is no bare spawn: what runs is counted here and awaited.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one gateway: sessions and connections on one side, what serves them on the other.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    sessions: TaskTracker,
    background: TaskTracker,
    stopping: CancellationToken,
    ending: CancellationToken,
    closing: CancellationToken,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every session ended by itself before the deadline.
    Quietly,
    /// Sessions had to be told to end, and did.
    Told,
    /// Tasks were still there after the last deadline, and were abandoned.
    Abandoned,
}

impl Tasks {
    /// Tasks whose stopping begins when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stopping: stop,
            ..Self::default()
        }
    }

    /// Runs a connection or a session: something that the drain waits for.
    pub fn spawn_session<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.sessions.spawn(task);
    }

    /// Runs a background task, which must return soon after [`Tasks::closing`] is cancelled.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.background.spawn(task);
    }

    /// Cancelled when no new work is to begin. Sessions go on.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when open sessions must end now, each with a sentence to its user.
    #[must_use]
    pub fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// Cancelled when background tasks must return: no session is left that needs them.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// How many connections and sessions run now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Stops everything in order: waits up to `deadline` for sessions to end by themselves (or until `hurry` is
    /// cancelled), tells the rest to end, waits up to `grace` for them, then does the same with the background tasks.
    pub async fn drain(&self, deadline: Duration, grace: Duration, hurry: &CancellationToken) -> Drained {
        self.stopping.cancel();
        self.sessions.close();
        let quiet = tokio::select! {
            () = self.sessions.wait() => true,
            () = tokio::time::sleep(deadline) => false,
            () = hurry.cancelled() => false,
        };
        self.ending.cancel();
        let told = quiet || tokio::time::timeout(grace, self.sessions.wait()).await.is_ok();
        self.closing.cancel();
        self.background.close();
        let closed = tokio::time::timeout(grace, self.background.wait()).await.is_ok();
        match (quiet, told && closed) {
            (true, true) => Drained::Quietly,
            (false, true) => Drained::Told,
            (_, false) => Drained::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn sessions_that_end_by_themselves_are_waited_for() {
        let tasks = Tasks::default();
        let stopping = tasks.stopping().clone();
        tasks.spawn_session(async move { stopping.cancelled().await });
        let closing = tasks.closing().clone();
        tasks.spawn(async move { closing.cancelled().await });
        assert_eq!(
            tasks.drain(LONG, LONG, &CancellationToken::new()).await,
            Drained::Quietly
        );
    }

    #[tokio::test]
    async fn sessions_that_go_on_are_told_at_the_deadline_or_at_once() {
        let hurry = CancellationToken::new();
        hurry.cancel();
        for (deadline, hurry) in [(MOMENT, CancellationToken::new()), (LONG, hurry)] {
            let tasks = Tasks::default();
            let (ending, closing) = (tasks.ending().clone(), tasks.closing().clone());
            tasks.spawn_session(async move {
                ending.cancelled().await;
                // What serves sessions is still there when they end.
                assert!(!closing.is_cancelled());
            });
            assert_eq!(tasks.drain(deadline, LONG, &hurry).await, Drained::Told);
        }
    }

    #[tokio::test]
    async fn what_does_not_end_is_abandoned_in_time() {
        let tasks = Tasks::default();
        tasks.spawn_session(std::future::pending());
        assert_eq!(
            tasks.drain(MOMENT, MOMENT, &CancellationToken::new()).await,
            Drained::Abandoned
        );
    }

    #[tokio::test]
    async fn a_panic_in_one_session_leaves_the_others() {
        let tasks = Tasks::default();
        tasks.spawn_session(async { panic!("a defect") });
        let ending = tasks.ending().clone();
        tasks.spawn_session(async move { ending.cancelled().await });
        assert_eq!(
            tasks.drain(MOMENT, LONG, &CancellationToken::new()).await,
            Drained::Told
        );
    }
}
