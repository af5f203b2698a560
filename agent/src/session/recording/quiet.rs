//! What packing holds is given back while a session is silent: many sessions are open, and few of them print.

use std::convert::Infallible;
use std::time::Duration;

use super::Recording;

impl Recording {
    /// Watches over the memory that packing holds, for as long as the session lasts.
    pub(crate) async fn give_back(&self) -> Infallible {
        loop {
            self.packing.notified().await;
            until_quiet(|| self.state().recorder.offset()).await;
            self.state().recorder.rest();
        }
    }
}

/// Waits until nothing was recorded for a while.
async fn until_quiet(offset: impl Fn() -> u64) {
    loop {
        let before = offset();
        tokio::time::sleep(QUIET).await;
        if offset() == before {
            return;
        }
    }
}

/// Long enough that somebody who reads and goes on pays nothing, and short beside how long sessions idle.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_once_nothing_more_is_recorded() {
        let offset = Cell::new(0);
        let begun = Instant::now();
        let recording = async {
            for _ in 0..5 {
                sleep(QUIET * 3 / 4).await;
                offset.set(offset.get() + 1);
            }
        };
        tokio::join!(until_quiet(|| offset.get()), recording);
        assert!(begun.elapsed() >= QUIET * 5 * 3 / 4 + QUIET / 4);
        assert_eq!(offset.get(), 5);
    }
}
