//! A value behind a lock that cannot be held across an await.

use std::sync::{Mutex, PoisonError};

/// A value that several tasks change, each for a moment.
///
/// The closure form keeps the guard from living across an await. A panic inside such a moment
/// leaves the value as it is: every user of this type keeps it valid at each step.
#[derive(Debug, Default)]
pub struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    /// Puts `value` behind a lock.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Does `act` with the value, alone.
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
