//! Signals of Unix.

use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that ask this program to leave.
#[derive(Debug)]
pub(super) struct Sources(Vec<Signal>);

impl Sources {
    pub(super) fn new() -> Self {
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
        // Without a handler the signal simply ends this process.
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let came = |signal: &mut Signal| matches!(signal.poll_recv(cx), Poll::Ready(Some(())));
        if self.0.iter_mut().any(came) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
