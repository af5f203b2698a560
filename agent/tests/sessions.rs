//! Sessions on a real agent: what `ssh` gets, and what the recording says of it.

mod rig;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::Event;
use rig::client::{leave, logged_in, rest, says, until};
use rig::{Rig, everything, ssh};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(20);

/// Runs `ssh` with this input; gives output, errors and exit code.
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
async fn run(rig: &Arc<Rig>, options: &[&str], command: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>, Option<i32>) {
    let address = rig.listen(everything()).await;
    let mut child = ssh(rig.folder.path(), address, options, command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = rig.tasks.spawn(async move {
        // Whoever does not read closes early.
        let _ = stdin.write_all(&input).await;
    });
    let done = timeout(WITHIN, child.wait_with_output())
        .await
        .expect("ssh hangs")
        .unwrap();
    writer.abort();
    (done.stdout, done.stderr, done.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_two_streams_and_a_status_and_all_of_it_is_recorded() {
    let rig = Arc::new(Rig::start().await);
    let (out, err, code) = run(&rig, &[], "echo out; echo err >&2; exit 7", b"").await;
    assert_eq!(
        (out.as_slice(), err.as_slice(), code),
        (&b"out\n"[..], &b"err\n"[..], Some(7))
    );
    let session = rig.newest();
    assert_eq!(rig.ended(session).await.code, "client-left");
    assert_eq!((rig.output(session, 1), rig.output(session, 2)), (out, err));
    let events: Vec<_> = rig.recorded(session).into_iter().map(|stamped| stamped.event).collect();
    assert!(matches!(&events[0], Event::Opened(opened)
        if opened.session == session && opened.user.starts_with("user=bob ") && opened.workspace == "devenv-0"
            && opened.client_address == "192.0.2.7:50000" && !opened.host_certificate.is_empty()));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Exec(exec) if exec.command.starts_with(b"echo out")))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Exit(exit) if exit.status == Some(7)))
    );
    let Some(Event::Coverage(coverage)) = events.last() else {
        panic!("no coverage at the end")
    };
    assert_eq!(
        (
            coverage.channels,
            coverage.bytes_seen,
            coverage.bytes_recorded,
            coverage.bytes_digested
        ),
        (1, 8, 8, 0)
    );
    assert!(coverage.client_to_agent > 0 && coverage.agent_to_client > 0);
    let times: Vec<_> = rig.recorded(session).iter().map(|stamped| stamped.at).collect();
    assert!(times.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_comes_back_whole_and_is_digested_past_the_limit() {
    let rig = Arc::new(Rig::start().await);
    let input: Vec<u8> = (0..6_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (out, _, code) = run(&rig, &[], "cat", &input).await;
    assert_eq!(code, Some(0));
    assert!(out == input, "{} of {} bytes came back right", out.len(), input.len());
    let session = rig.newest();
    rig.ended(session).await;
    let events = rig.recorded(session);
    let digests: Vec<_> = events
        .iter()
        .filter_map(|stamped| match &stamped.event {
            Event::Digest(digest) => Some((digest.stream, digest.bytes, digest.sha256)),
            _ => None,
        })
        .collect();
    let hash: [u8; 32] = Sha256::digest(&input).into();
    assert_eq!(digests, [(0, input.len() as u64, hash), (1, input.len() as u64, hash)]);
    let recorded = rig.output(session, 1);
    assert!(recorded.len() <= 1024 * 1024 && recorded.len() > 900 * 1024 && input.starts_with(&recorded));
    assert!(
        events
            .iter()
            .any(|stamped| matches!(&stamped.event, Event::DigestStarted(started)
        if started.stream == 1 && started.at_byte == recorded.len() as u64))
    );
    let Some(Event::Coverage(coverage)) = events.last().map(|stamped| &stamped.event) else {
        panic!()
    };
    assert_eq!(coverage.bytes_seen, 2 * input.len() as u64);
    assert_eq!(coverage.bytes_seen, coverage.bytes_recorded + coverage.bytes_digested);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_input_reaches_the_process() {
    let rig = Arc::new(Rig::start().await);
    let (out, _, code) = run(&rig, &[], "sort", b"b\na\n").await;
    assert_eq!((out.as_slice(), code), (&b"a\nb\n"[..], Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_ends_well() {
    let rig = Arc::new(Rig::start().await);
    let (out, _, code) = run(&rig, &[], "head -c 3", &vec![b'y'; 30_000_000]).await;
    assert_eq!((out.as_slice(), code), (&b"yyy"[..], Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn background_processes_hold_the_channel_as_under_sshd() {
    let rig = Arc::new(Rig::start().await);
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    // Holds the output: the status comes at once, the rest when it lets go.
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .exec(true, "sh -c 'sleep 1; echo late' & echo soon; exit 5")
        .await
        .unwrap();
    let heard = until(&mut channel, |heard| heard.status.is_some()).await;
    assert!(!heard.eof && !says(&heard, "late"));
    let later = rest(&mut channel).await;
    assert!(later.eof && says(&later, "late"));
    // Holds nothing: the channel ends with the leader.
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .exec(true, "sleep 30 >/dev/null 2>&1 </dev/null & echo soon; exit 5")
        .await
        .unwrap();
    let heard = rest(&mut channel).await;
    assert_eq!((heard.out.as_slice(), heard.status), (&b"soon\n"[..], Some(5)));
    // A terminal ends with its leader, whoever still holds it.
    let mut channel = client.channel_open_session().await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel
        .exec(true, "setsid sleep 30 & echo soon; sleep 0.1; exit 6")
        .await
        .unwrap();
    let heard = rest(&mut channel).await;
    assert_eq!((heard.out.as_slice(), heard.status), (&b"soon\r\n"[..], Some(6)));
}

/// Clients close the channel when the output ends, and then hear no status any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_comes_before_the_end_of_output() {
    let rig = Arc::new(Rig::start().await);
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    for _ in 0..20 {
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, "echo x; exit 7").await.unwrap();
        assert_eq!(rest(&mut channel).await.order, ["success", "status", "eof"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_output_is_never_lost() {
    let rig = Arc::new(Rig::start().await);
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    for round in 0..30 {
        for pty in [false, true] {
            let mut channel = client.channel_open_session().await.unwrap();
            if pty {
                channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
            }
            channel.exec(true, format!("seq {round} 3000")).await.unwrap();
            let heard = rest(&mut channel).await;
            let end = if pty { "\r\n" } else { "\n" };
            let expected: String = (round..=3000).map(|number| format!("{number}{end}")).collect();
            assert!(
                heard.out == expected.as_bytes(),
                "round {round}, pty {pty}: {} bytes",
                heard.out.len()
            );
            assert_eq!((heard.status, heard.eof), (Some(0), true));
        }
    }
    leave(client).await;
    rig.ended(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_leaves_no_process_and_a_whole_recording() {
    let rig = Arc::new(Rig::start().await);
    let address = rig.listen(everything()).await;
    let file = rig.file("pid");
    let command = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 300", file.display());
    for options in [&[][..], &["-tt"][..]] {
        let _ = std::fs::remove_file(&file);
        let mut child = ssh(rig.folder.path(), address, options, &command)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let started = async {
            loop {
                match std::fs::read_to_string(&file) {
                    Ok(pid) => return pid.trim().to_owned(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let pid = timeout(WITHIN, started).await.expect("the command does not start");
        child.kill().await.unwrap();
        let session = rig.newest();
        rig.ended(session).await;
        assert!(
            !std::path::Path::new("/proc").join(&pid).exists(),
            "process {pid} lives on"
        );
        assert!(matches!(
            rig.recorded(session).last().unwrap().event,
            Event::Coverage(_)
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_size_modes_and_input_that_only_policy_records() {
    let rig = Arc::new(Rig::start().await);
    let mut terms = everything();
    terms.recording.input = true;
    let (session, stream) = rig.open(terms).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "vt100", 91, 33, 0, 0, &[(russh::Pty::VERASE, 8)])
        .await
        .unwrap();
    let script = "stty size; echo $TERM; stty -a | grep -o 'erase = ^H'; trap 'stty size' WINCH; \
        read seen; echo got $seen; stty -echo; echo silent; read secret; stty echo; echo done; \
        while :; do sleep 0.05; done";
    channel.exec(true, script).await.unwrap();
    let heard = until(&mut channel, |heard| says(heard, "erase = ^H\r\n")).await;
    assert!(String::from_utf8_lossy(&heard.out).starts_with("33 91\r\nvt100\r\n"));
    channel.data(&b"hello\n"[..]).await.unwrap();
    until(&mut channel, |heard| {
        says(heard, "got hello") && says(heard, "silent\r\n")
    })
    .await;
    channel.data(&b"swordfish\n"[..]).await.unwrap();
    until(&mut channel, |heard| says(heard, "done\r\n")).await;
    channel.window_change(1_000_000_000, 0, 0, 0).await.unwrap();
    until(&mut channel, |heard| says(heard, "0 9999\r\n")).await;
    channel.signal(russh::Sig::TERM).await.unwrap();
    let heard = rest(&mut channel).await;
    assert_eq!(heard.signal.as_deref(), Some("TERM"));
    leave(client).await;
    rig.ended(session).await;
    let events: Vec<_> = rig.recorded(session).into_iter().map(|stamped| stamped.event).collect();
    let input: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            Event::Input(input) => Some(input.bytes.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(input, b"hello\n");
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Gap(gap) if gap.bytes == 10))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Pty(pty) if (pty.cols, pty.rows) == (91, 33)))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Resized(size) if (size.cols, size.rows) == (9999, 0)))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Signal(signal) if signal.name == "TERM"))
    );
    let bytes = rig.gateway.records.lock().unwrap()[&session].clone();
    assert!(!bytes.windows(9).any(|window| window == b"swordfish"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_channels_do_not_mix_and_a_stuck_one_does_not_hold_up_the_other() {
    let rig = Arc::new(Rig::start().await);
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let stuck = client.channel_open_session().await.unwrap();
    stuck.exec(true, "exec sleep 300").await.unwrap();
    let flood = rig.tasks.spawn(async move {
        let chunk = vec![0; 32 * 1024];
        loop {
            if stuck.data(chunk.as_slice()).await.is_err() {
                return;
            }
        }
    });
    for round in 0..20 {
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, format!("echo {round}")).await.unwrap();
        let heard = timeout(WITHIN, rest(&mut channel)).await.unwrap();
        assert_eq!(heard.out, format!("{round}\n").into_bytes());
    }
    assert!(!flood.is_finished());
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_the_order_of_requests() {
    let rig = Arc::new(Rig::start().await);
    let (_, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.set_env(true, "LANG", "C").await.unwrap();
    channel.set_env(true, "LD_PRELOAD", "/tmp/x.so").await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    channel.exec(true, "echo $LANG ${LD_PRELOAD-unset}").await.unwrap();
    channel.exec(true, "echo again").await.unwrap();
    let heard = rest(&mut channel).await;
    let answers: Vec<_> = heard
        .order
        .iter()
        .filter(|word| ["success", "failure"].contains(word))
        .collect();
    assert_eq!(
        answers,
        [
            &"success", &"failure", &"success", &"failure", &"failure", &"success", &"failure"
        ]
    );
    assert_eq!(heard.out, b"C unset\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_becomes_the_login_in_commands_and_on_terminals() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let rig = Arc::new(Rig::start_with("home = '/'\nshell = '/bin/sh'", "").await);
    let mut terms = everything();
    terms.login = doorward_certs::Login::try_from("daemon").unwrap();
    let (_, stream) = rig.open(terms).await;
    let mut client = rig::client::connect(stream).await;
    assert!(client.authenticate_none("daemon").await.unwrap().success());
    for pty in [false, true] {
        let mut channel = client.channel_open_session().await.unwrap();
        if pty {
            channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
        }
        let line =
            "id -un; id -Gn; echo $USER $HOME; [ -t 0 ] && stat -c %U:%a $(tty); kill -0 1 2>&1 | grep -c permitted";
        channel.exec(true, line).await.unwrap();
        let heard = rest(&mut channel).await;
        let said = String::from_utf8(heard.out).unwrap().replace('\r', "");
        let terminal = if pty { "daemon:620\n" } else { "" };
        assert_eq!(said, format!("daemon\ndaemon\ndaemon /\n{terminal}1\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_bound_of_zero_nothing_is_shown_that_is_not_durable() {
    let rig = Arc::new(Rig::start_with("", "record-unacked-bytes = 0\nrecord-stall = '5s'").await);
    let (session, stream) = rig.open(everything()).await;
    let client = logged_in(stream).await;
    let mut channel = client.channel_open_session().await.unwrap();
    let go = rig.file("go");
    let line = format!(
        "echo five; until [ -e {} ]; do sleep 0.02; done; echo six; sleep 60",
        go.display()
    );
    channel.exec(true, line).await.unwrap();
    until(&mut channel, |heard| says(heard, "five\n")).await;
    rig.gateway.ack.store(false, std::sync::atomic::Ordering::Relaxed);
    std::fs::write(go, "").unwrap();
    let recorded = async {
        while !rig.output(session, 1).ends_with(b"six\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, recorded).await.unwrap();
    let shown = timeout(
        Duration::from_millis(300),
        until(&mut channel, |heard| says(heard, "six")),
    )
    .await;
    assert!(shown.is_err(), "shown before it was durable");
}
