//! The identity provider: who it says it is, whether it publishes keys that our algorithms can use, what log-in needs of it.

use std::time::Duration;

use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Finding, clock, fetch};
use crate::{
    config::{Config, Introspection, Oidc, TokenKind, trustworthy},
    oidc,
};

/// The issuers of a configuration.
pub(super) fn all(config: &Config) -> &[Oidc] {
    &config.oidc
}

/// Looks at every issuer.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let each = all(config).iter().map(|issuer| async move {
        let name = &issuer.issuer;
        let mut findings = Vec::new();
        if let Err((text, remedy)) = examine(issuer, &mut findings).await {
            findings.push(Finding::broken("issuer", name, text, remedy));
        }
        findings
    });
    join_all(each).await.into_iter().flatten().collect()
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Option<String>,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    introspection_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

async fn examine(issuer: &Oidc, findings: &mut Vec<Finding>) -> Result<(), (String, &'static str)> {
    let name = &issuer.issuer;
    let place = format!("{}/.well-known/openid-configuration", name.trim_end_matches('/'));
    let place = Url::parse(&place).map_err(|error| (error.to_string(), CORRECT))?;
    let client =
        crate::outbound::client(&place, issuer.ca.as_deref()).map_err(|text| (text, "correct `ca` in [oidc]"))?;
    let ask = async |place: &Url| {
        let answer = fetch::send(client.get(place.clone())).await;
        let answer = answer.map_err(|text| (format!("{place} cannot be asked: {text}"), REACH))?;
        match answer.status {
            200 => Ok(answer),
            status => Err((format!("{place} answers {status}"), CORRECT)),
        }
    };
    let answer = ask(&place).await?;
    let breaks = "tokens will look expired, or issued in the future";
    findings.push(clock::finding(name, &answer, TOKEN_LEEWAY, breaks));
    let said: Discovery = serde_json::from_slice(&answer.body)
        .map_err(|error| (format!("{place} is no discovery document: {error}"), CORRECT))?;
    if said.issuer != *name {
        let text = format!("it calls itself `{}`: no token of it will be believed", said.issuer);
        return Err((text, "write `issuer` exactly as the issuer spells it, slash and all"));
    }
    findings.push(Finding::ok("issuer", name, "answers, under its own name"));
    findings.extend(log_in(name, &said));
    if let Some(settings) = &issuer.introspection {
        findings.push(introspection(name, settings, &client, said.introspection_endpoint.as_deref()).await);
    }
    if issuer.token_kind == TokenKind::Opaque {
        // Nobody but the issuer reads its tokens.
        return Ok(());
    }
    let keys = said
        .jwks_uri
        .ok_or_else(|| ("it does not say where its keys are".to_owned(), CORRECT))?;
    let place = Url::parse(&keys).ok().filter(trustworthy);
    let keys = place.ok_or_else(|| (format!("its keys are at `{keys}`, which is not https"), REACH))?;
    let answer = ask(&keys).await?;
    let set: KeySet =
        serde_json::from_slice(&answer.body).map_err(|error| (format!("{keys} is no key set: {error}"), CORRECT))?;
    findings.push(signing(issuer, &set));
    Ok(())
}

/// What the laptop's program needs to log in.
fn log_in(name: &str, said: &Discovery) -> Vec<Finding> {
    let mut findings = Vec::new();
    if said.authorization_endpoint.is_none() || said.token_endpoint.is_none() {
        let remedy = "use an issuer that people can log in at with a browser";
        findings.push(Finding::broken(
            "issuer",
            name,
            "it names no place to log in at",
            remedy,
        ));
    }
    let s256 = said.code_challenge_methods_supported.as_ref();
    if s256.is_some_and(|all| !all.iter().any(|method| method == "S256")) {
        let remedy = "turn PKCE with S256 on for the client";
        findings.push(Finding::broken(
            "issuer",
            name,
            "it does not offer PKCE with S256",
            remedy,
        ));
    }
    if said.device_authorization_endpoint.is_none() {
        let remedy = "turn the device grant on, or do without `doorward login --device`";
        findings.push(Finding::warning("issuer", name, "it has no device grant", remedy));
    }
    findings
}

/// Whether the issuer tells us about tokens.
async fn introspection(name: &str, settings: &Introspection, client: &reqwest::Client, place: Option<&str>) -> Finding {
    let place = place.and_then(|place| Url::parse(place).ok()).filter(trustworthy);
    match oidc::try_introspection(settings, client.clone(), place).await {
        Ok(false) => Finding::ok("introspection", name, "it tells us that a token of nobody is not good"),
        Ok(true) => {
            let remedy = "use another issuer, or do without introspection: this one believes anything";
            Finding::broken("introspection", name, "it takes any token for a good one", remedy)
        }
        Err(text) => {
            let remedy = "see `client-id` and the secret's file in [oidc.introspection], and the client at the issuer";
            Finding::broken("introspection", name, text, remedy)
        }
    }
}

/// Whether there is a key that an allowed algorithm can use.
fn signing(issuer: &Oidc, set: &KeySet) -> Finding {
    let signing: Vec<&Value> = set
        .keys
        .iter()
        .filter(|key| key["use"].as_str() != Some("enc"))
        .collect();
    let usable = |algorithm: &Algorithm| signing.iter().any(|key| fits(key, *algorithm));
    let found: Vec<String> = issuer
        .algorithms
        .iter()
        .filter(|one| usable(one))
        .map(|one| format!("{one:?}"))
        .collect();
    if found.is_empty() {
        let theirs: Vec<String> = signing
            .iter()
            .map(|key| {
                key["alg"]
                    .as_str()
                    .or(key["kty"].as_str())
                    .unwrap_or("a key of no kind")
                    .to_owned()
            })
            .take(8)
            .collect();
        let text = match theirs.as_slice() {
            [] => "it publishes no key for signatures".to_owned(),
            theirs => format!("it signs with {}, which `algorithms` does not allow", theirs.join(", ")),
        };
        let remedy = "add the algorithm to `algorithms` in [oidc], or have the issuer sign with one of those";
        return Finding::broken("issuer-keys", &issuer.issuer, text, remedy);
    }
    Finding::ok("issuer-keys", &issuer.issuer, format!("keys for {}", found.join(", ")))
}

fn fits(key: &Value, algorithm: Algorithm) -> bool {
    let name = format!("{algorithm:?}");
    if key["alg"].as_str().is_some_and(|own| own != name) {
        return false;
    }
    let (kind, curve) = (key["kty"].as_str(), key["crv"].as_str());
    match algorithm {
        Algorithm::ES256 => (kind, curve) == (Some("EC"), Some("P-256")),
        Algorithm::ES384 => (kind, curve) == (Some("EC"), Some("P-384")),
        Algorithm::EdDSA => (kind, curve) == (Some("OKP"), Some("Ed25519")),
        _ => kind == Some("RSA"),
    }
}

const CORRECT: &str = "correct `issuer` in [oidc], or see to the identity provider";
const REACH: &str = "see whether the identity provider is up, and reachable and trusted from here";
/// How far a token's times may be from our clock.
const TOKEN_LEEWAY: Duration = Duration::from_secs(60);
