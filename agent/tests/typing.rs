//! What is typed where input is recorded: what shows is recorded, and what does not show is counted and never kept. And what
//! is told of it: that somebody uses the workspace, which an editor's heartbeats do not tell.

mod rig;

use doorward_audit::Event;
use rig::client::{Client, leave, logged_in, rest, says, until};
use rig::{Rig, everything};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What was typed in a session, what is in its record, and how much is said to be missing.
struct Typed {
    input: Vec<u8>,
    missing: u64,
    raw: Vec<u8>,
    seen: bool,
}

/// Runs a command on a terminal and types lines, each once its prompt is there.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn typed(command: &str, lines: &[(&str, &[u8])]) -> Typed {
    let rig = Rig::start().await;
    let mut terms = everything();
    terms.recording.input = true;
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.exec(true, command).await.unwrap();
    for (prompt, line) in lines {
        until(&mut channel, |heard| says(heard, prompt)).await;
        channel.data(*line).await.unwrap();
    }
    let seen = says(&rest(&mut channel).await, "over");
    leave(client).await;
    rig.ended(session).await;
    let (mut input, mut missing) = (Vec::new(), 0);
    for stamped in rig.recorded(session) {
        match stamped.event {
            Event::Input(typed) => input.extend_from_slice(&typed.bytes),
            Event::Gap(gap) => missing += gap.bytes,
            _ => {}
        }
    }
    let raw = rig.output(session, 1);
    Typed {
        input,
        missing,
        raw,
        seen,
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Prompts of real programs switch the echo off: what is typed there is in no event.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_in_no_event() {
    let prompts = [
        (
            "bash -c",
            "bash -c 'read -p user: u; read -s -p pass: p; echo; [ \"$p\" = swordfish ] && echo over'",
        ),
        (
            "python3",
            "python3 -c 'import getpass; u = input(\"user:\"); p = getpass.getpass(\"pass:\"); print(\"over\" if p == \"swordfish\" else p)'",
        ),
    ];
    for (program, command) in prompts {
        let shell = program.split(' ').next().unwrap_or_default();
        let there = std::process::Command::new(shell).arg("--version").output();
        if there.is_err() {
            eprintln!("without {shell}, which is not here");
            continue;
        }
        let typed = typed(command, &[("user:", b"bob\n"), ("pass:", b"swordfish\n")]).await;
        assert!(typed.seen, "{program} did not hear the password");
        assert_eq!(typed.input, b"bob\n", "{program}");
        assert_eq!(typed.missing, 10, "{program}");
        assert!(!holds(&typed.raw, "swordfish"), "{program} showed it");
    }
}

/// A program that reads keys for itself has the echo off as well: its keys count as unseen, whatever it draws of them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_program_that_draws_for_itself_are_counted_alone() {
    let command = "stty raw -echo; printf 'keys:'; k=$(head -c 3); stty sane; printf 'got %s, over' \"$k\"; exit 0";
    let typed = typed(command, &[("keys:", b"iab")]).await;
    assert!(typed.seen);
    assert_eq!((typed.input.as_slice(), typed.missing), (&b""[..], 3));
    assert!(holds(&typed.raw, "got iab"), "what it draws is output");
}

/// A server as an editor has it in the workspace: what comes is answered with as much.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[expect(clippy::disallowed_methods, reason = "the server is a task of the test itself")]
async fn echoing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
    });
    port
}

/// As many heartbeats on a forwarded connection as an idle editor sends in five minutes; over several minutes they are less
/// in each.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn heartbeats(client: &Client, port: u16) {
    let opened = client.channel_open_direct_tcpip("127.0.0.1", port.into(), "127.0.0.1", 1);
    let mut channel = opened.await.unwrap();
    for _ in 0..60 {
        channel.data(&b"0123456789abcdefghi"[..]).await.unwrap();
        until(&mut channel, |heard| !heard.out.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_and_its_heartbeats_are_no_use_and_a_key_is() {
    let rig = Rig::start().await;
    let port = echoing().await;
    let mut terms = everything();
    terms.capabilities.local_forward = vec!["127.0.0.1:*".to_owned()];
    let (session, stream) = rig.open(terms.clone()).await;
    let client = logged_in(stream).await;
    assert_eq!(rig.told_of_use().await, 0, "a mere connection");
    heartbeats(&client, port).await;
    assert_eq!(rig.told_of_use().await, 0, "heartbeats");
    leave(client).await;
    rig.ended(session).await;
    assert_eq!(rig.told_of_use().await, 0, "the end of it");

    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel
        .exec(true, "printf 'name: '; read name; echo over")
        .await
        .unwrap();
    until(&mut channel, |heard| says(heard, "name:")).await;
    // Uses of one second are one, and are told once in a second: what follows is to be told on its own.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let before = rig.told_of_use().await;
    assert!(before >= 1, "what a terminal shows");
    channel.window_change(90, 30, 0, 0).await.unwrap();
    assert_eq!(rig.told_of_use().await, before, "a window's size");
    channel.data(&b"b"[..]).await.unwrap();
    let mut used = rig.gateway.used.subscribe();
    let told = used.wait_for(|count| *count > before);
    tokio::time::timeout(std::time::Duration::from_secs(20), told)
        .await
        .unwrap()
        .unwrap();
    channel.data(&b"ob\n"[..]).await.unwrap();
    assert!(says(&rest(&mut channel).await, "over"));
    leave(client).await;
    rig.ended(session).await;
}

/// It would not know the message, and take the link down.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_ask_for_it_is_told_nothing_of_use() {
    let rig = Rig::older().await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo over").await.unwrap();
    assert!(says(&rest(&mut channel).await, "over"));
    leave(client).await;
    rig.ended(session).await;
    assert_eq!(rig.told_of_use().await, 0);
}
