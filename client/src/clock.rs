//! Other people's clocks. Ours says when to ask again, and never what is valid.

use std::time::{Duration, SystemTime};

use crate::say;

/// Differences up to this are the way of the answer, not the clock.
const NOISE: i64 = 10;
/// A difference that a person should know of.
const WORTH_SAYING: i64 = 60;

/// How far `theirs` is ahead of `ours`, in seconds; 0 where it is unknown or next to nothing.
pub(crate) fn ahead(theirs: Option<SystemTime>, ours: SystemTime) -> i64 {
    let Some(theirs) = theirs else { return 0 };
    let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    let ahead = match theirs.duration_since(ours) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    };
    if ahead.abs() <= NOISE { 0 } else { ahead }
}

/// A sentence about a clock of ours that is clearly wrong, or theirs.
pub(crate) fn remark(ahead: i64) -> Option<String> {
    if ahead.unsigned_abs() < WORTH_SAYING.unsigned_abs() {
        return None;
    }
    let by = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
    let way = if ahead > 0 { "behind" } else { "ahead of" };
    Some(format!("this computer's clock is {by} {way} the issuer's"))
}

/// Says it on standard error.
pub(crate) fn tell(ahead: i64) {
    if let Some(remark) = remark(ahead) {
        say::note(&remark);
        say::line("hint: set the clock; what is valid is decided by others, but times shown here are off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_none() {
        let ours = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        for (theirs, expected) in [
            (10_000, 0),
            (10_010, 0),
            (9_990, 0),
            (10_011, 11),
            (9_400, -600),
            (0, -10_000),
        ] {
            let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(theirs);
            assert_eq!(ahead(Some(theirs), ours), expected);
        }
        assert_eq!(ahead(None, ours), 0);
        assert_eq!(remark(59), None);
        assert!(remark(600).unwrap().contains("10m behind"));
        assert!(remark(-60).unwrap().contains("1m ahead of"));
        assert!(remark(i64::MIN).is_some());
    }
}
