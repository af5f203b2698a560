//! Those who were turned away before they said who they are: counted all, put on record at a bounded rate.
//!
//! Anybody can knock. A journal that takes a line for each knock is a way to fill a disk from outside, so that lines are
//! taken from a bucket; the next line says how many were left out before it.

use std::{net::SocketAddr, time::Instant};

use doorward_audit::Denied;

use crate::{Gateway, guarded::Guarded, metrics, refusal::Refusal};

/// The bucket of lines.
#[derive(Debug)]
pub struct TurnedAway(Guarded<Bucket>);

#[derive(Debug)]
struct Bucket {
    lines: f64,
    filled: Instant,
    left_out: u64,
}

impl Default for TurnedAway {
    fn default() -> Self {
        Self(Guarded::new(Bucket {
            lines: MOST,
            filled: Instant::now(),
            left_out: 0,
        }))
    }
}

impl TurnedAway {
    /// Takes a line, if there is one, and says how many were left out since the last.
    fn take(&self, now: Instant) -> Option<u64> {
        self.0.with(|bucket| {
            let since = now.saturating_duration_since(bucket.filled);
            bucket.lines = (bucket.lines + since.as_secs_f64() * PER_SECOND).min(MOST);
            bucket.filled = now;
            if bucket.lines < 1.0 {
                bucket.left_out += 1;
                return None;
            }
            bucket.lines -= 1.0;
            Some(std::mem::take(&mut bucket.left_out))
        })
    }
}

impl Gateway {
    /// Counts, logs and puts on record that somebody unknown was turned away; the workspace is empty where none was asked for.
    pub(crate) fn turn_away(&self, refusal: &Refusal, workspace: &str, peer: SocketAddr) {
        metrics::refused(refusal.code());
        tracing::debug!(%peer, "turned away: {refusal}");
        let Some(left_out) = self.turned_away.take(Instant::now()) else {
            return;
        };
        let said = if refusal.detail().is_empty() {
            refusal.text()
        } else {
            refusal.detail()
        };
        let detail = match left_out {
            0 => said.to_owned(),
            count => format!("{said} (before this {count} more were turned away and not put on record)"),
        };
        self.journal.append(Denied {
            user: None,
            workspace: workspace.to_owned(),
            code: refusal.code().as_str().to_owned(),
            detail,
            client_address: peer.to_string(),
        });
    }
}

/// How many lines may come at once, and how many come back in a second.
const MOST: f64 = 200.0;
const PER_SECOND: f64 = 20.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let turned_away = TurnedAway::default();
        let begin = Instant::now();
        let taken = (0..10_000).filter(|_| turned_away.take(begin).is_some()).count();
        assert_eq!(taken, 200);
        assert_eq!(turned_away.take(begin + Duration::from_secs(1)), Some(9_800));
        assert_eq!(turned_away.take(begin + Duration::from_secs(1)), Some(0));
    }
}
