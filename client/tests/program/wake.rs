//! `connect` at a workspace that sleeps: the gateway is asked to wake it, and tells how far it is.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorward_wire::End;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connect::{session_with, start};
use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::run::{LIMIT, Said, finish};
use crate::server::{Asked, Pipe, Reply};

const CONNECT: &str = "/v1/connect/devenv-0";
const WAKE: &str = "/v1/workspaces/devenv-0/wake";

fn asleep(gateway: &Gateway) {
    gateway.on(CONNECT, |_| {
        problem(409, "asleep", "the workspace is asleep", "`doorward` wakes it")
    });
}

/// From now on the workspace can be entered, and says this.
fn awake(gateway: &Gateway, says: &'static [u8]) {
    session_with(gateway, "", move |_reader, mut writer| {
        Box::pin(async move {
            writer.write_all(says).await.unwrap();
            writer.shutdown().await.unwrap();
            End::new(0, "ended", "")
        })
    });
}

fn head(asked: &Asked) -> &'static [u8] {
    assert_eq!((asked.method.as_str(), asked.body.as_str()), ("POST", ""));
    assert_eq!(asked.field("authorization"), Some("Bearer access-0"));
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
}

async fn chunk(pipe: &mut Box<dyn Pipe>, text: &str) {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    pipe.write_all(chunk.as_bytes()).await.unwrap();
}

/// A wake that tells the lines and then waits for a permit before it says the last.
pub(crate) fn tells(gateway: &Gateway, lines: &'static [&'static str], go: &Arc<Semaphore>, last: &'static str) {
    let go = go.clone();
    gateway.on(WAKE, move |asked| {
        let (head, go) = (head(asked), go.clone());
        Reply::Take(Box::new(move |mut pipe: Box<dyn Pipe>| {
            Box::pin(async move {
                pipe.write_all(head).await.unwrap();
                for line in lines {
                    chunk(&mut pipe, line).await;
                }
                go.acquire().await.unwrap().forget();
                chunk(&mut pipe, last).await;
                chunk(&mut pipe, "").await;
                let _ = pipe.shutdown().await;
            })
        }))
    });
}

async fn identification(child: &mut Child) -> String {
    let mut said = [0; 18];
    let out = child.stdout.as_mut().unwrap();
    timeout(LIMIT, out.read_exact(&mut said)).await.unwrap().unwrap();
    String::from_utf8(said.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_workspace_is_woken_and_ssh_hears_of_the_server_before_it_runs() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let go = Arc::new(Semaphore::new(0));
    asleep(&gateway);
    let lines = &[
        "{\"state\":\"starting\",\"text\":\"pulling the im",
        "age \\u001b[2J\"}\n\n",
        "{\"state\":\"starting\",\"text\":\"pulling the image \\u001b[2J\"}\n{\"state\":\"baking\"}\n",
    ];
    tells(&gateway, lines, &go, "{\"state\":\"running\"}\n");
    let mut child = start(&folder);
    let mut said = Said::of(&mut child);
    assert_eq!(
        said.after("doorward: ").await,
        "devenv-0 is starting: pulling the image \\x1b[2J"
    );
    assert_eq!(said.after("doorward: ").await, "devenv-0 is baking");
    // Nothing runs yet, and `ssh` has what it waits for.
    assert_eq!(identification(&mut child).await, "SSH-2.0-Doorward\r\n");
    awake(&gateway, b"SSH-2.0-Doorward\r\nand more");
    go.add_permits(1);
    let ran = finish(child).await.expect(0);
    assert_eq!(ran.out, "and more", "what was said is not said twice");
    assert_eq!(gateway.server.count(WAKE), 1);
    let rest = said.rest().await;
    assert!(!rest.contains("devenv-0 is"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_does_not_start_is_a_refusal_with_its_reason() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let go = Arc::new(Semaphore::new(1));
    asleep(&gateway);
    let last = "{\"state\":\"failed\",\"status\":503,\"code\":\"wake-failed\",\"detail\":\"no such image \\u001b[31m\",\"hint\":\"tell them\"}\n";
    tells(&gateway, &[], &go, last);
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
    assert_eq!(ran.err, "doorward: no such image \\x1b[31m\nhint: tell them\n");
    // Garbage is not believed.
    tells(&gateway, &["[]\n"], &go, "\n");
    go.add_permits(1);
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
    assert!(ran.err.contains("makes no sense"), "{}", ran.err);
    // A stream that ends without a last word says nothing: it is asked for again.
    tells(&gateway, &["{\"state\":\"starting\",\"text\":\"x\"}\n"], &go, "\n");
    let before = gateway.server.count(WAKE);
    let mut child = start(&folder);
    let mut said = Said::of(&mut child);
    go.add_permits(1);
    for _ in 0..2 {
        said.after("doorward: devenv-0 is starting: x").await;
    }
    assert_eq!(gateway.server.count(WAKE), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_wake_and_an_older_gateway_are_told_as_ever() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    asleep(&gateway);
    // There is no such resource here.
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(255);
    assert!(
        ran.err.starts_with("doorward: the workspace is asleep\nhint: "),
        "{}",
        ran.err
    );
    gateway.on(WAKE, |_| {
        problem(403, "denied", "there is no such workspace, or you may not enter it", "")
    });
    let ran = folder.run(&["connect", "devenv-0"]).await.expect(77);
    assert!(ran.err.contains("you may not enter it"), "{}", ran.err);
    // What cannot be woken is asked for once and not again and again.
    gateway.on(CONNECT, |_| problem(503, "agent-down", "unreachable", ""));
    let before = gateway.server.count(WAKE);
    folder.run(&["connect", "devenv-0"]).await.expect(255);
    assert_eq!(gateway.server.count(WAKE), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_has_just_fallen_asleep_again_is_woken_again() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    asleep(&gateway);
    gateway.on(WAKE, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Body(200, "application/x-ndjson", b"{\"state\":\"running\"}\n".to_vec())
    });
    let child = start(&folder);
    timeout(LIMIT, async {
        while asked.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    awake(&gateway, b"SSH-2.0-Doorward\r\n");
    finish(child).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupting_ends_the_wait_at_once_with_a_sentence() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let never = Arc::new(Semaphore::new(0));
    asleep(&gateway);
    tells(&gateway, &["{\"state\":\"starting\",\"text\":\"x\"}\n"], &never, "\n");
    let mut child = start(&folder);
    let mut said = Said::of(&mut child);
    said.after("doorward: devenv-0 is starting").await;
    let process = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    finish(child).await.expect(130);
    let rest = said.rest().await;
    assert_eq!(
        rest,
        "doorward: not waiting for devenv-0 any longer; it goes on starting\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn six_at_once_all_get_in() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let go = Arc::new(Semaphore::new(0));
    asleep(&gateway);
    tells(
        &gateway,
        &["{\"state\":\"starting\",\"text\":\"x\"}\n"],
        &go,
        "{\"state\":\"running\"}\n",
    );
    let mut six: Vec<Child> = (0..6)
        .map(|_| {
            folder
                .command(&["connect", "devenv-0"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut six {
        assert_eq!(identification(child).await, "SSH-2.0-Doorward\r\n");
        Said::of(child).after("doorward: devenv-0 is starting").await;
    }
    awake(&gateway, b"SSH-2.0-Doorward\r\nin");
    go.add_permits(6);
    for child in six {
        assert_eq!(finish(child).await.expect(0).out, "in");
    }
    assert_eq!(gateway.server.count(CONNECT), 12);
}
