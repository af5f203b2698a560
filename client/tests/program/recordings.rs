//! Recordings: shown, proved and exported, from a folder and through the gateway.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorward_audit::receipt::{Closing, Durable, RECEIPT_NAMESPACE, RECEIPTS_NAME, Statement, sign};
use doorward_audit::{
    ChainCheck, ChannelClosed, ChannelOpened, Coverage, Ended, Env, Event, Exit, FileBytes, FileClosed, FileOperation,
    ForwardConnected, Gap, HEAD_NAMESPACE, Opened, Outcome, Output, Paused, Pty, Recorder, Refused, Shell, Stamped,
    segment_name,
};
use doorward_certs::{Authority, HostKey, HostRequest, LinkRequest, Local};
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ssh_key::{HashAlg, SshSig};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

use crate::gateway::Gateway;
use crate::issuer::Issuer;
use crate::run::{Folder, LIMIT, finish};
use crate::server::Reply;

/// What the terminal of the recorded session was sent.
const SHOWN: [&[u8]; 4] = [
    b"\x1b[1m$ \x1b[0mls\r\n",
    b"\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[6nfile-\xc3",
    b"\xa9\r\nnot utf-8: \xff\x9b6n\r\n",
    b"bye\r\n",
];

pub(crate) struct Recorded {
    dir: TempDir,
    pub(crate) session: Uuid,
    /// A file with the CA keys.
    pub(crate) trust: PathBuf,
}

impl Recorded {
    fn folder(&self) -> PathBuf {
        self.dir.path().join(self.session.to_string())
    }

    pub(crate) fn arg(&self) -> String {
        self.folder().to_str().unwrap().to_owned()
    }

    fn bytes() -> Vec<u8> {
        SHOWN.concat()
    }
}

pub(crate) async fn record() -> Recorded {
    record_with(vec![]).await
}

