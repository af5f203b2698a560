//! One line for each step of the tour: whether it held, how long it took, what it was.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::time::timeout;

/// Prints as it goes.
pub(super) struct Report {
    fancy: bool,
    begun: Instant,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            fancy: std::io::stdout().is_terminal(),
            begun: Instant::now(),
        }
    }

    /// Does one step, within a bound of time, and says how it went.
    pub(super) async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let done = timeout(STEP, work)
            .await
            .unwrap_or_else(|_| Err(anyhow!("not done after {} s", STEP.as_secs())));
        self.line(
            if done.is_ok() { Mark::Held } else { Mark::Failed },
            begun.elapsed(),
            what,
        );
        done.map_err(|error| error.context(what.to_owned()))
    }

    /// The last line.
    pub(super) fn end(&self, held: bool) {
        let what = if held { "all of it held" } else { "the tour failed" };
        self.line(if held { Mark::Held } else { Mark::Failed }, self.begun.elapsed(), what);
    }

    fn line(&self, mark: Mark, took: Duration, what: &str) {
        let mark = match (mark, self.fancy) {
            (Mark::Held, true) => "\u{1b}[32m✓\u{1b}[0m",
            (Mark::Failed, true) => "\u{1b}[31m✗\u{1b}[0m",
            (Mark::Held, false) => "ok  ",
            (Mark::Failed, false) => "FAIL",
        };
        println!("{mark} {:6.2} s  {what}", took.as_secs_f64());
        let _ = std::io::stdout().flush();
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Held,
    Failed,
}

/// A start of Keycloak is the longest, on a loaded machine.
const STEP: Duration = Duration::from_secs(240);
