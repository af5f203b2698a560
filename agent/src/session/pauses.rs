//! Pauses of a strict session that went on after them: told one by one up to a bound, and the rest in one sum.

use std::time::Duration;

use doorward_audit::Paused;

/// What was told of pauses, and what was not.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    told: u32,
    rest: Paused,
}

impl Pauses {
    /// A pause is over; what is to be said of it now. Nothing of one that nobody notices.
    pub(super) fn tell(&mut self, channel: Option<u32>, unacknowledged: u64, lasted: Duration) -> Option<Paused> {
        if lasted <= NOTICED {
            return None;
        }
        let milliseconds = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        if self.told < MOST {
            self.told += 1;
            return Some(Paused {
                channel,
                unacknowledged,
                milliseconds,
                pauses: None,
            });
        }
        let rest = &mut self.rest;
        rest.unacknowledged = rest.unacknowledged.max(unacknowledged);
        rest.milliseconds = rest.milliseconds.saturating_add(milliseconds);
        *rest.pauses.get_or_insert(0) += 1;
        None
    }

    /// The sum of those of which nothing was said, at the end.
    pub(super) fn rest(&mut self) -> Option<Paused> {
        let rest = std::mem::take(&mut self.rest);
        rest.pauses.is_some().then_some(rest)
    }
}

/// A shorter pause is no event.
const NOTICED: Duration = Duration::from_secs(1);
/// So many pauses of a session have events of their own.
const MOST: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_event_until_there_are_too_many() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.tell(Some(1), 10, NOTICED), None);
        let told = pauses.tell(Some(1), 10, NOTICED + Duration::from_millis(5));
        let expected = Paused {
            channel: Some(1),
            unacknowledged: 10,
            milliseconds: 1005,
            pauses: None,
        };
        assert_eq!(told, Some(expected));
        assert_eq!(pauses.rest(), None);
        let long = Duration::from_secs(2);
        let more = (0..MOST + 2).filter_map(|number| pauses.tell(None, number.into(), long));
        assert_eq!(more.count(), MOST as usize - 1);
        let rest = pauses.rest().unwrap();
        assert_eq!(
            (rest.pauses, rest.milliseconds, rest.unacknowledged),
            (Some(3), 6000, u64::from(MOST) + 1)
        );
        assert_eq!(pauses.rest(), None);
    }
}
