//! Sessions that the gateway ends: kill, lock, renewal, introspection, policy, logout. Each with a sentence for its user
//! and an entry in the journal; and what ends nothing.

use doorward_audit::SessionKilled;
use serde_json::{Value, json};

use super::*;
use crate::locks::Locks;
use crate::oidc::fake::{Answer, Holder, now};

const WARDENS: &str = r#"
[[role]]
name = "warden"
groups = ["wardens"]
workspaces = ["devenv-*"]
allow = []
may = ["kill", "lock", "explain"]
"#;

async fn guarded(more: &str) -> (Bench, FakeAgent) {
    with_agent(Manner::default(), WARDENS, more).await
}

fn alice(bench: &Bench) -> String {
    bench.token(|claims| {
        claims["sub"] = json!("alice");
        claims["preferred_username"] = json!("alice");
        claims["groups"] = json!(["wardens"]);
    })
}

fn mallory(bench: &Bench) -> String {
    bench.token(|claims| {
        claims["sub"] = json!("mallory");
        claims["preferred_username"] = json!("mallory");
    })
}

/// An open session of somebody: its tunnel, its name, and its agent's end.
pub(super) struct Open {
    tunnel: Tunnel,
    pub(super) session: Uuid,
    stream: MuxStream,
}

async fn open_as(bench: &Bench, agent: &mut FakeAgent, token: &str) -> Open {
    let mut request = "wss://localhost/v1/connect/devenv-0".into_client_request().unwrap();
    let bearer = format!("Bearer {token}");
    request.headers_mut().insert("Authorization", bearer.parse().unwrap());
    let tls = bench.tls().await;
    let opened = tokio_tungstenite::client_async_with_config(request, tls, Some(tunnel::config()));
    let (socket, answer) = tokio::time::timeout(SOON, opened).await.unwrap().unwrap();
    let named: Uuid = answer.headers()["doorward-session"].to_str().unwrap().parse().unwrap();
    let (asked, stream) = agent.session().await;
    assert_eq!(asked.session, named, "the answer names the session");
    Open {
        tunnel: TunnelStream::new(socket),
        session: named,
        stream,
    }
}

pub(super) async fn open(bench: &Bench, agent: &mut FakeAgent) -> Open {
    open_as(bench, agent, &bench.token(|_| {})).await
}

/// The code and the sentence with which the session ended.
pub(super) async fn ending(open: Open) -> (String, String) {
    let end = end_of(open.tunnel).await;
    assert_eq!(end.exit, 255);
    drop(open.stream);
    (end.code, end.text)
}

async fn post(bench: &Bench, token: &str, path: &str, body: &Value) -> testing::Reply {
    bench.send_as("POST", token, path, &body.to_string()).await
}

