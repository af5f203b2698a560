//! Whether somebody else's clock agrees with ours. HTTP dates are whole seconds, and the way takes time: a second or two say
//! nothing.

use std::time::{Duration, SystemTime};

use super::{Finding, fetch::Fetched};
use crate::{config::Config, journal::unix_ms, record};

/// Holds the answer's clock against ours; `most` is the difference from which on something breaks.
pub(super) fn finding(whose: &str, fetched: &Fetched, most: Duration, breaks: &str) -> Finding {
    let Some(theirs) = fetched.date else {
        let remedy = "nothing breaks by that; see by other means that the clocks agree";
        return Finding::warning("clock", whose, "the answer does not say the time", remedy);
    };
    let (apart, ahead) = apart(theirs, fetched.came);
    let side = if ahead { "ahead of" } else { "behind" };
    let text = match apart.as_secs() {
        0..=2 => "agrees with ours".to_owned(),
        seconds => format!("{seconds} s {side} ours"),
    };
    let remedy = "set both clocks by NTP; compare with a third to see which one is wrong";
    if apart > most {
        return Finding::broken("clock", whose, format!("{text}: {breaks}"), remedy);
    }
    if apart > most / 3 {
        return Finding::warning("clock", whose, text, remedy);
    }
    Finding::ok("clock", whose, text)
}

/// Whether recordings are deleted by this host's clock: it must not differ from what the gateway believed last, which it writes down
/// every minute.
pub(super) fn retention(config: &Config) -> Vec<Finding> {
    const WHOSE: &str = "deletion of recordings";
    let believed = match record::believed(&config.state_directory) {
        Ok(Some(believed)) => believed,
        Ok(None) => return Vec::new(),
        Err(error) => {
            let text = format!("what was believed cannot be read: {error}");
            return vec![Finding::warning("clock", WHOSE, text, CONFIRM)];
        }
    };
    let now = unix_ms();
    let apart = Duration::from_millis(now.abs_diff(believed));
    if apart <= config.records.clock_leap {
        return vec![Finding::ok("clock", WHOSE, "goes by ours")];
    }
    let side = if now > believed { "ahead of" } else { "behind" };
    let text = format!(
        "held back: our clock is {} {side} what the gateway believed last",
        humantime::format_duration(Duration::from_secs(apart.as_secs()))
    );
    vec![Finding::warning("clock", WHOSE, text, CONFIRM)]
}

const CONFIRM: &str =
    "set the clock right; if it is, say so: `doorward-gateway confirm-clock --config FILE YYYY-MM-DD`";

fn apart(theirs: SystemTime, ours: SystemTime) -> (Duration, bool) {
    match theirs.duration_since(ours) {
        Ok(ahead) => (ahead, true),
        Err(behind) => (behind.duration(), false),
    }
}
