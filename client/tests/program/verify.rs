//! Verification of many at once: one that is not there, or cannot be read, is named and hides nothing of the others.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::recordings::{Recorded, record, store};
use crate::run::Folder;
use crate::server::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_anything_is_said_to_be_that() {
    let (recorded, folder) = (record().await, Folder::new());
    let trust = recorded.trust.to_str().unwrap();
    let empty = folder.home().join("records");
    std::fs::create_dir_all(empty.join("2026-11-21")).unwrap();
    let empty = empty.to_str().unwrap();
    let ran = folder.run(&["verify", "--trust", trust, empty]).await.expect(13);
    assert!(ran.out.contains("records: NOTHING HERE"), "{}", ran.out);
    let ran = folder
        .run(&["verify", "--json", "--trust", trust, empty, &recorded.arg()])
        .await
        .expect(13);
    let all: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    let found = |class: &str| all.iter().find(|one| one["class"] == class).unwrap();
    assert_eq!(found("missing")["recording"], empty);
    assert_eq!(found("complete")["session"], json!(recorded.session));
}

/// Has the gateway list and give out these; returns what it says of each.
fn list(gateway: &Gateway, all: &[&Recorded]) -> Vec<Value> {
    let entries: Vec<Value> = all.iter().map(|one| store(gateway, one)).collect();
    gateway.json("/v1/sessions", json!({ "sessions": entries }));
    entries
}

/// The CA keys of several, as one file.
fn trust(folder: &Folder, all: &[&Recorded]) -> String {
    let mut keys = json!({"host-ca": [], "user-ca": []});
    for one in all {
        let own: Value = serde_json::from_slice(&std::fs::read(&one.trust).unwrap()).unwrap();
        for kind in ["host-ca", "user-ca"] {
            keys[kind]
                .as_array_mut()
                .unwrap()
                .extend(own[kind].as_array().unwrap().clone());
        }
    }
    let path = folder.home().join("all-keys.json");
    std::fs::write(&path, keys.to_string()).unwrap();
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_gateway_cannot_give_hides_nothing_of_the_others() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let (one, two) = (record().await, record().await);
    list(&gateway, &[&one, &two]);
    gateway.on(&format!("/v1/sessions/{}", one.session), |_| {
        problem(503, "record-store-down", "the disk cannot be read", "")
    });
    let trust = trust(&folder, &[&one, &two]);
    let ran = folder.run(&["verify", "--all", "--trust", &trust]).await.expect(15);
    let named = format!("{}: NOT READABLE: ", one.session);
    assert!(
        ran.out.contains(&named) && ran.out.contains("the disk cannot be read"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains(&format!("{}: ok: whole", two.session)), "{}", ran.out);
    assert!(ran.err.contains("1 of 2"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_on_the_way_is_got_anew() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let (one, two) = (record().await, record().await);
    let entries = list(&gateway, &[&one, &two]);
    // As if it had ended right before this session.
    let (later, spent) = (one.session.max(two.session), Mutex::new(None));
    let index = entries
        .into_iter()
        .find(|entry| entry["session"] == json!(later))
        .unwrap();
    gateway.on(&format!("/v1/sessions/{later}"), move |asked| {
        let token = asked.field("authorization").unwrap().to_owned();
        let mut spent = spent.lock().unwrap();
        match spent.get_or_insert_with(|| token.clone()) == &token {
            true => problem(401, "token-expired", "the token has expired", ""),
            false => Reply::json(200, &index),
        }
    });
    let trust = trust(&folder, &[&one, &two]);
    let ran = folder.run(&["verify", "--all", "--trust", &trust]).await.expect(0);
    assert_eq!(ran.out.matches("ok: whole").count(), 2, "{}", ran.out);
}

/// Whoever can write into a store can put a pipe or a device there, and take a whole folder away.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_and_what_is_gone_is_named_and_the_rest_is_judged() {
    let (odd, good, folder) = (record().await, record().await, Folder::new());
    let path = std::path::PathBuf::from(odd.arg());
    let (gone, segment) = (path.join("gone"), path.join(doorward_audit::segment_name(0)));
    std::fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &segment).unwrap();
    let trust = &trust(&folder, &[&odd, &good]);
    let gone = gone.to_str().unwrap();
    let ran = folder
        .run(&["verify", "--json", "--trust", trust, gone, &odd.arg(), &good.arg()])
        .await
        .expect(15);
    let items: Value = serde_json::from_str(&ran.out).unwrap();
    let items = items.as_array().unwrap();
    assert_eq!(items.len(), 3, "{}", ran.out);
    let unreadable = items.iter().filter(|item| item["class"] == "unreadable").count();
    assert_eq!(unreadable, 2, "{}", ran.out);
    assert!(
        ran.out.contains("neither a session nor a folder nor a bundle"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("not a regular file"), "{}", ran.out);
    let ran = folder.run(&["verify"]).await.expect(64);
    assert!(ran.err.contains("--all") && !ran.err.contains("--home"), "{}", ran.err);
}
