//! The few routes that take a body: its length said once and exactly, its type, its size; everything else as before.

use serde_json::json;

use super::*;

const WARDENS: &str = "[[role]]\nname = \"warden\"\ngroups = [\"developers\"]\nworkspaces = [\"*\"]\nallow = []\n\
                       may = [\"kill\", \"lock\", \"explain\"]\n";

async fn bench() -> Bench {
    let bench = Bench::start().await;
    let file = bench.folder.path().join("policy.toml");
    let policy = format!("{}{WARDENS}", crate::testing::POLICY);
    std::fs::write(bench.folder.path().join("next"), policy).unwrap();
    let mut changes = bench.running.gateway().policy.changes();
    std::fs::rename(bench.folder.path().join("next"), file).unwrap();
    tokio::time::timeout(Duration::from_secs(20), changes.changed())
        .await
        .unwrap()
        .unwrap();
    bench
}

/// A4 for bodies: two parsers must not differ on where one ends.
#[tokio::test]
async fn a_body_is_framed_in_one_way_alone() {
    let bench = bench().await;
    let token = bench.token(|_| {});
    let body = json!({ "kind": "user", "name": "zoe" }).to_string();
    let post = |lines: &str, body: &str| {
        format!(
            "POST /v1/locks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n{lines}\r\n{body}"
        )
    };
    let whole = |body: &str| post(&format!("Content-Length: {}\r\n", body.len()), body);
    let length = body.len();
    let second = "GET /v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, request, status) in [
        ("exact", post(&format!("Content-Length: {length}\r\n"), &body), 204),
        (
            "with a request behind it",
            post(&format!("Content-Length: {length}\r\n"), &format!("{body}{second}")),
            204,
        ),
        ("none", post("", &body), 400),
        ("zero", post("Content-Length: 0\r\n", &body), 400),
        (
            "twice, differently",
            post(&format!("Content-Length: {length}\r\nContent-Length: 5\r\n"), &body),
            400,
        ),
        (
            "a list",
            post(&format!("Content-Length: {length}, {length}\r\n"), &body),
            400,
        ),
        ("a sign", post(&format!("Content-Length: +{length}\r\n"), &body), 400),
        (
            "leading zeros",
            post(&format!("Content-Length: 00{length}\r\n"), &body),
            400,
        ),
        ("hexadecimal", post("Content-Length: 0x1d\r\n", &body), 400),
        ("chunked", post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        (
            "both",
            post(
                &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                &body,
            ),
            400,
        ),
        (
            "expect",
            post(&format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"), &body),
            400,
        ),
        (
            "another type",
            post(&format!("Content-Length: {length}\r\n"), &body).replace("application/json", "text/plain"),
            400,
        ),
        (
            "two types",
            post(
                &format!("Content-Length: {length}\r\nContent-Type: text/plain\r\n"),
                &body,
            ),
            400,
        ),
        (
            "another origin",
            post(
                &format!("Content-Length: {length}\r\nOrigin: https://evil.example\r\n"),
                &body,
            ),
            403,
        ),
        ("too large", post("Content-Length: 4097\r\n", &"x".repeat(4097)), 413),
        ("huge", post("Content-Length: 99999999999999999999\r\n", "x"), 400),
        ("no JSON", whole("{a}"), 400),
        ("a list", whole("[\"user\",\"zoe\"]"), 400),
        (
            "a name twice",
            whole("{\"kind\":\"user\",\"name\":\"zoe\",\"name\":\"bob\"}"),
            400,
        ),
        (
            "an unknown member",
            whole("{\"kind\":\"user\",\"name\":\"zoe\",\"for\":\"ever\"}"),
            400,
        ),
    ] {
        let reply = bench.raw(request.as_bytes()).await;
        assert_eq!(reply.status(), status, "{name}: {}", reply.text);
        let answers = reply.text.lines().filter(|line| line.starts_with("HTTP/")).count();
        assert_eq!(answers, 1, "{name}: {}", reply.text);
    }
    let locked: Vec<_> = bench.running.gateway().locks.list();
    assert_eq!(locked.len(), 1, "{locked:?}");
}

/// A body that never comes is waited for within bounds.
#[tokio::test]
async fn a_body_that_does_not_come_is_cut() {
    let bench = bench().await;
    let request = format!(
        "POST /v1/locks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 30\r\n\r\n{{",
        bench.token(|_| {})
    );
    let reply = bench.raw(request.as_bytes()).await;
    assert!([0, 408].contains(&reply.status()), "{}", reply.text);
    assert_eq!(bench.running.gateway().locks.list(), []);
}

#[tokio::test]
async fn each_route_takes_its_own_method() {
    let bench = bench().await;
    let token = bench.token(|_| {});
    let id = Uuid::now_v7();
    for (path, allow) in [
        ("/v1/me".to_owned(), "GET"),
        ("/v1/trust".to_owned(), "GET"),
        ("/v1/locks".to_owned(), "GET, POST"),
        ("/v1/locks/user/bob".to_owned(), "DELETE"),
        ("/v1/holds".to_owned(), "GET, POST"),
        (format!("/v1/holds/{id}"), "DELETE"),
        ("/v1/workspaces/devenv-0/keep".to_owned(), "PUT, DELETE"),
        (format!("/v1/sessions/{id}/renew"), "POST"),
        (format!("/v1/sessions/{id}/kill"), "POST"),
        (format!("/v1/sessions/{id}"), "GET"),
        ("/v1/backchannel-logout".to_owned(), "POST"),
    ] {
        for method in ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"] {
            let reply = bench.send_as(method, &token, &path, "").await;
            let taken = allow.split(", ").any(|one| one == method);
            assert_eq!(reply.status() != 405, taken, "{method} {path}: {}", reply.text);
            if !taken && ["GET", "POST", "PUT", "DELETE"].contains(&method) {
                assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
            }
        }
    }
    // A body where there is none.
    for (method, path) in [("DELETE", "/v1/locks/user/bob"), ("GET", "/v1/me")] {
        let reply = bench.send_as(method, &token, path, "{}").await;
        assert_eq!(reply.status(), 400, "{method} {path}");
    }
    let renew = bench
        .send_as("POST", &token, &format!("/v1/sessions/{id}/renew"), "{}")
        .await;
    assert_eq!(renew.status(), 413);
    for path in ["/v1/locks/group/bob", "/v1/sessions/x/kill", "/v1/sessions/x/renew"] {
        let method = if path.contains("locks") { "DELETE" } else { "POST" };
        assert_eq!(bench.send_as(method, &token, path, "").await.status(), 404, "{path}");
    }
    for name in ["%", "%zz", "%ff", "%4"] {
        let path = format!("/v1/locks/user/{name}");
        assert_eq!(bench.send_as("DELETE", &token, &path, "").await.status(), 400, "{name}");
    }
    let lock = json!({ "kind": "user", "name": "zo\u{eb}/x y" });
    assert_eq!(
        bench
            .send_as("POST", &token, "/v1/locks", &lock.to_string())
            .await
            .status(),
        204
    );
    assert_eq!(
        bench
            .send_as("DELETE", &token, "/v1/locks/user/zo%C3%AB%2Fx%20y", "")
            .await
            .status(),
        204
    );
}

