//! What shows the gateway who asks: an access token, and the proof that this computer may use it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use crate::error::Error;
use crate::oidc::{Key, Proof};
use crate::secret::Secret;

/// An access token, ready to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    token: Secret,
    /// The key that the token is bound to, if it is.
    key: Option<Arc<Key>>,
    /// How far the issuer's clock is ahead of ours, in seconds.
    ahead: i64,
    /// Unix seconds by our own clock.
    expires: u64,
}

impl Pass {
    /// Of a token that expires then and, with a key, is bound to it.
    pub(crate) fn new(token: Secret, key: Option<Arc<Key>>, ahead: i64, expires: u64) -> Self {
        Self {
            token,
            key,
            ahead,
            expires,
        }
    }

    /// The token.
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// How much longer the token is taken to be valid; nothing when it has expired. By our own clock: it says when to
    /// refresh, and whether the token is good is the gateway's to say.
    pub(crate) fn life(&self) -> Duration {
        Duration::from_secs(self.expires.saturating_sub(now()))
    }

    /// Adds what shows this request to be ours: `Bearer` (RFC 6750), or `DPoP` with a proof (RFC 9449 section 7.1).
    pub(crate) fn authorize(&self, method: &Method, url: &Url, headers: &mut HeaderMap) -> Result<(), Error> {
        let Some(key) = &self.key else {
            headers.insert(
                header::AUTHORIZATION,
                secret(format!("Bearer {}", self.token.expose()))?,
            );
            return Ok(());
        };
        let of = Proof {
            method,
            url,
            token: Some(&self.token),
            nonce: None,
        };
        let proof = key.proof(&of, now().saturating_add_signed(self.ahead));
        let proof = proof.map_err(|what| Error::Configuration(what.to_owned()))?;
        headers.insert(header::AUTHORIZATION, secret(format!("DPoP {}", self.token.expose()))?);
        headers.insert("dpop", secret(proof)?);
        Ok(())
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn secret(text: String) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::try_from(text).map_err(|_| Error::NotLoggedIn("the stored token is no token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_token_is_never_shown_as_a_bearer_token() {
        let url = Url::parse("https://gw/v1/me").unwrap();
        let shown = |key: Option<Arc<Key>>| {
            let mut headers = HeaderMap::new();
            let pass = Pass::new("t".to_owned().into(), key, 0, now() + 60);
            pass.authorize(&Method::GET, &url, &mut headers).unwrap();
            headers
        };
        let bearer = shown(None);
        assert_eq!(bearer["authorization"], "Bearer t");
        assert!(bearer["authorization"].is_sensitive() && !bearer.contains_key("dpop"));
        let bound = shown(Some(Arc::new(Key::generate().unwrap())));
        assert_eq!(bound["authorization"], "DPoP t");
        assert!(bound["dpop"].is_sensitive());
        let mut headers = HeaderMap::new();
        let broken = Pass::new("a\nb".to_owned().into(), None, 0, 0);
        assert!(broken.authorize(&Method::GET, &url, &mut headers).is_err() && headers.is_empty());
        assert!(broken.life().is_zero());
    }
}
