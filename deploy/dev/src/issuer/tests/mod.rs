//! The issuer over real sockets: each flow, and what each endpoint refuses.

mod code;
mod edge;
mod grants;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::*;
use crate::browser::Browser;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CALLBACK: &str = "http://127.0.0.1:1/callback";

struct Bench {
    issuer: Issuer,
    browser: Browser,
    http: reqwest::Client,
    clock: Clock,
}

impl Bench {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock = Clock::default();
        let settings = Settings {
            clock: clock.clone(),
            ..Settings::default()
        };
        let issuer = Issuer::start(settings).await.unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Self {
            issuer,
            browser: Browser::new().unwrap(),
            http: http.tls_certs_only([]).build().unwrap(),
            clock,
        }
    }

    fn at(&self, path: &str) -> Url {
        format!("{}{path}", self.issuer.url()).parse().unwrap()
    }

    fn authorize_url(&self, changes: &[(&str, &str)]) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut params = vec![
            ("client_id", "doorward"),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid groups"),
            ("state", "st at&e"),
            ("nonce", "n-1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        for change in changes {
            params.retain(|(name, _)| *name != change.0);
            params.push(*change);
        }
        let mut url = self.at("/authorize");
        url.query_pairs_mut().extend_pairs(params);
        url
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let answer = self.http.post(self.at(path)).form(form).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", "doorward"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        for change in changes {
            form.retain(|(name, _)| *name != change.0);
            form.push(*change);
        }
        self.post("/token", &form).await
    }

    async fn refresh(&self, token: &Value) -> (StatusCode, Value) {
        let token = token.as_str().unwrap();
        self.post(
            "/token",
            &[
                ("grant_type", "refresh_token"),
                ("client_id", "doorward"),
                ("refresh_token", token),
            ],
        )
        .await
    }

    async fn code_for(&self, name: &str) -> String {
        let to = self
            .browser
            .log_in(&self.authorize_url(&[]), name, &format!("{name}-pw"))
            .await
            .unwrap();
        param(&to, "code").unwrap()
    }

    async fn tokens_for(&self, name: &str) -> Value {
        let (status, tokens) = self.redeem(&self.code_for(name).await, &[]).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    /// As a relying party reads a token: signature by the published keys, then claims.
    async fn read(&self, token: &Value, audience: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let token = token.as_str().unwrap();
        let jwks: JwkSet = self
            .http
            .get(self.at("/jwks"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let kid = decode_header(token)?.kid.unwrap();
        let jwk = jwks.find(&kid).ok_or(jsonwebtoken::errors::ErrorKind::InvalidToken)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[self.issuer.url()]);
        Ok(decode::<Value>(token, &DecodingKey::from_jwk(jwk)?, &validation)?.claims)
    }
}

fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
