//! How a session is recorded, and its spelling in a certificate.
//!
//! What is as usual is not spelled: so each recording has one spelling, and certificates from before there was a choice
//! mean what they meant.

use std::fmt::Write as _;
use std::time::Duration;

/// What is recorded beyond the output, and what happens where a record is not acknowledged as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Whether what the user types is recorded.
    pub input: bool,
    /// Bytes of output of a command without a terminal that are recorded whole; the rest is digested.
    pub bulk_limit: u64,
    /// What gives way where records are not acknowledged.
    pub mode: RecordingMode,
    /// Record bytes that may be unacknowledged: beyond, output waits (strict) or is counted alone (best-effort). 0 shows
    /// nothing that is not durable; then the mode is strict.
    pub unacked: u64,
    /// How long an acknowledgement may take before a strict session ends, in whole seconds from 1 to 3600.
    pub stall: Duration,
}

/// What gives way where records are not acknowledged; the former is the stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordingMode {
    /// The session: it waits, then ends.
    #[default]
    Strict,
    /// The recording: the session goes on, and what is missing is counted.
    BestEffort,
}

impl RecordingMode {
    /// The word of certificates and policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::BestEffort => "best-effort",
        }
    }
}

impl Default for Recording {
    /// No input, 16 MiB of bulk, strict with 4 MiB and 30 s.
    fn default() -> Self {
        Self {
            input: false,
            bulk_limit: 16 * 1024 * 1024,
            mode: RecordingMode::Strict,
            unacked: 4 * 1024 * 1024,
            stall: Duration::from_secs(30),
        }
    }
}

impl Recording {
    /// The longest that an acknowledgement may be waited for.
    pub const LONGEST_STALL: Duration = Duration::from_secs(3600);

    /// The stricter of both in everything.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        Self {
            input: self.input || other.input,
            bulk_limit: self.bulk_limit.max(other.bulk_limit),
            mode: self.mode.min(other.mode),
            unacked: self.unacked.min(other.unacked),
            stall: self.stall.min(other.stall),
        }
    }

    /// The value of the extension; nothing for what is out of bounds or contradicts itself.
    pub(super) fn spelled(&self) -> Option<String> {
        let usual = Self::default();
        let stall = self.stall.as_secs();
        let nothing_waits = self.unacked == 0 && self.mode == RecordingMode::BestEffort;
        if nothing_waits || !(1..=Self::LONGEST_STALL.as_secs()).contains(&stall) {
            return None;
        }
        let input = if self.input { "yes" } else { "no" };
        let mut text = format!("input={input},bulk={}", self.bulk_limit);
        if self.mode != usual.mode {
            let _ = write!(text, ",mode={}", self.mode.as_str());
        }
        if self.unacked != usual.unacked {
            let _ = write!(text, ",unacked={}", self.unacked);
        }
        if stall != usual.stall.as_secs() {
            let _ = write!(text, ",stall={stall}");
        }
        Some(text)
    }

    /// Reads the value of the extension. Whether it is the one spelling is for the caller to compare.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(',').peekable();
        let mut recording = Self {
            input: match parts.next()?.strip_prefix("input=")? {
                "yes" => true,
                "no" => false,
                _ => return None,
            },
            bulk_limit: parts.next()?.strip_prefix("bulk=")?.parse().ok()?,
            ..Self::default()
        };
        let mut next = |key: &str| {
            let value = parts.peek().and_then(|part| part.strip_prefix(key))?;
            parts.next();
            Some(value)
        };
        if let Some(mode) = next("mode=") {
            recording.mode = match mode {
                "strict" => RecordingMode::Strict,
                "best-effort" => RecordingMode::BestEffort,
                _ => return None,
            };
        }
        if let Some(unacked) = next("unacked=") {
            recording.unacked = unacked.parse().ok()?;
        }
        if let Some(stall) = next("stall=") {
            recording.stall = Duration::from_secs(stall.parse().ok()?);
        }
        parts.next().is_none().then_some(recording)
    }
}
