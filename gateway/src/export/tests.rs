//! Sinks that fail, gateways that start again, journals with holes: every event at least once, in order.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use doorward_audit::{Denied, Exec, FileBytes, FileClosed, SessionEnded, SessionOpened, segment_name};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::config::{Export, SinkKind};
use crate::journal::Journal;
use crate::record::Closing;
use crate::record::fixture::{Author, Rig, start};
use crate::testing::eventually;

fn denied(name: &str) -> Denied {
    Denied {
        workspace: name.into(),
        code: "denied".into(),
        ..Denied::default()
    }
}

fn to_file(path: &Path, batch: usize) -> Export {
    Export {
        name: "test".into(),
        sink: SinkKind::File(path.to_owned()),
        language: Language::Lines,
        batch,
    }
}

fn to_server(url: url::Url, token: &Path, batch: usize) -> Export {
    Export {
        name: "siem".into(),
        sink: SinkKind::Http {
            url,
            ca: None,
            token_file: Some(token.to_owned()),
        },
        language: Language::Lines,
        batch,
    }
}

/// Exports until dropped or stopped.
struct Running {
    tasks: Tasks,
    exports: Exports,
}

impl Running {
    fn start(rig: &Rig, export: Export) -> Self {
        let tasks = Tasks::default();
        let exports = Exports::start(&[export], rig.dir.path(), &rig.journal, &rig.store, &tasks).unwrap();
        Self { tasks, exports }
    }

