//! Tokens good and bad, and issuers that misbehave.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    fake::{FakeIssuer, Key, bearer},
    *,
};

mod claims;
mod dpop;
mod header;
mod issuer;
mod login;
mod logout;
mod opaque;
mod outage;
mod several;

/// A check of tokens beside its issuer; its tasks end with it.
struct Bench {
    issuer: FakeIssuer,
    key: Key,
    identities: Arc<Identities>,
    _stop: tokio_util::sync::DropGuard,
}

async fn check_of(
    issuer: &FakeIssuer,
    change: impl FnOnce(&mut Oidc),
) -> (Arc<Identities>, tokio_util::sync::DropGuard) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut settings = issuer.settings();
    change(&mut settings);
    let tasks = Tasks::new(CancellationToken::new());
    let identities = Arc::new(Identities::start(&[settings], Duration::from_millis(10), &tasks).unwrap());
    (identities, tasks.closing().clone().drop_guard())
}

async fn bench(change: impl FnOnce(&mut Oidc)) -> Bench {
    let key = Key::new("one", Algorithm::ES256);
    let issuer = FakeIssuer::start(&[&key]).await;
    let (identities, stop) = check_of(&issuer, change).await;
    eventually(|| identities.ready().is_ok()).await;
    Bench {
        issuer,
        key,
        identities,
        _stop: stop,
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition never came");
}

impl Bench {
    async fn code(&self, token: &Presented) -> &'static str {
        match self.identities.identify(token).await {
            Ok(_) => "good",
            Err(refusal) => refusal.code().as_str(),
        }
    }

    /// The result for good claims with a change.
    async fn with(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut claims = self.issuer.claims();
        change(&mut claims);
        self.code(&self.key.token(&claims)).await
    }

    /// The result for a good header with a change.
    async fn with_header(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        let mut header = self.key.header();
        change(&mut header);
        self.code(&bearer(
            &self.key.sign(&header.to_string(), &self.issuer.claims().to_string()),
        ))
        .await
    }
}

fn without(name: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims.as_object_mut().unwrap().remove(name).unwrap();
    }
}

fn set(name: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |claims| claims[name] = value
}

#[tokio::test]
async fn a_good_token_is_somebody() {
    let bench = bench(|_| {}).await;
    let who = bench
        .identities
        .identify(&bench.key.token(&bench.issuer.claims()))
        .await
        .unwrap();
    assert_eq!(
        (who.user(), who.subject(), who.issuer()),
        ("bob", "0b5e1d7e-bob", bench.issuer.url.as_str())
    );
    assert_eq!(who.groups().iter().collect::<Vec<_>>(), ["developers"]);
    assert!(who.expires() > SystemTime::now());
}

#[test]
fn a_bearer_token_is_bounded_and_shows_nothing() {
    assert!(BearerToken::new(&"a".repeat(16 * 1024)).is_ok());
    for bad in ["", "a b", "a\r\nb", "t\u{f6}ken", &"a".repeat(16 * 1024 + 1)] {
        assert!(BearerToken::new(bad).is_err());
    }
    assert!(!format!("{:?}", bearer("secret.token.value")).contains("secret"));
}
