//! How many signings are under way at Vault at once, and how long the others wait.
//!
//! A Vault that is slow is not asked for ever more at the same time: that would only make it slower for everybody. Whoever waits has
//! the whole time for a signing of their own afterwards, as long as Vault answers anybody at all; one that answers nobody holds
//! nobody longer than that time.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::VaultError;

/// The places, and when Vault answered last.
#[derive(Debug)]
pub(super) struct Queue {
    places: Semaphore,
    answered: Mutex<Option<Instant>>,
    each: Duration,
}

/// A place among those whose signing is under way.
#[derive(Debug)]
pub(super) struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    /// When the signing is given up.
    pub(super) deadline: Instant,
    began: Instant,
}

impl Queue {
    /// `each` is the time that a signing has.
    pub(super) fn new(each: Duration) -> Self {
        Self {
            places: Semaphore::new(AT_ONCE),
            answered: Mutex::new(None),
            each,
        }
    }

    /// When somebody who came at `came` need not wait any more.
    pub(super) fn latest(&self, came: Instant) -> Instant {
        came + self.each * WAITS
    }

    /// Waits for a place, in the order of coming.
    ///
    /// # Errors
    /// [`VaultError::Hanging`] where nobody was answered for the time that a signing has, [`VaultError::Slow`] where others were.
    pub(super) async fn place(&self, came: Instant, address: impl Fn() -> String) -> Result<Place<'_>, VaultError> {
        let (waiting, latest) = (self.places.acquire(), self.latest(came));
        tokio::pin!(waiting);
        let permit = loop {
            let heard = self.last().map_or(came, |last| last.max(came));
            let until = (heard + self.each).min(latest);
            match timeout_at(until, &mut waiting).await {
                Ok(Ok(permit)) => break permit,
                // It is never closed.
                Ok(Err(_)) => return Err(VaultError::Busy),
                Err(_) if until == latest => return Err(VaultError::Slow { address: address() }),
                Err(_) if self.last().is_none_or(|last| last + self.each <= until) => {
                    return Err(VaultError::Hanging {
                        address: address(),
                        within: self.each,
                    });
                }
                // Somebody was answered meanwhile.
                Err(_) => {}
            }
        };
        let began = Instant::now();
        let alive = self.last().is_some_and(|last| last >= came);
        Ok(Place {
            _permit: permit,
            deadline: if alive { began } else { came } + self.each,
            began,
        })
    }

    /// Notes that Vault has answered a signing, whatever it said.
    pub(super) fn heard(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The error of a signing that ended without an answer: where others were answered meanwhile, Vault is slow and not dead.
    pub(super) fn blame(&self, place: &Place<'_>, error: VaultError) -> VaultError {
        match error {
            VaultError::Hanging { address, .. } if self.last().is_some_and(|last| last >= place.began) => {
                VaultError::Slow { address }
            }
            error => error,
        }
    }

    fn last(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many are under way at once.
const AT_ONCE: usize = 64;
/// How long is waited for a place, in times for a signing.
pub(super) const WAITS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Duration = Duration::from_secs(4);

    /// So many at once at a Vault that takes so long for each: how many were signed for, and what the others were told and when.
    async fn crowd(count: usize, takes: Duration) -> (usize, Vec<(VaultError, Duration)>) {
        let (queue, came) = (Queue::new(EACH), Instant::now());
        let queue = &queue;
        let signings = (0..count).map(|_| async move {
            let place = queue.place(came, String::new).await?;
            match timeout_at(place.deadline, tokio::time::sleep(takes)).await {
                Ok(()) => {
                    queue.heard();
                    Ok(())
                }
                Err(_) => Err(queue.blame(
                    &place,
                    VaultError::Hanging {
                        address: String::new(),
                        within: EACH,
                    },
                )),
            }
        });
        let timed = signings.map(|signing| async { signing.await.map_err(|error| (error, came.elapsed())) });
        let ended = futures_util::future::join_all(timed).await;
        let refused: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
        (count - refused.len(), refused)
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_is_slow_signs_for_all_in_turn() {
        // Three seconds each, of the four that one has: the last of them wait for six.
        let (signed, refused) = crowd(3 * AT_ONCE, Duration::from_secs(3)).await;
        assert_eq!((signed, refused.len()), (3 * AT_ONCE, 0), "{refused:?}");
        let (signed, refused) = crowd(5 * AT_ONCE, Duration::from_secs(3)).await;
        assert_eq!(signed, 3 * AT_ONCE);
        for (error, after) in refused {
            assert_eq!((error.code(), after), ("vault-slow", EACH * WAITS));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_answers_nobody_holds_nobody_longer_than_one_signing() {
        let (signed, refused) = crowd(3 * AT_ONCE, Duration::from_secs(3600)).await;
        assert_eq!((signed, refused.len()), (0, 3 * AT_ONCE));
        for (error, after) in refused {
            assert_eq!((error.code(), after), ("vault-hanging", EACH));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_answered_while_others_are_is_told_that_vault_is_slow() {
        let queue = Queue::new(EACH);
        let place = queue.place(Instant::now(), String::new).await.unwrap();
        tokio::time::advance(EACH / 2).await;
        queue.heard();
        let hanging = VaultError::Hanging {
            address: String::new(),
            within: EACH,
        };
        assert_eq!(queue.blame(&place, hanging.clone()).code(), "vault-slow");
        let place = queue.place(Instant::now(), String::new).await.unwrap();
        tokio::time::advance(EACH / 2).await;
        let later = queue.place(Instant::now(), String::new).await.unwrap();
        assert_eq!(queue.blame(&later, hanging).code(), "vault-hanging");
        drop(place);
    }
}
