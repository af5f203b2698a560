//! Levels of channels that the agent opens. The connection's handler hears of their confirmation, the channel's task of
//! their number; here they meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::ssh::Level;

/// Levels that wait for their channel's task.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    waiting: Mutex<HashMap<u32, Arc<Level>>>,
    changed: Notify,
}

impl Levels {
    /// The client has confirmed this channel. There are no more of them than places for forwards.
    pub(crate) fn confirmed(&self, channel: u32, level: Arc<Level>) {
        self.with(|waiting| waiting.insert(channel, level));
        self.changed.notify_waiters();
    }

    /// The level of a channel that was confirmed, or is about to be heard of.
    pub(super) async fn of(&self, channel: u32) -> Arc<Level> {
        loop {
            let changed = self.changed.notified();
            if let Some(level) = self.with(|waiting| waiting.remove(&channel)) {
                return level;
            }
            changed.await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u32, Arc<Level>>) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_meet_whoever_comes_first() {
        let levels = Levels::default();
        let level = || Arc::new(Level::new(&Arc::default()));
        levels.confirmed(1, level());
        levels.of(1).await;
        let early = async {
            tokio::task::yield_now().await;
            levels.confirmed(3, level());
            levels.confirmed(2, level());
        };
        tokio::join!(levels.of(2), early, levels.of(3));
        assert!(levels.with(|waiting| waiting.is_empty()));
    }
}