fn ended(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| match event {
        Event::SessionEnded(ended) => Some(ended.code.clone()),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[tokio::test]
async fn whoever_has_the_right_ends_a_session_and_nobody_else_does() {
    let (bench, mut agent) = guarded("").await;
    let first = open(&bench, &mut agent).await;
    let path = format!("/v1/sessions/{}/kill", first.session);
    let stranger = post(&bench, &mallory(&bench), &path, &json!({})).await;
    let missing = format!("/v1/sessions/{}/kill", Uuid::now_v7());
    let nobody = post(&bench, &mallory(&bench), &missing, &json!({})).await;
    assert_eq!((stranger.status(), nobody.status()), (404, 404));
    assert_eq!(stranger.json()["detail"], nobody.json()["detail"]);
    for bad in [
        json!({ "reason": 1 }),
        json!({ "why": "x" }),
        json!([]),
        json!({ "reason": "a\u{1b}[31mb" }),
        json!({ "reason": "x".repeat(501) }),
    ] {
        assert_eq!(post(&bench, &alice(&bench), &path, &bad).await.status(), 400, "{bad}");
    }
    assert_eq!(bench.running.gateway().sessions.live().len(), 1);
    let killed = post(&bench, &alice(&bench), &path, &json!({ "reason": "wrong window" })).await;
    assert_eq!((killed.status(), killed.body()), (204, ""));
    let (code, text) = ending(first).await;
    assert_eq!(code, "killed");
    assert!(text.contains("alice") && text.contains("wrong window"), "{text}");
    // One's own needs no right, and no reason.
    let second = open(&bench, &mut agent).await;
    let path = format!("/v1/sessions/{}/kill", second.session);
    assert_eq!(
        bench.send_as("POST", &bench.token(|_| {}), &path, "").await.status(),
        204
    );
    assert_eq!(ending(second).await.0, "killed");
    let events = journal(stop(bench).await.path());
    let kills: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::SessionKilled(SessionKilled { by, reason, .. }) => Some((by.as_str(), reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(kills, [("alice", "wrong window"), ("bob", "")]);
    assert_eq!(ended(&events), ["killed", "killed"]);
    assert!(events.iter().any(|event| matches!(event, Event::Denied(denied)
        if denied.user.as_deref() == Some("mallory") && denied.code == "not-found")));
}

#[tokio::test]
async fn a_lock_ends_sessions_refuses_new_ones_and_survives() {
    for (kind, name) in [("user", "bob"), ("workspace", "devenv-0")] {
        let (bench, mut agent) = guarded("").await;
        let session = open(&bench, &mut agent).await;
        let lock = json!({ "kind": kind, "name": name, "reason": "under review" });
        let refused = post(&bench, &mallory(&bench), "/v1/locks", &lock).await;
        assert_eq!((refused.status(), &refused.json()["code"]), (403, &json!("no-right")));
        assert_eq!(bench.get_as(&mallory(&bench), "/v1/locks").await.status(), 403);
        assert_eq!(post(&bench, &alice(&bench), "/v1/locks", &lock).await.status(), 204);
        let (code, text) = ending(session).await;
        assert_eq!(code, "locked");
        assert!(text.contains("under review"), "{text}");
        assert_eq!(refused_as(&bench, &bench.token(|_| {})).await, (403, "locked".into()));
        let listed = bench.get_as(&alice(&bench), "/v1/locks").await.json();
        assert_eq!(
            (
                &listed[0]["kind"],
                &listed[0]["name"],
                &listed[0]["by"],
                &listed[0]["reason"]
            ),
            (&json!(kind), &json!(name), &json!("alice"), &json!("under review"))
        );
        assert!(listed[0]["at"].as_str().unwrap().ends_with('Z'), "{listed}");
        // What another gateway on the same folder would begin with.
        let state = bench.folder.path().join("state");
        assert_eq!(Locks::open(&state).unwrap().list().len(), 1);
        let path = format!("/v1/locks/{kind}/{name}");
        assert_eq!(bench.send_as("DELETE", &mallory(&bench), &path, "").await.status(), 403);
        assert_eq!(bench.send_as("DELETE", &alice(&bench), &path, "").await.status(), 204);
        assert_eq!(bench.send_as("DELETE", &alice(&bench), &path, "").await.status(), 404);
        let again = open(&bench, &mut agent).await;
        drop(again);
        let events = journal(stop(bench).await.path());
        let names: Vec<_> = events.iter().map(Event::name).collect();
        assert!(names.contains(&"Locked") && names.contains(&"Unlocked"), "{names:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Denied(denied)
            if denied.code == "locked" && denied.user.as_deref() == Some("bob"))));
    }
}

/// A lock takes one's rights as well, or one could take away one's own.
#[tokio::test]
async fn who_is_locked_has_no_rights() {
    let (bench, mut agent) = guarded("").await;
    let session = open(&bench, &mut agent).await;
    let lock = json!({ "kind": "user", "name": "alice" });
    assert_eq!(post(&bench, &alice(&bench), "/v1/locks", &lock).await.status(), 204);
    for reply in [
        bench
            .send_as("DELETE", &alice(&bench), "/v1/locks/user/alice", "")
            .await,
        bench.get_as(&alice(&bench), "/v1/locks").await,
        post(
            &bench,
            &alice(&bench),
            &format!("/v1/sessions/{}/kill", session.session),
            &json!({}),
        )
        .await,
        bench
            .get_as(
                &alice(&bench),
                "/v1/explain?workspace=devenv-0&user=bob&groups=developers",
            )
            .await,
    ] {
        assert_eq!((reply.status(), &reply.json()["code"]), (403, &json!("locked")));
    }
    assert_eq!(bench.running.gateway().sessions.live().len(), 1);
    drop(session);
    stop(bench).await;
}

async fn refused_as(bench: &Bench, token: &str) -> (u16, String) {
    let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
    let reply = bench.get("/v1/connect/devenv-0", &lines).await;
    let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
    (reply.status(), code)
}

/// Whoever opens a session while a lock comes is refused by it or ended by it: nobody slips through.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_slips_past_a_lock() {
    let (bench, mut agent) = guarded("").await;
    let opening = async {
        futures_util::future::join_all((0..12).map(|_| async {
            let mut request = "wss://localhost/v1/connect/devenv-0".into_client_request().unwrap();
            let bearer = format!("Bearer {}", bench.token(|_| {}));
            request.headers_mut().insert("Authorization", bearer.parse().unwrap());
            let opened =
                tokio_tungstenite::client_async_with_config(request, bench.tls().await, Some(tunnel::config()));
            match opened.await {
                Ok((socket, _)) => end_of(TunnelStream::new(socket)).await.code,
                Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                    let body: Value = serde_json::from_slice(answer.body().as_deref().unwrap()).unwrap();
                    body["code"].as_str().unwrap().to_owned()
                }
                Err(error) => panic!("{error}"),
            }
        }))
        .await
    };
    // The agent's ends stay until everybody is out: one that goes first could be what ends a session.
    let mut held = Vec::new();
    let locking = async {
        // In the middle: one session stands already.
        held.push(agent.session().await);
        let lock = json!({ "kind": "user", "name": "bob" });
        assert_eq!(post(&bench, &alice(&bench), "/v1/locks", &lock).await.status(), 204);
        loop {
            held.push(agent.session().await);
        }
    };
    let codes = tokio::select! {
        codes = opening => codes,
        () = locking => unreachable!(),
    };
    assert_eq!(codes, ["locked"; 12]);
    drop(held);
    eventually(|| bench.running.gateway().sessions.live().is_empty()).await;
    assert_eq!(refused_as(&bench, &bench.token(|_| {})).await, (403, "locked".into()));
    stop(bench).await;
}

