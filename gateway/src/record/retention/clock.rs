//! The time by which recordings are deleted: that of the clock, as long as something else speaks for it.
//!
//! Where the authority is a key file nothing but the host's clock says what day it is, and a gateway that was started years ahead would
//! find every recording's time over. So the time that was believed last is kept on the disk, goes on with the monotonic clock, and a clock
//! that differs from it by more than `clock-leap` is doubted until it agrees again or an operator has confirmed it: meanwhile nothing is
//! deleted that is due by one of the two alone, and nothing is dated for deletion by the earlier one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::guarded::Guarded;
use crate::record::layout;

/// The clock by which deletion goes.
pub(in crate::record) struct RetentionClock {
    /// The folder of the gateway's state; nothing is kept or confirmed without one.
    state: Option<PathBuf>,
    leap_ms: u64,
    /// `None` before the clock was looked at for the first time.
    known: Guarded<Option<Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    believed: u64,
    looked: Instant,
    doubted: bool,
    saved: Option<Instant>,
}

/// What a look at the clock has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// What is due by then may go: the earlier of the two times, Unix milliseconds.
    pub(super) now: u64,
    /// What should be the time as far as anything but the clock says so, Unix milliseconds.
    pub(super) believed: u64,
    /// Whether the clock differs too much from that.
    pub(super) doubted: bool,
    /// What has changed since the last look.
    pub(super) change: Option<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The clock is doubted from now on.
    Doubted,
    /// It differed from this time, and agrees again.
    Agrees { from: u64 },
    /// It differed from this time, and an operator has confirmed it.
    Confirmed { from: u64 },
}

/// How it lies on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    unix_ms: u64,
}

impl RetentionClock {
    pub(in crate::record) fn new(state: Option<PathBuf>, leap: Duration) -> Self {
        Self {
            state,
            leap_ms: millis(leap),
            known: Guarded::default(),
        }
    }

    /// Takes up the time that was believed when a gateway last ran here. Where nothing says so it is that of the newest recording, and the
    /// clock's own only where there is none. What cannot be read is no time at all: then the clock has to be confirmed. Blocks.
    pub(in crate::record) fn begin(&self, newest: Option<u64>, clock: u64) {
        let kept = match &self.state {
            Some(state) => read(&state.join(MARK)),
            None => Ok(None),
        };
        let believed = match kept {
            Ok(Some(mark)) => mark,
            Ok(None) => newest.unwrap_or(clock),
            Err(error) => {
                tracing::error!(%error, "{MARK} cannot be read: recordings are deleted once the clock is confirmed");
                0
            }
        };
        self.known.with(|known| {
            *known = Some(Known {
                believed,
                looked: Instant::now(),
                doubted: false,
                saved: None,
            });
        });
    }

    /// Holds the clock against what is believed. Blocks.
    pub(super) fn look(&self, clock: u64) -> Look {
        let confirmed = self.confirmed(clock);
        let look = self.judge(clock, Instant::now(), confirmed);
        self.keep(look.change.is_some());
        look
    }

    fn judge(&self, clock: u64, at: Instant, confirmed: bool) -> Look {
        self.known.with(|known| {
            let known = known.get_or_insert(Known {
                believed: clock,
                looked: at,
                doubted: false,
                saved: None,
            });
            let passed = millis(at.saturating_duration_since(known.looked));
            (known.believed, known.looked) = (known.believed.saturating_add(passed), at);
            let from = known.believed;
            let agrees = clock.abs_diff(from) <= self.leap_ms;
            let change = match (agrees, confirmed, known.doubted) {
                (true, _, false) => None,
                (true, _, true) => Some(Change::Agrees { from }),
                (false, true, _) => Some(Change::Confirmed { from }),
                (false, false, true) => None,
                (false, false, false) => Some(Change::Doubted),
            };
            known.doubted = !agrees && !confirmed;
            if !known.doubted {
                known.believed = clock;
            }
            Look {
                now: clock.min(known.believed),
                believed: known.believed,
                doubted: known.doubted,
                change,
            }
        })
    }

    /// The later of the clock and what is believed: what is kept for a while is kept from then on.
    pub(in crate::record) fn latest(&self, clock: u64) -> u64 {
        self.known.with(|known| {
            let known = known.filter(|known| known.doubted || clock.abs_diff(known.believed) > self.leap_ms);
            known.map_or(clock, |known| clock.max(known.believed))
        })
    }

    /// Writes down what is believed, now and then or at once.
    pub(super) fn keep(&self, at_once: bool) {
        let Some(state) = &self.state else { return };
        let due = self.known.with(|known| {
            let known = known.as_ref()?;
            let old = known.saved.is_none_or(|saved| saved.elapsed() >= KEEP_EVERY);
            (at_once || old).then_some(known.believed)
        });
        let Some(unix_ms) = due else { return };
        match write(state, MARK, &Mark { unix_ms }) {
            Ok(()) => self.known.with(|known| {
                if let Some(known) = known {
                    known.saved = Some(Instant::now());
                }
            }),
            // An old one doubts more and deletes less.
            Err(error) => tracing::debug!(%error, "{MARK} cannot be written"),
        }
    }

