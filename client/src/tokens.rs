//! The stored tokens of one person at one gateway, and their refresh.
//!
//! They are used only for the gateway that they were got for. Refreshing happens under a lock, and what another process
//! stored meanwhile is taken instead: an issuer that rotates refresh tokens ends the login when one is used twice.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::home::Home;
use crate::home::private::{self, Lock};
use crate::http::Web;
use crate::oidc::{self, Granted, Issuer, Refreshed};
use crate::secret::Secret;

/// A token that has less than this left is refreshed first.
pub(crate) const FRESH: Duration = Duration::from_secs(30);
/// How long to wait for another process that is refreshing.
pub(crate) const LOCK: Duration = Duration::from_secs(45);
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
    /// How the person is called; for showing.
    pub(crate) user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    pub(crate) access_token: Secret,
    /// Unix seconds.
    pub(crate) expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<Secret>,
}

impl Tokens {
    /// What a login gave.
    pub(crate) fn new(gateway: &Url, issuer: &Issuer, granted: Granted) -> Self {
        let claims = granted.claims.as_ref();
        Self {
            version: VERSION,
            gateway: gateway.clone(),
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            token_endpoint: issuer.token_endpoint.clone(),
            revocation_endpoint: issuer.revocation_endpoint.clone(),
            user: claims.map_or("somebody", |claims| claims.user()).to_owned(),
            subject: claims.map(|claims| claims.sub.clone()),
            access_token: granted.access,
            expires_at: granted.expires,
            refresh_token: granted.refresh,
        }
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
        let bytes = serde_json::to_vec_pretty(self).map(Zeroizing::new);
        let bytes = bytes.map_err(|error| Error::Configuration(error.to_string()))?;
        private::write(&home.tokens(), &bytes)
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

    /// How much longer the access token is valid; nothing when it has expired.
    pub(crate) fn life(&self) -> Duration {
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(self.expires_at));
        end.and_then(|end| end.duration_since(SystemTime::now()).ok())
            .unwrap_or_default()
    }

    fn take(&mut self, granted: Granted) {
        self.access_token = granted.access;
        self.expires_at = granted.expires;
        if granted.refresh.is_some() {
            self.refresh_token = granted.refresh;
        }
        if let Some(claims) = granted.claims {
            claims.user().clone_into(&mut self.user);
        }
    }
}

/// Which token will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// Any that is valid for a while.
    Valid,
    /// Another than this one, which the gateway did not take.
    Other(&'a Secret),
}

impl Need<'_> {
    fn met_by(self, tokens: &Tokens) -> bool {
        match self {
            Self::Valid => tokens.life() >= FRESH,
            Self::Other(refused) => tokens.access_token != *refused && tokens.life() >= FRESH,
        }
    }
}

/// A token for this gateway, refreshed if need be; nothing when a person must log in.
///
/// # Errors
/// An issuer that cannot be reached is an error only when there is no token that is still valid.
pub(crate) async fn silent(
    home: &Home,
    gateway: &Url,
    ca: Option<std::path::PathBuf>,
    need: Need<'_>,
) -> Result<Option<Tokens>, Error> {
    match Tokens::read_for(home, gateway)? {
        None => return Ok(None),
        Some(tokens) if need.met_by(&tokens) => return Ok(Some(tokens)),
        Some(_) => {}
    }
    let _lock = Lock::take(&home.tokens_lock(), LOCK).await?;
    let Some(mut tokens) = Tokens::read_for(home, gateway)? else {
        return Ok(None);
    };
    if need.met_by(&tokens) {
        return Ok(Some(tokens));
    }
    let still_valid = matches!(need, Need::Valid) && !tokens.life().is_zero();
    let Some(refresh_token) = tokens.refresh_token.clone() else {
        return Ok(still_valid.then_some(tokens));
    };
    let of = Refreshed {
        endpoint: &tokens.token_endpoint,
        issuer: &tokens.issuer,
        client_id: &tokens.client_id,
        subject: tokens.subject.as_deref(),
    };
    match oidc::refresh(&Web::issuer(ca), &of, &refresh_token).await {
        Ok(granted) => {
            tokens.take(granted);
            tokens.write(home)?;
            Ok(Some(tokens))
        }
        Err(Error::Issuer { .. }) => {
            // The login is over: revoked, expired, or the person was disabled.
            tokens.refresh_token = None;
            tokens.write(home)?;
            Ok(still_valid.then_some(tokens))
        }
        Err(_) if still_valid => Ok(Some(tokens)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tokens(gateway: &str, endpoint: &str, life: i64) -> Tokens {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Tokens {
            version: VERSION,
            gateway: Url::parse(gateway).unwrap(),
            issuer: endpoint.trim_end_matches("/token").to_owned(),
            client_id: "doorward".into(),
            token_endpoint: Url::parse(endpoint).unwrap(),
            revocation_endpoint: None,
            user: "bob".into(),
            subject: Some("sub-bob".into()),
            access_token: "access-1".to_owned().into(),
            expires_at: now.saturating_add_signed(life),
            refresh_token: Some("refresh-1".to_owned().into()),
        }
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
