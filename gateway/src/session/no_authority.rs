//! A gateway whose Vault is not there: it serves, says so, refuses, and has it all on record.

use doorward_audit::Event;

use super::tests::{journal, refused, stop};
use crate::testing::{self, Bench, eventually};

/// Its Vault's port is one that nobody listens on.
async fn bench() -> Bench {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let vault = format!(
        r#"[authority.vault]
address = "http://{}"
timeout = "300ms"
[authority.vault.login]
method = "token-file"
token-file = "vault-token"
"#,
        gone.local_addr().unwrap()
    );
    drop(gone);
    let folder = testing::folder();
    testing::private(&folder.path().join("vault-token"), "hvs.gateway-token");
    Bench::in_folder(folder, |text| {
        let local = "[authority.local]\nuser-ca = \"user-ca\"\nhost-ca = \"host-ca\"\n";
        assert!(text.contains(local));
        text.replace(local, &vault)
    })
    .await
}

#[tokio::test]
async fn a_gateway_without_its_vault_serves_and_refuses_with_the_reason() {
    let bench = bench().await;
    bench.issuer.appear().await;
    eventually(|| bench.running.gateway().identities.ready().is_ok()).await;

    let ready = bench.probe("/readyz").await;
    assert_eq!(ready.status(), 503);
    let why = ready.json()["checks"]["authority"].as_str().unwrap().to_owned();
    assert!(
        why.contains("vault-unreachable") || why.contains("cannot be reached"),
        "{why}"
    );

    // What the looking-after has found, or the missing link certificate: the person reads the same.
    eventually(|| bench.running.gateway().authority.ready().is_err()).await;
    assert_eq!(refused(&bench).await, (503, "authority-down".to_owned()));
    let token = bench.token(|_| {});
    let lines = format!("Authorization: Bearer {token}\r\n{}", testing::UPGRADE);
    let reply = bench.get("/v1/connect/devenv-0", &lines).await;
    let body = reply.json();
    assert_eq!(body["detail"], "Vault, which signs SSH certificates, cannot be reached");
    assert!(body["hint"].as_str().unwrap().contains("whoever runs Vault"), "{body}");
    assert!(
        !reply.text.contains("127.0.0.1"),
        "where Vault is, is nobody's business: {}",
        reply.text
    );
    assert_eq!(bench.get("/v1/trust", "").await.status(), 503);

    let folder = stop(bench).await;
    let denied: Vec<_> = journal(folder.path())
        .into_iter()
        .filter_map(|event| match event {
            Event::Denied(denied) => Some(denied),
            _ => None,
        })
        .collect();
    assert_eq!(denied.len(), 2);
    for one in denied {
        assert_eq!(
            (one.user.as_deref(), one.code.as_str()),
            (Some("bob"), "authority-down")
        );
        assert!(one.detail.starts_with("vault-unreachable: "), "{}", one.detail);
        assert!(!one.detail.contains("hvs."));
    }
}
