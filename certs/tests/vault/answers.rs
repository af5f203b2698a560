//! Answers that are not what was asked: each is noticed before the certificate is used.

use std::time::{Duration, SystemTime};

use doorward_certs::{AuthorityError, HostKey, HostRequest, LinkRequest, WorkspaceName, WorkspaceUid};
use serde_json::json;
use ssh_key::certificate::CertType;

use crate::server::{Draft, FalseVault, Said, ca, refusal, session_request, sign};

#[tokio::test]
async fn honest_answers_are_taken_and_requests_say_everything() {
    let vault = FalseVault::start().await;
    let mut settings = vault.settings();
    settings.namespace = Some("team/a".into());
    let authority = crate::server::authority(settings);

    let session = sign(&authority).await.unwrap();
    assert_eq!(session.serial(), 0x7a36_c645_ab04_1415);
    let link = LinkRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        valid_for: Duration::from_secs(86_400),
    };
    authority.sign_link(&link, SystemTime::now()).await.unwrap();
    let host = HostRequest {
        subject: HostKey::generate().unwrap().public_key().clone(),
        workspace: WorkspaceName::try_from("devenv-0").unwrap(),
        workspace_uid: WorkspaceUid::try_from("3f1c").unwrap(),
        // Sorted otherwise than they stand here, as Vault does.
        names: vec!["z.example".into(), "10.0.0.1".into()],
        valid_for: Duration::from_secs(86_400),
    };
    authority.sign_host(&host, SystemTime::now()).await.unwrap();

    let asked = vault.asked("ssh/sign/doorward-session").pop().unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.headers["x-vault-namespace"], "team/a");
    assert_eq!(asked.headers["x-vault-request"], "true");
    assert!(asked.token().starts_with("hvs.secret-"));
    assert_eq!(asked.text("cert_type"), "user");
    assert_eq!(asked.text("valid_principals"), "node");
    assert_eq!(asked.text("ttl"), "180s");
    assert!(asked.text("key_id").starts_with("user=bob session="));
    assert_eq!(asked.body["extensions"]["sftp@doorward"], "read");
    assert_eq!(asked.body["extensions"]["permit-pty"], "");
    assert_eq!(asked.body["critical_options"], json!({}));
    let asked = vault.asked("ssh/sign/doorward-link").pop().unwrap();
    assert_eq!(asked.text("valid_principals"), "doorward-gateway");
    let asked = vault.asked("ssh-host/sign/doorward-host").pop().unwrap();
    assert_eq!((asked.text("cert_type"), asked.text("ttl")), ("host", "86400s"));
    assert_eq!(vault.asked("auth/approle/login").len(), 1, "one login serves them all");
    let login = vault.asked("auth/approle/login").pop().unwrap();
    assert_eq!(login.body, json!({ "role_id": "the-role", "secret_id": "the-secret" }));
    assert_eq!(login.token(), "", "a login carries no token");
}

/// A lie, and the code that it is refused with.
type Lie = (&'static str, fn(&mut Draft));

const LIES: [Lie; 18] = [
    ("certificate-not-user", |draft| draft.kind = CertType::Host),
    ("answer-subject", |draft| {
        draft.subject = ca().public_key().key_data().clone()
    }),
    ("answer-principals", |draft| draft.principals.push("root".into())),
    ("answer-principals", |draft| draft.principals = vec!["root".into()]),
    ("answer-principals", |draft| draft.principals.clear()),
    ("answer-valid-before", |draft| draft.before += 600),
    ("certificate-life-too-long", |draft| draft.before += 86_400),
    ("certificate-everlasting", |draft| draft.before = u64::MAX),
    ("answer-valid-after", |draft| draft.after -= 600),
    ("certificate-untrusted-authority", |draft| draft.signer = ca()),
    ("answer-extensions", |draft| {
        drop(draft.extensions.insert("permit-X11-forwarding".into(), String::new()))
    }),
    ("answer-extensions", |draft| {
        drop(draft.extensions.remove("session@doorward"))
    }),
    ("answer-extensions", |draft| {
        drop(draft.extensions.insert("sftp@doorward".into(), "read-write".into()))
    }),
    ("certificate-critical-option", |draft| {
        drop(draft.critical.insert("force-command".into(), "/bin/true".into()))
    }),
    ("answer-key-id", |draft| draft.key_id = "vault-approle-deadbeef".into()),
    ("answer-serial", |draft| draft.serial = 0),
    ("certificate-malformed", |draft| draft.tail = vec![0]),
    ("certificate-not-text", |draft| draft.behind = "ssh-ed25519 AAAA"),
];

#[tokio::test]
async fn every_lie_is_noticed() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    assert_eq!(refusal(&authority).await, "signed");
    for (number, (code, lie)) in LIES.into_iter().enumerate() {
        vault.lie(lie);
        assert_eq!(refusal(&authority).await, code, "lie {number}");
    }
    vault.script(|_| None);
    assert_eq!(refusal(&authority).await, "signed");
}

#[tokio::test]
async fn a_certificate_that_its_own_subject_signed_is_noticed() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    let own = HostKey::generate().unwrap();
    let request = doorward_certs::SessionRequest {
        subject: own.public_key().clone(),
        ..session_request()
    };
    let key = own.private_key().clone();
    vault.lie(move |draft| draft.signer = key.clone());
    let token = doorward_certs::UserToken::new(doorward_certs::Secret::new(String::new()));
    let error = authority
        .sign_session(&request, token, SystemTime::now())
        .await
        .unwrap_err();
    assert!(matches!(error, AuthorityError::Answer(_)), "{error}");
    assert_eq!(error.code(), "certificate-untrusted-authority");
}

#[tokio::test]
async fn what_is_no_certificate_is_noticed() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    assert_eq!(refusal(&authority).await, "signed");
    for (line, code) in [
        ("", "certificate-not-text"),
        ("ssh-ed25519", "certificate-not-text"),
        ("ssh-ed25519 AAAA", "certificate-subject-algorithm"),
        ("ssh-ed25519-cert-v01@openssh.com !!!!", "certificate-not-text"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate-malformed"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA\nAAAA", "certificate-not-text"),
    ] {
        vault.script(move |asked| {
            let said = json!({ "data": { "serial_number": "1", "signed_key": line } });
            asked.path.contains("/sign/").then_some(Said::Json(200, said))
        });
        assert_eq!(refusal(&authority).await, code, "{line:?}");
    }
    for said in [
        json!({}),
        json!({ "data": null }),
        json!({ "data": { "signed_key": 7, "serial_number": "1" } }),
        json!([1, 2]),
    ] {
        vault.script(move |asked| asked.path.contains("/sign/").then(|| Said::Json(200, said.clone())));
        assert_eq!(refusal(&authority).await, "vault-not-vault");
    }
}
