//! The serial numbers of certificates that were used, so that none is used twice.
//!
//! Bounded: when it is full it refuses; it never forgets a certificate that could still be presented. What it has
//! forgotten because it expired stays refused even when the clock is set back. The memory ends with the process; after
//! a restart a certificate that has not expired could be used again, by nobody but the gateway whose link key it names.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use crate::{Refusal, verify::unix_seconds};

/// The serial numbers seen, each remembered until its certificate expires.
#[derive(Debug)]
pub struct SerialsSeen {
    expiry_by_serial: HashMap<u64, u64>,
    capacity: usize,
    /// The latest `valid before` of any certificate forgotten so far.
    forgotten_until: u64,
}

impl SerialsSeen {
    /// How many unexpired certificates [`SerialsSeen::default`] remembers.
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// Remembers at most `capacity` unexpired certificates.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            expiry_by_serial: HashMap::new(),
            capacity,
            forgotten_until: 0,
        }
    }

    /// How many serial numbers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expiry_by_serial.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expiry_by_serial.is_empty()
    }

    /// Forgets the certificates that have expired at `now`.
    pub fn forget_expired(&mut self, now: SystemTime) {
        self.forget_before(unix_seconds(now));
    }

    /// The time up to which certificates may have been forgotten; whatever expires by then is refused.
    #[must_use]
    pub fn forgotten_until(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.forgotten_until)
    }

    /// Marks a serial as used.
    ///
    /// # Errors
    /// [`Refusal::Replayed`] where it was used before, [`Refusal::Expired`] where it may have been forgotten,
    /// [`Refusal::TooManySerials`] where there is no room.
    pub(crate) fn take(&mut self, serial: u64, valid_before: u64, now: u64) -> Result<(), Refusal> {
        if self.expiry_by_serial.contains_key(&serial) {
            return Err(Refusal::Replayed);
        }
        if valid_before <= self.forgotten_until {
            return Err(Refusal::Expired);
        }
        if self.expiry_by_serial.len() >= self.capacity {
            self.forget_before(now);
        }
        if valid_before <= self.forgotten_until {
            return Err(Refusal::Expired);
        }
        if self.expiry_by_serial.len() >= self.capacity {
            return Err(Refusal::TooManySerials);
        }
        self.expiry_by_serial.insert(serial, valid_before);
        Ok(())
    }

    fn forget_before(&mut self, now: u64) {
        let latest = &mut self.forgotten_until;
        self.expiry_by_serial.retain(|_, expiry| {
            let keep = now < *expiry;
            if !keep {
                *latest = (*latest).max(*expiry);
            }
            keep
        });
    }
}

impl Default for SerialsSeen {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_taken_once() {
        let mut seen = SerialsSeen::new(8);
        assert_eq!(seen.take(1, 100, 50), Ok(()));
        assert_eq!(seen.take(1, 100, 50), Err(Refusal::Replayed));
        assert_eq!(
            seen.take(1, 200, 99),
            Err(Refusal::Replayed),
            "another life does not make it another serial"
        );
        assert_eq!(seen.take(2, 100, 50), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_and_does_not_forget() {
        let mut seen = SerialsSeen::new(2);
        assert_eq!(seen.take(1, 100, 50), Ok(()));
        assert_eq!(seen.take(2, 200, 50), Ok(()));
        assert_eq!(seen.take(3, 300, 99), Err(Refusal::TooManySerials));
        assert_eq!(seen.take(1, 100, 99), Err(Refusal::Replayed));
        assert_eq!(seen.take(3, 300, 100), Ok(()), "the first has expired");
        assert_eq!(seen.len(), 2);
        assert_eq!(seen.take(2, 200, 100), Err(Refusal::Replayed));
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back() {
        let mut seen = SerialsSeen::new(2);
        assert_eq!(seen.take(1, 100, 50), Ok(()));
        seen.forget_expired(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        assert!(seen.is_empty());
        assert_eq!(seen.take(1, 100, 50), Err(Refusal::Expired));
        assert_eq!(seen.take(2, 101, 50), Ok(()));
    }

    #[test]
    fn a_memory_of_nothing_takes_nothing() {
        assert_eq!(SerialsSeen::new(0).take(1, 100, 50), Err(Refusal::TooManySerials));
    }
}