#[tokio::test]
async fn people_learn_who_they_are_and_why() {
    let bench = bench().await;
    let me = bench.get_as(&bench.token(|_| {}), "/v1/me").await.json();
    assert_eq!(
        (&me["user"], &me["issuer"], &me["groups"], &me["email"]),
        (
            &json!("bob"),
            &json!(bench.issuer.url),
            &json!(["developers"]),
            &json!(null)
        )
    );
    assert_eq!(
        (&me["roles"], &me["may"]),
        (&json!(["developer", "warden"]), &json!(["kill", "lock", "explain"]))
    );
    assert!(me["token-expires"].as_str().unwrap().ends_with('Z'), "{me}");
    let nobody = bench.token(|claims| {
        claims["groups"] = json!([]);
        claims["email"] = json!("nobody@Example.org");
        claims["email_verified"] = json!(true);
    });
    let me = bench.get_as(&nobody, "/v1/me").await.json();
    assert_eq!((&me["may"], &me["email"]), (&json!([]), &json!("nobody@example.org")));

    let own = bench
        .get_as(&bench.token(|_| {}), "/v1/explain?workspace=devenv-0")
        .await
        .json();
    assert_eq!(
        (&own["verdict"], &own["login"], &own["capabilities"], &own["longest"]),
        (
            &json!("granted"),
            &json!("node"),
            &json!(["shell", "exec", "pty"]),
            &json!("12h")
        )
    );
    assert_eq!(
        own["recording"],
        json!({
            "input": false,
            "bulk-limit": 16 << 20,
            "mode": "strict",
            "unacked": 4 << 20,
            "stall": "30s",
        })
    );
    assert_eq!(
        (&own["rules"][0]["role"], &own["rules"][0]["applies"]),
        (&json!("developer"), &json!(true))
    );
    let other = bench
        .get_as(
            &bench.token(|_| {}),
            "/v1/explain?workspace=devenv-0&user=zoe&groups=a,b&email=zoe@x.org",
        )
        .await
        .json();
    assert_eq!(
        (
            &other["user"],
            &other["verdict"],
            other["rules"].as_array().unwrap().len()
        ),
        (&json!("zoe"), &json!("denied"), 2)
    );
    for (path, status) in [
        ("/v1/explain", 400),
        ("/v1/explain?workspace=../x", 400),
        ("/v1/explain?workspace=devenv-0&workspace=devenv-1", 400),
        ("/v1/explain?workspace=devenv-0&groups=a", 400),
        ("/v1/explain?workspace=devenv-0&user=", 400),
        ("/v1/explain?workspace=devenv-0&user=zoe&email=zoe", 400),
        ("/v1/explain?workspace=devenv-0&colour=red", 400),
        ("/v1/me?x=y", 400),
    ] {
        assert_eq!(
            bench.get_as(&bench.token(|_| {}), path).await.status(),
            status,
            "{path}"
        );
    }
    let denied = bench
        .get_as(&nobody, "/v1/explain?workspace=devenv-0&user=bob&groups=developers")
        .await;
    assert_eq!((denied.status(), &denied.json()["code"]), (403, &json!("no-right")));
    // Oneself may always be asked about; what is forbidden and what is not there are told alike.
    let ask = |name: &'static str| {
        let (bench, nobody) = (&bench, &nobody);
        async move {
            let mut said = bench
                .get_as(nobody, &format!("/v1/explain?workspace={name}"))
                .await
                .json();
            said["workspace"] = json!("");
            said
        }
    };
    assert_eq!(ask("devenv-1").await, ask("devenv-9").await);
    let lock = json!({ "kind": "workspace", "name": "devenv-0", "reason": "moving" });
    bench
        .send_as("POST", &bench.token(|_| {}), "/v1/locks", &lock.to_string())
        .await;
    let own = bench
        .get_as(&bench.token(|_| {}), "/v1/explain?workspace=devenv-0")
        .await
        .json();
    assert_eq!(own["verdict"], json!("locked"));
    assert!(own["why"].as_str().unwrap().contains("moving"));
    assert_eq!(ask("devenv-0").await, ask("devenv-9").await);
}

