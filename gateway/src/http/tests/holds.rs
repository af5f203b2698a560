//! Recordings over HTTP: who sees them, who holds them, what is left of one that was deleted, and that each of it is on record.

use std::time::Duration;

use doorward_audit::Event;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::record::fixture::{Author, start};
use crate::record::{Closing, Start};

const ROLES: &str = "[[role]]\nname = \"counsel\"\ngroups = [\"counsel\"]\nworkspaces = [\"devenv-*\"]\nallow = []\n\
                     recordings = \"all\"\nmay = [\"hold\"]\n\
                     [[role]]\nname = \"elsewhere\"\ngroups = [\"elsewhere\"]\nworkspaces = [\"prod-*\"]\nallow = []\nmay = [\"hold\"]\n";

async fn bench() -> Bench {
    let bench = Bench::start().await;
    let policy = format!("{}{ROLES}", crate::testing::POLICY);
    std::fs::write(bench.folder.path().join("next"), policy).unwrap();
    let mut changes = bench.running.gateway().policy.changes();
    std::fs::rename(
        bench.folder.path().join("next"),
        bench.folder.path().join("policy.toml"),
    )
    .unwrap();
    let changed = tokio::time::timeout(Duration::from_secs(20), changes.changed());
    changed.await.unwrap().unwrap();
    bench
}

/// A recording of bob's in devenv-0, closed, to be kept for so long.
async fn recorded(bench: &Bench, keep: Option<Duration>) -> Uuid {
    let session = Uuid::now_v7();
    let store = &bench.running.gateway().store;
    let begun = store.begin(Start { keep, ..start(session) }).await.unwrap();
    begun.append(0, Author::new(session).whole().into()).unwrap();
    let closing = Closing {
        reason: "done".into(),
        counted: None,
    };
    begun.finish(closing, Duration::from_secs(20)).await.unwrap();
    session
}

/// Waits until the condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

fn person(bench: &Bench, name: &str, group: &str) -> String {
    bench.token(|claims| {
        claims["preferred_username"] = json!(name);
        claims["sub"] = json!(name);
        claims["groups"] = json!([group]);
    })
}

#[tokio::test]
async fn a_recording_is_held_by_whoever_may_and_nobody_deletes_it() {
    let bench = bench().await;
    let counsel = person(&bench, "carol", "counsel");
    let (bob, elsewhere) = (bench.token(|_| {}), person(&bench, "eve", "elsewhere"));
    let held = recorded(&bench, Some(Duration::from_secs(4))).await;
    let body = |reason: &str| json!({ "session": held, "reason": reason }).to_string();
    let path = format!("/v1/holds/{held}");
    for (who, status) in [(&bob, 403), (&elsewhere, 404)] {
        let refused = bench.send_as("POST", who, "/v1/holds", &body("mine")).await;
        assert_eq!(refused.status(), status, "{}", refused.text);
        assert_eq!(bench.send_as("DELETE", who, &path, "").await.status(), status);
    }
    assert_eq!(bench.get_as(&bob, "/v1/holds").await.status(), 403);
    for bad in [body(""), body("a\nb"), "{}".to_owned()] {
        assert_eq!(
            bench.send_as("POST", &counsel, "/v1/holds", &bad).await.status(),
            400,
            "{bad}"
        );
    }
    let unknown = json!({ "session": Uuid::now_v7(), "reason": "x" }).to_string();
    assert_eq!(
        bench.send_as("POST", &counsel, "/v1/holds", &unknown).await.status(),
        404
    );
    assert_eq!(
        bench
            .send_as("POST", &counsel, "/v1/holds", &body("case 4711"))
            .await
            .status(),
        204
    );
    let listed = bench.get_as(&counsel, "/v1/holds").await.json();
    assert_eq!(
        (&listed[0]["session"], &listed[0]["by"], &listed[0]["reason"]),
        (&json!(held), &json!("carol"), &json!("case 4711"))
    );

    // One of the same age that nobody holds goes; the held one is still there.
    let gone = recorded(&bench, Some(Duration::from_secs(1))).await;
    let store = bench.running.gateway().store.clone();
    until("it expires", async || store.tombstone(gone).await.unwrap().is_some()).await;
    until("nobody finds it", async || store.session(gone).await.is_none()).await;
    let time = store.session(held).await.unwrap().keep_until.unwrap();
    until("its time is over", async || {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        now.as_millis() > u128::from(time) + 1500
    })
    .await;
    assert!(store.session(held).await.is_some() && store.tombstone(held).await.unwrap().is_none());

    // What is left of it is for whoever may see all recordings there.
    let left = format!("/v1/sessions/{gone}/files/tombstone.json");
    let stone = bench.get_as(&counsel, &left).await;
    assert!(
        stone.status() == 200 && stone.text.contains("expired"),
        "{}",
        stone.text
    );
    assert_eq!(bench.get_as(&bob, &left).await.status(), 404);
    assert_eq!(
        bench.get_as(&counsel, &format!("/v1/sessions/{gone}")).await.status(),
        404
    );

    assert_eq!(bench.send_as("DELETE", &counsel, &path, "").await.status(), 204);
    assert_eq!(bench.send_as("DELETE", &counsel, &path, "").await.status(), 404);
    until("it goes once it is released", async || {
        store.session(held).await.is_none()
    })
    .await;

    let folder = bench.folder.path().to_owned();
    bench.running.finish(&Default::default()).await;
    let events = crate::session::tests::journal(&folder);
    let names: Vec<_> = events.iter().map(Event::name).collect();
    let acts = [
        "Denied",
        "HoldPlaced",
        "HoldReleased",
        "RecordingDeleted",
        "RecordingViewed",
    ];
    let acts: Vec<_> = names.into_iter().filter(|name| acts.contains(name)).collect();
    let mut expected = vec!["Denied"; 5];
    expected.extend([
        "HoldPlaced",
        "RecordingDeleted",
        "RecordingViewed",
        "Denied",
        "HoldReleased",
    ]);
    expected.push("RecordingDeleted");
    assert_eq!(acts, expected, "{events:?}");
}

