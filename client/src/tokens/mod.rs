//! The stored tokens of one person at one gateway, and their refresh.
//!
//! They are used only for the gateway that they were got for.

mod command;
pub(crate) mod keys;
mod silent;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::home::Home;
use crate::home::private::{self, Reserved};
use crate::oidc::{Granted, Issuer, Key, Lasts};
use crate::pass::{Pass, now};
use crate::secret::Secret;
pub(crate) use silent::{Need, Voice, silent};

/// How long to wait for another process that is refreshing.
pub(crate) const LOCK: Duration = Duration::from_secs(45);
/// How much longer than it ever lived a token may seem to live, in seconds.
const SLACK: u64 = 60;
const VERSION: u64 = 1;

/// `tokens.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Tokens {
    version: u64,
    /// For which gateway.
    pub(crate) gateway: Url,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) token_endpoint: Url,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revocation_endpoint: Option<Url>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_session_endpoint: Option<Url>,
    /// How the person is called; for showing.
    pub(crate) user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// What the gateway is shown; an id token if that is what it takes.
    pub(crate) access_token: Secret,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shows_id: bool,
    /// Unix seconds.
    pub(crate) expires_at: u64,
    /// How long the access token lived when it was given, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<Secret>,
    /// Until when the login can be refreshed, in Unix seconds; 0 means until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login_until: Option<u64>,
    /// Thumbprint of the key to which the tokens are bound (RFC 9449).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dpop_key: Option<String>,
    /// How far the issuer's clock is ahead of ours, in seconds.
    #[serde(default)]
    pub(crate) clock_ahead: i64,
}

impl Tokens {
    /// What a login gave, bound to this key if it is.
    pub(crate) fn new(gateway: &Url, issuer: &Issuer, granted: Granted, key: Option<&Key>) -> Self {
        let claims = granted.claims.as_ref();
        let mut tokens = Self {
            version: VERSION,
            gateway: gateway.clone(),
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            token_endpoint: issuer.token_endpoint.clone(),
            revocation_endpoint: issuer.revocation_endpoint.clone(),
            end_session_endpoint: issuer.end_session_endpoint.clone(),
            user: "somebody".to_owned(),
            subject: claims.map(|claims| claims.sub.clone()),
            access_token: granted.shown.clone(),
            shows_id: issuer.shows_id,
            expires_at: 0,
            life: None,
            refresh_token: None,
            login_until: None,
            dpop_key: key.filter(|_| granted.bound).map(|key| key.thumbprint().to_owned()),
            clock_ahead: issuer.ahead,
        };
        tokens.take(granted);
        tokens
    }

    /// The stored tokens, if there are any.
    pub(crate) fn read(home: &Home) -> Result<Option<Self>, Error> {
        let path = home.tokens();
        let Some(bytes) = private::read_secret(&path)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let damaged = || Error::Configuration(format!("{} is damaged: log in again", path.display()));
        // The parser's own message could quote a token.
        let tokens: Self = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        if tokens.version != VERSION {
            return Err(damaged());
        }
        Ok(Some(tokens))
    }

    /// The stored tokens, if they are for this gateway.
    pub(crate) fn read_for(home: &Home, gateway: &Url) -> Result<Option<Self>, Error> {
        Ok(Self::read(home)?.filter(|tokens| tokens.gateway == *gateway))
    }

    /// Stores them.
    pub(crate) fn write(&self, home: &Home) -> Result<(), Error> {
        private::write(&home.tokens(), &self.bytes()?)
    }

    /// The same, into a file that is there already.
    fn write_into(&self, file: Reserved) -> Result<(), Error> {
        file.persist(&self.bytes()?)
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bytes = serde_json::to_vec_pretty(self).map(Zeroizing::new);
        bytes.map_err(|error| Error::Configuration(error.to_string()))
    }

