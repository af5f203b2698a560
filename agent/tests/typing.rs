//! What is typed where input is recorded: what shows is recorded, and what does not show is counted and never kept.

mod rig;

use doorward_audit::Event;
use rig::client::{leave, logged_in, rest, says, until};
use rig::{Rig, everything};

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
