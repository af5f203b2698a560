//! Signals that ask this program to leave, and what must not be cut in half by them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use crate::error::Error;

/// Requests to leave: hang-up, which `ssh` sends when it exits, interrupt and termination; on Windows Ctrl-C,
/// Ctrl-Break, a window that is closed, the end of the person's session and that of the computer's.
#[derive(Debug)]
pub(crate) struct Signals(system::Sources);

impl Signals {
    /// From now on the signals are asked for here and end the process no more.
    pub(crate) fn new() -> Self {
        Self(system::Sources::new())
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

/// Work that a signal ends, with [`Error::Interrupted`]; but not while a part of it must stay whole.
pub(crate) async fn interruptible<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut signals = Signals::new();
    let mut work = pin!(work);
    let mut asked = false;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        while signals.poll(cx).is_ready() {
            asked = true;
        }
        if asked && WHOLE.get() == 0 {
            return Poll::Ready(Err(Error::Interrupted));
        }
        Poll::Pending
    })
    .await
}

/// Goes on with work that is no longer wanted, as far as a part of it must stay whole.
pub(crate) async fn finish_whole(mut work: Pin<&mut impl Future<Output = ()>>) {
    poll_fn(|cx| {
        if WHOLE.get() == 0 || work.as_mut().poll(cx).is_ready() || WHOLE.get() == 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// While this lives, signals wait. What is done meanwhile has a deadline of its own.
#[derive(Debug)]
pub(crate) struct Whole(());

impl Whole {
    /// From now on.
    pub(crate) fn begin() -> Self {
        WHOLE.set(WHOLE.get() + 1);
        Self(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        WHOLE.set(WHOLE.get() - 1);
    }
}

thread_local! {
    /// The program has one thread that matters.
    static WHOLE: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use nix::sys::signal::{Signal, raise};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_signal_waits_for_what_must_stay_whole() {
        let (written, mut was_written) = oneshot::channel();
        let work = async {
            let whole = Whole::begin();
            raise(Signal::SIGINT).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            written.send(()).unwrap();
            drop(whole);
            std::future::pending::<Result<(), Error>>().await
        };
        assert!(matches!(interruptible(work).await, Err(Error::Interrupted)));
        was_written.try_recv().unwrap();
    }
}