#[tokio::test]
async fn a_session_is_renewed_by_its_own_person_and_decided_again() {
    let (bench, mut agent) = guarded("").await;
    let session = open(&bench, &mut agent).await;
    let path = format!("/v1/sessions/{}/renew", session.session);
    let renew = |token: String| {
        let (bench, path) = (&bench, &path);
        async move { bench.send_as("POST", &token, path, "").await }
    };
    // Another subject with the same name, another person, nobody.
    let twin = bench.token(|claims| claims["sub"] = json!("another-bob"));
    for stranger in [twin, mallory(&bench), alice(&bench)] {
        assert_eq!(renew(stranger).await.status(), 404);
    }
    assert_eq!(bench.send("POST", &path, "", "").await.status(), 401);
    let later = now() + 30;
    let fresh = bench.token(|claims| {
        claims["iat"] = json!(later);
        claims["exp"] = json!(later + 600);
    });
    let reply = renew(fresh).await;
    assert_eq!((reply.status(), reply.body()), (204, ""));
    let standing = bench.running.gateway().sessions.standing(session.session).unwrap();
    let expires = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(expires(standing.identity().expires()), later + 600);
    // An older one changes nothing.
    assert_eq!(renew(bench.token(|_| {})).await.status(), 204);
    let standing = bench.running.gateway().sessions.standing(session.session).unwrap();
    assert_eq!(expires(standing.identity().expires()), later + 600);
    // Out of the group.
    let reply = renew(bench.token(|claims| claims["groups"] = json!([]))).await;
    assert_eq!((reply.status(), &reply.json()["code"]), (403, &json!("session-over")));
    let (code, text) = ending(session).await;
    assert_eq!(code, "revoked");
    assert!(text.contains("may no longer enter"), "{text}");
    assert_eq!(ended(&journal(stop(bench).await.path())), ["revoked"]);
}