    async fn stop(self) {
        let long = Duration::from_secs(20);
        self.tasks.drain(long, long, &CancellationToken::new()).await;
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The workspaces of the denials, in order.
fn denials(lines: &[Value]) -> Vec<&str> {
    let denials = lines.iter().filter(|line| line["act"] == "denied");
    denials.filter_map(|line| line["workspace"].as_str()).collect()
}

async fn restart_journal(rig: &mut Rig) {
    rig.journal.close().await;
    rig.journal = Journal::open(rig.dir.path(), Arc::clone(&rig.credential))
        .await
        .unwrap();
}

fn opened(session: Uuid) -> SessionOpened {
    SessionOpened {
        session,
        user: "bob".into(),
        workspace: "devenv-0".into(),
        ..SessionOpened::default()
    }
}

fn ended(session: Uuid) -> SessionEnded {
    SessionEnded {
        session,
        code: "client-left".into(),
        ..SessionEnded::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_where_it_was_over_restarts() {
    let mut rig = Rig::new().await;
    let path = rig.dir.path().join("events.jsonl");
    for n in 0..7 {
        rig.journal.append(denied(&n.to_string()));
    }
    let running = Running::start(&rig, to_file(&path, 3));
    eventually(|| denials(&lines(&path)).len() == 7).await;
    running.stop().await;
    // What happens while nobody exports, the end of one stream and the begin of the next included.
    rig.journal.append(denied("7"));
    restart_journal(&mut rig).await;
    rig.journal.append(denied("8"));
    let running = Running::start(&rig, to_file(&path, 3));
    rig.journal.append(denied("9"));
    eventually(|| denials(&lines(&path)).len() == 10).await;
    let all = lines(&path);
    assert_eq!(denials(&all), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let acts: Vec<&str> = all.iter().filter_map(|line| line["act"].as_str()).collect();
    assert_eq!(acts.iter().filter(|act| **act == "gateway-started").count(), 2);
    assert_eq!(acts.iter().filter(|act| **act == "gateway-stopped").count(), 1);
    let mut ids: Vec<&str> = all.iter().filter_map(|line| line["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "an orderly stop repeats nothing");
    assert_eq!(running.exports.states(), [("test", Ok(()))]);
    // Nothing is lacking any more.
    eventually(|| running.exports.0[0].oldest.load(Ordering::Relaxed) == 0).await;
    let state = &running.exports.0[0];
    let lacks = state.earlier.load(Ordering::Relaxed) + state.durable.borrow().events;
    assert_eq!(lacks, state.done.load(Ordering::Relaxed));
    running.stop().await;

    // A cursor that cannot be read is as good as none.
    fs::write(rig.dir.path().join("export/test.json"), "{").unwrap();
    let again = rig.dir.path().join("again.jsonl");
    let running = Running::start(&rig, to_file(&again, 500));
    eventually(|| denials(&lines(&again)).len() == 10).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_acts_follow_once_its_recording_is_closed() {
    let mut rig = Rig::new().await;
    let path = rig.dir.path().join("events.jsonl");
    let (session, never) = (Uuid::now_v7(), Uuid::now_v7());
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    recording.expect_key(author.key.public_key().clone());
    let hash = FileBytes {
        bytes: 5,
        from: 0,
        sha256: Some([0xab; 32]),
    };
    let stream = [
        author.open(),
        author.event(Exec {
            channel: 0,
            command: b"make all"[..].into(),
        }),
        author.output(100_000),
        author.event(FileClosed {
            channel: 0,
            path: b"/srv/x"[..].into(),
            read: None,
            written: Some(hash),
        }),
        author.end(),
    ]
    .concat();
    recording.append(0, stream.into()).unwrap();
    rig.journal.append(opened(session));
    // One of which the store knows nothing.
    rig.journal.append(opened(never));
    rig.journal.append(ended(never));
    let running = Running::start(&rig, to_file(&path, 2));
    eventually(|| lines(&path).iter().any(|line| line["act"] == "not-exported")).await;
    assert!(lines(&path).iter().all(|line| line["log"] != "recording"));
    running.stop().await;

    // The gateway goes down in the middle of the session; the recording is closed all the same.
    let closing = Closing {
        reason: "done".into(),
        counted: None,
    };
    recording.finish(closing, Duration::from_secs(20)).await.unwrap();
    restart_journal(&mut rig).await;
    let running = Running::start(&rig, to_file(&path, 2));
    let recorded = |lines: &[Value]| -> Vec<Value> {
        let ours = lines.iter().filter(|line| line["log"] == "recording");
        ours.cloned().collect()
    };
    eventually(|| recorded(&lines(&path)).iter().any(|line| line["act"] == "coverage")).await;
    running.stop().await;
    let acts = recorded(&lines(&path));
    let names: Vec<&str> = acts.iter().filter_map(|line| line["act"].as_str()).collect();
    assert_eq!(names, ["opened", "command", "file-closed", "coverage"]);
    assert_eq!(acts[1]["command"], "make all");
    assert_eq!(acts[2]["written"]["sha256"], "ab".repeat(32));
    assert!(
        acts.iter()
            .all(|line| line["user"] == "bob" && line["session"] == session.to_string())
    );
}

/// Answers in turn, the last one for ever, and keeps the bodies that it took.
async fn server(answers: VecDeque<u16>) -> (url::Url, Arc<Guarded<Vec<String>>>) {
    patient_server(answers, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))).await
}

/// The same, each answer for a permit.
async fn patient_server(mut answers: VecDeque<u16>, permits: Arc<Semaphore>) -> (url::Url, Arc<Guarded<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in?key=secret", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let taken: Arc<Guarded<Vec<String>>> = Arc::default();
    let keep = Arc::clone(&taken);
    tokio_util::task::TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
            let body = loop {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
                    let head = head.to_ascii_lowercase();
                    assert!(head.contains("authorization: bearer t0ken"), "{head}");
                    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
                    (body.len() == length).then(|| body.to_owned())
                });
                if let Some(body) = whole {
                    break body;
                }
                match stream.read(&mut part).await {
                    Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
                    _ => break String::new(),
                }
            };
            let status = match answers.len() {
                1 => answers[0],
                _ => answers.pop_front().unwrap(),
            };
            if status == 200 {
                keep.with(|taken| taken.push(body));
            }
            permits.acquire().await.unwrap().forget();
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_is_asked_again_and_told_of_in_order() {
    let rig = Rig::new().await;
    let token = rig.dir.path().join("token");
    crate::testing::private(&token, "t0ken\n");
    // Down, confused, not for all of it at once, then well.
    let (url, taken) = server([503, 302, 413, 200].into()).await;
    for n in 0..9 {
        rig.journal.append(denied(&n.to_string()));
    }
    eventually(|| rig.journal.durable().borrow().events >= 10).await;
    let running = Running::start(&rig, to_server(url, &token, 100));
    eventually(|| matches!(running.exports.states()[..], [("siem", Err(_))])).await;
    let why = running.exports.states()[0].1.clone().unwrap_err();
    assert!(why.starts_with("http://127.0.0.1:") && !why.contains("secret"), "{why}");
    let sent = || -> Vec<Value> {
        let bodies = taken.with(|taken| taken.clone());
        let lines = bodies.iter().flat_map(|body| body.lines());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually(|| denials(&sent()).len() == 9).await;
    assert_eq!(denials(&sent()), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    assert!(taken.with(|taken| taken.len()) >= 2, "in two parts");
    eventually(|| running.exports.states() == [("siem", Ok(()))]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_stop_is_not_sent_again() {
    let rig = Rig::new().await;
    let token = rig.dir.path().join("token");
    crate::testing::private(&token, "t0ken");
    let permits = Arc::new(Semaphore::new(0));
    let (url, taken) = patient_server([200].into(), Arc::clone(&permits)).await;
    let export = to_server(url, &token, 100);
    let running = Running::start(&rig, export.clone());
    eventually(|| taken.with(|taken| !taken.is_empty())).await;
    // Stop comes before the answer.
    tokio::join!(running.stop(), async { permits.add_permits(1_000) });
    rig.journal.append(denied("after"));
    let running = Running::start(&rig, export);
    eventually(|| taken.with(|taken| taken.iter().any(|body| body.contains("after")))).await;
    running.stop().await;
    let started = taken.with(|taken| taken.iter().filter(|body| body.contains("gateway-started")).count());
    assert_eq!(started, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_is_said_to_be_missing() {
    let rig = Rig::new().await;
    let token = rig.dir.path().join("token");
    crate::testing::private(&token, "t0ken");
    let (url, taken) = server([413, 200].into()).await;
    let running = Running::start(&rig, to_server(url, &token, 1));
    eventually(|| taken.with(|taken| taken.iter().any(|body| body.contains("not-exported")))).await;
    running.stop().await;
}

async fn read_all(reader: &mut JournalReader, upto: Durable) -> Vec<(Uuid, Item)> {
    let mut all = Vec::new();
    loop {
        let items = reader.next(2, upto).await.unwrap();
        if items.is_empty() && !reader.has_more() {
            return all;
        }
        all.extend(items);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_lost_is_said_and_what_is_not_durable_waits() {
    let mut rig = Rig::new().await;
    let first = rig.journal.durable().borrow().stream;
    rig.journal.append(denied("a"));
    restart_journal(&mut rig).await;
    let second = rig.journal.durable().borrow().stream;
    rig.journal.append(denied("b"));
    restart_journal(&mut rig).await;
    let folder = rig.dir.path().join("journal");
    let now = *rig.journal.durable().borrow();
    let name = |item: &Item| match item {
        Item::Event { event, .. } => act_of(event),
        Item::Missing { why, .. } => why.clone(),
    };
    let mut reader = JournalReader::new(folder.clone(), None, 0);
    let all: Vec<String> = read_all(&mut reader, now)
        .await
        .iter()
        .map(|(_, item)| name(item))
        .collect();
    let whole = ["gateway-started", "denied", "gateway-stopped"];
    assert_eq!(all, [&whole[..], &whole[..], &whole[..1]].concat());
    assert_eq!(reader.position().0, Some(now.stream));

    // A block that is on the disk and may not be there after a crash.
    let upto = Durable { blocks: 1, ..now };
    let mut reader = JournalReader::new(folder.clone(), Some(now.stream), 0);
    assert_eq!(read_all(&mut reader, upto).await.len(), 0);
    assert_eq!(read_all(&mut reader, now).await.len(), 1);

    // A byte of the second stream, and the first stream as a whole.
    let segment = folder.join(second.to_string()).join(segment_name(0));
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    fs::remove_dir_all(folder.join(first.to_string())).unwrap();
    let mut reader = JournalReader::new(folder, Some(first), 1);
    let all = read_all(&mut reader, now).await;
    assert!(
        matches!(&all[0], (stream, Item::Missing { from: 1, why }) if *stream == first && why.contains("any more")),
        "{all:?}"
    );
    assert!(
        all.iter()
            .any(|(stream, item)| *stream == second && name(item).contains("damaged")),
        "{all:?}"
    );
    assert_eq!(
        all.last().map(|(stream, item)| (*stream, name(item))),
        Some((now.stream, whole[0].to_owned()))
    );
}

fn act_of(event: &Event) -> String {
    doorward_audit::export::act(event).name.to_owned()
}
