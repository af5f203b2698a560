//! Every way in which a Vault does not answer, or answers no: each has its own code, and the token goes nowhere else.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorward_certs::{Authority, AuthorityError, vault::VaultError};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::server::{FalseVault, JWT, Said, authority, errors, provider, refusal, sign};

fn on_signing(path: &str) -> bool {
    path.contains("/sign/")
}

fn health(status: u16, initialized: bool, sealed: bool, standby: bool) -> Said {
    Said::Json(
        status,
        json!({ "initialized": initialized, "sealed": sealed, "standby": standby }),
    )
}

/// What a signing is answered, what `sys/health` says beside it, and the code that comes of both.
type Case = (fn() -> Said, fn() -> Said, &'static str);

const CASES: [Case; 16] = [
    (
        || Said::Header(307, "location", "https://10.0.0.9:8200/v1/ssh/sign/x".into()),
        || health(429, true, false, true),
        "vault-standby",
    ),
    (
        || errors(503, "Vault is sealed"),
        || health(503, true, true, true),
        "vault-sealed",
    ),
    (
        || errors(503, "Vault is sealed"),
        || health(501, false, true, true),
        "vault-not-initialised",
    ),
    (|| errors(429, ""), || health(429, true, false, true), "vault-standby"),
    (|| errors(473, ""), || health(473, true, false, true), "vault-standby"),
    (
        || errors(500, "local node not active but active cluster node not found"),
        || health(429, true, false, true),
        "vault-standby",
    ),
    (
        || errors(429, "request path \"ssh/sign/x\": rate limit quota exceeded"),
        || health(200, true, false, false),
        "vault-rate-limited",
    ),
    (
        || errors(500, "disk full"),
        || health(200, true, false, false),
        "vault-failed",
    ),
    (
        || errors(500, "1 error occurred:\n\t* failed to read CA private key\n\n"),
        || health(200, true, false, false),
        "vault-no-ca",
    ),
    (
        || errors(404, "no handler for route \"ssh/sign/x\". route entry not found."),
        || errors(500, ""),
        "vault-mount-missing",
    ),
    (
        || errors(400, "Unknown role: doorward-session"),
        || errors(500, ""),
        "vault-role-missing",
    ),
    (
        || errors(400, "root is not a valid value for valid_principals"),
        || errors(500, ""),
        "vault-role-refuses",
    ),
    (
        || errors(403, "1 error occurred:\n\t* permission denied\n\n"),
        || errors(500, ""),
        "vault-denied",
    ),
    (
        || Said::Text(502, "text/html", b"<html>Bad Gateway</html>".to_vec()),
        || Said::Text(502, "text/html", Vec::new()),
        "vault-not-vault",
    ),
    (
        || Said::Text(200, "text/html", b"<html>Welcome</html>".to_vec()),
        || errors(500, ""),
        "vault-not-vault",
    ),
    (|| Said::Endless, || errors(500, ""), "vault-too-large"),
];

#[tokio::test]
async fn each_way_to_say_no_is_told_apart() {
    for (said, beside, code) in CASES {
        let vault = FalseVault::start().await;
        let authority = vault.authority();
        vault.script(move |asked| match asked.path.as_str() {
            "sys/health" => Some(beside()),
            path => on_signing(path).then(said),
        });
        let error = sign(&authority).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let AuthorityError::Vault(error) = error else {
            panic!("{error}")
        };
        assert!(!error.public().is_empty() && !error.hint().is_empty());
        let shown = format!("{error} {error:?} {} {}", error.public(), error.hint());
        assert!(
            !shown.contains("hvs.") && !shown.contains("the-secret") && !shown.contains(JWT),
            "{shown}"
        );
        assert!(!shown.contains('\n'), "{shown}");
        let tries = vault.asked("ssh/sign/doorward-session").len();
        assert!(tries <= 4, "{code}: {tries} tries");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    vault.script(move |asked| {
        let first = on_signing(&asked.path) && counted.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| errors(500, "a hiccup"))
    });
    assert_eq!(refusal(&authority).await, "signed");
    assert_eq!(vault.asked("ssh/sign/doorward-session").len(), 2);
}

#[tokio::test]
async fn one_that_takes_the_request_and_says_nothing_is_left_at_the_deadline() {
    let vault = FalseVault::start().await;
    let mut settings = vault.settings();
    settings.timeout = Duration::from_millis(500);
    let authority = authority(settings);
    vault.script(|asked| on_signing(&asked.path).then_some(Said::Nothing));
    assert_eq!(refusal(&authority).await, "vault-hanging");
    vault.script(|_| None);
    assert_eq!(refusal(&authority).await, "signed", "nothing is left of it");
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_left_at_the_deadline() {
    let vault = FalseVault::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = vault.settings();
    settings.address = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    settings.timeout = Duration::from_millis(500);
    assert_eq!(refusal(&authority(settings)).await, "vault-hanging");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    foreign.set_nonblocking(true).unwrap();
    let to = format!("http://{}/v1/ssh/sign/doorward-session", foreign.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        for anything in [false, true] {
            let to = to.clone();
            vault.script(move |asked| {
                (anything || on_signing(&asked.path)).then(|| Said::Header(status, "location", to.clone()))
            });
            let error = sign(&authority).await.unwrap_err();
            assert_eq!(error.code(), "vault-redirect");
            assert!(error.to_string().contains(&to_host(&error)), "{error}");
            let nobody = foreign.accept().map(|_| ());
            assert_eq!(
                nobody.unwrap_err().kind(),
                io::ErrorKind::WouldBlock,
                "somebody came after {status}"
            );
        }
    }
}

fn to_host(error: &AuthorityError) -> String {
    match error {
        AuthorityError::Vault(VaultError::Redirect { to, .. }) => to.clone(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn one_that_is_not_there_cannot_be_reached() {
    let vault = FalseVault::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = vault.settings();
    settings.address = format!("http://{}", gone.local_addr().unwrap()).parse().unwrap();
    drop(gone);
    assert_eq!(refusal(&authority(settings)).await, "vault-unreachable");
}

#[tokio::test]
async fn one_that_hangs_up_is_broken() {
    let vault = FalseVault::start().await;
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = vault.settings();
    settings.address = format!("http://{}", rude.local_addr().unwrap()).parse().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut tcp, _)) = rude.accept().await {
            let _ = tcp
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"da")
                .await;
        }
    });
    assert_eq!(refusal(&authority(settings)).await, "vault-broken");
}