fn old(bench: &Bench) -> String {
    // Still taken, for the leeway between clocks; over for the one who counts the grace.
    bench.token(|claims| {
        claims["iat"] = json!(now() - 300);
        claims["exp"] = json!(now() - 5);
    })
}

#[tokio::test]
async fn a_session_that_is_not_renewed_ends_after_the_grace_while_its_issuer_is_there() {
    let quick = "[session]\nrecheck-interval = \"20ms\"\nrenew-grace = \"100ms\"\n";
    let (bench, mut agent) = guarded(quick).await;
    let session = open_as(&bench, &mut agent, &old(&bench)).await;
    let (code, text) = ending(session).await;
    assert_eq!(code, "revoked");
    assert!(text.contains("not renewed"), "{text}");
    // Down, it ends nothing, and is put on record once. Known to be down: within the cool-down of the last fetch it counts
    // as there, and the session would rightly end.
    bench.issuer.vanish();
    let gateway = Arc::clone(bench.running.gateway());
    eventually_down(&gateway, &bench).await;
    let session = open_as(&bench, &mut agent, &old(&bench)).await;
    let looks = crate::recheck::looks();
    eventually(|| crate::recheck::looks() > looks + 10).await;
    // Its seat would stay a moment longer than it: what counts is that nobody has ended it.
    assert!(gateway.sessions.find(session.session).is_some());
    let ended_by = gateway.sessions.dismissal(session.session);
    assert_eq!(ended_by, None, "an outage ended the session");
    bench.issuer.appear().await;
    assert_eq!(ending(session).await.0, "revoked");
    drop(gateway);
    let events = journal(stop(bench).await.path());
    let suspended = events
        .iter()
        .filter(|event| matches!(event, Event::RecheckSuspended(_)))
        .count();
    assert_eq!(suspended, 1);
    assert_eq!(ended(&events), ["revoked", "revoked"]);
}

