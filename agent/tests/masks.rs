//! Secrets of the workspace: the person sees them, the recording says where they stood.

mod rig;

use std::time::Duration;

use doorward_audit::{Event, Masked, Stamped};
use rig::client::{leave, logged_in, rest, says, until};
use rig::{Rig, everything};
use uuid::Uuid;

const CANARY: &str = "secret-canary-0123456789";

/// A workspace in which a folder holds the canary.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn rig() -> Rig {
    let rig = Rig::start_with("", "[mask]\nenvironment = false\nfiles = ['secrets']").await;
    // Mounted after the agent has started, as a pod's secrets may be.
    let folder = rig.folder.path().join("secrets");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("token"), format!("{CANARY}\n")).unwrap();
    rig
}

fn masked(events: &[Stamped]) -> Vec<Masked> {
    let found = events.iter().filter_map(|stamped| match &stamped.event {
        Event::Masked(masked) => Some(masked.clone()),
        _ => None,
    });
    found.collect()
}

/// Waits until the agent looks for the canary, and checks that the recording names where it comes from.
async fn named(rig: &Rig, session: Uuid) {
    let found = rig
        .until_recorded(session, |event| matches!(event, Event::MasksSet(_)))
        .await;
    let Event::MasksSet(set) = found else { unreachable!() };
    assert!(set.names.iter().any(|name| name.ends_with("secrets/token")), "{set:?}");
}

/// Opens a session that begins once the canary is known.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
async fn open(rig: &Rig) -> (Uuid, rig::client::Client) {
    let known = async {
        loop {
            let (session, stream) = rig.open(everything()).await;
            let client = logged_in(stream).await;
            let said = rig.recorded(session);
            if said.iter().any(|stamped| matches!(stamped.event, Event::MasksSet(_))) {
                named(rig, session).await;
                return (session, client);
            }
            leave(client).await;
            rig.ended(session).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), known)
        .await
        .expect("a secret that was mounted later is looked for")
}

