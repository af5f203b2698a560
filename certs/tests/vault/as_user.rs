//! Sessions signed in the person's own name: their token is used once, the token that Vault gives for it as well.

use doorward_certs::vault::{Settings, SignAs};
use serde_json::json;

use crate::server::{FalseVault, JWT, Said, authority, errors, refusal, sign};

fn as_user(vault: &FalseVault) -> Settings {
    Settings {
        sign_as: SignAs::User {
            mount: "oidc/people".into(),
            role: "doorward-user".into(),
        },
        ..vault.settings()
    }
}

const LOGIN: &str = "auth/oidc/people/login";

#[tokio::test]
async fn the_persons_token_signs_and_what_it_gave_is_given_up() {
    let vault = FalseVault::start().await;
    let authority = authority(as_user(&vault));
    sign(&authority).await.unwrap();
    sign(&authority).await.unwrap();
    let logins = vault.asked(LOGIN);
    assert_eq!(logins.len(), 2, "nothing of the first session is kept for the second");
    assert_eq!(logins[0].body, json!({ "role": "doorward-user", "jwt": JWT }));
    assert_eq!(logins[0].token(), "");
    let signings = vault.asked("ssh/sign/doorward-session");
    let revoked = vault.asked("auth/token/revoke-self");
    let tokens = |asked: &[crate::server::Asked]| asked.iter().map(|one| one.token().to_owned()).collect::<Vec<_>>();
    assert_eq!(tokens(&signings), tokens(&revoked));
    assert_ne!(signings[0].token(), signings[1].token());
    assert!(
        vault
            .asked_at_all()
            .iter()
            .all(|asked| asked.path == LOGIN || !asked.body.to_string().contains(JWT))
    );
}

#[tokio::test]
async fn a_token_for_one_use_needs_no_revocation() {
    let vault = FalseVault::start().await;
    let authority = authority(as_user(&vault));
    vault.script(|asked| {
        let auth = json!({ "client_token": "hvs.once", "lease_duration": 60, "renewable": false, "num_uses": 1 });
        (asked.path == LOGIN).then(|| Said::Json(200, json!({ "auth": auth })))
    });
    sign(&authority).await.unwrap();
    assert_eq!(
        vault.asked("ssh/sign/doorward-session").pop().unwrap().token(),
        "hvs.once"
    );
    assert!(vault.asked("auth/token/revoke-self").is_empty());
}

#[tokio::test]
async fn a_revocation_that_fails_costs_the_person_nothing() {
    let vault = FalseVault::start().await;
    let authority = authority(as_user(&vault));
    vault.script(|asked| asked.path.ends_with("revoke-self").then_some(Said::Nothing));
    sign(&authority).await.unwrap();
}

#[tokio::test]
async fn a_no_is_told_apart_and_shows_no_token() {
    for (path, said, code) in [
        (LOGIN, "error validating token: expired", "vault-user-refused"),
        (
            LOGIN,
            "no known key successfully validated the token signature",
            "vault-user-refused",
        ),
        ("ssh/sign/doorward-session", "permission denied", "vault-denied"),
    ] {
        let vault = FalseVault::start().await;
        let authority = authority(as_user(&vault));
        let status = if path == LOGIN { 400 } else { 403 };
        vault.script(move |asked| (asked.path == path).then(|| errors(status, said)));
        let error = sign(&authority).await.unwrap_err();
        assert_eq!(error.code(), code);
        let shown = format!("{error} {error:?} {authority:?}");
        assert!(!shown.contains(JWT) && !shown.contains("hvs."), "{shown}");
        assert!(
            vault.asked("ssh/sign/doorward-session").len() <= 1,
            "a no is not asked again"
        );
    }
}

#[tokio::test]
async fn the_gateways_own_login_signs_no_session() {
    let vault = FalseVault::start().await;
    let authority = authority(as_user(&vault));
    vault.script(|asked| (asked.path == LOGIN).then(|| errors(400, "no")));
    assert_eq!(refusal(&authority).await, "vault-user-refused");
    assert!(vault.asked("ssh/sign/doorward-session").is_empty());
}