/// A session as agent and gateway would have stored it, with more events near its end.
pub(crate) async fn record_with(more: Vec<Event>) -> Recorded {
    let authority = Authority::Local(Local::generate().unwrap());
    let (agent, gateway) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
    let now = SystemTime::now();
    let host = HostRequest {
        subject: agent.public_key().clone(),
        workspace: "devenv-0".try_into().unwrap(),
        workspace_uid: "uid-0".try_into().unwrap(),
        names: vec!["devenv-0".to_owned()],
        valid_for: Duration::from_secs(3600),
    };
    let host = authority.sign_host(&host, now).await.unwrap();
    let link = LinkRequest {
        subject: gateway.public_key().clone(),
        valid_for: Duration::from_secs(3600),
    };
    let link = authority.sign_link(&link, now).await.unwrap().openssh().unwrap();

    let session = Uuid::now_v7();
    let unix_ms = u64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let second = 1_000_000_000;
    let opened = Opened {
        session,
        started_unix_ms: unix_ms,
        workspace: "devenv-0".into(),
        workspace_uid: "uid-0".into(),
        login: "node".into(),
        host_certificate: host.blob().to_vec().into(),
        ..Opened::default()
    };
    let mut events = vec![
        Stamped::new(0, opened),
        Stamped::new(
            1,
            ChannelOpened {
                channel: 0,
                kind: "session".into(),
            },
        ),
        Stamped::new(
            2,
            Pty {
                channel: 0,
                cols: 200,
                rows: 50,
                term: "xterm".into(),
                modes: vec![],
            },
        ),
        Stamped::new(3, Shell { channel: 0 }),
    ];
    let times = [second, 2 * second, 3 * second, 600 * second];
    for (at, bytes) in times.into_iter().zip(SHOWN) {
        events.push(Stamped::new(
            at,
            Output {
                channel: 0,
                stream: 1,
                bytes: bytes.into(),
            },
        ));
    }
    let count = Recorded::bytes().len() as u64;
    let end = 601 * second;
    events.extend(more.into_iter().map(|event| Stamped::new(end, event)));
    events.push(Stamped::new(
        end,
        Exit {
            channel: 0,
            status: Some(0),
            ..Exit::default()
        },
    ));
    events.push(Stamped::new(end, ChannelClosed { channel: 0 }));
    let coverage = Coverage {
        channels: 1,
        bytes_seen: count,
        bytes_recorded: count,
        ..Coverage::default()
    };
    events.push(Stamped::new(end, coverage));
    events.push(Stamped::new(
        end,
        Ended {
            reason: "the client left".into(),
            code: "client-left".into(),
        },
    ));

    let signer = |key: &HostKey, namespace: &'static str| {
        let key = key.private_key().clone();
        move |bytes: &[u8]| -> Result<SshSig, ssh_key::Error> { key.sign(namespace, HashAlg::Sha512, bytes) }
    };
    let mut recorder = Recorder::new(session);
    let mut stream = Vec::new();
    for part in events.chunks(4) {
        stream.extend_from_slice(&recorder.append(part));
    }
    stream.extend_from_slice(&recorder.head(unix_ms, true, signer(&agent, HEAD_NAMESPACE)).unwrap());

    let mut receipts = Vec::new();
    let mut last = None;
    ChainCheck::new(session)
        .push(&stream, &mut |seen| {
            let durable = Durable::from(&seen);
            if seen.head.is_some() {
                receipts.push(Statement::head(session, durable, unix_ms, &link));
            }
            last = Some(durable);
        })
        .unwrap();
    let closing = Closing {
        outcome: Outcome::Complete,
        reason: "the client left".into(),
        client_bytes: 0,
        agent_bytes: 0,
        reconciled: None,
    };
    receipts.push(Statement::closing(session, last.unwrap(), closing, unix_ms, &link));
    let lines: String = receipts
        .into_iter()
        .map(|statement| {
            let line = sign(statement, signer(&gateway, RECEIPT_NAMESPACE))
                .unwrap()
                .to_line()
                .unwrap();
            format!("{}\n", line.trim_end())
        })
        .collect();

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(session.to_string());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(segment_name(0)), stream).unwrap();
    std::fs::write(folder.join(RECEIPTS_NAME), lines).unwrap();
    let keys = |keys: doorward_certs::CaKeys| keys.iter().map(|key| key.to_openssh().unwrap()).collect::<Vec<_>>();
    let (host_ca, user_ca) = (authority.host_ca().await.unwrap(), authority.user_ca().await.unwrap());
    let trust = dir.path().join("trust.json");
    let text = json!({"host-ca": keys(host_ca), "user-ca": keys(user_ca)}).to_string();
    std::fs::write(&trust, text).unwrap();
    Recorded { dir, session, trust }
}

/// Runs the program with a terminal of this size and returns what the terminal was sent.
pub(crate) async fn in_terminal(folder: &Folder, args: &[&str], size: (u16, u16)) -> (i32, Vec<u8>, Duration) {
    let size = Winsize {
        ws_col: size.0,
        ws_row: size.1,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command: Command = folder.command(args);
    let side = || Stdio::from(pty.slave.try_clone().unwrap());
    let began = Instant::now();
    let mut child = command
        .stdin(side())
        .stdout(side())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop((command, pty.slave));
    let mut master = std::fs::File::from(pty.master);
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        // A master whose other end is closed says EIO on Linux.
        let _ = master.read_to_end(&mut all);
        all
    });
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    let took = began.elapsed();
    (
        status.code().unwrap(),
        timeout(LIMIT, reading).await.unwrap().unwrap(),
        took,
    )
}

