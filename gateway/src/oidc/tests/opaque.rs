//! RFC 7662: tokens that only their issuer can read.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    super::fake::{Answer, now},
    *,
};
use crate::config::{Introspection, TokenKind};

pub(super) fn introspection(secret: &Path) -> Introspection {
    Introspection {
        client_id: "doorward gateway".to_owned(),
        client_secret_file: secret.to_owned(),
        endpoint: None,
        cache: Duration::ZERO,
    }
}

async fn opaque(cache: Duration) -> (Bench, tempfile::NamedTempFile) {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3:cret\n").unwrap();
    let own = Introspection {
        cache,
        ..introspection(secret.path())
    };
    let bench = bench(|settings| {
        settings.token_kind = TokenKind::Opaque;
        settings.introspection = Some(own);
    })
    .await;
    (bench, secret)
}

fn active(bench: &Bench) -> Value {
    let mut claims = bench.issuer.claims();
    claims["active"] = json!(true);
    claims
}

#[tokio::test]
async fn the_issuer_is_asked_as_a_client_of_our_own() {
    let (bench, secret) = opaque(Duration::ZERO).await;
    bench.issuer.says("abc", active(&bench));
    assert_eq!(bench.code(&bearer("abc")).await, "good");
    assert_eq!(
        bench.issuer.asked(),
        [format!("Basic {}", STANDARD.encode("doorward+gateway:s3%3Acret"))]
    );
    // A secret that was exchanged is used at once.
    std::fs::write(secret.path(), "new").unwrap();
    assert_eq!(bench.code(&bearer("abc")).await, "good");
    assert!(bench.issuer.asked()[1].contains(&STANDARD.encode("doorward+gateway:new")));
    // Nobody signed this: it is believed because of who said it, not because of how it looks.
    let jwt = bench
        .key
        .sign(&bench.key.header().to_string(), &bench.issuer.claims().to_string());
    assert_eq!(bench.code(&bearer(&jwt)).await, "token-expired");
}

#[tokio::test]
async fn what_it_says_is_checked_like_a_token() {
    let (bench, _secret) = opaque(Duration::ZERO).await;
    for (name, value, code) in [
        ("active", json!(false), "token-expired"),
        ("active", json!("true"), "identity-provider-down"),
        ("active", json!(1), "identity-provider-down"),
        ("active", json!(null), "identity-provider-down"),
        ("iss", json!("https://other.example"), "token-foreign"),
        ("aud", json!("account"), "token-foreign"),
        ("azp", json!("grafana"), "token-foreign"),
        ("exp", json!(now() - 70), "token-expired"),
        ("exp", json!("9999999999"), "token-claims"),
        ("nbf", json!(now() + 70), "token-early"),
        ("typ", json!("Refresh"), "token-kind"),
        ("groups", json!("developers"), "token-claims"),
        ("sub", json!(null), "token-claims"),
        ("cnf", json!({ "jkt": "x" }), "token-kind"),
        ("scope", json!("openid"), "good"),
    ] {
        let mut claims = active(&bench);
        claims[name] = value.clone();
        bench.issuer.says("abc", claims);
        assert_eq!(bench.code(&bearer("abc")).await, code, "{name} {value}");
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_named_and_opens_nothing() {
    let (bench, _secret) = opaque(Duration::ZERO).await;
    bench.issuer.says("abc", active(&bench));
    for answer in [
        Answer::Status(500),
        Answer::Status(401),
        Answer::Redirect,
        Answer::Text("<html>".to_owned()),
        Answer::Text("{\"active\":false,\"active\":true}".to_owned()),
        Answer::Text(format!("{{\"active\":true,\"pad\":\"{}\"}}", "x".repeat(70 * 1024))),
        Answer::Never,
    ] {
        bench.issuer.introspection_answers(answer.clone());
        let begun = Instant::now();
        let refusal = bench.identities.identify(&bearer("abc")).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::IdentityProviderDown, "{answer:?}");
        assert!(begun.elapsed() < WITHIN + Duration::from_secs(5), "{answer:?}");
        assert!(!refusal.to_string().contains("s3"), "the secret is in {refusal}");
    }
    bench.issuer.introspection_answers(Answer::Good);
    assert_eq!(bench.code(&bearer("abc")).await, "good");
    assert_eq!(bench.issuer.elsewhere(), 0, "a redirect was followed");
}

#[tokio::test]
async fn an_answer_is_kept_for_as_long_as_configured() {
    let (bench, _secret) = opaque(Duration::from_secs(3600)).await;
    bench.issuer.says("abc", active(&bench));
    for _ in 0..3 {
        assert_eq!(bench.code(&bearer("abc")).await, "good");
    }
    assert_eq!(bench.issuer.asked().len(), 1);
    let (bench, _secret) = opaque(Duration::from_millis(1)).await;
    bench.issuer.says("abc", active(&bench));
    assert_eq!(bench.code(&bearer("abc")).await, "good");
    bench.issuer.says("abc", json!({ "active": false }));
    let begun = Instant::now();
    while bench.code(&bearer("abc")).await == "good" {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the old answer is still believed"
        );
    }
}
