//! What the driver and the handles of one session end share.
//!
//! The mutex is held for moments, never across an await; wakers are woken after it is released.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::endpoint::{Effects, Endpoint, Limits, Role};

/// The shared part of a session end.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told whenever more of the recording is durable, and when the driver ends.
    pub(super) recorded: Notify,
    pub(super) limits: Limits,
}

/// How the driver ended, as far as its handles care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// In order.
    Clean,
    /// The transport broke or the peer broke a rule.
    Broken,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) endpoint: Endpoint,
    pub(super) over: Option<Over>,
    /// When record bytes were last acknowledged, or began to wait.
    pub(super) record_progress: Instant,
    /// How many handles there are: with none left there is nothing more to say.
    pub(super) users: usize,
    driver: Option<Waker>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    listener: Option<Waker>,
}

/// Wakers to wake once the lock is released.
#[derive(Default)]
pub(super) struct Wake([Option<Waker>; 3]);

impl Drop for Wake {
    fn drop(&mut self) {
        for waker in self.0.iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

impl Shared {
    pub(super) fn new(role: Role, limits: Limits) -> Arc<Self> {
        let state = State {
            endpoint: Endpoint::new(role, &limits),
            over: None,
            record_progress: Instant::now(),
            users: 0,
            driver: None,
            reader: None,
            writer: None,
            listener: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            recorded: Notify::new(),
            limits,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // a panic elsewhere leaves the endpoint as it was between two steps
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the driver if there is something for it to do.
    pub(super) fn act<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let value = change(&mut state);
        let driver = if state.endpoint.has_output() || state.users == 0 {
            state.driver.take()
        } else {
            None
        };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        value
    }

    /// Tells every waiter that the driver has ended.
    pub(super) fn end(&self, over: Over) {
        let mut state = self.lock();
        if state.over.is_none() {
            state.over = Some(over);
        }
        let wake = Wake([state.reader.take(), state.writer.take(), state.listener.take()]);
        drop(state);
        drop(wake);
        self.recorded.notify_waiters();
    }
}

impl State {
    /// Takes the wakers of those whom these effects concern.
    pub(super) fn wakers(&mut self, effects: Effects) -> Wake {
        let mut wake = Wake::default();
        if effects.readable {
            wake.0[0] = self.reader.take();
        }
        if effects.writable {
            wake.0[1] = self.writer.take();
        }
        if effects.said {
            wake.0[2] = self.listener.take();
        }
        wake
    }

    pub(super) fn park_driver(&mut self, cx: &Context<'_>) {
        park(&mut self.driver, cx);
    }

    pub(super) fn park_reader(&mut self, cx: &Context<'_>) {
        park(&mut self.reader, cx);
    }

    pub(super) fn park_writer(&mut self, cx: &Context<'_>) {
        park(&mut self.writer, cx);
    }

    pub(super) fn park_listener(&mut self, cx: &Context<'_>) {
        park(&mut self.listener, cx);
    }
}

fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// A handle's share in a session end; the driver ends in order once the last is dropped.
#[derive(Debug)]
pub(super) struct User(Arc<Shared>);

impl User {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.lock().users += 1;
        Self(Arc::clone(shared))
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.act(|state| state.users -= 1);
    }
}

impl std::ops::Deref for User {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
