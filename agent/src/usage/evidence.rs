//! What counts as use of a workspace, decided for one channel. No clock and no I/O: the caller says when.
//!
//! - On a **terminal** every byte is use, typed or shown: whoever types is there, and what is shown is work that goes on.
//! - **A program that is started** is use, whatever it is: somebody asked for it.
//! - In **any other channel** (a command without a terminal, sftp, a forwarded connection) bytes are use in a minute in which
//!   at least so many have passed, both directions together. An editor's server that nobody looks at sends heartbeats of some
//!   hundred bytes a minute for each of its connections; whoever edits or reads a file moves more with it than the floor.
//! - Everything else is none: a connection, its keepalives, window sizes, signals, environment, a channel that is merely open.

use std::time::Duration;

/// The use of one channel.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    terminal: bool,
    /// Bytes in one minute that are use.
    floor: u64,
    /// When the present minute began.
    since: Duration,
    /// Bytes in it.
    bytes: u64,
}

impl Evidence {
    /// A channel in which nothing has happened. `floor` is for as long as it has no terminal.
    pub(crate) fn new(floor: u64) -> Self {
        Self {
            terminal: false,
            floor,
            since: Duration::ZERO,
            bytes: 0,
        }
    }

    /// It has a terminal.
    pub(crate) fn on_terminal(&mut self) {
        self.terminal = true;
    }

    /// Bytes passed, in whichever direction, at `now` since any one moment; whether that is use.
    pub(crate) fn passed(&mut self, bytes: u64, now: Duration) -> bool {
        if bytes == 0 {
            return false;
        }
        if self.terminal {
            return true;
        }
        if self.bytes == 0 || now.saturating_sub(self.since) >= MINUTE {
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes >= self.floor
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: u64 = 8192;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// One connection of an editor's server, as VS Code's protocol has it while nobody does anything: every five seconds a
    /// message of 13 bytes each way in a WebSocket frame, and once a minute something larger.
    fn idle_editor(seconds: u64) -> Vec<(f64, u64)> {
        let beats = (0..seconds).step_by(5).flat_map(|second| {
            let at = second as f64;
            [(at, 15), (at + 0.02, 19)]
        });
        let news = (0..seconds).step_by(60).map(|second| (second as f64 + 0.5, 900));
        let mut all: Vec<_> = beats.chain(news).collect();
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        all
    }

    #[test]
    fn an_idle_editor_is_never_use_however_long_it_stays() {
        let mut channel = Evidence::new(FLOOR);
        for (when, bytes) in idle_editor(8 * 3600) {
            assert!(!channel.passed(bytes, at(when)), "{bytes} bytes at {when}");
        }
    }

    #[test]
    fn whoever_works_in_that_editor_is_seen_at_once() {
        let mut channel = Evidence::new(FLOOR);
        for (when, bytes) in idle_editor(600) {
            channel.passed(bytes, at(when));
        }
        // A file is opened; then somebody types, and each key is a message of some hundred bytes to the extension host.
        assert!(channel.passed(20_000, at(601.0)));
        let mut typing = Evidence::new(FLOOR);
        assert!((0..60).any(|key| typing.passed(320, at(f64::from(key) / 2.0))));
    }

    #[test]
    fn bytes_of_different_minutes_are_not_added_up() {
        let mut channel = Evidence::new(FLOOR);
        assert!(!channel.passed(FLOOR - 1, at(0.0)));
        assert!(!channel.passed(FLOOR - 1, at(60.0)));
        assert!(channel.passed(1, at(119.9)));
        // Once it is use it stays that for the rest of the minute, and no longer.
        assert!(channel.passed(1, at(119.95)));
        assert!(!channel.passed(1, at(120.0)));
    }

    #[test]
    fn a_terminal_is_used_by_every_byte() {
        let mut channel = Evidence::new(FLOOR);
        channel.on_terminal();
        assert!(channel.passed(1, at(0.0)));
        assert!(channel.passed(1, at(90_000.0)));
        assert!(!channel.passed(0, at(90_001.0)));
    }

    #[test]
    fn a_floor_of_nothing_makes_every_byte_use() {
        assert!(Evidence::new(0).passed(1, at(5.0)));
    }
}
