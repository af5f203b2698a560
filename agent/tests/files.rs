//! Files on a real agent, packet by packet: what is answered, what the recording says of it, and what hostile packets do.

mod rig;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorward_audit::{Event, FileClosed};
use doorward_certs::{Login, Sftp, Terms};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use rig::client::{leave, logged_in};
use rig::files::{Fields, Files, packet};
use rig::{Rig, everything, ssh};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

const READ: u32 = 1;
const NEW: u32 = 2 | 8 | 0x10;

fn files(sftp: Sftp) -> Terms {
    let mut terms = everything();
    terms.capabilities.sftp = sftp;
    terms
}

fn events(rig: &Rig, session: Uuid) -> Vec<Event> {
    rig.recorded(session).into_iter().map(|stamped| stamped.event).collect()
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn closed(events: &[Event]) -> &FileClosed {
    let closed = events.iter().find_map(|event| match event {
        Event::FileClosed(closed) => Some(closed),
        _ => None,
    });
    closed.unwrap_or_else(|| panic!("no file was closed: {events:?}"))
}

fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// The process of this test's agent that serves files in this home. Its arguments are all that an ordinary user may see.
fn server_in(home: &Path) -> Option<Pid> {
    let me = std::process::id().to_string();
    let serves = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        parent == Some(me.as_str())
            && words.next() == Some(b"doorward-agent-sftp")
            && words.any(|word| word == bytes_of(home))
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(serves);
    pid.map(Pid::from_raw)
}

#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn rig_at_home() -> (Rig, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(&format!("home = '{}'", home.path().display()), "").await;
    (rig, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_recorded_with_its_hash_before_its_answers() {
    let (rig, home) = rig_at_home().await;
    let (session, stream) = rig.open(files(Sftp::ReadWrite)).await;
    let client = logged_in(stream).await;
    let mut sftp = Files::open(&client).await;
    let handle = sftp.open_file("new", NEW).await.string().to_vec();
    // The record of the answer is there when the answer is.
    let told = events(&rig, session).into_iter().any(|event| {
        matches!(event, Event::FileOperation(event) if event.operation == "open" && event.path == "new"
            && event.status == 0 && event.detail == "write create truncate")
    });
    assert!(told, "{:?}", events(&rig, session));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 249) as u8).collect();
    for (number, block) in bytes.chunks(100_000).enumerate() {
        let offset = number as u64 * 100_000;
        let fields = Fields::default().string(&handle).long(offset).string(block);
        sftp.send(&packet(6, u32::try_from(number).unwrap(), fields)).await;
    }
    for number in 0..30 {
        let answer = sftp.answer().await;
        assert_eq!((answer.id, answer.code()), (number, 0));
    }
    assert_eq!(sftp.ask(4, Fields::default().string(&handle)).await.code(), 0);
    let told = events(&rig, session);
    let written = closed(&told).written.clone().unwrap();
    assert_eq!((written.bytes, written.from), (3_000_000, 0));
    assert_eq!(written.sha256, Some(Sha256::digest(&bytes).into()));
    assert_eq!(std::fs::read(home.path().join("new")).unwrap(), bytes);
    leave(client).await;
    rig.ended(session).await;
    let all = events(&rig, session);
    assert!(
        all.iter()
            .any(|event| matches!(event, Event::Subsystem(subsystem) if subsystem.name == "sftp"))
    );
    let Some(Event::Coverage(coverage)) = all.last() else {
        panic!("no coverage")
    };
    assert!(coverage.bytes_seen > 3_000_000 && coverage.bytes_seen == coverage.bytes_digested);
    assert!(!all.iter().any(|event| matches!(event, Event::Gap(_))));
}