/// Who fetches slowly holds places; somebody else finds one all the same.
#[tokio::test]
async fn one_person_does_not_hold_every_place_for_fetching() {
    let bench = bench().await;
    let session = recorded(&bench, None).await;
    let (bob, alice) = (bench.token(|_| {}), person(&bench, "alice", "counsel"));
    let file = format!("/v1/sessions/{session}/files/segment-000000.dwr");
    let gateway = bench.running.gateway();
    let held: Vec<_> = std::iter::from_fn(|| gateway.downloads.enter("bob".to_owned())).collect();
    assert!(held.len() > 8, "{}", held.len());
    let refused = bench.get_as(&bob, &file).await;
    assert_eq!(refused.status(), 429, "{}", refused.text);
    assert_eq!(bench.get_as(&alice, &file).await.status(), 200);
    drop(held);
    assert_eq!(bench.get_as(&bob, &file).await.status(), 200);
    // An answer that was taken holds none.
    until("every place is free", async || {
        gateway.downloads.enter("bob".to_owned()).is_some()
    })
    .await;
}

/// Somebody else's recording looks like none, by whatever name it is asked for, and asking is on record.
#[tokio::test]
async fn somebody_elses_recording_cannot_be_had() {
    let bench = bench().await;
    let session = recorded(&bench, None).await;
    let (bob, eve) = (bench.token(|_| {}), person(&bench, "eve", "developers"));
    let file = |name: &str| format!("/v1/sessions/{session}/files/{name}");
    assert_eq!(bench.get_as(&bob, &file("segment-000000.dwr")).await.status(), 200);
    let mut asked = 0;
    for name in [
        "segment-000000.dwr",
        "receipts.jsonl",
        "session.json",
        "tombstone.json",
        "hold.json",
    ] {
        assert_eq!(bench.get_as(&eve, &file(name)).await.status(), 404, "{name}");
        asked += 1;
    }
    for name in [
        "..%2f..%2fjournal",
        "%2e%2e",
        "..",
        ".shipped",
        "segment-000000.dwr%00",
        "segment-000000.dwr.tail-000000000000",
        "SEGMENT-000000.DWR",
    ] {
        for who in [&bob, &eve] {
            assert_eq!(bench.get_as(who, &file(name)).await.status(), 404, "{name}");
        }
        asked += 1;
    }
    for id in [
        session.to_string().to_uppercase(),
        session.simple().to_string(),
        "..".to_owned(),
    ] {
        assert_eq!(
            bench
                .get_as(&bob, &format!("/v1/sessions/{id}/files/session.json"))
                .await
                .status(),
            404,
            "{id}"
        );
    }
    let folder = bench.folder.path().to_owned();
    bench.running.finish(&Default::default()).await;
    let events = crate::session::tests::journal(&folder);
    let of = |name: &str| events.iter().filter(|event| event.name() == name).count();
    assert_eq!(of("RecordingViewed"), 1);
    assert!(of("Denied") >= asked, "{} of {asked}", of("Denied"));
}