pub(crate) fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_is_byte_for_byte_and_text_is_text() {
    let recorded = record().await;
    let folder = Folder::new();
    let child = folder.command(&["replay", "--raw", &recorded.arg()]).spawn().unwrap();
    let output = timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(Sha256::digest(&output.stdout), Sha256::digest(Recorded::bytes()));
    let ran = folder.run(&["replay", &recorded.arg()]).await.expect(0);
    assert_eq!(ran.out, "$ ls\nfile-é\nnot utf-8: \u{fffd}\u{fffd}6n\nbye\n");
    folder
        .run(&["replay", &recorded.arg(), "--channel", "5"])
        .await
        .expect(1);
    folder
        .run(&["replay", recorded.dir.path().to_str().unwrap()])
        .await
        .expect(1);
    let ran = folder.run(&["replay", "nowhere"]).await.expect(1);
    assert!(ran.err.contains("neither a session nor"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_drawn_in_and_not_acted_upon() {
    let recorded = record().await;
    let folder = Folder::new();
    let args = ["replay", &recorded.arg(), "--max-pause", "300ms", "--speed", "2"];
    let (code, shown, took) = in_terminal(&folder, &args, (220, 60)).await;
    assert_eq!(code, 0);
    assert!(contains(&shown, b"\x1b[1m$ \x1b[0mls\r\n") && contains(&shown, "file-é\r\n".as_bytes()));
    for part in [&b"\x1b]"[..], b"\x1b[6n", b"\xff", b"\x07", b"\r\r\n"] {
        assert!(
            !contains(&shown, part),
            "{part:?} in {}",
            String::from_utf8_lossy(&shown)
        );
    }
    // four pauses, cut to 300 ms and halved, and one before the end
    assert!(
        took >= Duration::from_millis(600) && took < Duration::from_secs(15),
        "{took:?}"
    );

    let args = ["replay", &recorded.arg(), "--raw", "--max-pause", "0"];
    let (code, shown, _) = in_terminal(&folder, &args, (220, 60)).await;
    assert_eq!(code, 0);
    assert!(contains(&shown, &Recorded::bytes()), "raw is raw");

    // from beyond the end nothing is waited for
    let args = ["replay", &recorded.arg(), "--at", "20m", "--max-pause", "1h"];
    let (code, shown, _) = in_terminal(&folder, &args, (80, 24)).await;
    assert_eq!(code, 0);
    assert!(
        contains(&shown, b"bye\r\n") && contains(&shown, b"\x1b[?1049l"),
        "and the terminal is put back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_is_offline_and_names_the_place() {
    let recorded = record().await;
    let folder = Folder::new();
    let trust = recorded.trust.to_str().unwrap();
    let verify = async |what: &str| folder.run(&["verify", "--trust", trust, what]).await;
    let ran = verify(&recorded.arg()).await.expect(0);
    assert!(ran.out.contains("ok: whole, unaltered and signed"), "{}", ran.out);
    // nobody else's keys will do, and without any there is nothing to trust
    folder.run(&["verify", &recorded.arg()]).await.expect(78);
    let other = record().await;
    let ran = folder
        .run(&["verify", "--trust", other.trust.to_str().unwrap(), &recorded.arg()])
        .await
        .expect(14);
    assert!(ran.out.contains("untrusted-key"), "{}", ran.out);

    let segment = recorded.folder().join(segment_name(0));
    let good = std::fs::read(&segment).unwrap();
    let mut altered = good.clone();
    altered[good.len() / 2] ^= 1;
    for (bytes, class) in [(altered, "altered"), (good[..good.len() - 1].to_vec(), "truncated")] {
        std::fs::write(&segment, bytes).unwrap();
        let ran = verify(&recorded.arg()).await.expect(10);
        assert!(
            ran.out.contains("NOT OK") && ran.out.contains(" at segment 0, block "),
            "{class}: {}",
            ran.out
        );
        let ran = folder
            .run(&["verify", "--json", "--trust", trust, &recorded.arg(), &other.arg()])
            .await
            .expect(10);
        let reports: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (&reports[0]["ok"], &reports[0]["verdict"]),
            (&json!(false), &json!("bad"))
        );
        assert!(reports[0]["findings"][0]["offset"].is_u64(), "{reports}");
        assert!(ran.err.contains("2 of 2"), "{}", ran.err);
    }
    std::fs::remove_file(&segment).unwrap();
    let ran = verify(&recorded.arg()).await.expect(13);
    assert!(ran.out.contains("missing-segment"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_made_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let recorded = record().await;
    let folder = Folder::new();
    let cast = folder.home().join("out.cast");
    let args = [
        "export",
        &recorded.arg(),
        "--format",
        "asciicast-v2",
        "-o",
        cast.to_str().unwrap(),
    ];
    folder.run(&args).await.expect(0);
    let text = std::fs::read_to_string(&cast).unwrap();
    let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&header["version"], &header["width"]), (&json!(2), &json!(200)));
    assert_eq!(std::fs::metadata(&cast).unwrap().permissions().mode() & 0o777, 0o600);
    folder.run(&args).await.expect(78);
    let ran = folder
        .run(&["export", &recorded.arg(), "--format", "asciicast-v3"])
        .await
        .expect(0);
    assert!(ran.out.starts_with("{\"version\":3"), "{}", ran.out);
    // a reader that leaves is no failure
    let mut child = folder
        .command(&["export", &recorded.arg(), "--format", "raw"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

/// Has the gateway give out a recording; returns what it says of the session.
pub(crate) fn store(gateway: &Gateway, recorded: &Recorded) -> Value {
    let base = format!("/v1/sessions/{}", recorded.session);
    let names = [segment_name(0), RECEIPTS_NAME.to_owned()];
    let mut files = vec![json!({"name": "../../evil", "size": 1})];
    for name in names {
        let bytes = std::fs::read(recorded.folder().join(&name)).unwrap();
        files.push(json!({"name": name, "size": bytes.len()}));
        let path = format!("{base}/files/{name}");
        gateway.on(&path, move |_| {
            Reply::Body(200, "application/octet-stream", bytes.clone())
        });
    }
    let index = json!({
        "session": recorded.session, "user": "bob", "workspace": "devenv-0", "workspace-uid": "uid-0",
        "login": "node", "started": "2026-11-21T09:30:00.000Z", "record-bytes": 1, "files": files,
    });
    gateway.json(&base, index.clone());
    index
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_fetched_and_nothing_of_it_stays() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let recorded = record().await;
    store(&gateway, &recorded);
    let id = recorded.session.to_string();
    let temp = folder.home().join("temp");
    std::fs::create_dir(&temp).unwrap();
    let run = async |args: &[&str]| finish(folder.command(args).env("TMPDIR", &temp).spawn().unwrap()).await;
    let left = |temp: &Path| std::fs::read_dir(temp).unwrap().count();

    let ran = run(&["verify", &id, "--trust", recorded.trust.to_str().unwrap()])
        .await
        .expect(0);
    assert!(ran.out.contains("ok: whole"), "{ran:?}");
    assert_eq!(left(&temp), 0);
    let ran = run(&["replay", &id]).await.expect(0);
    assert!(ran.out.contains("file-é"), "{ran:?}");
    assert_eq!(left(&temp), 0);
    assert!(!gateway.server.asked().iter().any(|asked| asked.target.contains("evil")));

    // a file that never comes whole, and Ctrl-C
    let path = format!("/v1/sessions/{id}/files/{RECEIPTS_NAME}");
    gateway.on(&path, |_| {
        Reply::Take(Box::new(|mut pipe| {
            Box::pin(async move {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart";
                tokio::io::AsyncWriteExt::write_all(&mut pipe, head).await.unwrap();
                std::future::pending().await
            })
        }))
    });
    let mut child = folder.command(&["replay", &id]).env("TMPDIR", &temp).spawn().unwrap();
    let before = gateway.server.count(&path);
    let asked = async {
        while gateway.server.count(&path) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, asked).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(130));
    assert_eq!(left(&temp), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_did_is_shown_and_its_names_do_nothing() {
    let evil = "\u{1b}[2J\n\u{202e}\"";
    let path = bytes::Bytes::from_static(b"/tmp/\x1b[2J\n\xff\"");
    let hash = FileBytes {
        bytes: 5,
        from: 0,
        sha256: Some([0xab; 32]),
    };
    let more: Vec<Event> = vec![
        Env {
            channel: 0,
            name: evil.into(),
            value: path.clone(),
            accepted: false,
        }
        .into(),
        FileOperation {
            channel: 0,
            operation: evil.into(),
            path: path.clone(),
            target: path.clone(),
            detail: evil.into(),
            status: 3,
        }
        .into(),
        FileClosed {
            channel: 0,
            path,
            read: Some(FileBytes {
                sha256: None,
                ..hash.clone()
            }),
            written: Some(hash),
        }
        .into(),
        ForwardConnected {
            channel: 0,
            listener: Some(3),
            asked: evil.into(),
            address: evil.into(),
        }
        .into(),
        Refused {
            channel: None,
            what: evil.into(),
            why: evil.into(),
        }
        .into(),
        Gap {
            channel: Some(0),
            bytes: 9,
            why: evil.into(),
            from: Some(3_000_000_000),
            milliseconds: Some(1_500),
        }
        .into(),
        Paused {
            channel: Some(0),
            unacknowledged: 4096,
            milliseconds: 2_050,
            pauses: None,
        }
        .into(),
    ];
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let recorded = record_with(more).await;
    store(&gateway, &recorded);
    let id = recorded.session.to_string();
    std::fs::copy(&recorded.trust, folder.path().join("trust.json")).unwrap();
    let ran = folder.run(&["sessions", "show", &id]).await.expect(0);
    let shown = &ran.out;
    assert!(
        shown.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')),
        "{shown:?}"
    );
    let hex = "ab".repeat(32);
    for text in [
        "shell     started\n",
        "exit      0, after 600.",
        "terminal  200x50",
        "\"/tmp/\\x1b[2J\\n\\xff\\\"\": read 5 B, not sequential; written 5 B, SHA-256 ",
        &hex,
        ": permission denied\n",
        "through listener 3\n",
        "refused   \"\\x1b[2J",
        "missing   9 B from 3.000s within 1.500s: \\x1b[2J",
        "paused    for 2.050s: 4.1 kB of the record waited to be stored\n",
    ] {
        assert!(shown.contains(text), "{text:?} is not in {shown}");
    }
    let ran = folder.run(&["sessions", "show", &id, "--json"]).await.expect(0);
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    let acts = &all["channels"][0]["acts"];
    assert_eq!(acts[2]["act"], "file-closed");
    assert_eq!(acts[2]["written"]["sha256"], hex);
    assert_eq!(
        (&acts[2]["read"]["sequential"], &acts[2]["path"]),
        (&json!(false), &json!("/tmp/\u{1b}[2J\n\u{fffd}\""))
    );
    assert_eq!(acts[2]["path-hex"], "2f746d702f1b5b324a0aff22");
    assert_eq!(
        (&acts[1]["result"], &acts[1]["status"]),
        (&json!("permission denied"), &json!(3))
    );
    assert_eq!(
        (&acts[3]["from-ms"], &acts[3]["milliseconds"]),
        (&json!(3000), &json!(1500))
    );
    assert_eq!(
        (&acts[4]["act"], &acts[4]["unacknowledged"]),
        (&json!("paused"), &json!(4096))
    );
    assert_eq!(all["channels"][0]["forward"]["listener"], 3);
    assert_eq!(
        (&all["verification"]["verdict"], &all["end"]["code"]),
        (&json!("complete"), &json!("client-left"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_recording_is_not_whole_is_shown_as_far_as_it_goes() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let folder = gateway.logged_in(&issuer, 300);
    let recorded = record().await;
    std::fs::copy(&recorded.trust, folder.path().join("trust.json")).unwrap();
    let id = recorded.session.to_string();
    store(&gateway, &recorded);
    let ran = folder.run(&["sessions", "show", &id]).await.expect(0);
    assert!(ran.out.contains("ok: whole, unaltered and signed"), "{}", ran.out);
    let segment = recorded.folder().join(segment_name(0));
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    store(&gateway, &recorded);
    let ran = folder.run(&["sessions", "show", &id]).await.expect(10);
    for text in ["shell     started\n", "NOT OK", " at segment 0, block "] {
        assert!(ran.out.contains(text), "{text:?} is not in {}", ran.out);
    }
    assert!(ran.err.contains("not whole"), "{}", ran.err);
}
