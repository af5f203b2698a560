//! The gateway's own login: each method, renewed and repeated when it must be, and not more often.

use std::time::Duration;

use doorward_certs::vault::{Login, Settings, Vault};
use serde_json::json;

use crate::server::{FalseVault, Said, authority, errors, refusal, sign};

const SOON: Duration = Duration::from_secs(30);

/// Does something again and again until it has the wanted effect.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn with(vault: &FalseVault, login: Login) -> Settings {
    Settings {
        login,
        ..vault.settings()
    }
}

#[tokio::test]
async fn a_jwt_is_read_at_each_login() {
    let vault = FalseVault::start().await;
    for (mount, login) in [
        (
            "kubernetes",
            Login::Kubernetes {
                mount: "kubernetes".into(),
                role: "doorward-gateway".into(),
                jwt_file: vault.file("jwt"),
            },
        ),
        (
            "team/jwt",
            Login::Jwt {
                mount: "team/jwt".into(),
                role: "doorward-gateway".into(),
                jwt_file: vault.file("jwt"),
            },
        ),
    ] {
        let path = format!("auth/{mount}/login");
        for jwt in ["first.jwt.x", "second.jwt.x"] {
            std::fs::write(vault.file("jwt"), format!("{jwt}\n")).unwrap();
            sign(&authority(with(&vault, login.clone()))).await.unwrap();
            let asked = vault.asked(&path).pop().unwrap();
            assert_eq!(asked.body, json!({ "role": "doorward-gateway", "jwt": jwt }));
        }
    }
}

#[tokio::test]
async fn files_that_hold_no_secret_are_refused_and_not_shown() {
    let vault = FalseVault::start().await;
    let authority = authority(with(
        &vault,
        Login::TokenFile {
            token_file: vault.file("token"),
        },
    ));
    assert_eq!(refusal(&authority).await, "vault-login-file", "there is none");
    for bad in [
        &b""[..],
        b"\n\n",
        b"two words",
        b"two\nlines",
        b"\xff\xfe",
        &[b'a'; 20_000],
    ] {
        std::fs::write(vault.file("token"), bad).unwrap();
        until("another look", async || {
            let error = sign(&authority).await.unwrap_err();
            assert!(!error.to_string().contains("words"), "{error}");
            error.to_string().contains("not one line")
        })
        .await;
    }
    assert!(vault.asked_at_all().is_empty());
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes() {
    let vault = FalseVault::start().await;
    let settings = with(
        &vault,
        Login::TokenFile {
            token_file: vault.file("token"),
        },
    );
    std::fs::write(vault.file("token"), "hvs.first\n").unwrap();
    let own = Vault::new(settings).unwrap();
    own.look().await.unwrap();
    own.look().await.unwrap();
    assert_eq!(vault.asked("auth/token/lookup-self").len(), 1);
    std::fs::write(vault.file("token"), "hvs.second\n").unwrap();
    own.look().await.unwrap();
    let last = vault.asked("auth/token/lookup-self").pop().unwrap();
    assert_eq!(last.token(), "hvs.second");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_a_login_follows_where_that_fails() {
    let vault = FalseVault::start().await;
    vault.lease(1);
    let own = Vault::new(vault.settings()).unwrap();
    own.look().await.unwrap();
    until("a renewal", async || {
        own.look().await.unwrap();
        !vault.asked("auth/token/renew-self").is_empty()
    })
    .await;
    vault.script(|asked| (asked.path == "auth/token/renew-self").then(|| errors(403, "permission denied")));
    let logins = vault.asked("auth/approle/login").len();
    until("a login", async || {
        own.look().await.unwrap();
        vault.asked("auth/approle/login").len() > logins
    })
    .await;
}

#[tokio::test]
async fn a_token_that_nears_its_last_end_is_replaced_and_not_renewed_to_pieces() {
    let vault = FalseVault::start().await;
    vault.lease(4);
    let own = Vault::new(vault.settings()).unwrap();
    own.look().await.unwrap();
    // Every renewal gives less than half of what the login gave.
    vault.script(|asked| {
        let auth = json!({ "client_token": asked.token(), "lease_duration": 1, "renewable": true });
        let auth = json!({ "auth": auth });
        (asked.path == "auth/token/renew-self").then_some(Said::Json(200, auth))
    });
    vault.lease(3600);
    until("a login", async || {
        own.look().await.unwrap();
        vault.asked("auth/approle/login").len() == 2 || vault.asked("auth/token/renew-self").len() > 20
    })
    .await;
    assert!(vault.asked("auth/token/renew-self").len() <= 3);
}

#[tokio::test]
async fn a_token_that_vault_forgot_is_replaced_by_one_login() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    sign(&authority).await.unwrap();
    let old = vault
        .asked("ssh/sign/doorward-session")
        .pop()
        .unwrap()
        .token()
        .to_owned();
    vault.script(move |asked| (asked.token() == old).then(|| errors(403, "permission denied")));
    // A token that is seconds old is not thought to be forgotten.
    until("a new token", async || refusal(&authority).await == "signed").await;
    assert_eq!(vault.asked("auth/approle/login").len(), 2);
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_repeated_by_everybody() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    vault.script(|asked| {
        asked
            .path
            .starts_with("auth/")
            .then(|| errors(400, "invalid secret id"))
    });
    let all = (0..50).map(|_| refusal(&authority));
    let codes = futures_util::future::join_all(all).await;
    assert!(codes.iter().all(|code| code == "vault-login-refused"), "{codes:?}");
    let logins = vault.asked("auth/approle/login").len();
    assert!(logins < 10, "{logins} logins for 50 sessions");
    vault.script(|_| None);
    until("the login is tried again", async || {
        refusal(&authority).await == "signed"
    })
    .await;
}

#[tokio::test]
async fn many_at_once_share_one_login() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    let codes = futures_util::future::join_all((0..50).map(|_| refusal(&authority))).await;
    assert!(codes.iter().all(|code| code == "signed"), "{codes:?}");
    assert_eq!(vault.asked("auth/approle/login").len(), 1);
    assert_eq!(
        vault.asked("ssh/sign/doorward-session").len(),
        50,
        "one signing for each"
    );
    assert_eq!(vault.asked("ssh/public_key").len(), 1);
}
