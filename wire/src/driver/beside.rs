//! What is said beside a session's bytes.

use std::sync::Arc;

use super::shared::{Shared, User};
use crate::endpoint::Said;
use crate::frame::End;

/// What the agent or the gateway says to a client beside SSH bytes.
#[derive(Debug)]
pub struct Incoming(User);

/// Acts on the session from beside its stream. Clones share it.
#[derive(Clone, Debug)]
pub struct SessionHandle(User);

impl Incoming {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(User::new(shared))
    }

    /// The next thing said; `None` once the driver has ended and everything was heard. Notices beyond 16 that nobody
    /// takes are dropped. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Said> {
        std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            match state.endpoint.hear() {
                Some(said) => std::task::Poll::Ready(Some(said)),
                None if state.over.is_some() => std::task::Poll::Ready(None),
                None => {
                    state.park_listener(cx);
                    std::task::Poll::Pending
                }
            }
        })
        .await
    }
}

impl SessionHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(User::new(shared))
    }

    /// Says the end, after everything that was written, appended and noticed before. Only the first counts; later
    /// SSH bytes and records are refused. The driver then closes.
    pub fn end(&self, end: End) {
        self.0.act(|state| state.endpoint.end(end));
        // writers that wait for room learn that there will be none
        let wake = self.0.lock().wakers(crate::endpoint::Effects {
            writable: true,
            ..Default::default()
        });
        drop(wake);
    }

    /// Says a sentence for the user.
    pub fn notice(&self, text: impl Into<String>) {
        let text = text.into();
        self.0.act(|state| state.endpoint.notice(text));
    }

    /// The end that the peer said, if it did.
    #[must_use]
    pub fn heard_end(&self) -> Option<End> {
        self.0.lock().endpoint.heard_end().cloned()
    }

    /// Resolves when the gateway asks the agent to end the session, because its recording cannot be kept; never if it does
    /// not. SSH bytes go on in both directions until [`SessionHandle::end`] is called. For one task at a time.
    pub async fn asked_to_end(&self) -> End {
        std::future::poll_fn(|cx| {
            let mut state = self.0.lock();
            match state.endpoint.heard_end() {
                Some(end) if state.endpoint.is_asked_to_end() => std::task::Poll::Ready(end.clone()),
                _ => {
                    state.park_listener(cx);
                    std::task::Poll::Pending
                }
            }
        })
        .await
    }

    /// SSH bytes so far: (received from the peer, sent to the peer).
    #[must_use]
    pub fn counters(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.endpoint.received(), state.endpoint.sent())
    }
}
