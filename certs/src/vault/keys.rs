//! The public keys of Vault's SSH mounts, followed through rotations: a key that is replaced is believed for as long as
//! certificates that it signed may live.
//!
//! Keys are read from `MOUNT/public_key`, which needs no token, and where that is closed from `MOUNT/config/ca`. With a
//! [`Memory`] they are known over restarts, and so is a rotation that took place in between.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use http::Method;
use tokio::{sync::Semaphore, time::Instant};
use vaultrs::api::ssh::{requests::ReadPublicKeyRequest, responses::ReadPublicKeyResponse};

use super::{
    VaultError,
    memory::{Memory, Remembered},
    retry,
    transport::{Ask, Transport},
    verdict::{Asked, judge},
};
use crate::{CaKeys, CaKeysError, Secret};

/// The keys of one mount.
#[derive(Debug)]
pub(super) struct MountKeys {
    mount: String,
    overlap: Duration,
    known: Mutex<Known>,
    gate: Semaphore,
    memory: OnceLock<Memory>,
}

#[derive(Debug, Default)]
struct Known {
    current: CaKeys,
    /// Keys that were current once, and until when they are believed.
    replaced: Vec<(ssh_key::PublicKey, Instant)>,
    asked: Option<Instant>,
}

impl Known {
    fn trusted(&self, now: Instant) -> CaKeys {
        let old = self.replaced.iter().filter(|(_, until)| *until > now);
        let all = self.current.iter().chain(old.map(|(key, _)| key));
        // At most as many as a set may have are kept.
        CaKeys::new(all.cloned()).unwrap_or_default()
    }

    /// For how much longer each replaced key is believed, as a time that a restart survives.
    fn remembered(&self) -> Remembered {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let left = |until: &Instant| wall + until.saturating_duration_since(now);
        Remembered {
            current: self.current.clone(),
            replaced: self
                .replaced
                .iter()
                .map(|(key, until)| (key.clone(), left(until)))
                .collect(),
        }
    }

    /// Begins with what was known before a restart. A clock that was set back prolongs nothing beyond the overlap.
    fn recall(&mut self, before: Remembered, overlap: Duration) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        self.current = before.current;
        let alive = before.replaced.into_iter().filter_map(|(key, until)| {
            let left = until.duration_since(wall).ok()?;
            Some((key, now + left.min(overlap)))
        });
        self.replaced = alive.collect();
        let many = self.replaced.len().saturating_sub(MOST_REPLACED);
        self.replaced.drain(..many);
    }

    fn replace(&mut self, fresh: CaKeys, now: Instant, overlap: Duration) -> bool {
        let gone: Vec<_> = self
            .current
            .iter()
            .filter(|key| !fresh.contains(key.key_data()))
            .cloned()
            .collect();
        let rotated = !gone.is_empty();
        self.replaced
            .retain(|(key, until)| *until > now && !fresh.contains(key.key_data()));
        self.replaced.extend(gone.into_iter().map(|key| (key, now + overlap)));
        let many = self.replaced.len().saturating_sub(MOST_REPLACED);
        self.replaced.drain(..many);
        self.current = fresh;
        rotated
    }
}

impl MountKeys {
    pub(super) fn new(mount: String, overlap: Duration) -> Self {
        Self {
            mount,
            overlap,
            known: Mutex::default(),
            gate: Semaphore::new(1),
            memory: OnceLock::new(),
        }
    }

    /// Knows what it knew before a restart, and remembers from now on.
    pub(super) fn remember(&self, memory: Memory) {
        match memory.read() {
            Ok(Some(before)) => self.with(|known| known.recall(before, self.overlap)),
            Ok(None) => {}
            Err(error) => tracing::error!(
                mount = self.mount,
                "what was known of the SSH CA's keys cannot be read from {}, and is asked for anew: {error}",
                memory.file()
            ),
        }
        // A second memory is nobody's wish.
        let _ = self.memory.set(memory);
    }

    /// The keys that are believed now; empty before the first answer.
    pub(super) fn trusted(&self) -> CaKeys {
        self.with(|known| known.trusted(Instant::now()))
    }