/// A TLS server whose certificate its own CA file would not believe.
#[tokio::test]
async fn a_certificate_of_another_ca_is_told_apart() {
    provider();
    let vault = FalseVault::start().await;
    let (theirs, ours) = (certificate(), certificate());
    let key = rustls::pki_types::PrivateKeyDer::try_from(theirs.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![theirs.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = vault.settings();
    settings.address = format!("https://localhost:{}", listener.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // A client that trusts it says something; it is then hung up on.
            let _ = acceptor.accept(tcp).await;
        }
    });
    std::fs::write(vault.file("ours.pem"), ours.cert.pem()).unwrap();
    settings.ca = Some(vault.file("ours.pem"));
    assert_eq!(refusal(&authority(settings.clone())).await, "vault-tls");
    std::fs::write(vault.file("theirs.pem"), theirs.cert.pem()).unwrap();
    settings.ca = Some(vault.file("theirs.pem"));
    assert_eq!(
        refusal(&authority(settings.clone())).await,
        "vault-broken",
        "trusted, and hung up on"
    );
    settings.ca = None;
    assert_eq!(
        refusal(&authority(settings)).await,
        "vault-tls",
        "the system trusts neither"
    );
}

fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

#[tokio::test]
async fn a_ca_file_without_a_certificate_is_refused_before_anything_is_asked() {
    let vault = FalseVault::start().await;
    let mut settings = vault.settings();
    std::fs::write(vault.file("empty.pem"), "nothing").unwrap();
    for name in ["empty.pem", "missing.pem"] {
        settings.ca = Some(vault.file(name));
        let error = doorward_certs::vault::Vault::new(settings.clone()).unwrap_err();
        assert_eq!(error.code(), "vault-client");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn signings_are_counted_before_vault_hears_of_them() {
    let vault = FalseVault::start().await;
    let mut settings = vault.settings();
    settings.signings_per_user_per_minute = 3;
    let authority = authority(settings);
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(refusal(&authority).await);
    }
    assert_eq!(codes[..3], ["signed", "signed", "signed"]);
    assert!(codes[3..].iter().all(|code| code == "vault-user-too-fast"), "{codes:?}");
    assert_eq!(vault.asked("ssh/sign/doorward-session").len(), 3);
}

#[tokio::test]
async fn the_debug_of_an_authority_shows_no_secret() {
    let vault = FalseVault::start().await;
    let authority: Authority = vault.authority();
    sign(&authority).await.unwrap();
    let shown = format!("{authority:?} {authority:#?}");
    assert!(!shown.contains("hvs.") && !shown.contains("the-secret"), "{shown}");
}
