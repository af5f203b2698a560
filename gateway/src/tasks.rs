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
