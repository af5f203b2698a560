//! Stored tokens: refreshed silently, once, and only for their gateway.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::run::{LIMIT, Said, finish};
use crate::server::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_refreshes() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 10);
    let ran = join_all((0..8).map(|_| folder.run(&["ls", "--json"]))).await;
    for ran in ran {
        let ran = ran.expect(0);
        assert!(ran.out.contains("devenv-0"), "{ran:#?}");
    }
    assert_eq!(issuer.server.count("/token"), 1, "a second use would end the login");
    assert_eq!(folder.tokens()["refresh-token"], "refresh-1");
    let asked = gateway.server.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.field("authorization") == Some("Bearer access-1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_is_used_as_it_is() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 120);
    folder.run(&["ls"]).await.expect(0);
    assert!(issuer.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_over_says_so() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -10);
    issuer.set(|script| script.errors = vec!["invalid_grant"]);
    let ran = folder.run(&["ls"]).await.expect(77);
    assert!(
        ran.err.contains("is over") && ran.err.contains("hint: doorward login"),
        "{}",
        ran.err
    );
    assert!(folder.tokens()["refresh-token"].is_null(), "it is not tried again");
    folder.run(&["ls"]).await.expect(77);
    assert_eq!(issuer.server.count("/token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_down_matters_only_when_the_token_has_expired() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.down = true);
    let folder = gateway.logged_in(&issuer, 20);
    folder.run(&["ls"]).await.expect(0);
    folder.write_tokens(&gateway.url(), &issuer.url(), -1);
    let ran = folder.run(&["ls"]).await.expect(255);
    assert!(ran.err.contains(&issuer.server.address.to_string()), "{}", ran.err);
    assert_eq!(folder.tokens()["refresh-token"], "refresh-0", "the login is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_persons_tokens_are_refused() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -1);
    issuer.set(|script| script.claims = serde_json::json!({"sub": "sub-mallory"}));
    let ran = folder.run(&["ls"]).await.expect(255);
    assert!(ran.err.contains("another person"), "{}", ran.err);
    assert_eq!(folder.tokens()["access-token"], "access-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_its_own_gateway_alone() {
    let issuer = Issuer::start().await;
    let (gateway, other) = (Gateway::start(&issuer).await, Gateway::start(&issuer).await);
    let folder = gateway.logged_in(&issuer, 300);
    let settings = folder.read("config.toml").replace(&gateway.url(), &other.url());
    std::fs::write(folder.path().join("config.toml"), settings).unwrap();
    other.ca_file(&folder);
    folder.run(&["ls"]).await.expect(77);
    assert!(other.server.asked().is_empty());
    // nor is a redirect followed
    let folder = gateway.logged_in(&issuer, 300);
    let elsewhere = other.url();
    gateway.on("/v1/workspaces", move |_| {
        let elsewhere =
            format!("HTTP/1.1 307 Moved\r\nLocation: {elsewhere}v1/workspaces\r\nContent-Length: 0\r\n\r\n");
        Reply::Take(Box::new(|mut pipe| {
            Box::pin(async move {
                tokio::io::AsyncWriteExt::write_all(&mut pipe, elsewhere.as_bytes())
                    .await
                    .unwrap();
            })
        }))
    });
    let ran = folder.run(&["ls"]).await.expect(255);
    assert!(ran.err.contains("answered with a redirect to"), "{}", ran.err);
    assert!(other.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_others_can_reach_are_not_used() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let path = folder.path().join("tokens.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    for command in ["ls", "status"] {
        let ran = folder.run(&[command]).await.expect(78);
        assert!(
            ran.err.contains("mode 0640") && ran.err.contains("hint: "),
            "{}",
            ran.err
        );
    }
    let elsewhere = folder.path().join("elsewhere.json");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(78);
    assert!(ran.err.contains("symbolic link"), "{}", ran.err);
    assert!(gateway.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_live_shortly_are_refreshed_by_many_without_ending_the_login() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    // every command finds that the token has too little left
    issuer.set(|script| script.life = Some(5));
    let folder = gateway.logged_in(&issuer, 1);
    for round in 1..=2 {
        let ran = join_all((0..8).map(|_| folder.run(&["ls", "--json"]))).await;
        for ran in ran {
            ran.expect(0);
        }
        assert_eq!(issuer.server.count("/token"), 8 * round);
    }
    assert_eq!(
        folder.tokens()["refresh-token"],
        "refresh-16",
        "each used the newest one"
    );
    let left = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".new")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_waits_until_the_new_token_is_written() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 1);
    let hold = Arc::new(Semaphore::new(0));
    issuer.set(|script| script.hold = Some(hold.clone()));
    for (args, signal) in [
        (&["ls"][..], Signal::SIGINT),
        (&["connect", "devenv-0"], Signal::SIGHUP),
    ] {
        let before = issuer.server.count("/token");
        folder.write_token("expires-at", json!(1));
        let child = folder.command(args).spawn().unwrap();
        let asked = async {
            while issuer.server.count("/token") == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, asked).await.unwrap();
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
        hold.add_permits(1);
        let ran = finish(child).await.expect(130);
        assert!(ran.out.is_empty() && ran.err.is_empty(), "{ran:?}");
        let used = before + 1;
        assert_eq!(folder.tokens()["refresh-token"], format!("refresh-{used}"));
    }
    assert!(gateway.server.asked().is_empty(), "and then nothing more is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_refused_grant_ends_the_login() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -1);
    issuer.set(|script| script.errors = vec!["temporarily_unavailable"]);
    let ran = folder.run(&["ls"]).await.expect(77);
    assert!(ran.err.contains("temporarily_unavailable"), "{}", ran.err);
    folder.run(&["ls"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_seems_to_live_too_long_is_not_believed() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 86_400);
    folder.write_token("life", json!(300));
    let ran = folder.run(&["status", "--local"]).await.expect(0);
    assert!(ran.out.contains("clock was set back"), "{}", ran.out);
    folder.run(&["ls"]).await.expect(0);
    assert_eq!(folder.tokens()["access-token"], "access-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_for_whom() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, -1);
    let hold = Arc::new(Semaphore::new(0));
    issuer.set(|script| script.hold = Some(hold.clone()));
    let mut child = folder.command(&["ls"]).spawn().unwrap();
    let mut said = Said::of(&mut child);
    let whom = said.after("doorward: still waiting for the issuer at ").await;
    assert_eq!(whom, format!("{} to answer", issuer.server.address));
    hold.add_permits(1);
    finish(child).await.expect(0);
}
