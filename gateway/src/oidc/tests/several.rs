//! B6: several issuers, each believed for its own people alone.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::config::TokenKind;

struct Two {
    issuers: [FakeIssuer; 2],
    keys: [Key; 2],
    identities: Identities,
    _stop: tokio_util::sync::DropGuard,
}

async fn two(change: impl FnOnce(&mut [Oidc; 2])) -> Two {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Both keys have one id.
    let keys = [Key::new("one", Algorithm::ES256), Key::new("one", Algorithm::ES256)];
    let issuers = [
        FakeIssuer::start(&[&keys[0]]).await,
        FakeIssuer::start(&[&keys[1]]).await,
    ];
    let mut settings = [issuers[0].settings(), issuers[1].settings()];
    settings[1].name = "partner".to_owned();
    settings[1].user_prefix = "partner:".to_owned();
    settings[1].groups_prefix = "partner:".to_owned();
    settings[1].email_domains = Some(BTreeSet::from(["partner.example".to_owned()]));
    change(&mut settings);
    let tasks = Tasks::new(CancellationToken::new());
    let identities = Identities::start(&settings, Duration::from_secs(1), &tasks).unwrap();
    eventually(|| identities.issuers.iter().all(|one| one.ready().is_ok())).await;
    Two {
        issuers,
        keys,
        identities,
        _stop: tasks.closing().clone().drop_guard(),
    }
}

#[tokio::test]
async fn each_issuer_vouches_for_its_own_people() {
    let two = two(|_| {}).await;
    let token = |key: &Key, issuer: &FakeIssuer| {
        let mut claims = issuer.claims();
        claims["email"] = json!("bob@corp.example");
        claims["email_verified"] = json!(true);
        key.token(&claims)
    };
    let first = two
        .identities
        .identify(&token(&two.keys[0], &two.issuers[0]))
        .await
        .unwrap();
    assert_eq!(first.user(), "bob");
    assert_eq!(first.groups().iter().collect::<Vec<_>>(), ["developers"]);
    assert_eq!(first.email().unwrap().to_string(), "bob@corp.example");
    // The other one's bob is somebody else, in other groups, and may not say that the first one's address is his.
    let second = two
        .identities
        .identify(&token(&two.keys[1], &two.issuers[1]))
        .await
        .unwrap();
    assert_eq!(second.user(), "partner:bob");
    assert_eq!(second.groups().iter().collect::<Vec<_>>(), ["partner:developers"]);
    assert_eq!(second.email(), None);
    // Signed by the one in the name of the other, though the id of the key is the same.
    for (key, issuer) in [(0, 1), (1, 0)] {
        let crossed = two
            .identities
            .identify(&token(&two.keys[key], &two.issuers[issuer]))
            .await
            .unwrap_err();
        assert_eq!(crossed.code(), RefusalCode::TokenUntrusted);
    }
    for (issuer, code) in [
        (json!(format!("{}/", two.issuers[0].url)), RefusalCode::TokenForeign),
        (json!(two.issuers[0].url.to_uppercase()), RefusalCode::TokenForeign),
        (json!("https://unknown.example"), RefusalCode::TokenForeign),
        (json!([two.issuers[0].url]), RefusalCode::TokenMalformed),
        (json!(null), RefusalCode::TokenMalformed),
    ] {
        let mut claims = two.issuers[0].claims();
        claims["iss"] = issuer.clone();
        let refusal = two.identities.identify(&two.keys[0].token(&claims)).await.unwrap_err();
        assert_eq!(refusal.code(), code, "{issuer}");
    }
    let doubled =
        two.issuers[1]
            .claims()
            .to_string()
            .replacen('{', &format!("{{\"iss\":\"{}\",", two.issuers[0].url), 1);
    let token = bearer(&two.keys[0].sign(&two.keys[0].header().to_string(), &doubled));
    let refusal = two.identities.identify(&token).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::TokenMalformed);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_no_matter_to_the_people_of_the_other() {
    let two = two(|_| {}).await;
    two.issuers[1].vanish();
    let good = two.keys[0].token(&two.issuers[0].claims());
    assert!(two.identities.identify(&good).await.is_ok());
    assert!(two.identities.ready().is_ok());
}

/// A token that is no JWT goes to the issuer of opaque tokens and to nobody else.
#[tokio::test]
async fn an_opaque_token_is_shown_to_its_issuer_alone() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let two = two(|settings| {
        settings[1].token_kind = TokenKind::Opaque;
        settings[1].introspection = Some(super::opaque::introspection(secret.path()));
    })
    .await;
    let mut claims = two.issuers[1].claims();
    claims["active"] = json!(true);
    two.issuers[1].says("opaque-token", claims);
    let who = two.identities.identify(&bearer("opaque-token")).await.unwrap();
    assert_eq!(who.user(), "partner:bob");
    assert!(two.identities.identify(&bearer("another")).await.is_err());
    assert_eq!((two.issuers[0].asked().len(), two.issuers[1].asked().len()), (0, 2));
}