/// The output as it is recorded. Nowhere in the recording is the canary.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn text(rig: &Rig, session: Uuid) -> String {
    let all = format!("{:?}", rig.recorded(session));
    assert!(!all.contains(CANARY), "{all}");
    String::from_utf8(rig.output(session, 1)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_halved_and_in_base64_it_is_shown_and_not_recorded() {
    let rig = rig().await;
    let (session, client) = open(&rig).await;
    let mut channel = client.channel_open_session().await.unwrap();
    // Each line of input lets the next part out, so that the parts are writes of their own.
    let line = format!(
        "cd {}; T=$(cat secrets/token); echo a $T b; read x; printf %s ${{T:0:9}}; read x; echo ${{T:9}}; read x; \
         printf %s x$T | base64",
        rig.folder.path().display()
    );
    channel.exec(true, line).await.unwrap();
    let mut seen = until(&mut channel, |heard| says(heard, "b\n")).await.out;
    for part in ["secret-ca", "9\n"] {
        channel.data(&b"\n"[..]).await.unwrap();
        seen.extend(until(&mut channel, |heard| says(heard, part)).await.out);
    }
    channel.data(&b"\n"[..]).await.unwrap();
    seen.extend(rest(&mut channel).await.out);
    leave(client).await;
    rig.ended(session).await;

    let seen = String::from_utf8(seen).unwrap();
    let base64 = seen.lines().last().unwrap().to_owned();
    assert_eq!(seen, format!("a {CANARY} b\n{CANARY}\n{base64}\n"));
    let recorded = text(&rig, session);
    assert_eq!(recorded.len(), seen.len());
    let stars = "*".repeat(CANARY.len());
    assert!(recorded.starts_with(&format!("a {stars} b\n{stars}\n")), "{recorded}");
    let last = recorded.lines().last().unwrap();
    assert!(
        last.bytes().filter(|byte| *byte == b'*').count() + 6 >= base64.trim_end_matches('=').len(),
        "{last}"
    );

    let events = rig.recorded(session);
    let forms: Vec<_> = masked(&events)
        .into_iter()
        .map(|masked| (masked.stream, masked.bytes, masked.form))
        .collect();
    let plain = (Some(1), CANARY.len() as u64, "plain".to_owned());
    assert_eq!(forms[..2], [plain.clone(), plain]);
    assert_eq!(forms[2].2, "base64");
    // The first half was shown while nobody could know what it was: the record says how much of it is not told yet.
    assert!(
        events
            .iter()
            .any(|stamped| matches!(&stamped.event, Event::Withheld(held) if held.bytes == 9)),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_masked_letter_by_letter() {
    let rig = rig().await;
    let (session, client) = open(&rig).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    let line = format!(
        "stty -echo; T=$(cat {}/secrets/token); for ((i = 0; i < ${{#T}}; i++)); do printf %s \"${{T:i:1}}\"; read x; done; echo .",
        rig.folder.path().display()
    );
    channel.exec(true, line).await.unwrap();
    let mut seen = Vec::new();
    for letter in CANARY.chars() {
        seen.extend(until(&mut channel, |heard| says(heard, &letter.to_string())).await.out);
        channel.data(&b"\n"[..]).await.unwrap();
    }
    seen.extend(rest(&mut channel).await.out);
    leave(client).await;
    rig.ended(session).await;
    assert_eq!(String::from_utf8(seen).unwrap(), format!("{CANARY}.\r\n"));
    assert_eq!(text(&rig, session), format!("{}.\r\n", "*".repeat(CANARY.len())));
    assert_eq!(masked(&rig.recorded(session)).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_holds_it_is_masked() {
    let rig = rig().await;
    let (session, client) = open(&rig).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, format!("test {CANARY} = {CANARY}")).await.unwrap();
    assert_eq!(
        rest(&mut channel).await.status,
        Some(0),
        "the command itself is not changed"
    );
    leave(client).await;
    rig.ended(session).await;
    text(&rig, session);
    let events = rig.recorded(session);
    let stars = "*".repeat(CANARY.len());
    let expected = format!("test {stars} = {stars}");
    assert!(
        events
            .iter()
            .any(|stamped| matches!(&stamped.event, Event::Exec(exec) if exec.command == expected))
    );
    assert_eq!(masked(&events).len(), 2);
}

/// As Kubernetes mounts a secret, and changes it: a folder for each state, and links that are swapped.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn mount(volume: &std::path::Path, state: &str, files: &[(&str, &str)]) {
    use std::os::unix::fs::symlink;
    let folder = volume.join(format!("..{state}"));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    symlink(format!("..{state}"), volume.join("..data_tmp")).unwrap();
    let before = std::fs::read_link(volume.join("..data"));
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        // Links that are there lead to the new state.
        let _ = symlink(format!("..data/{name}"), volume.join(name));
    }
    if let Ok(before) = before {
        std::fs::remove_dir_all(volume.join(before)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_and_replaced_while_a_session_runs_is_masked_from_then_on_and_the_record_says_so() {
    const FIRST: &str = "first-token-4711";
    const SECOND: &str = "second-token-4712";
    const IN_FILE: &str = "ghp-of-a-later-file";
    let rig = Rig::start_with("", "[mask]\nenvironment = false\nfiles = ['volume']").await;
    let volume = rig.folder.path().join("volume");
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    // A program of before: it prints a file for each line of input.
    let line = format!(
        "cd {}; while read f; do cat volume/$f 2>/dev/null; echo :; done",
        rig.folder.path().display()
    );
    channel.exec(true, line).await.unwrap();
    for (state, files, shown) in [
        ("2026_01", vec![("TFE_TOKEN", FIRST)], vec![FIRST]),
        (
            "2026_02",
            vec![
                ("TFE_TOKEN", SECOND),
                ("env", "A=1\nGITHUB_TOKEN=ghp-of-a-later-file\n"),
            ],
            vec![SECOND, IN_FILE],
        ),
    ] {
        mount(&volume, state, &files);
        // It is said with the next that is recorded once the agent has seen it.
        let last = format!("volume/{}", files.last().unwrap().0);
        let told = async {
            loop {
                channel.data(&b"none\n"[..]).await.unwrap();
                until(&mut channel, |heard| says(heard, ":\n")).await;
                let names = |event: &Event| match event {
                    Event::MasksSet(set) => set.names.iter().filter(|name| name.contains(&last)).count(),
                    _ => 0,
                };
                // The second state has another value of a name that is known: it is there twice then, or the new file is.
                if rig.recorded(session).iter().any(|stamped| names(&stamped.event) > 0) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
        for (name, _) in &files {
            channel.data_bytes(format!("{name}\n").into_bytes()).await.unwrap();
            let heard = until(&mut channel, |heard| says(heard, ":\n")).await;
            let wanted = shown.iter().any(|secret| says(&heard, secret));
            assert!(wanted, "the person sees it: {:?}", String::from_utf8_lossy(&heard.out));
        }
    }
    channel.eof().await.unwrap();
    rest(&mut channel).await;
    leave(client).await;
    rig.ended(session).await;
    let events = rig.recorded(session);
    let all = format!("{events:?}{}", String::from_utf8_lossy(&rig.output(session, 1)));
    for secret in [FIRST, SECOND, IN_FILE] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(all.contains(&"*".repeat(FIRST.len())), "{all}");
    assert!(masked(&events).len() >= 3, "{all}");
}
