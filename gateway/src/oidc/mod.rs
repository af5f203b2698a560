//! Who is at the door: tokens of one OIDC issuer, checked against its published keys.
//!
//! An [`Identity`] exists only after the whole check. Nothing that a token says is used before its signature was right, and
//! nothing that a token brings along decides which key that is.

mod identity;
mod issuer;
mod json;
mod key_set;
mod keys;
mod token;

pub use identity::{BearerToken, Identity, MalformedToken};
pub use issuer::ClientError;

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;

use crate::{
    config::Oidc,
    metrics,
    refusal::{Dependency, Refusal, RefusalCode},
    tasks::Tasks,
};
use issuer::Issuer;
use keys::{Current, Keys};
use token::{Checked, Parsed};

/// The check of tokens.
#[derive(Debug)]
pub struct Identities {
    settings: Oidc,
    keys: Keys,
    checks: Semaphore,
    waiting: Semaphore,
}

impl Identities {
    /// Begins to follow the issuer's keys. The issuer need not be there yet.
    ///
    /// # Errors
    /// The CA file cannot be used.
    pub fn start(settings: Oidc, tasks: &Tasks) -> Result<Self, ClientError> {
        let keys = Keys::follow(Issuer::new(&settings)?, &settings, tasks);
        Ok(Self {
            settings,
            keys,
            checks: Semaphore::new(MOST_CHECKS),
            waiting: Semaphore::new(MOST_WAITING),
        })
    }

    /// Checks a token.
    ///
    /// # Errors
    /// A refusal that says what is wrong with the token, that the issuer's keys cannot be had, or that too many are
    /// being checked.
    pub async fn identify(&self, token: &BearerToken) -> Result<Identity, Refusal> {
        let begun = Instant::now();
        let busy = || {
            Refusal::new(
                RefusalCode::Overloaded,
                "too many tokens are being checked at the moment",
            )
            .with_retry_after(Duration::from_secs(2))
        };
        let place = tokio::time::timeout(LONGEST_WAIT, self.checks.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let parsed = Parsed::new(token.expose(), &self.settings)?;
        let mut now = self.keys.now();
        let mut checked = check(&parsed, &now)?;
        if matches!(checked, Checked::UnknownKey) {
            // Waiting for the issuer must not take places from tokens whose keys are known.
            drop(place);
            let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
            now = self.keys.after(&now).await;
            checked = check(&parsed, &now)?;
        }
        let Checked::Signed(claims) = checked else {
            return Err(match now.trouble {
                Some(trouble) => Refusal::unavailable(Dependency::IdentityProvider, trouble),
                None => token::untrusted("the token is signed with a key that its issuer does not publish"),
            });
        };
        let identity = token::identity(&claims, &self.settings, SystemTime::now())?;
        metrics::identified(begun.elapsed());
        Ok(identity)
    }

    /// Whether tokens can be checked now.
    ///
    /// # Errors
    /// Why not, for operators.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(age) = self.keys.age() {
            metrics::keys_age(age);
        }
        match self.keys.now() {
            Current { keys: Some(_), .. } => Ok(()),
            Current { trouble, .. } => Err(trouble.unwrap_or_default()),
        }
    }
}

fn check(parsed: &Parsed<'_>, now: &Current) -> Result<Checked, Refusal> {
    match &now.keys {
        Some(keys) => parsed.check(keys),
        None => Ok(Checked::UnknownKey),
    }
}

/// How many tokens are checked at once.
const MOST_CHECKS: usize = 256;
/// How many of them may wait for the issuer.
const MOST_WAITING: usize = 1024;
/// How long a check may wait for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