    /// The keys that are believed, asked for where `enough` does not hold of those that are known: one at a time, and not more
    /// often than once in a [`COOL_DOWN`], which is waited for.
    ///
    /// # Errors
    /// [`VaultError`], where no key is known at all.
    pub(super) async fn until(
        &self,
        enough: impl Fn(&CaKeys) -> bool,
        transport: &Transport,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<CaKeys, VaultError> {
        let look = async {
            let _alone = self.gate.acquire().await;
            if enough(&self.trusted()) {
                return Ok(());
            }
            let asked = self.with(|known| known.asked);
            if let Some(asked) = asked.filter(|_| !self.trusted().is_empty()) {
                tokio::time::sleep_until(asked + COOL_DOWN).await;
            }
            retry::within(deadline, || self.refresh(transport, token, deadline)).await
        };
        // Past the deadline what is known has to do.
        let looked = tokio::time::timeout_at(deadline, look).await;
        let trusted = self.trusted();
        match looked {
            _ if !trusted.is_empty() => Ok(trusted),
            Ok(Err(error)) => Err(error),
            _ => Err(VaultError::Hanging {
                address: transport.address(),
                within: COOL_DOWN,
            }),
        }
    }

    /// Asks for the current key.
    ///
    /// # Errors
    /// [`VaultError`]; the keys that were known stay.
    pub(super) async fn refresh(
        &self,
        transport: &Transport,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<(), VaultError> {
        self.with(|known| known.asked = Some(Instant::now()));
        let fresh = self.fetch(transport, token, deadline).await?;
        let (rotated, remembered) = self.with(|known| {
            let new = known.current != fresh;
            let rotated = known.replace(fresh, Instant::now(), self.overlap);
            (rotated, new.then(|| known.remembered()))
        });
        if let (Some(memory), Some(remembered)) = (self.memory.get(), remembered)
            && let Err(error) = memory.write(&remembered)
        {
            tracing::error!(
                mount = self.mount,
                "the SSH CA's keys cannot be written to {}: a restart would forget those that were replaced: {error}",
                memory.file()
            );
        }
        if rotated {
            tracing::warn!(
                mount = self.mount,
                overlap = ?self.overlap,
                "Vault's SSH CA has another key; the old one is believed for a while yet"
            );
        }
        Ok(())
    }

    async fn fetch(
        &self,
        transport: &Transport,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<CaKeys, VaultError> {
        let path = format!("{}/public_key", self.mount);
        let ask = Ask {
            method: Method::GET,
            path: &path,
            body: None,
            token: None,
        };
        let reply = transport.send(ask, deadline).await?;
        let text = if reply.is_success() {
            std::str::from_utf8(&reply.body)
                .map_err(|_| transport.not_vault(&reply, &path))?
                .to_owned()
        } else if reply.status == http::StatusCode::FORBIDDEN && token.is_some() {
            self.fetch_with_token(transport, token, deadline).await?
        } else {
            judge(transport, Asked::Ca, &path, reply, deadline).await?;
            return Err(VaultError::no_ca(&path, &CaKeysError::Empty));
        };
        CaKeys::parse(&text).map_err(|error| VaultError::no_ca(&path, &error))
    }

    async fn fetch_with_token(
        &self,
        transport: &Transport,
        token: Option<&Secret>,
        deadline: Instant,
    ) -> Result<String, VaultError> {
        let path = format!("{}/config/ca", self.mount);
        let endpoint = ReadPublicKeyRequest {
            mount: self.mount.clone(),
        };
        let reply = transport.call(&endpoint, token, deadline).await?;
        let reply = judge(transport, Asked::Ca, &path, reply, deadline).await?;
        let read: ReadPublicKeyResponse = transport.data(&reply, &path)?;
        Ok(read.public_key)
    }

    fn with<R>(&self, act: impl FnOnce(&mut Known) -> R) -> R {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An answer that is signed by an unknown key asks for the keys again, but not more often than this.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// How many replaced keys are believed at most, the latest.
const MOST_REPLACED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKey;

    fn set() -> CaKeys {
        CaKeys::new([HostKey::generate().unwrap().public_key().clone()]).unwrap()
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn a_replaced_key_is_believed_for_its_time_and_no_longer() {
        let (first, second) = (set(), set());
        let mut known = Known::default();
        assert!(known.trusted(Instant::now()).is_empty());
        assert!(
            !known.replace(first.clone(), Instant::now(), DAY),
            "the first is no rotation"
        );
        assert!(
            !known.replace(first.clone(), Instant::now(), DAY),
            "nor is the same again"
        );
        assert!(known.replace(second.clone(), Instant::now(), DAY));
        assert_eq!(known.trusted(Instant::now()).len(), 2);
        tokio::time::advance(DAY / 2).await;
        assert!(!known.replace(second.clone(), Instant::now(), DAY));
        assert_eq!(
            known.trusted(Instant::now()).len(),
            2,
            "looking again does not prolong it"
        );
        tokio::time::advance(DAY / 2).await;
        assert_eq!(known.trusted(Instant::now()), second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_prolongs_nothing_and_forgets_nothing() {
        let (first, second, third) = (set(), set(), set());
        let mut known = Known::default();
        known.replace(first, Instant::now(), DAY);
        known.replace(second, Instant::now(), DAY);
        let before = known.remembered();
        let mut after = Known::default();
        after.recall(before, DAY);
        assert_eq!(after.trusted(Instant::now()), known.trusted(Instant::now()));
        // A rotation that nobody saw.
        assert!(after.replace(third, Instant::now(), DAY));
        assert_eq!(after.trusted(Instant::now()).len(), 3);
        // A clock that was far ahead when it was written.
        let mut before = known.remembered();
        before.replaced[0].1 += 100 * DAY;
        let mut ahead = Known::default();
        ahead.recall(before, DAY);
        tokio::time::advance(DAY).await;
        assert_eq!(ahead.trusted(Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_comes_back_is_current_and_many_are_bounded() {
        let (first, second) = (set(), set());
        let mut known = Known::default();
        for keys in [&first, &second, &first] {
            known.replace(keys.clone(), Instant::now(), DAY);
        }
        assert_eq!(known.trusted(Instant::now()).len(), 2);
        for _ in 0..100 {
            known.replace(set(), Instant::now(), DAY);
        }
        assert_eq!(known.trusted(Instant::now()).len(), 1 + MOST_REPLACED);
    }
}
