//! Asking the issuer about a token (RFC 7662): as a client of our own, within bounds, each answer believed for seconds.

use std::{collections::HashMap, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use reqwest::Client;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{BearerToken, issuer::FETCH, json, replay::digest};
use crate::{
    config::Introspection,
    guarded::Guarded,
    refusal::{Dependency, Refusal, chain},
};

/// What an issuer says about a token.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// It is good, and says this.
    Active(Map<String, Value>),
    /// It is not, or not any more.
    Inactive,
}

/// Asks one issuer.
#[derive(Debug)]
pub(super) struct Introspector {
    settings: Introspection,
    client: Client,
    known: Guarded<HashMap<[u8; 32], (Said, Instant)>>,
}

impl Introspector {
    pub(super) fn new(settings: Introspection, client: Client) -> Self {
        Self {
            settings,
            client,
            known: Guarded::default(),
        }
    }

    /// What the issuer says, or said a moment ago. `discovered` is where its discovery document says to ask.
    pub(super) async fn ask(&self, token: &BearerToken, discovered: Option<Url>) -> Result<Said, Refusal> {
        let key = digest(token.expose());
        let now = Instant::now();
        let known = self.known.with(|known| known.get(&key).cloned());
        if let Some((said, until)) = known
            && until > now
        {
            return Ok(said);
        }
        let down = |why: String| Refusal::unavailable(Dependency::IdentityProvider, why);
        let place = self.settings.endpoint.clone().or(discovered);
        let place = place.ok_or_else(|| down("it is not known where to ask about tokens".to_owned()))?;
        let said = tokio::time::timeout(FETCH, self.fetch(token, place))
            .await
            .map_err(|_| down(format!("no answer about a token within {FETCH:?}")))?
            .map_err(down)?;
        self.known.with(|known| {
            if known.len() >= MOST_KNOWN {
                known.retain(|_, (_, until)| *until > now);
            }
            if known.len() < MOST_KNOWN {
                known.insert(key, (said.clone(), now + self.settings.cache));
            }
        });
        Ok(said)
    }

    async fn fetch(&self, token: &BearerToken, place: Url) -> Result<Said, String> {
        let file = &self.settings.client_secret_file;
        let secret = tokio::fs::read_to_string(file)
            .await
            .map(Zeroizing::new)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        // RFC 6749, section 2.3.1: both are form-encoded before they are joined.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Zeroizing::new(format!(
            "{}:{}",
            encoded(&self.settings.client_id),
            encoded(secret.trim_end_matches(['\r', '\n']))
        ));
        let mut basic = http::HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
            .map_err(|_| "the client's secret cannot be sent".to_owned())?;
        basic.set_sensitive(true);
        let failed = |error: &reqwest::Error| format!("{place} cannot be asked: {}", chain(error));
        let mut response = self
            .client
            .post(place.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, basic)
            .form(&[("token", token.expose()), ("token_type_hint", "access_token")])
            .send()
            .await
            .map_err(|error| failed(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("{place} answered {} about a token", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > LARGEST {
                return Err(format!("{place} answered with more than {LARGEST} bytes about a token"));
            }
            body.extend_from_slice(&chunk);
        }
        let claims = json::object(&body).map_err(|error| format!("{place} answered with no object: {error}"))?;
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(Said::Active(claims)),
            Some(Value::Bool(false)) => Ok(Said::Inactive),
            _ => Err(format!("{place} does not say whether the token is active")),
        }
    }
}

/// Asks about a token that nobody has: whether the issuer answers us at all. Says whether it takes the token for a good one.
pub(crate) async fn try_out(settings: &Introspection, client: Client, discovered: Option<Url>) -> Result<bool, String> {
    let place = settings.endpoint.clone().or(discovered);
    let place = place.ok_or("it does not say where to ask about tokens")?;
    let nobodys = BearerToken::new(NOBODYS).map_err(|error| error.to_string())?;
    let asked = Introspector::new(settings.clone(), client);
    let said = tokio::time::timeout(FETCH, asked.fetch(&nobodys, place)).await;
    let said = said.map_err(|_| format!("no answer about a token within {FETCH:?}"))??;
    Ok(matches!(said, Said::Active(_)))
}

const NOBODYS: &str = "doorward-doctor-trial-token-of-nobody";
/// The largest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;
/// The most answers that are kept.
const MOST_KNOWN: usize = 4096;
