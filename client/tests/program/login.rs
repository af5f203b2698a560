//! Logging in and out.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::run::{Folder, LIMIT, Ran, Said, finish};

/// What a browser gets for an address on loopback, with this `Host`.
pub(crate) async fn visit(url: &Url, host: &str) -> String {
    let mut stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap()))
        .await
        .unwrap();
    let target = &url[url::Position::BeforePath..];
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

pub(crate) fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

pub(crate) fn with(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// Parameters that a browser brings back.
pub(crate) type Brought<'a> = &'a [(&'a str, &'a str)];

/// Logs in, the browser bringing back these parameters beside the state.
pub(crate) async fn log_in(issuer: &Issuer, gateway: &Gateway, folder: &Folder, pairs: Brought<'_>) -> Ran {
    log_in_with(issuer, gateway, folder, &[], pairs).await
}

/// The same with more arguments.
pub(crate) async fn log_in_with(
    issuer: &Issuer,
    gateway: &Gateway,
    folder: &Folder,
    more: &[&str],
    pairs: Brought<'_>,
) -> Ran {
    let ca = gateway.ca_file(folder);
    let url = gateway.url();
    let mut args = vec!["login", &url, "--no-browser", "--ca", ca.to_str().unwrap()];
    args.extend(more);
    let mut child = folder.command(&args).spawn().unwrap();
    let mut said = Said::of(&mut child);
    let (back, state) = issuer.log_in(&said.after("  address: ").await);
    let mut all = vec![("state", state.as_str())];
    all.extend(pairs);
    let page = visit(&with(&back, &all), &host(&back)).await;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("You can close this window"),
        "{page}"
    );
    let err = said.rest().await;
    let ran = finish(child).await;
    Ran { err, ..ran }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_whatever_else_knocks() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let args = ["login", &gateway.url(), "--no-browser", "--ca", ca.to_str().unwrap()];
    let mut child = folder.command(&args).spawn().unwrap();
    let mut said = Said::of(&mut child);
    let (back, state) = issuer.log_in(&said.after("  address: ").await);
    let issuer_url = issuer.url();
    let good = [
        ("code", "the-code"),
        ("state", state.as_str()),
        ("iss", issuer_url.as_str()),
    ];

    // a connection that says nothing, and one that never finishes its request
    let silent = TcpStream::connect(host(&back)).await.unwrap();
    let mut slow = TcpStream::connect(host(&back)).await.unwrap();
    slow.write_all(b"GET /callback?code=x HTTP/1.1\r\n").await.unwrap();
    for stranger in [
        visit(&back.join("/favicon.ico").unwrap(), &host(&back)).await,
        visit(
            &with(&back, &[("code", "theirs"), ("state", "theirs"), ("iss", &issuer_url)]),
            &host(&back),
        )
        .await,
        visit(
            &with(&back, &[("error", "access_denied"), ("state", "theirs")]),
            &host(&back),
        )
        .await,
        visit(&with(&back, &good), "evil.example").await,
    ] {
        assert!(stranger.starts_with("HTTP/1.1 404"), "{stranger}");
    }
    assert_eq!(issuer.server.count("/token"), 0);

    let page = visit(&with(&back, &good), &host(&back)).await;
    assert!(
        page.contains("You can close this window") && page.contains("content-security-policy"),
        "{page}"
    );
    assert!(!page.contains("the-code") && !page.contains(&state), "{page}");
    let err = said.rest().await;
    finish(child).await.expect(0);
    drop((silent, slow));
    assert!(err.contains("as bob"), "{err}");
    assert!(!err.contains("access-0") && !err.contains("refresh-0"), "{err}");

    let mode = std::fs::metadata(folder.path().join("tokens.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(folder.tokens()["access-token"], "access-0");
    assert!(folder.read("known_hosts").contains("@cert-authority * ssh-ed25519 "));
    assert!(folder.read("config.toml").contains(&gateway.url()));

    let status = folder.run(&["status", "--json"]).await.expect(0);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!((&status["user"], &status["logged-in"]), (&json!("bob"), &json!(true)));

    folder.run(&["logout"]).await.expect(0);
    let revoked: Vec<_> = issuer
        .server
        .asked()
        .into_iter()
        .filter(|asked| asked.target == "/revoke")
        .collect();
    assert_eq!(revoked[0].form("token").as_deref(), Some("refresh-0"));
    assert!(!folder.path().join("tokens.json").exists());
    folder.run(&["status"]).await.expect(77);
    let ran = folder.run(&["ls"]).await.expect(77);
    assert!(
        ran.err.contains("not logged in") && ran.err.contains("hint: doorward login"),
        "{}",
        ran.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_of_an_issuer_are_refused_and_nothing_is_kept() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    let cases: [(&str, Brought<'_>, Value, i32, &str); 6] = [
        (
            "another issuer answers",
            &[("code", "the-code"), ("iss", "http://127.0.0.1:1")],
            json!({}),
            255,
            "another issuer",
        ),
        (
            "nobody is named",
            &[("code", "the-code")],
            json!({}),
            255,
            "does not name its issuer",
        ),
        ("wrong nonce", &good, json!({"nonce": "replayed"}), 255, "nonce"),
        ("no nonce", &good, json!({"nonce": null}), 255, "nonce"),
        ("another client", &good, json!({"aud": "other"}), 255, "another client"),
        (
            "refused",
            &[
                ("error", "access_denied"),
                ("error_description", "no\n\u{1b}[2J"),
                ("iss", &url),
            ],
            json!({}),
            77,
            "no\\n\\x1b[2J",
        ),
    ];
    for (name, pairs, claims, code, text) in cases {
        issuer.set(|script| script.claims = claims);
        let folder = Folder::new();
        let ran = log_in(&issuer, &gateway, &folder, pairs).await.expect(code);
        assert!(ran.err.contains(text), "{name}: {}", ran.err);
        assert!(!folder.path().join("tokens.json").exists(), "{name}");
        assert!(!folder.path().join("config.toml").exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_not_the_one_is_not_asked_for_tokens() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    for discovery in [
        json!({"issuer": "https://elsewhere.example"}),
        json!({"issuer": format!("{}/", issuer.url())}),
        json!({"code_challenge_methods_supported": ["plain"]}),
        json!({"token_endpoint": "http://issuer.example/token"}),
        json!({"token_endpoint": 7}),
    ] {
        issuer.set(|script| script.discovery = discovery.clone());
        let ran = folder
            .run(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
            .await;
        let ran = ran.expect(255);
        assert!(
            ran.err.starts_with("doorward: ") && ran.out.is_empty(),
            "{discovery}: {}",
            ran.err
        );
    }
    assert_eq!(issuer.server.count("/device") + issuer.server.count("/token"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_logs_in() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    issuer.set(|script| script.errors = vec!["authorization_pending"]);
    let ran = folder
        .run(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
        .await
        .expect(0);
    assert!(
        ran.err
            .contains(&format!("  address: {}/activate?code=ABCD\n", issuer.url())),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("  code:    ABCD-\\x1b[2J\n"), "{}", ran.err);
    assert_eq!(folder.tokens()["user"], "bob");
    for (error, text) in [("access_denied", "refused"), ("expired_token", "in time|within")] {
        issuer.set(|script| script.errors = vec![error]);
        let ran = folder.run(&["login", "--device"]).await.expect(77);
        assert!(
            text.split('|').any(|text| ran.err.contains(text)),
            "{error}: {}",
            ran.err
        );
        assert_eq!(folder.tokens()["access-token"], "access-0", "the old login stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_of_the_environment_is_started() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let (script, visited) = (folder.path().join("browser"), folder.path().join("visited"));
    let text = format!(
        "#!/bin/sh\necho on-standard-output\nprintf %s \"$1\" > '{0}.new' && mv '{0}.new' '{0}'\n",
        visited.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // a path with a space cannot be a word of $BROWSER
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("browser");
    std::os::unix::fs::symlink(&script, &link).unwrap();
    let args = ["login", &gateway.url(), "--ca", ca.to_str().unwrap()];
    let child = folder.command(&args).env("BROWSER", &link).spawn().unwrap();
    let wait = async {
        loop {
            match std::fs::read_to_string(&visited) {
                Ok(address) => break address,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let (back, state) = issuer.log_in(&timeout(LIMIT, wait).await.unwrap());
    let issuer_url = issuer.url();
    let pairs = [
        ("code", "the-code"),
        ("state", state.as_str()),
        ("iss", issuer_url.as_str()),
    ];
    visit(&with(&back, &pairs), &host(&back)).await;
    let ran = finish(child).await.expect(0);
    assert_eq!(ran.out, "", "a browser's output is nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_prove_itself_is_refused() {
    let issuer = Issuer::start().await;
    let (gateway, other) = (Gateway::start(&issuer).await, Gateway::start(&issuer).await);
    let folder = Folder::new();
    // another CA
    let ca = other.ca_file(&folder);
    let ran = folder
        .run(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
        .await
        .expect(255);
    assert!(ran.err.contains("is not to be trusted"), "{}", ran.err);
    // the right CA, but another name: 127.0.0.2 leads to no server of that name
    let ca = gateway.ca_file(&folder);
    let url = gateway.url().replace("127.0.0.1", "127.0.0.1.nip.invalid");
    folder
        .run(&["login", &url, "--device", "--ca", ca.to_str().unwrap()])
        .await
        .expect(255);
    let ran = folder
        .run(&["login", "http://127.0.0.1:1", "--device"])
        .await
        .expect(64);
    assert!(ran.err.contains("https"), "{}", ran.err);
    std::fs::write(&ca, "no certificate").unwrap();
    folder
        .run(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
        .await
        .expect(78);
    folder.run(&["login"]).await.expect(78);
    assert!(gateway.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_issuers_is_chosen_and_remembered() {
    let (first, second) = (Issuer::start().await, Issuer::start().await);
    let gateway = Gateway::start(&first).await;
    let known = |name: &str, issuer: &Issuer| json!({"name": name, "issuer": issuer.url(), "client-id": "doorward", "scopes": ["openid", "groups"], "dpop": "off"});
    gateway.json(
        "/.well-known/doorward",
        json!({
            "version": 1, "issuer": first.url(), "client-id": "doorward", "scopes": ["openid"],
            "issuers": [known("staff\u{1b}[2J", &first), known("contractors", &second)],
        }),
    );
    let folder = Folder::new();
    let (one, two) = (first.url(), second.url());
    let good = [("code", "the-code"), ("iss", one.as_str())];
    let ran = log_in(&first, &gateway, &folder, &good).await.expect(0);
    assert!(
        ran.err
            .contains("hint: this gateway trusts several issuers (staff\\x1b[2J, contractors)"),
        "{}",
        ran.err
    );
    let args = ["login", "--no-browser", "--issuer", "nobody"];
    let ran = folder.run(&args).await.expect(64);
    assert!(
        ran.err.contains("no issuer \\\"nobody\\\"") || ran.err.contains("no issuer \"nobody\""),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("contractors"), "{}", ran.err);
    let good = [("code", "the-code"), ("iss", two.as_str())];
    log_in_with(&second, &gateway, &folder, &["--issuer", "contractors"], &good)
        .await
        .expect(0);
    assert_eq!(folder.tokens()["issuer"], two.as_str());
    assert!(folder.read("config.toml").contains("issuer = \"contractors\""));
    // who is asked again is asked there
    folder.run(&["login", "--device"]).await.expect(0);
    assert_eq!((first.server.count("/device"), second.server.count("/device")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_login_asks_for_it_and_says_so() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    log_in(&issuer, &gateway, &folder, &good).await.expect(0);
    assert_eq!(issuer.script.lock().unwrap().scope, "openid groups");
    issuer.set(|script| script.answer = json!({"refresh_expires_in": 0}));
    log_in_with(&issuer, &gateway, &folder, &["--offline"], &good)
        .await
        .expect(0);
    assert_eq!(issuer.script.lock().unwrap().scope, "openid groups offline_access");
    let ran = folder.run(&["status", "--local"]).await.expect(0);
    assert!(ran.out.contains("until it is revoked"), "{}", ran.out);
    let ran = folder.run(&["status", "--local", "--json"]).await.expect(0);
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&status["offline"], &status["login-seconds"]),
        (&json!(true), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_is_no_answer_to_a_new_login() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let url = issuer.url();
    let args = ["login", &gateway.url(), "--no-browser", "--ca", ca.to_str().unwrap()];
    let begin = async || {
        let mut child = folder.command(&args).spawn().unwrap();
        let mut said = Said::of(&mut child);
        let (back, state) = issuer.log_in(&said.after("  address: ").await);
        (child, said, back, state)
    };
    let answer = |state: &str| -> Vec<(String, String)> {
        [("code", "the-code"), ("state", state), ("iss", url.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let (child, said, back, old) = begin().await;
    let mut answered = back.clone();
    answered.query_pairs_mut().extend_pairs(answer(&old));
    visit(&answered, &host(&back)).await;
    said.rest().await;
    finish(child).await.expect(0);
    // the browser's back button: nobody listens any more, and the code is not asked for twice
    assert!(TcpStream::connect(host(&back)).await.is_err());
    assert_eq!(issuer.server.count("/token"), 1);
    // the same answer, brought to the next login
    let (child, said, back, new) = begin().await;
    assert_ne!(old, new);
    let mut replayed = back.clone();
    replayed.query_pairs_mut().extend_pairs(answer(&old));
    assert!(visit(&replayed, &host(&back)).await.starts_with("HTTP/1.1 404"));
    assert_eq!(issuer.server.count("/token"), 1);
    let mut answered = back.clone();
    answered.query_pairs_mut().extend_pairs(answer(&new));
    visit(&answered, &host(&back)).await;
    said.rest().await;
    finish(child).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_process_gets_the_port_of_the_redirect() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let args = ["login", &gateway.url(), "--no-browser", "--ca", ca.to_str().unwrap()];
    let mut child = folder.command(&args).spawn().unwrap();
    let mut said = Said::of(&mut child);
    let (back, _) = issuer.log_in(&said.after("  address: ").await);
    // What an issuer matches that has http://127.0.0.1/callback on its list (RFC 8252 section 7.3).
    assert_eq!(
        (back.scheme(), back.host_str(), back.path()),
        ("http", Some("127.0.0.1"), "/callback")
    );
    let address: std::net::SocketAddr = host(&back).parse().unwrap();
    let thief = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    thief.set_reuse_address(true).unwrap();
    thief.set_reuse_port(true).unwrap();
    let refused = thief.bind(&address.into()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_tells_the_issuer_or_says_that_it_could_not() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    // no revocation: the session is ended
    issuer.set(|script| script.revoke = Some(503));
    let folder = gateway.logged_in(&issuer, 300);
    folder.write_token("end-session-endpoint", json!(format!("{}/logout", issuer.url())));
    folder.run(&["logout"]).await.expect(0);
    let ended = issuer.server.asked();
    let ended = ended.iter().find(|asked| asked.target == "/logout").unwrap();
    assert_eq!(ended.form("refresh_token").as_deref(), Some("refresh-0"));
    assert_eq!(ended.form("client_id").as_deref(), Some("doorward"));
    // neither
    issuer.set(|script| script.end_session = Some(500));
    for endpoint in [Value::Null, json!(format!("{}/logout", issuer.url()))] {
        gateway.log_in(&issuer, &folder, 300);
        folder.write_token("end-session-endpoint", endpoint);
        let ran = folder.run(&["logout"]).await.expect(255);
        assert!(
            ran.err.contains("logged out bob") && ran.err.contains("did not revoke the tokens"),
            "{}",
            ran.err
        );
        assert!(
            !folder.path().join("tokens.json").exists(),
            "this computer forgets them all the same"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_and_decides_nothing() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let url = issuer.url();
    let good = [("code", "the-code"), ("iss", url.as_str())];
    for (iat, way) in [(now + 600, "behind"), (now - 600, "ahead of")] {
        let access = crate::issuer::jwt(&json!({"iat": iat, "exp": iat + 120}));
        issuer.set(|script| {
            script.claims = json!({"iat": iat, "exp": iat + 120});
            script.answer = json!({"access_token": access, "expires_in": 120});
        });
        let folder = Folder::new();
        let ran = log_in(&issuer, &gateway, &folder, &good).await.expect(0);
        assert!(
            ran.err.contains("this computer's clock is ") && ran.err.contains(way),
            "{}",
            ran.err
        );
        folder.run(&["ls"]).await.expect(0);
        let ran = folder.run(&["status", "--local"]).await.expect(0);
        assert!(ran.out.contains("clock    this computer's clock is "), "{}", ran.out);
    }
    // a life that cannot be
    issuer.set(|script| {
        script.claims = json!({"iat": now, "exp": now});
        script.answer = Value::Null;
    });
    let ran = log_in(&issuer, &gateway, &Folder::new(), &good).await.expect(255);
    assert!(ran.err.contains("was never valid"), "{}", ran.err);
}
