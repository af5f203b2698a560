//! Raw requests against a whole gateway: what is refused, how, and that nothing is lost behind an upgrade.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::testing::{Bench, Reply, UPGRADE, eventually, folder};

mod bodies;
mod early;
mod holds;

/// A4, A7, A12: what two parsers could read differently never becomes a tunnel, and the connection closes.
#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let bench = Bench::start().await;
    let token = bench.token(|_| {});
    let connect = |lines: &str| {
        format!(
            "GET /v1/connect/devenv-0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{UPGRADE}{lines}\r\n"
        )
    };
    let with = |from: &str, to: &str| connect("").replacen(from, to, 1);
    let cases = [
        ("content-length", connect("Content-Length: 0\r\n"), 400),
        (
            "content-length with a body",
            connect("Content-Length: 5\r\n") + "hello",
            400,
        ),
        (
            "two lengths",
            connect("Content-Length: 0\r\nContent-Length: 5\r\n") + "hello",
            400,
        ),
        ("a list of lengths", connect("Content-Length: 0, 5\r\n") + "hello", 400),
        ("chunked", connect("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        (
            "chunked, identity",
            connect("Transfer-Encoding: chunked, identity\r\n"),
            400,
        ),
        ("identity", connect("Transfer-Encoding: identity\r\n"), 400),
        (
            "both",
            connect("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        ("expect", connect("Expect: 100-continue\r\n"), 400),
        ("folded", connect("X-Folded: a\r\n b\r\n"), 400),
        ("space before colon", connect("X-Space : a\r\n"), 400),
        ("space before length", connect("Content-Length : 5\r\n"), 400),
        ("bare LF in the header", connect("X-Bare: a\nX-Other: b\r\n"), 400),
        ("bare LF for all lines", connect("").replace("\r\n", "\n"), 400),
        ("bare LF at the end", connect("").trim_end().to_owned() + "\n\n", 400),
        ("bare CR", connect("X-Bare: a\rb\r\n"), 400),
        ("NUL", connect("X-Nul: a\0b\r\n"), 400),
        ("an empty line first", format!("\r\n{}", connect("")), 400),
        ("two hosts", connect("Host: other\r\n"), 400),
        ("no host", with("Host: localhost\r\n", ""), 400),
        ("an empty host", with("Host: localhost", "Host:"), 400),
        (
            "a host with a question",
            with("Host: localhost", "Host: local?host"),
            400,
        ),
        (
            "a host with an escape",
            with("Host: localhost", "Host: local%68ost"),
            400,
        ),
        ("a host with a user", with("Host: localhost", "Host: me@localhost"), 400),
        (
            "a host beyond ASCII",
            with("Host: localhost", "Host: l\u{f6}calhost"),
            400,
        ),
        ("two ports", with("Host: localhost", "Host: localhost:1:2"), 400),
        (
            "two tokens",
            connect(&format!("Authorization: Bearer {token}\r\n")),
            400,
        ),
        ("two upgrades", connect("Upgrade: websocket\r\n"), 400),
        (
            "two keys",
            connect("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
        ),
        ("two versions", connect("Sec-WebSocket-Version: 13\r\n"), 400),
        ("another version", with("Version: 13", "Version: 8"), 426),
        ("no version", with("Sec-WebSocket-Version: 13\r\n", ""), 426),
        ("no upgrade", with("Upgrade: websocket\r\n", ""), 426),
        ("another upgrade", with("Upgrade: websocket", "Upgrade: h2c"), 426),
        (
            "connection without upgrade",
            with("Connection: Upgrade", "Connection: keep-alive"),
            426,
        ),
        ("a short key", with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        ("a key that is no base64", with("dGhlIHNhbXBsZSBub25jZQ==", "!!!"), 400),
        ("another origin", connect("Origin: https://evil.example\r\n"), 403),
        ("our own origin", connect("Origin: https://localhost\r\n"), 403),
        ("HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 400),
        ("HTTP/2", with("HTTP/1.1", "HTTP/2.0"), 400),
        ("POST", with("GET", "POST"), 405),
        ("CONNECT", with("GET /v1/connect/devenv-0", "CONNECT localhost:22"), 405),
        ("an absolute target", with("GET /v1", "GET http://localhost/v1"), 400),
        (
            "a token in the query",
            with("devenv-0 HTTP", &format!("devenv-0?access_token={token} HTTP")),
            400,
        ),
        ("escapes in the name", with("devenv-0 HTTP", "devenv%2d0 HTTP"), 400),
        ("NUL in the name", with("devenv-0 HTTP", "devenv\0 HTTP"), 400),
        (
            "an escaped CR in the name",
            with("devenv-0 HTTP", "devenv%0d%0a HTTP"),
            400,
        ),
        ("dots", with("connect/devenv-0", "connect/../trust"), 404),
        ("an empty name", with("connect/devenv-0", "connect/"), 400),
        ("more behind the name", with("devenv-0 HTTP", "devenv-0/x HTTP"), 404),
        (
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            0,
        ),
        ("SSH", "SSH-2.0-OpenSSH_9.9\r\n".to_owned(), 400),
    ];
    for (name, request, status) in cases {
        let reply = bench.raw(request.as_bytes()).await;
        assert_eq!(reply.status(), status, "{name}: {}", reply.text);
        let answers = reply.text.lines().filter(|line| line.starts_with("HTTP/")).count();
        assert_eq!(answers, usize::from(status != 0), "{name}: {}", reply.text);
        assert!(
            !reply.text.contains(&token[token.len() - 20..]),
            "{name}: the token came back"
        );
    }
}

/// A7: a header is bounded in bytes, in fields and in its first line.
#[tokio::test]
async fn large_headers_are_refused() {
    let bench = Bench::start().await;
    let many: String = (0..10_000).map(|number| format!("X-{number}: a\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "a".repeat(1024 * 1024));
    for (name, reply, expected) in [
        ("many", bench.get("/v1/trust", &many).await, 431),
        ("large", bench.get("/v1/trust", &large).await, 431),
        (
            "a large token",
            bench.get_as(&"a".repeat(17 * 1024), "/v1/workspaces").await,
            401,
        ),
        (
            "a long path",
            bench.get(&format!("/v1/connect/{}", "a".repeat(2000)), "").await,
            400,
        ),
    ] {
        assert_eq!(reply.status(), expected, "{name}: {}", reply.text);
    }
    let long = bench.get(&format!("/{}", "a".repeat(64 * 1024)), "").await;
    assert!([400, 414, 431].contains(&long.status()), "{}", long.text);
    assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
}

/// A6: behind a refused upgrade there is nothing, and what came with it is dropped.
#[tokio::test]
async fn a_refused_upgrade_closes_the_connection() {
    let bench = Bench::start().await;
    let second = "GET /v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (token, status) in [
        (bench.token(|claims| claims["exp"] = json!(1)), 401),
        (bench.token(|_| {}), 403),
    ] {
        let first = format!(
            "GET /v1/connect/nowhere HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{UPGRADE}\
             Connection: keep-alive\r\n\r\n"
        );
        for behind in [second, "SSH-2.0-OpenSSH_9.9\r\n"] {
            let reply = bench.raw(format!("{first}{behind}").as_bytes()).await;
            assert_eq!(reply.status(), status, "{}", reply.text);
            assert_eq!(reply.text.matches("HTTP/1.1").count(), 1, "{}", reply.text);
            assert_eq!(reply.header("connection"), Some("close"));
        }
    }
}

#[tokio::test]
async fn one_request_is_one_connection() {
    let bench = Bench::start().await;
    let request = "GET /v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let reply = bench.raw(request.repeat(3).as_bytes()).await;
    assert_eq!((reply.status(), reply.text.matches("HTTP/1.1").count()), (200, 1));
}

/// Design, section 7: missing and forbidden look the same from outside.
#[tokio::test]
async fn missing_and_forbidden_workspaces_look_the_same() {
    let bench = Bench::start().await;
    let token = bench.token(|_| {});
    let ask = |name: &'static str| {
        let lines = format!("Authorization: Bearer {token}\r\n{UPGRADE}");
        let bench = &bench;
        async move { bench.get(&format!("/v1/connect/{name}"), &lines).await }
    };
    let (forbidden, missing) = (ask("devenv-1").await, ask("devenv-9").await);
    let without_id = |reply: &Reply| {
        let mut body = reply.json();
        assert!(body["instance"].as_str().unwrap().starts_with("urn:uuid:"));
        body["instance"] = json!("");
        let head = reply.text.split("\r\n\r\n").next().unwrap();
        let head: Vec<_> = head
            .lines()
            .filter(|line| !line.starts_with("date"))
            .map(str::to_owned)
            .collect();
        (head, body.to_string())
    };
    assert_eq!(
        (forbidden.status(), forbidden.body().len()),
        (403, missing.body().len())
    );
    assert_eq!(without_id(&forbidden), without_id(&missing));
}

#[tokio::test]
async fn a_refusal_is_a_problem_body_with_a_hint() {
    let bench = Bench::start().await;
    let reply = bench.get("/v1/workspaces", "").await;
    assert_eq!(reply.status(), 401);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"doorward\""));
    let body = reply.json();
    assert_eq!((&body["status"], &body["code"]), (&json!(401), &json!("token-missing")));
    for member in ["type", "title", "detail", "hint", "instance"] {
        assert!(
            body[member].as_str().is_some_and(|text| !text.is_empty()),
            "{member}: {body}"
        );
    }
    let version = bench.get("/v1/connect/devenv-0", "").await;
    assert_eq!(
        (version.status(), version.header("sec-websocket-version")),
        (426, Some("13"))
    );
}

#[tokio::test]
async fn programs_learn_what_they_need() {
    let named = |text| format!("workspace-names = [\"devenv-*\"]\n{text}");
    let bench = Bench::in_folder(folder(), named).await;
    bench.issuer.appear().await;
    eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
    let known = bench.get("/.well-known/doorward", "").await.json();
    assert_eq!(
        (&known["version"], &known["client-id"]),
        (&json!(1), &json!("doorward"))
    );
    assert_eq!(known["issuer"], json!(bench.issuer.url));
    assert_eq!(known["ssh-identification"], json!("SSH-2.0-Doorward"));
    let trust = bench.get("/v1/trust", "").await.json();
    assert!(trust["host-ca"][0].as_str().unwrap().starts_with("ssh-ed25519 "));
    assert!(trust["user-ca"][0].as_str().unwrap().starts_with("ssh-ed25519 "));
    assert_eq!(bench.get("/v2/trust", "").await.status(), 404);

    let bob = bench.get_as(&bench.token(|_| {}), "/v1/workspaces").await.json();
    assert_eq!(
        bob["workspaces"],
        json!([{
            "name": "devenv-0", "login": "node", "owner": "bob", "state": "unreachable",
            "capabilities": ["shell", "exec", "pty"],
        }])
    );
    // Who may enter nothing learns whose the names are all the same.
    let mallory = bench.token(|claims| claims["groups"] = json!([]));
    let none = bench.get_as(&mallory, "/v1/workspaces").await.json();
    assert_eq!(
        (&none["workspaces"], &none["names"]),
        (&json!([]), &json!(["devenv-*"]))
    );
}

#[tokio::test]
async fn sessions_are_listed_by_strict_queries() {
    let bench = Bench::start().await;
    let token = bench.token(|_| {});
    for (path, status) in [
        ("/v1/sessions", 200),
        ("/v1/sessions?user=bob&workspace=devenv-0&limit=10", 200),
        ("/v1/sessions?limit=0", 400),
        ("/v1/sessions?limit=1001", 400),
        ("/v1/sessions?limit=x", 400),
        ("/v1/sessions?user=bob&user=alice", 400),
        ("/v1/sessions?colour=red", 400),
        ("/v1/sessions/0196f0a0-0000-7000-8000-000000000000", 404),
        ("/v1/sessions/0196F0A0-0000-7000-8000-000000000000", 404),
        ("/v1/sessions/../../etc/passwd", 404),
        (
            "/v1/sessions/0196f0a0-0000-7000-8000-000000000000/files/segment-000000.dwr",
            404,
        ),
        (
            "/v1/sessions/0196f0a0-0000-7000-8000-000000000000/files/..%2f..%2fx",
            404,
        ),
    ] {
        let reply = bench.get_as(&token, path).await;
        assert_eq!(reply.status(), status, "{path}: {}", reply.text);
    }
    assert_eq!(
        bench.get_as(&token, "/v1/sessions").await.json(),
        json!({ "sessions": [] })
    );
}

/// The identity provider is down at the start: the gateway is up, says so, and recovers.
#[tokio::test]
async fn an_identity_provider_that_is_down_is_named() {
    let bench = Bench::before_issuer("").await;
    let ready = bench.probe("/readyz").await;
    assert_eq!((ready.status(), &ready.json()["ready"]), (503, &json!(false)));
    assert!(
        ready.json()["checks"]["identity-provider"]
            .as_str()
            .unwrap()
            .contains("identity provider")
            || ready.text.contains("cannot be asked")
    );
    assert_eq!(bench.probe("/healthz").await.status(), 200);
    assert_eq!(bench.probe("/servez").await.status(), 503, "it was never ready");
    let lines = format!("Authorization: Bearer {}\r\n{UPGRADE}", bench.token(|_| {}));
    let refused = bench.get("/v1/connect/devenv-0", &lines).await;
    assert_eq!(
        (refused.status(), &refused.json()["code"]),
        (503, &json!("identity-provider-down"))
    );
    assert!(refused.json()["detail"].as_str().unwrap().contains("identity provider"));
    bench.issuer.appear().await;
    eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
    assert_eq!(bench.probe("/readyz").await.status(), 200);
    assert_eq!(bench.probe("/servez").await.status(), 200);
    // The next thing that is missing is the agent, and that is what is named.
    let refused = bench.get("/v1/connect/devenv-0", &lines).await;
    assert_eq!((refused.status(), &refused.json()["code"]), (503, &json!("agent-down")));
}

#[tokio::test]
async fn numbers_have_closed_labels() {
    let bench = Bench::start().await;
    bench
        .get("/v1/hostile-path-of-somebody", "X-Hostile: hostile-value\r\n")
        .await;
    bench
        .get_as(
            &bench.token(|claims| claims["preferred_username"] = json!("hostile-user")),
            "/v1/workspaces",
        )
        .await;
    let numbers = bench.probe("/metrics").await;
    assert_eq!(numbers.status(), 200);
    assert!(
        numbers.text.contains("doorward_refusals_total{code=\"not-found\"}"),
        "{}",
        numbers.text
    );
    assert!(numbers.text.contains("doorward_links"), "{}", numbers.text);
    assert!(!numbers.text.contains("hostile"), "{}", numbers.text);
    assert_eq!(bench.probe("/").await.status(), 404);
}

/// A session that panics is one failed request, and nothing else.
#[tokio::test]
async fn a_request_that_nobody_answers_gets_an_answer() {
    let bench = Bench::start().await;
    let tasks = bench.running.gateway().tasks.clone();
    let (respond, answered) = oneshot::channel::<Response<Body>>();
    tasks.spawn_session(async move {
        let _respond = respond;
        panic!("a defect in a session");
    });
    assert!(answered.await.is_err());
    assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
}

/// A1: a client that stops at any stage is cut at that stage's deadline, and others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_clients_are_cut_and_hurt_nobody() {
    let bench = Bench::with("[limits]\ntls-handshake = \"3s\"\nrequest-header = \"3s\"\n").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(bench.tcp().await);
        let mut half = bench.tcp().await;
        half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        silent.push(half);
    }
    let mut without_request = Vec::new();
    for _ in 0..20 {
        without_request.push(bench.tls().await);
        let mut half = bench.tls().await;
        half.write_all(b"GET /v1/trust HTTP/1.1\r\nHost: loc").await.unwrap();
        without_request.push(half);
    }
    let begun = Instant::now();
    assert_eq!(bench.get("/v1/trust", "").await.status(), 200);
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    for mut stream in silent {
        assert!(Reply::read(&mut stream).await.text.len() < 100);
    }
    for mut stream in without_request {
        let reply = Reply::read(&mut stream).await;
        assert!([0, 408].contains(&reply.status()), "{}", reply.text);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// What is turned away is on record, with a code that says where: the handshake, the header, the request, the token.
/// H6: whoever holds connections to the probes' listener keeps no probe from its answer.
#[tokio::test]
async fn probes_are_answered_beside_connections_that_say_nothing() {
    let bench = Bench::start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(bench.running.admin_address()).await.unwrap();
        stream.write_all(b"GET /hea").await.unwrap();
        idle.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(bench.probe("/healthz").await.status(), 200);
    }
    // The first ones gave way.
    assert!(matches!(idle[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn those_who_are_turned_away_are_on_record() {
    let bench = Bench::with("[limits]\ntls-handshake = \"300ms\"\nrequest-header = \"300ms\"\n").await;
    let mut silent = bench.tcp().await;
    silent.write_all(&[0x16]).await.unwrap();
    let mut strange = bench.tcp().await;
    strange.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
    let mut slow = bench.tls().await;
    slow.write_all(b"GET /").await.unwrap();
    for stream in [&mut silent, &mut strange] {
        Reply::read(stream).await;
    }
    Reply::read(&mut slow).await;
    bench.raw(b"GET / HTTP/1.1\nHost: localhost\n\n").await;
    bench
        .get("/v1/trust", &format!("X-Large: {}\r\n", "a".repeat(100_000)))
        .await;
    bench.get("/v1/trust", "Origin: https://evil.example\r\n").await;
    bench.get("/v1/connect/devenv-0", "").await;
    bench.get("/v1/connect/devenv-0", UPGRADE).await;
    bench.get_as("a.b.c", "/v1/workspaces").await;
    // A balancer that looks whether somebody listens leaves no trace.
    drop(bench.tcp().await);
    let folder = bench.folder.path().join("state/journal");
    assert_eq!(
        bench.running.finish(&Default::default()).await,
        crate::tasks::Drained::Quietly
    );
    let mut codes = denials(&folder);
    codes.sort();
    assert_eq!(
        codes,
        [
            "bad-request",
            "cross-origin",
            "header-too-large",
            "request-timeout",
            "tls-handshake",
            "tls-handshake",
            "token-malformed",
            "token-missing",
            "upgrade-required",
        ]
    );
}

/// The codes of everything in the journal that was denied.
fn denials(folder: &std::path::Path) -> Vec<String> {
    let stream = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<_> = std::fs::read_dir(stream)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "dwr"));
    files.sort();
    let bytes: Vec<u8> = files
        .into_iter()
        .flat_map(|file| std::fs::read(file).unwrap())
        .collect();
    doorward_audit::events(&bytes[..])
        .filter_map(|event| match event.unwrap().event {
            doorward_audit::Event::Denied(denied) => Some(denied.code),
            _ => None,
        })
        .collect()
}
