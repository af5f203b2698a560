//! The right of an open session, kept alive while `connect` carries it.

use std::sync::Arc;

use doorward_wire::End;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connect::{session_with, start};
use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::run::{Folder, LIMIT, finish};
use crate::server::Reply;

const ID: &str = "01900000-0000-7000-8000-00000000000a";
const RENEW: &str = "/v1/sessions/01900000-0000-7000-8000-00000000000a/renew";

/// A session that says it is there and ends so when `over` lets it.
async fn open(gateway: &Gateway, folder: &Folder, end: End) -> (Child, Arc<Semaphore>) {
    let over = Arc::new(Semaphore::new(0));
    let of_session = over.clone();
    session_with(
        gateway,
        &format!("Doorward-Session: {ID}\r\n"),
        move |reader, mut writer| {
            let (over, end) = (of_session.clone(), end.clone());
            Box::pin(async move {
                writer.write_all(b"ready").await.unwrap();
                over.acquire().await.unwrap().forget();
                drop((reader, writer));
                end
            })
        },
    );
    let mut child = start(folder);
    let mut ready = [0; 5];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    timeout(LIMIT, read).await.unwrap().unwrap();
    (child, over)
}

/// Waits for this many requests to renew.
async fn renewed(gateway: &Gateway, times: usize) {
    let asked = async {
        while gateway.server.count(RENEW) < times {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asked).await.expect("the right is renewed in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_tokens_are_shown_before_the_old_ones_expire() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(4));
    let folder = gateway.logged_in(&issuer, 3);
    let busy = Arc::new(Semaphore::new(1));
    gateway.on(RENEW, move |_| match busy.try_acquire() {
        // the first time it fails in a way that passes
        Ok(permit) => {
            permit.forget();
            problem(503, "down", "the issuer's keys cannot be had", "")
        }
        Err(_) => Reply::Body(204, "text/plain", Vec::new()),
    });
    let (child, over) = open(&gateway, &folder, End::new(0, "ended", "")).await;
    renewed(&gateway, 3).await;
    over.add_permits(1);
    let ran = finish(child).await.expect(0);
    assert_eq!(ran.err, "doorward: a notice\\x1b[2J\n", "renewing is quiet");
    let asked = gateway.server.asked();
    let shown: Vec<&str> = asked
        .iter()
        .filter(|asked| asked.target == RENEW)
        .map(|asked| asked.field("authorization").unwrap())
        .collect();
    assert!(
        asked
            .iter()
            .all(|asked| asked.target != RENEW || (asked.method == "POST" && asked.body.is_empty()))
    );
    assert_eq!(shown[..3], ["Bearer access-2", "Bearer access-3", "Bearer access-4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_once_when_the_session_ends() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(4));
    let folder = gateway.logged_in(&issuer, 3);
    gateway.on(RENEW, |_| {
        problem(403, "denied", "bob is in no group any more\u{1b}[2J", "")
    });
    let (child, over) = open(&gateway, &folder, End::new(77, "revoked", "your access has ended")).await;
    renewed(&gateway, 1).await;
    over.add_permits(1);
    let ran = finish(child).await.expect(77);
    assert_eq!(
        ran.err,
        "doorward: a notice\\x1b[2J\ndoorward: this session's right was not renewed: \
         bob is in no group any more\\x1b[2J\ndoorward: your access has ended\n"
    );
    assert_eq!(gateway.server.count(RENEW), 1, "no is no");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_have_the_session_is_not_the_last_word() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(4));
    let folder = gateway.logged_in(&issuer, 3);
    // Several gateways behind one address: the one that has the session is met by chance.
    let others = Arc::new(Semaphore::new(3));
    gateway.on(RENEW, move |_| match others.try_acquire() {
        Ok(permit) => {
            permit.forget();
            problem(404, "not-found", "there is no such thing", "")
        }
        Err(_) => Reply::Body(204, "text/plain", Vec::new()),
    });
    let (child, over) = open(&gateway, &folder, End::new(0, "ended", "")).await;
    renewed(&gateway, 5).await;
    over.add_permits(1);
    let ran = finish(child).await.expect(0);
    assert_eq!(ran.err, "doorward: a notice\\x1b[2J\n", "it is quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_end_says_by_itself_is_not_said_twice() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(4));
    let folder = gateway.logged_in(&issuer, 3);
    gateway.on(RENEW, |_| {
        problem(403, "session-over", "the session was ended: no role", "")
    });
    let (child, over) = open(
        &gateway,
        &folder,
        End::new(255, "revoked", "the session was ended: no role"),
    )
    .await;
    renewed(&gateway, 1).await;
    over.add_permits(1);
    let ran = finish(child).await.expect(255);
    assert_eq!(ran.err.matches("no role").count(), 1, "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_gateway_does_not_take_is_replaced_once() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(4));
    let folder = gateway.logged_in(&issuer, 3);
    gateway.on(RENEW, |asked| match asked.field("authorization") {
        Some("Bearer access-2") => problem(401, "token-untrusted", "the key is gone", ""),
        _ => Reply::Body(204, "text/plain", Vec::new()),
    });
    let (child, over) = open(&gateway, &folder, End::new(0, "ended", "")).await;
    renewed(&gateway, 2).await;
    over.add_permits(1);
    finish(child).await.expect(0);
    let asked = gateway.server.asked();
    let shown: Vec<_> = asked.iter().filter(|asked| asked.target == RENEW).collect();
    assert_eq!(shown[0].field("authorization"), Some("Bearer access-2"));
    assert_eq!(shown[1].field("authorization"), Some("Bearer access-3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_issuer_is_kept_though_the_session_is_over() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    issuer.set(|script| script.life = Some(8));
    let folder = gateway.logged_in(&issuer, 3);
    let (child, over) = open(&gateway, &folder, End::new(0, "ended", "")).await;
    let hold = Arc::new(Semaphore::new(0));
    issuer.set(|script| script.hold = Some(hold.clone()));
    let asked = async {
        while issuer.server.count("/token") < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asked).await.unwrap();
    over.add_permits(1);
    // ssh hangs up on its way out
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGHUP).unwrap();
    hold.add_permits(1);
    finish(child).await.expect(0);
    let newest = format!("refresh-{}", issuer.server.count("/token"));
    assert_eq!(folder.tokens()["refresh-token"], newest, "the new token is not lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_names_no_session_is_shown_nothing() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    for header in ["", "Doorward-Session: ../../v1/locks\r\n"] {
        let folder = gateway.logged_in(&issuer, 300);
        session_with(&gateway, header, |reader, writer| {
            Box::pin(async move {
                drop((reader, writer));
                End::new(0, "ended", "")
            })
        });
        folder.run(&["connect", "devenv-0"]).await.expect(0);
    }
    let targets: Vec<String> = gateway.server.asked().into_iter().map(|asked| asked.target).collect();
    assert_eq!(targets, ["/v1/connect/devenv-0", "/v1/connect/devenv-0"]);
}
