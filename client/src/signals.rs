//! Signals that ask this program to leave.

#[cfg(not(unix))]
use std::future::pending;
#[cfg(unix)]
use std::task::Poll;

/// Requests to leave: hang-up, which `ssh` sends when it exits, interrupt and termination.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    signals: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    /// From now on the signals are asked for here and end the process no more.
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(unix)]
            signals: {
                use tokio::signal::unix::{SignalKind, signal};
                let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];
                // Without a handler the signal simply ends this process.
                kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect()
            },
        }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        std::future::poll_fn(|cx| {
            match self
                .signals
                .iter_mut()
                .any(|signal| matches!(signal.poll_recv(cx), Poll::Ready(Some(()))))
            {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    }
}