/// Nobody waits for an answer: the results are those of one request after the other all the same.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_waited_for_keep_their_order() {
    let (rig, home) = rig_at_home().await;
    let (_, stream) = rig.open(files(Sftp::ReadWrite)).await;
    let client = logged_in(stream).await;
    let mut sftp = Files::open(&client).await;
    for round in 0u32..30 {
        let handle = sftp.open_file("a", NEW).await.string().to_vec();
        let mut all = Vec::new();
        for at in 0..20 {
            let fields = Fields::default().string(&handle).long(at * 1000).string(vec![7; 1000]);
            all.extend(packet(6, 1, fields));
        }
        all.extend(packet(17, 2, Fields::default().string("a")));
        all.extend(packet(4, 3, Fields::default().string(&handle)));
        all.extend(packet(18, 4, Fields::default().string("a").string("b")));
        all.extend(packet(7, 5, Fields::default().string("a")));
        all.extend(packet(7, 6, Fields::default().string("b")));
        all.extend(packet(13, 7, Fields::default().string("b")));
        all.extend(packet(14, 8, Fields::default().string("b").int(0)));
        all.extend(packet(15, 9, Fields::default().string("b")));
        sftp.send(&all).await;
        for _ in 0..28 {
            let answer = sftp.answer().await;
            match answer.id {
                2 => assert_eq!(answer.body[4..12], 20_000u64.to_be_bytes(), "round {round}"),
                6 => assert_eq!(answer.kind, 105),
                5 => assert_eq!(answer.code(), 2),
                _ => assert_eq!(answer.code(), 0, "{answer:?}"),
            }
        }
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

/// A storm of requests on three names and three handles: asked one by one, and all at once. Whatever is answered beside
/// what, the answers are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_requests_is_answered_as_if_one_by_one() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_u64);
    println!("SEED={seed}");
    let mut told = Vec::new();
    for at_once in [false, true] {
        let (rig, home) = rig_at_home().await;
        let (_, stream) = rig.open(files(Sftp::ReadWrite)).await;
        let client = logged_in(stream).await;
        let mut sftp = Files::open(&client).await;
        for name in ["a", "b", "c"] {
            std::fs::write(home.path().join(name), name.repeat(5_000)).unwrap();
            assert_eq!(sftp.open_file(name, READ | 2).await.kind, 102);
        }
        let requests = storm(seed);
        let mut answers = std::collections::BTreeMap::new();
        let mut note = |answer: rig::files::Answer| {
            let mut body = answer.body;
            // Times differ between two runs.
            if answer.kind == 105 {
                body.truncate(body.len() - 8);
            }
            answers.insert(answer.id, (answer.kind, body));
        };
        if at_once {
            for some in requests.chunks(50) {
                sftp.send(&some.concat()).await;
                for _ in some {
                    note(sftp.answer().await);
                }
            }
        } else {
            for request in &requests {
                sftp.send(request).await;
                note(sftp.answer().await);
            }
        }
        assert_eq!(answers.len(), requests.len());
        told.push(answers);
    }
    for (id, one_by_one) in &told[0] {
        assert_eq!(Some(one_by_one), told[1].get(id), "request {id}");
    }
}

