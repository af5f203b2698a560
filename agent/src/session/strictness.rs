//! What gives way where records are not acknowledged: the terms of a session, within the bounds of the agent's own file.

use std::time::{Duration, SystemTime};

use doorward_certs::RecordingMode;

use crate::config::Limits;

/// How long records may stay unacknowledged, how many, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strictness {
    /// Whether the session or the recording gives way.
    pub(crate) mode: RecordingMode,
    /// Bytes that may be unacknowledged; 0 shows nothing that is not durable.
    pub(crate) unacked: usize,
    /// How long an acknowledgement may take.
    pub(crate) stall: Duration,
}

impl Strictness {
    /// What the terms say, where that is tighter than the agent's own bounds. An agent that is to show nothing that is not
    /// durable is strict whatever they say.
    pub(crate) fn of(terms: &doorward_certs::Recording, own: &Limits) -> Self {
        let unacked = usize::try_from(terms.unacked).unwrap_or(usize::MAX);
        let unacked = unacked.min(own.record_unacked);
        Self {
            mode: match unacked {
                0 => RecordingMode::Strict,
                _ => terms.mode,
            },
            unacked,
            stall: terms.stall.min(own.record_stall),
        }
    }

    pub(crate) fn is_best_effort(&self) -> bool {
        self.mode == RecordingMode::BestEffort
    }

    /// Which bound was passed, and since when, in a sentence for the user and the record.
    pub(super) fn passed(&self, waiting: u64, since: Duration) -> String {
        let (unacked, stall) = (self.unacked, humantime::format_duration(self.stall));
        let now = SystemTime::now();
        let since = humantime::format_rfc3339_seconds(now.checked_sub(since).unwrap_or(now));
        let full = match waiting >= unacked as u64 {
            true => format!(", and its bound of {unacked} is reached"),
            false => format!(" of at most {unacked}"),
        };
        format!("nothing was acknowledged since {since}, for longer than {stall}; {waiting} bytes wait{full}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_tighten_the_agents_bounds_and_never_widen_them() {
        let own = Limits {
            record_unacked: 1000,
            record_stall: Duration::from_secs(10),
            ..Limits::default()
        };
        let of = |mode, unacked, stall, own: &Limits| {
            let terms = doorward_certs::Recording {
                mode,
                unacked,
                stall: Duration::from_secs(stall),
                ..doorward_certs::Recording::default()
            };
            let made = Strictness::of(&terms, own);
            (made.mode, made.unacked, made.stall.as_secs())
        };
        use RecordingMode::{BestEffort, Strict};
        assert_eq!(of(Strict, 5000, 30, &own), (Strict, 1000, 10));
        assert_eq!(of(BestEffort, 500, 3, &own), (BestEffort, 500, 3));
        assert_eq!(of(Strict, 0, 3, &own), (Strict, 0, 3));
        let nothing = Limits {
            record_unacked: 0,
            ..own
        };
        assert_eq!(of(BestEffort, 500, 30, &nothing), (Strict, 0, 10));
    }

    #[test]
    fn the_sentence_says_which_bound_was_passed() {
        let strict = Strictness {
            mode: RecordingMode::Strict,
            unacked: 100,
            stall: Duration::from_secs(7),
        };
        let (below, above) = (
            strict.passed(99, Duration::from_secs(7)),
            strict.passed(100, Duration::from_secs(7)),
        );
        assert!(
            below.contains("7s") && below.contains("99 bytes wait of at most 100"),
            "{below}"
        );
        assert!(
            above.ends_with("100 bytes wait, and its bound of 100 is reached"),
            "{above}"
        );
    }
}
