//! What `status` says, and who it has it from.

use serde_json::{Value, json};

use crate::gateway::{Gateway, problem};
use crate::issuer::{Issuer, jwt};
use crate::run::Folder;

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_says_who_one_is() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    gateway.json(
        "/v1/me",
        json!({
            "user": "bob@x.org", "issuer": issuer.url(), "groups": ["developers", "e\u{1b}[2J"], "email": "bob@x.org",
            "roles": ["dev"], "may": ["kill"], "token-expires": "2026-11-21T09:30:00Z",
        }),
    );
    let ran = folder.run(&["status"]).await.expect(0);
    for text in [
        "login    bob@x.org, by http://127.0.0.1",
        "groups   developers, e\\x1b[2J\n",
        "roles    dev\n",
        "may      kill\n",
    ] {
        assert!(ran.out.contains(text), "{text:?} is not in {}", ran.out);
    }
    let ran = folder.run(&["status", "--json"]).await.expect(0);
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&status["said-by"], &status["groups"][0]),
        (&json!("gateway"), &json!("developers"))
    );
    assert_eq!(status["gateway-failed"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_gateway_the_token_says_it_and_that_is_marked() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    folder.write_token("access-token", json!(jwt(&json!({"groups": ["developers"]}))));
    gateway.on("/v1/me", |_| {
        problem(503, "down", "the issuer's keys cannot be had", "")
    });
    let ran = folder.run(&["status"]).await.expect(0);
    assert!(
        ran.out.contains("groups   developers (as the token says"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("problem  the issuer's keys cannot be had\n"),
        "{}",
        ran.out
    );
    let ran = folder.run(&["status", "--json"]).await.expect(0);
    let status: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&status["said-by"], &status["user"]), (&json!("token"), &json!("bob")));
    let before = gateway.server.asked().len();
    folder.run(&["status", "--local"]).await.expect(0);
    assert_eq!(gateway.server.asked().len(), before, "with --local nobody is asked");
    // a login that is over: the issuer says so
    folder.write_token("expires-at", json!(1));
    issuer.set(|script| script.errors = vec!["invalid_grant"]);
    let ran = folder.run(&["status"]).await.expect(77);
    assert!(ran.out.contains("bob's login is over (doorward login)"), "{}", ran.out);
    // and where there was never one
    let ran = Folder::new().run(&["status"]).await.expect(77);
    assert!(
        ran.out.contains("nobody is logged in (doorward login GATEWAY)"),
        "{}",
        ran.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_login_lasts_is_what_the_issuer_said() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    for (answer, least, most) in [
        (json!({"refresh_expires_in": 1800}), 1700, 1800),
        (json!({"refresh_token": jwt(&json!({"iat": 5, "exp": 905}))}), 800, 900),
    ] {
        issuer.set(|script| {
            script.answer = answer;
            script.claims = Value::Null;
        });
        let folder = gateway.logged_in(&issuer, -1);
        issuer.set(|script| script.start_over());
        folder.run(&["ls"]).await.expect(0);
        let ran = folder.run(&["status", "--local", "--json"]).await.expect(0);
        let status: Value = serde_json::from_str(&ran.out).unwrap();
        let seconds = status["login-seconds"].as_u64().unwrap();
        assert!((least..=most).contains(&seconds), "{seconds}");
    }
}
