//! The CA's key changes: answers of the new one are taken at once, the old one is believed for a while, strangers never.

use doorward_certs::{Authority, vault::Vault};

use crate::server::{FalseVault, Said, ca, errors, refusal, sign};

#[tokio::test]
async fn a_new_key_is_noticed_at_its_first_signature_and_the_old_one_stays_a_while() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    sign(&authority).await.unwrap();
    let old = authority.user_ca().await.unwrap();
    vault.rotate();
    let signed = futures_util::future::join_all((0..10).map(|_| refusal(&authority))).await;
    assert!(signed.iter().all(|code| code == "signed"), "{signed:?}");
    let now = authority.user_ca().await.unwrap();
    assert_eq!(now.len(), 2);
    assert!(
        old.iter()
            .all(|key| now.iter().any(|known| known.key_data() == key.key_data()))
    );
    assert_eq!(vault.asked("ssh/public_key").len(), 2, "asked once for all of them");
}

#[tokio::test]
async fn a_key_that_vault_does_not_publish_is_never_believed() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    sign(&authority).await.unwrap();
    vault.lie(|draft| draft.signer = ca());
    for _ in 0..2 {
        assert_eq!(refusal(&authority).await, "certificate-untrusted-authority");
    }
    assert_eq!(authority.user_ca().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_look_notices_a_rotation_of_the_host_key() {
    let vault = FalseVault::start().await;
    let own = Vault::new(vault.settings()).unwrap();
    own.look().await.unwrap();
    vault.rotate();
    own.look().await.unwrap();
    let authority = Authority::Vault(own);
    assert_eq!(authority.host_ca().await.unwrap().len(), 2);
    assert_eq!(authority.user_ca().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rotation_overlaps_over_a_restart_and_one_that_nobody_saw_as_well() {
    let vault = FalseVault::start().await;
    let state = tempfile::tempdir().unwrap();
    let started = async |state: Option<&std::path::Path>| {
        let own = Vault::new(vault.settings()).unwrap();
        if let Some(state) = state {
            own.remember_in(state);
        }
        own.look().await.unwrap();
        let authority = Authority::Vault(own);
        [
            authority.user_ca().await.unwrap().len(),
            authority.host_ca().await.unwrap().len(),
        ]
    };
    assert_eq!(started(Some(state.path())).await, [1, 1]);
    vault.rotate();
    assert_eq!(started(Some(state.path())).await, [2, 2], "rotated while nobody looked");
    assert_eq!(started(Some(state.path())).await, [2, 2], "and again after a restart");
    assert_eq!(started(None).await, [1, 1], "without its state it knows nothing");
    // Garbage is not believed, and does not keep the gateway from starting.
    std::fs::write(state.path().join("vault-user-ca"), "of nobody\ncurrent x\n").unwrap();
    std::fs::write(state.path().join("vault-host-ca"), [0xff; 32]).unwrap();
    assert_eq!(started(Some(state.path())).await, [1, 1]);
}

#[tokio::test]
async fn keys_that_are_known_are_believed_while_vault_is_down() {
    let vault = FalseVault::start().await;
    let authority = vault.authority();
    let before = authority.host_ca().await.unwrap();
    vault.script(|_| Some(errors(500, "down")));
    assert_eq!(authority.host_ca().await.unwrap(), before);
}

#[tokio::test]
async fn where_the_public_path_is_closed_the_key_is_read_with_the_token() {
    let vault = FalseVault::start().await;
    let key = ca().public_key().to_openssh().unwrap();
    let closed = |asked: &crate::server::Asked| asked.path.ends_with("/public_key");
    vault.script(move |asked| match asked.path.as_str() {
        "ssh-host/config/ca" if asked.token().starts_with("hvs.") => {
            Some(Said::Json(200, serde_json::json!({ "data": { "public_key": key } })))
        }
        _ => closed(asked).then(|| errors(403, "permission denied")),
    });
    let authority = vault.authority();
    assert_eq!(authority.host_ca().await.unwrap().len(), 1);
    let error = authority.user_ca().await.unwrap_err();
    assert_eq!(error.code(), "vault-mount-missing");
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    for (said, code) in [
        ("", "vault-no-ca"),
        ("not a key", "vault-no-ca"),
        ("<html></html>", "vault-no-ca"),
        ("ssh-ed25519 AAAA", "vault-no-ca"),
    ] {
        let vault = FalseVault::start().await;
        vault.script(move |asked| {
            let key = asked.path.ends_with("/public_key");
            key.then(|| Said::Text(200, "text/plain", said.as_bytes().to_vec()))
        });
        assert_eq!(vault.authority().host_ca().await.unwrap_err().code(), code, "{said:?}");
    }
    let vault = FalseVault::start().await;
    vault.script(|asked| {
        let none = asked.path.ends_with("/public_key");
        none.then(|| Said::Json(404, serde_json::json!({ "errors": [] })))
    });
    assert_eq!(vault.authority().host_ca().await.unwrap_err().code(), "vault-no-ca");
}
