//! An agent that shows something and records nothing.
//!
//! An honest agent's record begins before its first SSH byte. So one that has sent more than a key exchange, and of which no
//! record came in all that time, does not record, whatever it says.

use std::time::Duration;

use doorward_wire::relay::Counters;
use tokio::time::{Instant, sleep_until};

/// Watches a session until its record begins.
#[derive(Debug)]
pub(super) struct Unrecorded {
    /// When to look next; never again once there is a record.
    look: Option<Instant>,
    /// Since when there is more than a key exchange.
    since: Option<Instant>,
}

impl Default for Unrecorded {
    fn default() -> Self {
        Self {
            look: Some(Instant::now() + LOOK_EVERY),
            since: None,
        }
    }
}

impl Unrecorded {
    /// Resolves when it is time to look.
    pub(super) async fn look(&self) {
        match self.look {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the agent has shown something for too long without a record.
    pub(super) fn is_too_long(&mut self, passed: Counters) -> bool {
        let now = Instant::now();
        if passed.records > 0 {
            self.look = None;
            return false;
        }
        self.look = Some(now + LOOK_EVERY);
        if passed.agent_to_client <= KEY_EXCHANGE {
            return false;
        }
        now - *self.since.get_or_insert(now) >= LONGEST
    }
}

/// More than an agent sends before anybody has logged in, in bytes.
const KEY_EXCHANGE: u64 = 8 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may be recorded.
const LONGEST: Duration = Duration::from_secs(5);
