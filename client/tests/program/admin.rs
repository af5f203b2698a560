//! Ending sessions, locking, and asking why.

use serde_json::{Value, json};

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::server::Reply;

const ID: &str = "01900000-0000-7000-8000-000000000001";

fn nothing() -> Reply {
    Reply::Body(204, "application/json", Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_killed_with_a_reason_or_the_refusal_is_told() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let path = format!("/v1/sessions/{ID}/kill");
    gateway.on(&path, |_| nothing());
    let ran = folder.run(&["kill", ID, "--reason", "lost \"laptop\""]).await.expect(0);
    assert!(ran.out.is_empty() && ran.err.contains(ID), "{ran:?}");
    let asked = gateway.server.asked().pop().unwrap();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", path.as_str()));
    assert_eq!(asked.field("content-type"), Some("application/json"));
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body).unwrap(),
        json!({"reason": "lost \"laptop\""})
    );
    gateway.on(&path, |_| {
        problem(403, "denied", "bob may not end\n this", "ask \u{1b}[2J")
    });
    let ran = folder.run(&["kill", ID]).await.expect(77);
    assert_eq!(ran.err, "doorward: bob may not end\\n this\nhint: ask \\x1b[2J\n");
    gateway.on(&path, |_| problem(503, "down", "the journal is not available", ""));
    folder.run(&["kill", ID]).await.expect(255);
    let before = gateway.server.asked().len();
    folder
        .run(&["kill", ID, "--reason", &"x".repeat(5000)])
        .await
        .expect(64);
    folder.run(&["kill", "../x"]).await.expect(64);
    assert_eq!(gateway.server.asked().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_workspaces_are_locked_listed_and_unlocked() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.on("/v1/locks", |_| nothing());
    folder
        .run(&["lock", "user", "b/o b@x.org", "--reason", "left"])
        .await
        .expect(0);
    let asked = gateway.server.asked().pop().unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(
        serde_json::from_str::<Value>(&asked.body).unwrap(),
        json!({"kind": "user", "name": "b/o b@x.org", "reason": "left"})
    );
    gateway.on("/v1/locks/user/b%2Fo%20b@x.org", |_| nothing());
    folder.run(&["unlock", "user", "b/o b@x.org"]).await.expect(0);
    let asked = gateway.server.asked().pop().unwrap();
    assert_eq!((asked.method.as_str(), asked.body.as_str()), ("DELETE", ""));
    folder.run(&["lock", "workspace", "../x"]).await.expect(64);
    folder.run(&["unlock", "user", ".."]).await.expect(64);
    let ran = folder.run(&["unlock", "workspace", "devenv-7"]).await.expect(77);
    assert!(
        ran.err
            .starts_with("doorward: workspace devenv-7 is not locked\nhint: "),
        "{}",
        ran.err
    );

    gateway.json(
        "/v1/locks",
        json!([
            {"kind": "user", "name": "m\u{1b}]0;x\u{7}", "by": "alice", "at": "2026-11-21T09:30:00Z", "reason": "a\nb"},
            {"kind": "workspace", "name": "devenv-0", "by": "alice", "at": "2026-11-21T09:30:00Z", "reason": null},
        ]),
    );
    let ran = folder.run(&["locks"]).await.expect(0);
    assert_eq!(ran.out.lines().count(), 3, "{}", ran.out);
    assert!(
        ran.out.contains("m\\x1b]0;x\\x07") && ran.out.contains("a\\nb"),
        "{}",
        ran.out
    );
    let ran = folder.run(&["locks", "--json"]).await.expect(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()[1]["name"], "devenv-0");
    gateway.json("/v1/locks", json!([]));
    let ran = folder.run(&["locks"]).await.expect(0);
    assert!(ran.out.is_empty() && ran.err.contains("nothing is locked"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_enter_is_explained_rule_by_rule() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let explanation = json!({
        "user": "c@x.org", "workspace": "devenv-0", "verdict": "denied", "why": "no role\u{1b}", "login": null, "capabilities": [],
        "longest": null, "recording": {"mode": "strict", "input": false},
        "rules": [
            {"role": "developers\u{1b}[2J", "applies": false, "why": "not in the group\ndevelopers"},
            {"role": "guests", "applies": true, "why": "e-mail"},
        ],
    });
    gateway.json("/v1/explain", explanation.clone());
    let args = [
        "explain", "--user", "c@x.org", "--groups", "a,b&c", "--email", "c@x.org", "DEVENV-0",
    ];
    let ran = folder.run(&args).await.expect(0);
    assert_eq!(
        gateway.server.asked().pop().unwrap().target,
        "/v1/explain?workspace=devenv-0&user=c%40x.org&groups=a%2Cb%26c&email=c%40x.org"
    );
    for text in [
        "verdict    denied\n",
        "why        no role\\x1b\n",
        "recording  input false, mode strict\n",
        "developers\\x1b[2J  no       not in the group\\ndevelopers\n",
        "guests             yes      e-mail\n",
    ] {
        assert!(ran.out.contains(text), "{text:?} is not in {}", ran.out);
    }
    let ran = folder.run(&["explain", "devenv-0", "--json"]).await.expect(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap(), explanation);
    assert_eq!(
        gateway.server.asked().pop().unwrap().target,
        "/v1/explain?workspace=devenv-0"
    );
    folder.run(&["explain", "../x"]).await.expect(64);
    gateway.json("/v1/explain", json!({"verdict": 7}));
    folder.run(&["explain", "devenv-0"]).await.expect(255);
}
