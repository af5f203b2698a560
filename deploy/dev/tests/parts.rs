//! The real servers: that they come up, that they can be hurt, and that they end with whoever started them.
//!
//! Where a part cannot be had, its test says so in one line and proves nothing; `cargo run -- parts` says why.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use doorward_dev::parts::vault::{AppRole, Settings, Storage};
use doorward_dev::parts::{KEYCLOAK, Keycloak, Part, VAULT, Vault, keycloak};
use serde_json::{Value, json};

fn program() -> Option<PathBuf> {
    Some(PathBuf::from(env!("CARGO_BIN_EXE_doorward-dev")))
}

/// Whether the part can be had; says so by the test's name where it cannot.
async fn have(part: &Part, test: &str) -> bool {
    let Err(error) = part.have().await else { return true };
    // Past the capture of a test's output: a test that was skipped must be seen.
    let _ = writeln!(
        std::io::stderr(),
        "skipped: parts::{test}: {} cannot be had: {error}",
        part.name
    );
    false
}

async fn vault(folder: &Path, storage: Storage) -> Vault {
    let settings = Settings {
        folder: folder.to_owned(),
        program: program(),
        storage,
    };
    Vault::start(settings).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Polls a condition: where another process acts there is no event to wait for.
async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let last = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < last, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Processes whose command line names the folder.
fn running_in(dir: &Path) -> usize {
    let dir = dir.canonicalize().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap();
    let lines = lines.filter_map(|process| std::fs::read(process.ok()?.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(dir.to_str().unwrap()))
        .count()
}

/// An SSH engine that signs for `node`, and a login that may have it do so.
async fn set_up(vault: &Vault) -> AppRole {
    let role = json!({
        "key_type": "ca", "allow_user_certificates": true, "allowed_users": "node", "allow_user_key_ids": true,
        "allowed_extensions": "shell@doorward,session@doorward", "ttl": "1m",
    });
    let sign = "path \"team/ssh/sign/doorward-session\" { capabilities = [\"update\"] }";
    for (path, body) in [
        ("sys/mounts/team/ssh", json!({"type": "ssh"})),
        (
            "team/ssh/config/ca",
            json!({"generate_signing_key": true, "key_type": "ed25519"}),
        ),
        (
            "sys/mounts/team/ssh/tune",
            json!({"audit_non_hmac_request_keys": ["key_id"]}),
        ),
        ("team/ssh/roles/doorward-session", role),
        ("sys/policies/acl/team", json!({"policy": sign})),
        ("sys/auth/approle", json!({"type": "approle"})),
        ("auth/approle/role/team", json!({"token_policies": ["team"]})),
    ] {
        vault.root().write(path, &body).await.unwrap();
    }
    AppRole::hand_out(vault.root(), "team").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_signs_is_sealed_stopped_and_killed_and_comes_back_as_it_was() {
    if !have(
        &VAULT,
        "a_vault_signs_is_sealed_stopped_and_killed_and_comes_back_as_it_was",
    )
    .await
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vault = vault(dir.path(), Storage::File).await;
    let gateway = set_up(&vault).await;
    let login = json!({"role_id": gateway.role_id, "secret_id": gateway.secret_id});
    let token = vault.root().write("auth/approle/login", &login).await.unwrap();
    let gateway = vault.root().with_token(token["auth"]["client_token"].as_str().unwrap());

    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let ask = json!({"public_key": key, "valid_principals": "node", "key_id": "user=bob", "ttl": "1m",
        "extensions": {"shell@doorward": "", "session@doorward": "x"}});
    let signed = gateway.write("team/ssh/sign/doorward-session", &ask).await.unwrap();
    assert!(
        signed["data"]["signed_key"]
            .as_str()
            .unwrap()
            .starts_with("ssh-ed25519-cert-v01@openssh.com ")
    );
    let refused = gateway
        .write("team/ssh/config/ca", &json!({}))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("403"), "{refused}");
    // The audit log says who had what signed, in plain text.
    let is_signing =
        |line: &Value| line["type"] == "response" && line["request"]["path"] == "team/ssh/sign/doorward-session";
    let audit = vault.audit().unwrap();
    let signing: Vec<_> = audit.iter().filter(|line| is_signing(line)).collect();
    assert_eq!(signing.len(), 1);
    assert_eq!(signing[0]["request"]["data"]["key_id"], "user=bob");

    vault.seal().await.unwrap();
    wait_for("the seal", async || {
        vault.root().health().await.is_ok_and(|status| status == 503)
    })
    .await;
    vault.unseal().await.unwrap();
    gateway.write("team/ssh/sign/doorward-session", &ask).await.unwrap();

    vault.pause().await;
    let asked = tokio::time::timeout(Duration::from_secs(1), vault.root().health()).await;
    assert!(asked.is_err(), "it answers although it stands still: {asked:?}");
    vault.resume();
    assert_eq!(vault.root().health().await.unwrap(), 200);

    vault.kill().await;
    assert!(vault.root().health().await.is_err());
    vault.restart().await.unwrap();
    gateway.write("team/ssh/sign/doorward-session", &ask).await.unwrap();
    vault.stop().await;
    assert_eq!(running_in(dir.path()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_vault_stands_by_and_both_end_when_they_are_dropped() {
    if !have(&VAULT, "a_second_vault_stands_by_and_both_end_when_they_are_dropped").await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vault = vault(dir.path(), Storage::Raft).await;
    let standby = vault.add_standby().await.unwrap();
    assert_eq!(vault.root().health().await.unwrap(), 200);
    // The standby passes requests on.
    let read = vault.root().at(&standby).read("sys/auth").await.unwrap();
    assert!(read.pointer("/data/token~1").is_some(), "{read}");
    // Even one that stands still ends with its tether.
    vault.pause().await;
    drop(vault);
    wait_for("the end of both", async || running_in(dir.path()) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keycloak_has_realms_and_people_and_comes_back_with_them() {
    if !have(&KEYCLOAK, "a_keycloak_has_realms_and_people_and_comes_back_with_them").await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = keycloak::Settings {
        folder: dir.path().to_owned(),
        program: program(),
        trusts: None,
    };
    let keycloak = Keycloak::start(settings)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let realm = json!({"realm": "first", "enabled": true, "groups": [{"name": "developers"}]});
    let realm = keycloak.add_realm(&realm, Some("second")).await.unwrap();
    assert_eq!(realm.issuer(), format!("{}/realms/second", keycloak.url()));
    realm.add_person("bob").await.unwrap();
    realm.join("bob", "developers").await.unwrap();
    assert!(realm.join("bob", "nobody").await.is_err());
    keycloak.kill().await;
    assert!(realm.logins_of("bob").await.is_err());
    keycloak.restart().await.unwrap();
    assert_eq!(realm.logins_of("bob").await.unwrap(), 0);
    drop(keycloak);
    wait_for("the end", async || running_in(dir.path()) == 0).await;
}
