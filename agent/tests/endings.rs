//! How programs begin and end: what cannot be started, what is left behind, what nothing survives.

mod rig;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rig::client::{Client, Heard, leave, logged_in, rest, says, until};
use rig::{Rig, everything};
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(30);

/// A process that has left its parent and its session, and holds no output. Prints its number, then ends itself.
fn detached(rig: &Rig) -> String {
    let file = rig.file("detached");
    let _ = std::fs::remove_file(&file);
    let file = file.display();
    format!(
        "(setsid sh -c 'echo $$ > {file}.new; mv {file}.new {file}; trap \"\" HUP; while :; do sleep 1; done' \
         >/dev/null 2>&1 </dev/null &); until [ -e {file} ]; do sleep 0.02; done; cat {file}"
    )
}

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn exec(client: &Client, line: impl Into<Vec<u8>>) -> Heard {
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, line).await.unwrap();
    rest(&mut channel).await
}

fn alive(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
async fn gone(pid: &str) {
    let waiting = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(WITHIN, waiting).await.is_err() {
        panic!("process {pid} lives on");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_carry_the_names_of_their_session_and_channel() {
    let rig = Rig::start().await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    for channel in 0..2 {
        let heard = exec(&client, "echo $DOORWARD_SESSION $DOORWARD_CHANNEL").await;
        assert_eq!(text(&heard.out), format!("{session} {channel}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_with_the_kill_policy_nothing_of_a_channel_lives_on() {
    let rig = Rig::start_with("at-end = 'kill'", "grace = '200ms'").await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    // The channel's program ends in order.
    let heard = exec(&client, detached(&rig)).await;
    assert_eq!(heard.status, Some(0));
    gone(&text(&heard.out)).await;
    // The client closes the channel; another channel's processes are no business of this one.
    let mut other = client.channel_open_session().await.unwrap();
    other.exec(true, "echo $$; exec sleep 300").await.unwrap();
    let other_pid = text(&until(&mut other, |heard| says(heard, "\n")).await.out);
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .exec(true, format!("{}; exec sleep 300", detached(&rig)))
        .await
        .unwrap();
    let pid = text(&until(&mut channel, |heard| says(heard, "\n")).await.out);
    assert!(alive(&pid));
    channel.close().await.unwrap();
    gone(&pid).await;
    assert!(alive(&other_pid));
    // The client leaves.
    leave(client).await;
    rig.ended(session).await;
    gone(&other_pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_what_the_hang_up_spares_ends_with_the_agent() {
    let mut rig = Rig::start_with("", "grace = '200ms'").await;
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let heard = exec(&client, detached(&rig)).await;
    let pid = text(&heard.out);
    assert!(heard.status == Some(0) && alive(&pid));
    rig.stop().await;
    gone(&pid).await;
}

/// A client that has nothing more to say closes the channel when it hears the end of the output; what came after that
/// would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_comes_before_the_end_of_the_output() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "exec >&- 2>&-; sleep 0.3; exit 5").await.unwrap();
    channel.eof().await.unwrap();
    let heard = rest(&mut channel).await;
    assert_eq!(
        (heard.status, heard.order.as_slice()),
        (Some(5), &["success", "status", "eof"][..])
    );
}

/// As under a stock sshd.
#[tokio::test(flavor = "multi_thread")]
async fn with_leave_a_command_goes_on_without_its_client_and_a_terminal_hangs_up() {
    let rig = Rig::start_with("at-end = 'leave'", "grace = '200ms'").await;
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut pids = Vec::new();
    for pty in [false, true] {
        let mut channel = client.channel_open_session().await.unwrap();
        if pty {
            channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
        }
        channel.exec(true, "echo $$; exec sleep 300").await.unwrap();
        pids.push(text(&until(&mut channel, |heard| says(heard, "\n")).await.out));
    }
    leave(client).await;
    rig.ended(session).await;
    gone(&pids[1]).await;
    assert!(alive(&pids[0]));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pids[0].parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_hundred_kilobytes_runs_and_one_beyond_the_kernel_is_explained() {
    let rig = Rig::start().await;
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let heard = exec(&client, format!("echo fine; : {}", "x".repeat(100 * 1024))).await;
    assert_eq!((text(&heard.out).as_str(), heard.status), ("fine", Some(0)));
    let heard = exec(&client, format!("echo fine; : {}", "x".repeat(140 * 1024))).await;
    assert_eq!((heard.out.len(), heard.status), (0, Some(1)));
    assert!(text(&heard.err).contains("standard input"), "{}", text(&heard.err));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_login_says_so_in_its_own_words() {
    for (shell, said) in [
        ("/usr/sbin/nologin", "not available"),
        ("/no/such/shell", "/no/such/shell"),
    ] {
        if shell.ends_with("nologin") && !Path::new(shell).exists() {
            continue;
        }
        let rig = Rig::start_with(&format!("shell = '{shell}'"), "").await;
        let (_, stream) = rig.open(everything()).await;
        let client = logged_in(stream).await;
        let heard = exec(&client, "echo in").await;
        let all = text(&[heard.out, heard.err].concat());
        assert!(all.contains(said) && !all.contains("in\n"), "{shell}: {all}");
        assert_eq!(heard.status, Some(1), "{shell}");
    }
}

/// Both ends ask for new keys every 64 KiB, in either direction, to the very end of a channel.
#[tokio::test(flavor = "multi_thread")]
async fn e09_new_keys_that_both_ends_ask_for_lose_nothing() {
    let rig = Rig::start_with("", "rekey-bytes = 65536").await;
    let (session, stream) = rig.open(everything()).await;
    let client = rig::client::changing_keys(stream, 64 * 1024).await;
    for round in 0..4_u32 {
        let bytes: Vec<u8> = (round..round + 700_000).flat_map(u32::to_le_bytes).collect();
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "cat").await.unwrap();
        let mut writer = channel.make_writer();
        let writing = async {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        };
        let (heard, ()) = tokio::join!(rest(&mut channel), writing);
        assert!(heard.out == bytes, "round {round}: {} bytes", heard.out.len());
        assert_eq!((heard.status, heard.eof), (Some(0), true));
    }
    leave(client).await;
    assert_eq!(rig.ended(session).await.code, "client-left");
}

/// A client that still sends when the program ends must not keep the channel's close from going out.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_into_a_program_that_ends_holds_up_nobody() {
    let rig = Arc::new(Rig::start().await);
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut loud = client.channel_open_session().await.unwrap();
    loud.exec(true, "yes").await.unwrap();
    let hearing = rig.tasks.spawn(async move { while loud.wait().await.is_some() {} });
    for _ in 0..40 {
        let mut channel = client.channel_open_session().await.unwrap();
        let mut writer = channel.make_writer();
        let flooding = rig.tasks.spawn(async move {
            let chunk = vec![b'x'; 1024];
            while tokio::io::AsyncWriteExt::write_all(&mut writer, &chunk).await.is_ok() {}
        });
        channel.exec(true, "exit 3").await.unwrap();
        assert_eq!(rest(&mut channel).await.status, Some(3));
        flooding.abort();
    }
    assert!(!hearing.is_finished());
    hearing.abort();
}