    /// Removes them.
    pub(crate) fn remove(home: &Home) -> Result<(), Error> {
        match std::fs::remove_file(home.tokens()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", home.tokens())(error))
            }
            _ => Ok(()),
        }
    }

    /// How much longer the access token is valid; nothing when it has expired, or when it seems to live longer than it
    /// ever did: then the clock was set back, and the only sure thing is a new token.
    pub(crate) fn life(&self) -> Duration {
        let left = self.expires_at.saturating_sub(now());
        if self.clock_was_set_back() {
            return Duration::ZERO;
        }
        Duration::from_secs(left)
    }

    /// Whether the access token seems to live longer than it ever did.
    pub(crate) fn clock_was_set_back(&self) -> bool {
        let left = self.expires_at.saturating_sub(now());
        self.life.is_some_and(|life| left > life.saturating_add(SLACK))
    }

    /// Until when the login can be refreshed.
    pub(crate) fn lasts(&self) -> Lasts {
        match self.login_until {
            None => Lasts::Unsaid,
            Some(0) => Lasts::Revoked,
            Some(until) => Lasts::Seconds(until.saturating_sub(now())),
        }
    }

    /// Whether they are bound to a key of this computer.
    pub(crate) fn are_bound(&self) -> bool {
        self.dpop_key.is_some()
    }

    /// Thumbprint of that key.
    pub(crate) fn key(&self) -> Option<&str> {
        self.dpop_key.as_deref()
    }

    /// What shows us to the gateway; nothing where the key is gone, without which the tokens are useless.
    fn pass(&self, home: &Home) -> Result<Option<Pass>, Error> {
        match &self.dpop_key {
            None => Ok(Some(self.pass_with(None))),
            Some(thumbprint) => Ok(keys::read(home, thumbprint)?.map(|key| self.pass_with(Some(key)))),
        }
    }

    /// The same with a key that is at hand.
    pub(crate) fn pass_with(&self, key: Option<Arc<Key>>) -> Pass {
        Pass::new(self.access_token.clone(), key, self.clock_ahead, self.expires_at)
    }

    fn take(&mut self, granted: Granted) {
        let now = now();
        self.access_token = granted.shown;
        self.expires_at = now.saturating_add(granted.life);
        self.life = Some(granted.life);
        if let Some(ahead) = granted.ahead {
            self.clock_ahead = ahead;
        }
        self.login_until = match granted.lasts {
            Lasts::Unsaid => None,
            Lasts::Revoked => Some(0),
            Lasts::Seconds(seconds) => Some(now.saturating_add(seconds)),
        };
        // RFC 6749 section 6: an issuer that gives no new one lets us keep the old one.
        if granted.refresh.is_some() {
            self.refresh_token = granted.refresh;
        }
        if let Some(claims) = granted.claims {
            claims.user().clone_into(&mut self.user);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tokens(gateway: &str, endpoint: &str, life: i64) -> Tokens {
        Tokens {
            version: VERSION,
            gateway: Url::parse(gateway).unwrap(),
            issuer: endpoint.trim_end_matches("/token").to_owned(),
            client_id: "doorward".into(),
            token_endpoint: Url::parse(endpoint).unwrap(),
            revocation_endpoint: None,
            end_session_endpoint: None,
            user: "bob".into(),
            subject: Some("sub-bob".into()),
            access_token: "access-1".to_owned().into(),
            shows_id: false,
            expires_at: now().saturating_add_signed(life),
            life: None,
            refresh_token: Some("refresh-1".to_owned().into()),
            login_until: None,
            dpop_key: None,
            clock_ahead: 0,
        }
    }

    #[test]
    fn a_life_that_cannot_be_is_none() {
        let mut stored = tokens("https://gw/", "https://i/token", 300);
        assert!(stored.life() > Duration::from_secs(290));
        stored.life = Some(300);
        assert!(stored.life() > Duration::from_secs(290) && !stored.clock_was_set_back());
        stored.life = Some(200);
        assert!(stored.life().is_zero() && stored.clock_was_set_back());
        stored.expires_at = u64::MAX;
        assert!(stored.life().is_zero());
        stored.expires_at = 0;
        assert!(stored.life().is_zero() && !stored.clock_was_set_back());
    }

    #[test]
    fn tokens_are_for_one_gateway_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        assert!(Tokens::read(&home).unwrap().is_none());
        let stored = tokens("https://gw/", "https://i/token", 300);
        assert!(!format!("{stored:?}").contains("access-1"), "{stored:?}");
        stored.write(&home).unwrap();
        assert!(
            Tokens::read_for(&home, &Url::parse("https://gw/").unwrap())
                .unwrap()
                .is_some()
        );
        assert!(
            Tokens::read_for(&home, &Url::parse("https://gw:444/").unwrap())
                .unwrap()
                .is_none()
        );
        private::write(&home.tokens(), b"{\"access-token\": \"secret-in-error\"").unwrap();
        let error = Tokens::read(&home).unwrap_err();
        assert!(!error.to_string().contains("secret-in-error"), "{error}");
        Tokens::remove(&home).unwrap();
        Tokens::remove(&home).unwrap();
    }
}
