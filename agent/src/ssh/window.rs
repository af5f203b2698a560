//! How much a client may send ahead.
//!
//! The SSH library opens a channel's window again when a packet arrives, not when somebody has taken it, and holds one
//! target size for the whole connection. So while any channel's queue is long, the target is the smallest at which
//! packets still move (2 bytes; below that the library would never ask again), and memory stays bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The window rule of one connection.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    long: AtomicUsize,
}

impl Inflow {
    /// Window of a channel whose process keeps up, in bytes.
    pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;
    /// A queue beyond this many bytes is long.
    pub(crate) const LONG: usize = 1024 * 1024;
    /// Window while a queue is long.
    const TRICKLE: u32 = 2;
    /// A client that trickles is answered no faster than this.
    const PAUSE: Duration = Duration::from_millis(3);

    /// A queue became long.
    pub(crate) fn grew(&self) {
        self.long.fetch_add(1, Ordering::Relaxed);
    }

    /// A long queue became short, or is gone.
    pub(crate) fn shrank(&self) {
        self.long.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any queue is long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.long.load(Ordering::Relaxed) > 0
    }

    /// The target for the next window that is opened.
    pub(crate) fn target(&self) -> u32 {
        if self.is_stuck() { Self::TRICKLE } else { Self::WINDOW }
    }

    /// How long to wait after a packet of this size, so that a trickle does not burn a processor.
    pub(crate) fn pause(&self, packet: usize) -> Option<Duration> {
        (packet <= Self::TRICKLE as usize && self.is_stuck()).then_some(Self::PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_queue_of_several_makes_all_trickle() {
        let inflow = Inflow::default();
        assert_eq!((inflow.target(), inflow.pause(1)), (Inflow::WINDOW, None));
        inflow.grew();
        inflow.grew();
        inflow.shrank();
        assert_eq!(inflow.target(), 2);
        assert!(inflow.pause(2).is_some() && inflow.pause(3).is_none());
        inflow.shrank();
        assert_eq!(inflow.target(), Inflow::WINDOW);
    }
}
