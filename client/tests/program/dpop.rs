//! Tokens that are bound to a key of this computer.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde_json::json;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::login::{log_in, log_in_with};
use crate::proof;
use crate::run::Folder;

/// A gateway that wants this, and an issuer that can do it.
async fn start(dpop: &str) -> (Issuer, Gateway) {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    gateway.json(
        "/.well-known/doorward",
        json!({
            "version": 1, "issuer": issuer.url(), "client-id": "doorward",
            "issuers": [{"name": "one", "issuer": issuer.url(), "client-id": "doorward", "scopes": ["openid"], "dpop": dpop}],
        }),
    );
    issuer.set(|script| script.discovery = json!({"dpop_signing_alg_values_supported": ["RS256", "ES256"]}));
    (issuer, gateway)
}

fn keys(folder: &Folder) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_proved_with_one_key_per_login() {
    let (issuer, gateway) = start("required").await;
    issuer.set(|script| script.bind = Some("nonce-1"));
    let folder = Folder::new();
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    log_in(&issuer, &gateway, &folder, &good).await.expect(0);
    assert_eq!(issuer.server.count("/token"), 2, "once without the nonce, once with it");
    let thumbprint = issuer.script.lock().unwrap().thumbprint.clone().unwrap();
    assert_eq!(folder.tokens()["dpop-key"], thumbprint.as_str());
    let [key] = &keys(&folder)[..] else { panic!("one key") };
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);

    let mut numbers = Vec::new();
    for _ in 0..2 {
        folder.run(&["ls"]).await.expect(0);
        let asked = gateway.server.asked();
        let asked = asked.last().unwrap();
        assert_eq!(asked.field("authorization"), Some("DPoP access-0"));
        let proved = proof::check(asked.field("dpop").unwrap());
        assert_eq!(proved.thumbprint, thumbprint);
        assert_eq!(proved.claims["htm"], "GET");
        assert_eq!(proved.claims["htu"], format!("{}v1/workspaces", gateway.url()));
        assert_eq!(proved.claims["ath"], proof::hash("access-0"));
        numbers.push(proved.claims["jti"].clone());
    }
    assert_ne!(numbers[0], numbers[1], "no proof is used twice");

    // refreshed with the same key, and with another nonce
    folder.write_token("expires-at", json!(1));
    issuer.set(|script| script.bind = Some("nonce-2"));
    folder.run(&["ls"]).await.expect(0);
    assert_eq!(folder.tokens()["access-token"], "access-1");
    let ran = folder.run(&["status", "--local"]).await.expect(0);
    assert!(ran.out.contains("bound to this computer"), "{}", ran.out);

    // the next login has a key of its own, and the old one is gone
    log_in(&issuer, &gateway, &folder, &good).await.expect(0);
    let [other] = &keys(&folder)[..] else { panic!("one key") };
    assert_ne!(key, other);
    folder.run(&["logout"]).await.expect(0);
    assert!(keys(&folder).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_bound_is_refused_where_it_must_be() {
    let (issuer, gateway) = start("required").await;
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    issuer.set(|script| {
        script.bind = Some("n");
        script.answer = json!({"token_type": "Bearer"});
    });
    let folder = Folder::new();
    let ran = log_in(&issuer, &gateway, &folder, &good).await.expect(255);
    assert!(ran.err.contains("not bound"), "{}", ran.err);
    assert!(!folder.path().join("tokens.json").exists() && keys(&folder).is_empty());
    // an issuer that cannot do it is not even asked for a login
    issuer.set(|script| script.discovery = json!({"dpop_signing_alg_values_supported": ["RS256"]}));
    let ca = gateway.ca_file(&folder);
    let args = ["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()];
    let ran = folder.run(&args).await.expect(255);
    assert!(ran.err.contains("bound to a key"), "{}", ran.err);
    assert_eq!(issuer.server.count("/device"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_optional_the_issuer_decides() {
    let (issuer, gateway) = start("optional").await;
    let folder = Folder::new();
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    issuer.set(|script| {
        script.bind = Some("n");
        script.answer = json!({"token_type": "Bearer"});
    });
    log_in(&issuer, &gateway, &folder, &good).await.expect(0);
    folder.run(&["ls"]).await.expect(0);
    let asked = gateway.server.asked();
    assert_eq!(asked.last().unwrap().field("authorization"), Some("Bearer access-0"));
    assert!(keys(&folder).is_empty());
    // one that cannot do it is shown no proof
    issuer.set(|script| {
        script.bind = None;
        script.answer = json!({});
        script.discovery = json!({});
    });
    log_in_with(&issuer, &gateway, &folder, &[], &good).await.expect(0);
    assert!(folder.tokens()["dpop-key"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_its_key_is_over() {
    let (issuer, gateway) = start("required").await;
    issuer.set(|script| script.bind = Some("n"));
    let folder = Folder::new();
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    log_in(&issuer, &gateway, &folder, &good).await.expect(0);
    let [key] = &keys(&folder)[..] else { panic!("one key") };
    let elsewhere = folder.home().join("elsewhere");
    std::fs::rename(key, &elsewhere).unwrap();
    symlink(&elsewhere, key).unwrap();
    let ran = folder.run(&["ls"]).await.expect(78);
    assert!(ran.err.contains("symbolic link"), "{}", ran.err);
    std::fs::remove_file(key).unwrap();
    let before = gateway.server.asked().len();
    let ran = folder.run(&["ls"]).await.expect(77);
    assert!(ran.err.contains("hint: doorward login"), "{}", ran.err);
    assert_eq!(
        gateway.server.asked().len(),
        before,
        "a token without its key is shown to nobody"
    );
}