/// RFC 9449, section 7.1: the answer says how a token is to be shown.
#[tokio::test]
async fn a_gateway_that_wants_proofs_says_so() {
    for (configured, bearer, proof) in [
        ("off", true, false),
        ("optional", true, true),
        ("required", false, true),
    ] {
        let key = crate::oidc::fake::Key::new("one", jsonwebtoken::Algorithm::ES256);
        let issuer = crate::oidc::fake::FakeIssuer::start(&[&key]).await;
        let folder = crate::testing::folder();
        let file = folder.path().join("gateway.toml");
        let text = crate::testing::text(&issuer.url, "");
        let text = text.replace("[oidc]\n", &format!("[oidc]\ndpop = \"{configured}\"\n"));
        std::fs::write(&file, text).unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let running = crate::Running::start(crate::config::Config::load(&file).unwrap(), stop.clone())
            .await
            .unwrap();
        let bench = Bench {
            folder,
            issuer,
            key,
            running,
            stop,
        };
        eventually(|| bench.running.gateway().identities.ready().is_ok()).await;
        let known = bench.get("/.well-known/doorward", "").await.json();
        assert_eq!(known["issuers"][0]["dpop"], json!(configured));
        assert_eq!(known["issuers"][0]["client-id"], json!("doorward"));
        let challenges = |reply: &Reply| -> Vec<String> {
            let lines = reply
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("www-authenticate: "));
            lines.map(str::to_owned).collect()
        };
        let said = challenges(&bench.get("/v1/me", "").await);
        assert_eq!(
            said.iter().any(|one| one == "Bearer realm=\"doorward\""),
            bearer,
            "{said:?}"
        );
        assert_eq!(said.iter().any(|one| one.starts_with("DPoP ")), proof, "{said:?}");
        if proof {
            assert!(
                said.iter().any(|one| one.contains("algs=\"ES256 EdDSA RS256\"")),
                "{said:?}"
            );
            let bound = bench.token(|claims| claims["cnf"] = json!({ "jkt": "x" }));
            let reply = bench.get_as(&bound, "/v1/me").await;
            assert_eq!((reply.status(), &reply.json()["code"]), (401, &json!("proof-missing")));
            assert!(
                challenges(&reply)
                    .iter()
                    .any(|one| one.contains("error=\"invalid_dpop_proof\""))
            );
            let reply = bench
                .get("/v1/me", &format!("Authorization: DPoP {bound}\r\nDPoP: a.b.c\r\n"))
                .await;
            assert_eq!((reply.status(), &reply.json()["code"]), (401, &json!("proof-invalid")));
            let elsewhere = format!(
                "GET /v1/me HTTP/1.1\r\nHost: evil.example\r\nAuthorization: DPoP {bound}\r\nDPoP: a.b.c\r\n\r\n"
            );
            let reply = bench.raw(elsewhere.as_bytes()).await;
            assert_eq!((reply.status(), &reply.json()["code"]), (401, &json!("proof-invalid")));
            assert!(
                reply.json()["detail"].as_str().unwrap().contains("not this gateway"),
                "{}",
                reply.text
            );
            let twice = format!("Authorization: DPoP {bound}\r\nDPoP: a.b.c\r\nDPoP: a.b.c\r\n");
            assert_eq!(bench.get("/v1/me", &twice).await.status(), 400);
        }
    }
}
