//! What a verification comes to: one class, one exit code. The worst of several is that of the whole.

use doorward_audit::{Class as FaultClass, Report, Verdict};

/// The classes, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Whole, or gone as the rules say.
    Complete,
    /// What was stored is whole, but the session ended without its last signature.
    Abnormal,
    /// Not closed: the session is open, or this is a copy from before its end.
    Open,
    /// Files could not be read.
    Unreadable,
    /// Signed by somebody who is not trusted.
    Untrusted,
    /// Not there although it was, or older than it was.
    Missing,
    /// Changed, cut, forged or put together from parts.
    Bad,
}

impl Class {
    /// The exit code of `doorward verify`.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Bad => 10,
            Self::Abnormal => 11,
            Self::Open => 12,
            Self::Missing => 13,
            Self::Untrusted => 14,
            Self::Unreadable => 15,
        }
    }

    /// A word from a closed set.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Bad => "bad",
            Self::Abnormal => "abnormal",
            Self::Open => "open",
            Self::Missing => "missing",
            Self::Untrusted => "untrusted",
            Self::Unreadable => "unreadable",
        }
    }

    /// The sentence for people.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Complete => "ok: whole, unaltered and signed to its end",
            Self::Abnormal => {
                "ok: what was stored is whole and signed, but the session ended abnormally, without its last signature"
            }
            Self::Open => "NOT CLOSED: the session is open, or this is a copy from before its end",
            Self::Unreadable => "NOT READABLE",
            Self::Untrusted => "NOT TRUSTED: signed by somebody else's key",
            Self::Missing => "MISSING: it is not there, or not all of it, although it was",
            Self::Bad => "NOT OK",
        }
    }
}

impl From<&Report> for Class {
    fn from(report: &Report) -> Self {
        match report.verdict() {
            // Only where that was allowed.
            Verdict::Complete | Verdict::Open => Self::Complete,
            Verdict::Abnormal => Self::Abnormal,
            Verdict::Bad => {
                let classes = report.findings.iter().map(|finding| Self::from(finding.class));
                classes.max().unwrap_or(Self::Bad)
            }
        }
    }
}

impl From<FaultClass> for Class {
    fn from(class: FaultClass) -> Self {
        match class {
            FaultClass::NoClosing => Self::Open,
            FaultClass::Unreadable => Self::Unreadable,
            FaultClass::UntrustedKey => Self::Untrusted,
            FaultClass::RolledBack => Self::Missing,
            _ => Self::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_none_that_means_something_else() {
        let all = [
            Class::Complete,
            Class::Abnormal,
            Class::Open,
            Class::Unreadable,
            Class::Untrusted,
            Class::Missing,
            Class::Bad,
        ];
        let mut codes: Vec<u8> = all.iter().map(|class| class.exit()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all.len());
        for taken in [1, 2, 64, 77, 78, 130, 254, 255] {
            assert!(!codes.contains(&taken), "{taken}");
        }
    }
}
