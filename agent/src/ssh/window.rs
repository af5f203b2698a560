//! How much clients may send ahead, channel by channel.
//!
//! The SSH library opens a channel's window again when a packet arrives, not when somebody has taken it, and it holds
//! one target size for the whole connection, which it asks for anew after each opening ([`Windows::opened`]). A queue
//! that grows long must not be fed further; the smallest target at which packets still move is 2 bytes. Three things
//! follow:
//!
//! - While some queue is long the target is 2, so its channel trickles and memory stays bounded.
//! - The trickle is slow because its window is told late ([`super::Unhurried`]); so it costs next to nothing, and for
//!   that time its channel cannot send.
//! - In that time the target is large if another channel needs its window: the next packet is its. A guess that goes
//!   wrong gives the long queue one window more; after [`GUESSES`] of them the others trickle too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The long queues of one connection.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    long: AtomicUsize,
    late: AtomicBool,
}

/// One channel's queue as the window rule sees it.
#[derive(Debug)]
pub(crate) struct Level {
    inflow: Arc<Inflow>,
    long: AtomicBool,
}

impl Inflow {
    /// Window of a channel whose process keeps up, in bytes.
    pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;
    /// A queue beyond this many bytes is long, until it is below half of it.
    pub(crate) const LONG: usize = 1024 * 1024;

    /// Whether any queue is long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.long.load(Ordering::Relaxed) > 0
    }

    /// Whether what is written next is to be told late. Asked once per write.
    pub(super) fn take_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) && self.late.swap(false, Ordering::Relaxed)
    }
}

impl Level {
    /// Of a new, empty queue.
    pub(crate) fn new(inflow: &Arc<Inflow>) -> Self {
        Self {
            inflow: Arc::clone(inflow),
            long: AtomicBool::new(false),
        }
    }

    /// Tells how many bytes the queue holds now.
    pub(crate) fn set(&self, bytes: usize) {
        let was = self.long.load(Ordering::Relaxed);
        let is = bytes > if was { Inflow::LONG / 2 } else { Inflow::LONG };
        if is != was && self.long.swap(is, Ordering::Relaxed) != is {
            if is {
                self.inflow.long.fetch_add(1, Ordering::Relaxed);
            } else {
                self.inflow.long.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The windows of one connection, kept in step with the library's own count.
#[derive(Debug)]
pub(super) struct Windows {
    inflow: Arc<Inflow>,
    channels: HashMap<u32, Window>,
    /// What the library opens windows to.
    target: u32,
    /// The packet that is being handled opened a window: its bytes are counted in that. What was left before.
    counted: Option<u32>,
    /// How often the others were opened narrowly since a packet came from a long queue's channel.
    quiet: u32,
    wrong: u32,
}

#[derive(Debug)]
struct Window {
    level: Arc<Level>,
    left: u32,
    /// Data came since the window was last opened wide.
    active: bool,
}

impl Windows {
    pub(super) fn new(inflow: Arc<Inflow>) -> Self {
        Self {
            inflow,
            channels: HashMap::new(),
            target: Inflow::WINDOW,
            counted: None,
            quiet: 0,
            wrong: 0,
        }
    }

    /// A channel is open.
    pub(super) fn open(&mut self, channel: u32, level: Arc<Level>) {
        self.channels.insert(
            channel,
            Window {
                level,
                left: Inflow::WINDOW,
                active: false,
            },
        );
    }

    /// Forgets a channel.
    pub(super) fn close(&mut self, channel: u32) {
        self.channels.remove(&channel);
    }

    /// Forgets the channels whose queue is gone; says how many.
    pub(super) fn sweep(&mut self) -> usize {
        let before = self.channels.len();
        self.channels.retain(|_, window| Arc::strong_count(&window.level) > 1);
        before - self.channels.len()
    }

    /// Data came on a channel; called after [`Self::opened`] for the same packet. False if it is more than the client
    /// was allowed to send, which the library does not look at: nothing would bound our memory then.
    pub(super) fn arrived(&mut self, channel: u32, bytes: usize) -> bool {
        let counted = self.counted.take();
        let Some(window) = self.channels.get_mut(&channel) else {
            return true;
        };
        window.active = true;
        if window.level.is_long() {
            self.quiet = 0;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let allowed = counted.unwrap_or(window.left);
        if counted.is_none() {
            window.left = window.left.saturating_sub(bytes);
        }
        bytes <= allowed
    }

    /// The library opened a channel's window to the target; gives the target for the next one.
    pub(super) fn opened(&mut self, channel: u32) -> u32 {
        let wide = self.target == Inflow::WINDOW;
        let long = match self.channels.get_mut(&channel) {
            Some(window) => {
                self.counted = Some(window.left);
                window.left = self.target;
                window.active &= !wide;
                window.level.is_long()
            }
            None => false,
        };
        self.target = self.next(long, wide);
        self.target
    }

    fn next(&mut self, long: bool, wide: bool) -> u32 {
        if !self.inflow.is_stuck() {
            self.wrong = 0;
            return Inflow::WINDOW;
        }
        if long {
            self.wrong += u32::from(wide);
            self.inflow.late.store(true, Ordering::Relaxed);
            let needs = |window: &Window| window.active && window.left < Inflow::WINDOW / 2 && !window.level.is_long();
            if self.wrong < GUESSES && self.channels.values().any(needs) {
                Inflow::WINDOW
            } else {
                TRICKLE
            }
        } else if wide {
            TRICKLE
        } else {
            // It wants more. What was told late has gone out with its own opening, so a packet of the long queue's
            // channel comes first, and then is its turn. If none comes, that channel has nothing to send.
            self.quiet += 1;
            if self.quiet > PATIENCE && self.wrong < GUESSES {
                Inflow::WINDOW
            } else {
                TRICKLE
            }
        }
    }
}

/// Window while a queue is long. With 1 the library would never ask again.
const TRICKLE: u32 = 2;
/// So many narrow openings in a row without a packet from a long queue's channel mean that none will come.
const PATIENCE: u32 = 2;
/// How often a long queue may be given a window meant for another.
const GUESSES: u32 = 8;

#[cfg(test)]
mod tests;