    /// Whether an operator has confirmed the clock since the last look.
    fn confirmed(&self, clock: u64) -> bool {
        let Some(state) = &self.state else { return false };
        let path = state.join(CONFIRMED);
        let said = match read(&path) {
            Ok(None) => return false,
            Ok(Some(said)) => Some(said),
            Err(error) => {
                tracing::warn!(%error, "{CONFIRMED} cannot be read");
                None
            }
        };
        // What has been believed is kept right after this, by `look`; a crash in between asks the operator again.
        if let Err(error) = layout::remove(&path) {
            tracing::warn!(%error, "{CONFIRMED} cannot be removed, and is not taken");
            return false;
        }
        said.is_some_and(|said| clock.abs_diff(said) <= self.leap_ms)
    }
}

/// Says that the clock of this host is right, for the gateway that keeps its state there.
///
/// # Errors
/// The file cannot be written.
pub fn confirm(state: &Path, clock: u64) -> io::Result<()> {
    write(state, CONFIRMED, &Mark { unix_ms: clock })
}

/// What a gateway on that state believed when it last wrote it down, Unix milliseconds.
///
/// # Errors
/// The file is there and cannot be read.
pub fn believed(state: &Path) -> io::Result<Option<u64>> {
    read(&state.join(MARK))
}

fn read(path: &Path) -> io::Result<Option<u64>> {
    let text = layout::read(path)?;
    let mark = text.map(|text| serde_json::from_slice::<Mark>(&text)).transpose()?;
    Ok(mark.map(|mark| mark.unix_ms))
}

fn write(state: &Path, name: &str, mark: &Mark) -> io::Result<()> {
    layout::replace(state, name, &serde_json::to_vec(mark)?)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const MARK: &str = "retention-clock.json";
const CONFIRMED: &str = "clock-confirmed.json";
const KEEP_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const THEN: u64 = 20_000 * DAY;

    fn clock(state: Option<&Path>) -> RetentionClock {
        RetentionClock::new(state.map(Path::to_owned), Duration::from_millis(3 * DAY))
    }

    #[test]
    fn a_leap_is_doubted_until_it_is_taken_back_or_confirmed() {
        let clock = clock(None);
        clock.begin(None, THEN);
        let start = Instant::now();
        let at = |days: u64| start + Duration::from_millis(days * DAY);
        let (clock_then, day_two) = (
            clock.judge(THEN, start, false),
            clock.judge(THEN + 2 * DAY, at(2), false),
        );
        assert_eq!((clock_then.change, day_two.change), (None, None));
        // What time passed is believed, and no more of it goes.
        let ahead = clock.judge(THEN + 900 * DAY, at(3), false);
        assert!(ahead.doubted && ahead.change == Some(Change::Doubted));
        assert!(ahead.now.abs_diff(THEN + 3 * DAY) < 1000, "{ahead:?}");
        let still = clock.judge(THEN + 910 * DAY, at(13), false);
        assert!(still.doubted && still.change.is_none() && still.now.abs_diff(THEN + 13 * DAY) < 1000);
        let back = clock.judge(THEN + 14 * DAY, at(14), false);
        assert!(!back.doubted && matches!(back.change, Some(Change::Agrees { .. })));
        assert_eq!(back.now, THEN + 14 * DAY);
        clock.judge(THEN + 900 * DAY, at(14), false);
        let confirmed = clock.judge(THEN + 900 * DAY, at(14), true);
        assert!(matches!(confirmed.change, Some(Change::Confirmed { .. })));
        assert_eq!((confirmed.now, confirmed.doubted), (THEN + 900 * DAY, false));
    }

    #[test]
    fn a_clock_that_is_behind_shortens_nothing() {
        let clock = clock(None);
        clock.begin(None, THEN);
        let behind = clock.judge(THEN - 400 * DAY, Instant::now(), false);
        assert!(behind.doubted);
        assert_eq!(behind.now, THEN - 400 * DAY);
        assert!(clock.latest(THEN - 400 * DAY) >= THEN);
        assert_eq!(clock.latest(THEN + 400 * DAY), THEN + 400 * DAY);
    }

    #[test]
    fn a_start_by_another_clock_is_no_proof_of_it() {
        let state = tempfile::tempdir().unwrap();
        let first = clock(Some(state.path()));
        first.begin(None, THEN);
        assert!(!first.look(THEN).doubted);
        // However often it is started again.
        for _ in 0..3 {
            let again = clock(Some(state.path()));
            again.begin(Some(THEN + 900 * DAY), THEN + 900 * DAY);
            let look = again.look(THEN + 900 * DAY);
            assert!(look.doubted && look.now.abs_diff(THEN) < 60_000, "{look:?}");
        }
        // Somebody who confirms another clock than the one that is there has confirmed nothing.
        let again = clock(Some(state.path()));
        again.begin(None, THEN);
        confirm(state.path(), THEN + 800 * DAY).unwrap();
        assert!(again.look(THEN + 900 * DAY).doubted);
        confirm(state.path(), THEN + 900 * DAY).unwrap();
        assert!(!again.look(THEN + 900 * DAY).doubted);
        assert_eq!(believed(state.path()).unwrap(), Some(THEN + 900 * DAY));
        assert!(!state.path().join(CONFIRMED).exists());
    }

    #[test]
    fn without_a_mark_the_newest_recording_speaks_and_a_broken_mark_says_nothing() {
        let state = tempfile::tempdir().unwrap();
        let fresh = clock(Some(state.path()));
        fresh.begin(Some(THEN), THEN + 900 * DAY);
        assert!(fresh.look(THEN + 900 * DAY).doubted);
        std::fs::write(state.path().join(MARK), "{").unwrap();
        let broken = clock(Some(state.path()));
        broken.begin(Some(THEN), THEN);
        assert!(broken.look(THEN).now < DAY);
    }
}
