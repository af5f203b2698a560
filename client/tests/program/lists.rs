//! Lists, and what hostile names can do in them: nothing.

use serde_json::{Value, json};

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;

const ID: &str = "01900000-0000-7000-8000-000000000001";

fn hostile_session() -> Value {
    json!({
        "session": ID, "user": "bob\u{1b}]52;c;eA==\u{7}", "workspace": "devenv-0\n", "workspace-uid": "u-1",
        "login": "no\u{202e}de", "started": "2026-11-21T09:30:00.000Z", "ended": "2026-11-21T10:31:05.000Z",
        "outcome": "abnormal", "reason": "\u{9b}2J", "record-bytes": 1_500_000, "client-address": "10.0.0.1:5",
        "from-the-future": true,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_listed() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let ran = folder.run(&["ls"]).await.expect(0);
    assert_eq!(ran.out, "NAME      OWNER  STATE\ndevenv-0  bob    running\n");
    let ran = folder.run(&["ls", "--json"]).await.expect(0);
    let list: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list[0]["name"], "devenv-0");
    gateway.json("/v1/workspaces", json!({"workspaces": []}));
    let ran = folder.run(&["ls"]).await.expect(0);
    assert!(ran.err.contains("no workspace"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_shown_without_their_escapes() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.json("/v1/sessions", json!({"sessions": [hostile_session()]}));
    let mut one = hostile_session();
    one["files"] = json!([{"name": "segment-000000.dwr\u{1b}[2J", "size": 4096}]);
    gateway.json(&format!("/v1/sessions/{ID}"), one);
    let list = folder.run(&["sessions"]).await.expect(0);
    let show = folder.run(&["sessions", "show", ID]).await.expect(0);
    for (what, out) in [("list", &list.out), ("show", &show.out)] {
        assert!(
            out.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')),
            "{what}: {out:?}"
        );
        for text in [
            "2026-11-21 09:30:00",
            "1:01:05",
            "abnormal",
            "1.5 MB",
            "devenv-0\\n",
            "no\\u{202e}de",
        ] {
            assert!(out.contains(text), "{what} lacks {text}: {out}");
        }
    }
    assert_eq!(list.out.lines().count(), 2);
    let args = [
        "sessions",
        "ls",
        "--user",
        "a&b",
        "--workspace",
        "w",
        "--limit",
        "3",
        "--json",
    ];
    let ran = folder.run(&args).await.expect(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()[0]["session"], ID);
    assert_eq!(
        gateway.server.asked().last().unwrap().target,
        "/v1/sessions?user=a%26b&workspace=w&limit=3"
    );
    for limit in ["0", "1001", "x"] {
        let ran = folder.run(&["sessions", "--limit", limit]).await.expect(64);
        assert!(ran.err.contains("from 1 to 1000"), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_one_sentence() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.json("/v1/sessions", json!({"sessions": [{"session": "no id"}]}));
    gateway.json("/v1/workspaces", json!([]));
    for command in ["sessions", "ls"] {
        let ran = folder.run(&[command]).await.expect(255);
        assert!(
            ran.err.starts_with("doorward: ") && ran.err.lines().count() == 1,
            "{}",
            ran.err
        );
    }
    gateway.on("/v1/workspaces", |_| {
        problem(401, "token-expired", "the token has expired", "log in again")
    });
    let ran = folder.run(&["ls"]).await.expect(77);
    assert_eq!(ran.err, "doorward: the token has expired\nhint: log in again\n");
}