fn storm(seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut requests = Vec::new();
    for id in 0..1_500 {
        let small = |number: u64| u32::try_from(number).unwrap_or_default();
        let handle = small(random(3) + 1).to_be_bytes();
        let name = |number: u64| {
            ["a", "b", "c"]
                .get(usize::try_from(number).unwrap_or_default())
                .copied()
                .unwrap_or("a")
        };
        let (one, other) = (name(random(3)), name(random(3)));
        let (offset, length) = (random(20_000), random(6_000));
        let fields = Fields::default();
        requests.push(match random(16) {
            0..4 => {
                let bytes =
                    vec![u8::try_from(id % 251).unwrap_or_default(); usize::try_from(length).unwrap_or_default()];
                packet(6, id, fields.string(handle).long(offset).string(bytes))
            }
            4..8 => packet(5, id, fields.string(handle).long(offset).int(small(length))),
            8 => packet(8, id, fields.string(handle)),
            9 | 10 => packet(17, id, fields.string(one)),
            11 => packet(10, id, fields.string(handle).int(1).long(offset)),
            12 => packet(18, id, fields.string(one).string(other)),
            13 => packet(
                200,
                id,
                fields.string("posix-rename@openssh.com").string(one).string(other),
            ),
            14 => packet(9, id, fields.string(one).int(1).long(offset)),
            _ => {
                let fields = fields.string("copy-data").string(handle).long(offset).long(length);
                packet(200, id, fields.string([0, 0, 0, 1]).long(0))
            }
        });
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_packet_ends_the_channel_with_a_reason_and_nothing_else() {
    let (rig, _home) = rig_at_home().await;
    let (session, stream) = rig.open(files(Sftp::ReadWrite)).await;
    let client = logged_in(stream).await;
    let mut neighbour = Files::open(&client).await;
    for (what, bytes) in [
        ("a length of 2^32 - 1", vec![0xff, 0xff, 0xff, 0xff, 3]),
        ("a length of 256 KiB and one", vec![0, 4, 0, 1, 3]),
        ("no length at all", vec![0, 0, 0, 0]),
        ("no id", vec![0, 0, 0, 2, 3, 0]),
    ] {
        let mut sftp = Files::open(&client).await;
        sftp.send(&bytes).await;
        assert!(sftp.next().await.is_none(), "{what}");
        assert_eq!(sftp.status, Some(11), "{what}");
        assert!(
            String::from_utf8_lossy(&sftp.errors).contains("sftp session ends"),
            "{what}"
        );
    }
    let mut sftp = Files::silent(&client).await;
    sftp.send(&packet(17, 1, Fields::default().string("/"))).await;
    assert!(sftp.next().await.is_none());
    let mut sftp = Files::open(&client).await;
    sftp.send(&[0, 0, 1, 0, 17]).await;
    sftp.channel.eof().await.unwrap();
    assert!(sftp.next().await.is_none());
    assert_eq!(sftp.status, Some(11));
    let refused = events(&rig, session)
        .iter()
        .filter(|event| matches!(event, Event::Refused(refused) if refused.what == "sftp packet"))
        .count();
    assert_eq!(refused, 6);
    // Malformed behind its id, and nothing worse.
    assert_eq!(neighbour.ask(17, Fields::default().int(0xffff_ffff)).await.code(), 5);
    assert_eq!(neighbour.ask(222, Fields::default()).await.code(), 8);
    assert_eq!(neighbour.ask(17, Fields::default().string("/")).await.kind, 105);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_handles_than_there_are_is_a_status() {
    let (rig, home) = rig_at_home().await;
    std::fs::write(home.path().join("x"), "x").unwrap();
    let (session, stream) = rig.open(files(Sftp::ReadWrite)).await;
    let client = logged_in(stream).await;
    let mut sftp = Files::open(&client).await;
    let mut open = Vec::new();
    let refused = loop {
        let answer = sftp.open_file("x", READ).await;
        match answer.kind {
            102 => open.push(answer.string().to_vec()),
            _ => break answer,
        }
        assert!(open.len() <= 1024);
    };
    assert_eq!(refused.code(), 4);
    assert!(String::from_utf8_lossy(&refused.body).contains("Too many open files"));
    assert!(open.len() >= 128, "{}", open.len());
    assert_eq!(sftp.ask(4, Fields::default().string(&open[0])).await.code(), 0);
    assert_eq!(sftp.open_file("x", READ).await.kind, 102);
    // Everything that is open is in the record when the client just leaves.
    leave(client).await;
    rig.ended(session).await;
    let told = events(&rig, session);
    let closed = told
        .iter()
        .filter(|event| matches!(event, Event::FileClosed(_)))
        .count();
    assert_eq!(closed, open.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_reading_reads_and_refuses_the_rest_in_the_record() {
    let (rig, home) = rig_at_home().await;
    std::fs::write(home.path().join("x"), "as it was").unwrap();
    let (session, stream) = rig.open(files(Sftp::ReadOnly)).await;
    let client = logged_in(stream).await;
    let mut sftp = Files::open(&client).await;
    for flags in [NEW, READ | 8, READ | 0x10, READ | 4] {
        assert_eq!(sftp.open_file("x", flags).await.code(), 3, "{flags:#x}");
    }
    assert_eq!(sftp.ask(14, Fields::default().string("d").int(0)).await.code(), 3);
    assert_eq!(sftp.ask(13, Fields::default().string("x")).await.code(), 3);
    let handle = sftp.open_file("x", READ).await.string().to_vec();
    let data = sftp.ask(5, Fields::default().string(&handle).long(0).int(100)).await;
    assert_eq!(data.string(), b"as it was");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    let told = events(&rig, session);
    let refused = told.iter().filter(|event| {
        matches!(event, Event::Refused(refused) if refused.what.starts_with("sftp ") && refused.why.contains("reading"))
    });
    assert_eq!(refused.count(), 6);
    let (_, stream) = rig.open(files(Sftp::None)).await;
    let client = logged_in(stream).await;
    let channel = client.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    let mut channel = channel;
    let heard = rig::client::until(&mut channel, |heard| !heard.order.is_empty()).await;
    assert_eq!(heard.order, ["failure"]);
}

/// Whoever ends the server from below leaves a gap in the record, not silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_a_gap() {
    let (rig, home) = rig_at_home().await;
    let (session, stream) = rig.open(files(Sftp::ReadWrite)).await;
    let client = logged_in(stream).await;
    let mut sftp = Files::open(&client).await;
    let handle = sftp.open_file("x", NEW).await.string().to_vec();
    let fields = Fields::default().string(&handle).long(0).string(vec![1; 50_000]);
    assert_eq!(sftp.ask(6, fields).await.code(), 0);
    let server = server_in(home.path()).expect("no server works in its home");
    kill(server, Signal::SIGKILL).unwrap();
    assert!(sftp.next().await.is_none());
    let told = events(&rig, session);
    let gap = told.iter().find_map(|event| match event {
        Event::Gap(gap) => Some(gap.bytes),
        _ => None,
    });
    assert!(gap.is_some_and(|bytes| bytes > 50_000), "{told:?}");
}

/// A client that asks for everything and reads nothing: its requests stop, and nothing grows.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_stops_itself() {
    let (rig, home) = rig_at_home().await;
    let rig = Arc::new(rig);
    std::fs::write(home.path().join("large"), vec![9; 255 * 1024]).unwrap();
    let address = rig.listen(files(Sftp::ReadWrite)).await;
    let mut ssh = ssh(rig.folder.path(), address, &["-s"], "sftp");
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    let mut requests = vec![0, 0, 0, 5, 1, 0, 0, 0, 3];
    requests.extend(packet(3, 0, Fields::default().string("large").int(READ).int(0)));
    // The first handle is 1.
    let read = packet(5, 7, Fields::default().string([0, 0, 0, 1]).long(0).int(1 << 20));
    let count = 300_000;
    let sent = Arc::new(AtomicU64::new(0));
    let sending = {
        let sent = Arc::clone(&sent);
        rig.tasks.spawn(async move {
            to.write_all(&requests).await.unwrap();
            for _ in 0..count / 100 {
                // The pipe breaks when the test is over.
                if to.write_all(&read.repeat(100)).await.is_err() {
                    return;
                }
                sent.fetch_add(100, Ordering::Relaxed);
            }
        })
    };
    // It has stopped when nothing was taken for a while.
    let (mut last, mut still) = (0, 0);
    let stopped = async {
        while still < 20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = sent.load(Ordering::Relaxed);
            still = if now == last && now > 0 { still + 1 } else { 0 };
            last = now;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stopped)
        .await
        .expect("it does not stop");
    assert!(last < count, "{last} requests were taken without one answer being read");
    let server = server_in(home.path()).expect("no server works in its home");
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 32 * 1024, "the server took {kib} KiB");
    // It goes on once somebody reads.
    let mut got = vec![0; 8 << 20];
    tokio::time::timeout(Duration::from_secs(60), from.read_exact(&mut got))
        .await
        .unwrap()
        .unwrap();
    sending.abort();
}

/// As root the server is the account before it touches a file, and nobody but root looks into it.
#[tokio::test(flavor = "multi_thread")]
async fn root_serves_files_with_the_rights_of_the_login() {
    if !Uid::effective().is_root() {
        return;
    }
    let (rig, home) = rig_at_home().await;
    let user = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    nix::unistd::chown(home.path(), Some(user.uid), Some(user.gid)).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    let mut terms = files(Sftp::ReadWrite);
    terms.login = Login::try_from("daemon").unwrap();
    let (_, stream) = rig.open(terms).await;
    let mut client = rig::client::connect(stream).await;
    assert!(client.authenticate_none("daemon").await.unwrap().success());
    let mut sftp = Files::open(&client).await;
    assert_eq!(sftp.open_file(bytes_of(secret.path()), READ).await.code(), 3);
    assert_eq!(sftp.open_file("/etc/new", NEW).await.code(), 3);
    assert_eq!(sftp.open_file("mine", NEW).await.kind, 102);
    let file = std::fs::metadata(home.path().join("mine")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o777),
        (user.uid.as_raw(), user.gid.as_raw(), 0o644)
    );
    let server = server_in(home.path()).expect("no server works in its home");
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let ids = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap()
            .to_owned()
    };
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!(ids("Uid:"), [uid.as_str(); 4].join("\t"));
    assert_eq!(ids("Gid:"), [gid.as_str(); 4].join("\t"));
    assert!(
        !ids("Groups:").split(' ').any(|group| group == "0"),
        "{}",
        ids("Groups:")
    );
    assert_eq!(ids("CapEff:"), "0000000000000000");
    // What the kernel does not let the account look into belongs to root.
    let owner = std::fs::metadata(format!("/proc/{server}/environ")).unwrap().uid();
    assert_eq!(owner, 0, "the account can trace its server");
}