/// Waits until the issuer was found to be down.
async fn eventually_down(gateway: &Gateway, bench: &Bench) {
    let begun = std::time::Instant::now();
    while gateway.identities.reach(&bench.issuer.url).await.is_ok() {
        assert!(begun.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn within_the_grace_a_session_goes_on() {
    let quick = "[session]\nrecheck-interval = \"10ms\"\nrenew-grace = \"1h\"\n";
    let (bench, mut agent) = guarded(quick).await;
    let session = open_as(&bench, &mut agent, &old(&bench)).await;
    let looks = crate::recheck::looks();
    eventually(|| crate::recheck::looks() > looks + 20).await;
    assert_eq!(bench.running.gateway().sessions.live().len(), 1);
    drop(session);
    stop(bench).await;
}

/// B11: with introspection the person who was disabled or left the group is seen at once.
#[tokio::test]
async fn introspection_ends_the_session_of_who_left_and_an_outage_does_not() {
    let more = "[session]\nrecheck-interval = \"20ms\"\n[oidc.introspection]\nclient-id = \"gateway\"\n\
                client-secret-file = \"introspection\"\ncache = \"0s\"\n";
    for change in [
        |claims: &mut Value| claims["groups"] = json!([]),
        |claims: &mut Value| *claims = json!({ "active": false }),
        |claims: &mut Value| claims["sub"] = json!("somebody-else"),
        |claims: &mut Value| claims["aud"] = json!("another"),
    ] {
        let (bench, mut agent) = guarded(more).await;
        let token = bench.token(|_| {});
        let mut said = bench.issuer.claims();
        said["active"] = json!(true);
        bench.issuer.says(&token, said.clone());
        let session = open_as(&bench, &mut agent, &token).await;
        let asked = |more: usize| {
            let (issuer, goal) = (&bench.issuer, bench.issuer.asked().len() + more);
            eventually(move || issuer.asked().len() >= goal)
        };
        asked(5).await;
        for outage in [
            Answer::Status(500),
            Answer::Status(401),
            Answer::Text("<html>".to_owned()),
        ] {
            bench.issuer.introspection_answers(outage);
            asked(3).await;
        }
        bench.issuer.introspection_answers(Answer::Good);
        asked(3).await;
        assert_eq!(bench.running.gateway().sessions.live().len(), 1);
        change(&mut said);
        bench.issuer.says(&token, said);
        assert_eq!(ending(session).await.0, "revoked");
        stop(bench).await;
    }
}

#[tokio::test]
async fn a_policy_that_takes_something_away_ends_the_session_and_one_that_gives_does_not() {
    let (bench, mut agent) = guarded("").await;
    let session = open(&bench, &mut agent).await;
    let write = |policy: &str| {
        let next = bench.folder.path().join("policy.next");
        fs::write(&next, policy).unwrap();
        fs::rename(next, bench.folder.path().join("policy.toml")).unwrap();
    };
    let gateway = Arc::clone(bench.running.gateway());
    let mut changes = gateway.policy.changes();
    write(&testing::POLICY.replace("\"pty\"", "\"pty\", \"sftp:read\""));
    tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
    let looks = crate::recheck::looks();
    write(&testing::POLICY.replace("\"pty\"", "\"pty\", \"sftp:read-write\""));
    eventually(|| crate::recheck::looks() > looks).await;
    assert_eq!(gateway.sessions.live().len(), 1);
    write(&testing::POLICY.replace(", \"pty\"", ""));
    let (code, text) = ending(session).await;
    assert_eq!(code, "revoked");
    assert!(text.contains("pty"), "{text}");
    let session = open(&bench, &mut agent).await;
    write("");
    assert_eq!(ending(session).await.0, "revoked");
    drop(gateway);
    stop(bench).await;
}

#[tokio::test]
async fn a_logout_at_the_issuer_ends_the_session() {
    let (bench, mut agent) = guarded("").await;
    let of = |sid: &str| bench.token(|claims| claims["sid"] = json!(sid));
    // Made once: a token of a later second would be that of a later login.
    let of_mine = of("login-1");
    let (mine, other) = (
        open_as(&bench, &mut agent, &of_mine).await,
        open_as(&bench, &mut agent, &of("login-2")).await,
    );
    let mut header = bench.key.header();
    header["typ"] = json!("logout+jwt");
    let claims = json!({
        "iss": bench.issuer.url, "aud": "doorward", "iat": now(), "jti": "one", "sid": "login-1",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    let token = bench.key.sign(&header.to_string(), &claims.to_string());
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let send = |body: String| {
        let bench = &bench;
        async move { bench.send("POST", "/v1/backchannel-logout", form, &body).await }
    };
    for bad in [
        String::new(),
        "logout_token=".to_owned(),
        "logout_token=a.b.c".to_owned(),
        format!("logout_token={token}&logout_token={token}"),
        format!("token={token}"),
    ] {
        assert_eq!(send(bad.clone()).await.status(), 400, "{bad}");
    }
    assert_eq!(bench.running.gateway().sessions.live().len(), 2);
    assert_eq!(send(format!("logout_token={token}")).await.status(), 200);
    let (code, text) = ending(mine).await;
    assert_eq!(code, "revoked");
    assert!(text.contains("logged out"), "{text}");
    assert_eq!(send(format!("logout_token={token}")).await.status(), 400, "sent again");
    // The person has the sentence before the recording is closed and the seat is free.
    eventually(|| bench.running.gateway().sessions.live().len() == 1).await;
    assert_eq!(refused_as(&bench, &of_mine).await, (401, "token-revoked".into()));
    drop(other);
    let events = journal(stop(bench).await.path());
    let said = events.iter().find_map(|event| match event {
        Event::LoggedOut(said) => Some((said.login_session.clone(), said.sessions)),
        _ => None,
    });
    assert_eq!(said, Some((Some("login-1".to_owned()), 1)));
}

/// D2 at the door: a person of whom no login can be made is refused before anything is signed, and told why.
#[tokio::test]
async fn a_name_that_is_no_login_is_refused_before_anything_is_signed() {
    let (bench, mut agent) = guarded("[oidc.login]\nclaim = \"nick\"\n").await;
    for nick in ["b,root", "*", "bob smith", "root", "b\u{43e}b", "bob\u{0}"] {
        let token = bench.token(|claims| claims["nick"] = json!(nick));
        let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
        let reply = bench.get("/v1/connect/devenv-0", &lines).await;
        assert_eq!(
            (reply.status(), &reply.json()["code"]),
            (403, &json!("login-refused")),
            "{nick}"
        );
        assert!(
            reply.json()["detail"].as_str().unwrap().contains("no login"),
            "{}",
            reply.text
        );
        // Where one may not enter anyway, nothing else is told.
        let reply = bench.get("/v1/connect/devenv-1", &lines).await;
        assert_eq!(&reply.json()["code"], &json!("denied"));
    }
    let open = open_as(
        &bench,
        &mut agent,
        &bench.token(|claims| claims["nick"] = json!("bobby")),
    )
    .await;
    let standing = bench.running.gateway().sessions.standing(open.session).unwrap();
    assert_eq!(standing.grant().terms().login.as_str(), "bobby");
    drop((open, standing));
    let events = journal(stop(bench).await.path());
    let signed = events.iter().filter(|event| matches!(event, Event::Signed(_))).count();
    assert_eq!(signed, 1);
    let refused = events
        .iter()
        .filter(|event| matches!(event, Event::Denied(denied) if denied.code == "login-refused"))
        .count();
    assert_eq!(refused, 6);
}

/// RFC 9449 from the request to the session: the gateway holds a proof against the request that it came with.
#[tokio::test]
async fn a_bound_token_opens_a_session_with_its_proof_alone() {
    let text = |issuer: &str| testing::text(issuer, "").replacen("[oidc]\n", "[oidc]\ndpop = \"required\"\n", 1);
    let (bench, mut agent) = with_config(Manner::default(), WARDENS, text).await;
    let holder = Holder::new(Algorithm::ES256);
    let bound = bench.token(|claims| {
        claims["typ"] = json!("DPoP");
        claims["cnf"] = json!({ "jkt": holder.thumbprint() });
    });
    let proof = |method: &str, url: &str| {
        let (method, url) = (json!(method), json!(url));
        holder.proof(&bound, |_, claims| (claims["htm"], claims["htu"]) = (method, url))
    };
    let lines = |proof: &str| format!("Authorization: DPoP {bound}\r\nDPoP: {proof}\r\n");
    let good = proof("GET", "https://localhost/v1/me");
    let me = bench.get("/v1/me", &lines(&good)).await;
    assert_eq!((me.status(), &me.json()["user"]), (200, &json!("bob")), "{}", me.text);
    let again = bench.get("/v1/me", &lines(&good)).await;
    assert_eq!(&again.json()["code"], &json!("proof-invalid"));
    let elsewhere = proof("GET", "https://localhost/v1/workspaces");
    assert_eq!(
        &bench.get("/v1/me", &lines(&elsewhere)).await.json()["code"],
        &json!("proof-invalid")
    );
    let plain = bench.get_as(&bound, "/v1/me").await;
    assert_eq!(&plain.json()["code"], &json!("proof-missing"));
    // The tunnel, by the scheme that a WebSocket library may use, and what is done to its session.
    let mut request = "wss://localhost/v1/connect/devenv-0".into_client_request().unwrap();
    let shown = proof("GET", "wss://localhost/v1/connect/devenv-0");
    let headers = request.headers_mut();
    headers.insert("Authorization", format!("DPoP {bound}").parse().unwrap());
    headers.insert("DPoP", shown.parse().unwrap());
    let tls = bench.tls().await;
    let opened = tokio_tungstenite::client_async_with_config(request, tls, Some(tunnel::config()));
    let (socket, answer) = tokio::time::timeout(SOON, opened).await.unwrap().unwrap();
    let session = answer.headers()["doorward-session"].to_str().unwrap().to_owned();
    let (_, stream) = agent.session().await;
    for verb in ["renew", "kill"] {
        let path = format!("/v1/sessions/{session}/{verb}");
        let wrong = lines(&proof("GET", &format!("https://localhost{path}")));
        assert_eq!(bench.send("POST", &path, &wrong, "").await.status(), 401);
        let right = lines(&proof("POST", &format!("https://localhost{path}")));
        assert_eq!(bench.send("POST", &path, &right, "").await.status(), 204);
    }
    assert_eq!(end_of(TunnelStream::new(socket)).await.code, "killed");
    drop(stream);
    stop(bench).await;
}
