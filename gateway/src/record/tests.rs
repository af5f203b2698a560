mod awaited;
mod counts;
mod deletion;
mod disk;
mod unbegun;

use std::time::Duration;

use bytes::Bytes;
use doorward_audit::{Outcome, Verdict};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::record::fixture::{Author, Rig, start};

const SOON: Duration = Duration::from_secs(20);

fn ended(reason: &str) -> Closing {
    Closing {
        reason: reason.into(),
        counted: Some(Counted {
            client_bytes: 11,
            agent_bytes: 22,
        }),
    }
}

async fn durable(recording: &Recording, offset: u64) {
    let mut progress = recording.progress();
    let reached = progress.wait_for(|now| now.durable >= offset || now.failure.is_some());
    let now = tokio::time::timeout(SOON, reached).await.unwrap().unwrap().clone();
    assert_eq!((now.failure, now.durable), (None, offset));
}

async fn failure(recording: &Recording) -> Failure {
    let mut progress = recording.progress();
    let failed = progress.wait_for(|now| now.failure.is_some());
    tokio::time::timeout(SOON, failed)
        .await
        .unwrap()
        .unwrap()
        .failure
        .clone()
        .unwrap()
}

/// Waits until `check` holds.
async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let wait = async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_stored_as_it_came_and_verifies() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    assert_eq!(rig.store.session(session).await.unwrap().ended, None);
    let mut author = Author::new(session);
    recording.expect_key(author.key.public_key().clone());
    let whole = author.whole();
    recording.append(0, whole.clone().into()).unwrap();
    durable(&recording, whole.len() as u64).await;
    let index = recording.finish(ended("done"), SOON).await.unwrap();
    assert_eq!(index.outcome, Some(Outcome::Complete));
    assert_eq!(index.record_bytes, whole.len() as u64);
    assert_eq!(rig.stored(session), whole);
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    let names: Vec<_> = rig
        .store
        .files(session)
        .await
        .unwrap()
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(
        names,
        [
            "receipts.jsonl",
            "segment-000000.dwr",
            "segment-000001.dwr",
            "segment-000002.dwr",
            "segment-000003.dwr",
            "session.json"
        ]
    );
    let folder = rig.folder(session);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    for name in names {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
        assert!(rig.store.file(session, &name).await.unwrap().is_some());
    }
    for name in [
        "../session.json",
        "segment-000009.dwr",
        "",
        "receipts.jsonl/..",
        "/etc/passwd",
    ] {
        assert!(rig.store.file(session, name).await.unwrap().is_none(), "{name}");
    }
    assert!(rig.store.file(Uuid::now_v7(), "session.json").await.unwrap().is_none());
    assert!(rig.store.file(Uuid::nil(), "session.json").await.unwrap().is_none());
}

#[tokio::test]
async fn the_list_is_newest_first_filtered_and_bounded() {
    let rig = Rig::new().await;
    let mut sessions = Vec::new();
    for (user, workspace) in [("bob", "devenv-0"), ("alice", "devenv-1"), ("bob", "devenv-1")] {
        let session = Uuid::now_v7();
        let about = Start {
            user: user.into(),
            workspace: workspace.into(),
            ..start(session)
        };
        rig.store
            .begin(about)
            .await
            .unwrap()
            .finish(ended("done"), SOON)
            .await
            .unwrap();
        sessions.push(session);
    }
    let list = |user: Option<&str>, workspace: Option<&str>, limit| {
        let filter = Filter {
            user: user.map(Into::into),
            workspace: workspace.map(Into::into),
            limit,
        };
        rig.store
            .list(&filter)
            .into_iter()
            .map(|s| s.session)
            .collect::<Vec<_>>()
    };
    let [first, second, third] = sessions[..] else { panic!() };
    assert_eq!(list(None, None, 10), [third, second, first]);
    assert_eq!(list(None, None, 2), [third, second]);
    assert_eq!(list(Some("bob"), None, 10), [third, first]);
    assert_eq!(list(Some("bob"), Some("devenv-0"), 10), [first]);
    assert!(list(Some("mallory"), None, 10).is_empty());
}

#[tokio::test]
async fn a_session_that_never_opened_leaves_nothing() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let folder = rig.folder(session);
    rig.store.forget(recording).await;
    assert!(!folder.exists());
    assert_eq!(rig.store.session(session).await, None);
}

#[tokio::test]
async fn a_stream_with_a_gap_or_out_of_bounds_is_refused() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let whole: Bytes = author.whole().into();
    recording.append(0, whole.slice(..100)).unwrap();
    assert!(matches!(
        recording.append(101, whole.slice(101..200)),
        Err(Failure::Protocol(_))
    ));
    // What was there before comes again after a break: only the new part counts.
    recording.append(50, whole.slice(50..200)).unwrap();
    recording.append(0, whole.slice(..200)).unwrap();
    recording.append(200, whole.slice(200..)).unwrap();
    durable(&recording, whole.len() as u64).await;
    assert!(matches!(
        recording.append(whole.len() as u64, vec![0; 17 << 20].into()),
        Err(Failure::Protocol(_))
    ));
    recording.finish(ended("done"), SOON).await.unwrap();
    assert_eq!(rig.verify(session, &author.key).verdict(), Verdict::Complete);
}

#[tokio::test]
async fn what_comes_before_a_fault_of_the_chain_is_kept() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let good = [author.open(), author.output(900)].concat();
    let mut bad = author.output(900).to_vec();
    *bad.last_mut().unwrap() ^= 1;
    recording.append(0, [good.clone(), bad].concat().into()).unwrap();
    assert!(matches!(failure(&recording).await, Failure::Chain(_)));
    assert!(rig.store.ready().is_ok(), "a lying agent is no fault of the disk");
    let index = recording.finish(ended("broken"), SOON).await.unwrap();
    assert_eq!(index.outcome, Some(Outcome::Abnormal));
    assert!(index.reason.unwrap().contains("set aside"));
    assert_eq!(rig.stored(session), good);
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Abnormal, &vec![]),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_head_of_another_key_ends_the_recording() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    recording.expect_key(Author::new(session).key.public_key().clone());
    let good = author.open();
    recording
        .append(0, [good.clone(), author.head(false)].concat().into())
        .unwrap();
    assert!(matches!(failure(&recording).await, Failure::Chain(_)));
    recording.finish(ended("forged"), SOON).await.unwrap();
    assert_eq!(rig.stored(session), good);
}

#[tokio::test]
async fn a_dropped_recording_is_closed_as_abandoned() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    recording.append(0, author.open()).unwrap();
    drop(recording);
    rig.store.close().await;
    let report = rig.verify(session, &author.key);
    assert_eq!((report.verdict(), &report.findings), (Verdict::Abnormal, &vec![]));
}

/// Breaks off as a crash does: neither closing nor the last bytes' way to the disk.
async fn crash(rig: &mut Rig, recording: Recording) {
    std::mem::forget(recording);
    rig.restart_store().await;
}

#[tokio::test]
async fn a_crash_leaves_what_was_durable_and_the_agent_brings_the_rest() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let whole: Bytes = author.whole().into();
    let cut = whole.len() / 2;
    recording.append(0, whole.slice(..cut)).unwrap();
    until("a block is durable", || recording.progress().borrow().durable > 0).await;
    crash(&mut rig, recording).await;
    assert!(matches!(
        rig.store.resume(session, "uid-1").await,
        Err(ResumeError::OtherWorkspace)
    ));
    assert!(matches!(
        rig.store.resume(Uuid::now_v7(), "uid-0").await,
        Err(ResumeError::Unknown)
    ));
    let recording = rig.store.resume(session, "uid-0").await.unwrap();
    assert!(matches!(
        rig.store.resume(session, "uid-0").await,
        Err(ResumeError::Open)
    ));
    let from = usize::try_from(recording.received()).unwrap();
    assert!(from > 0 && from <= cut);
    recording.append(from as u64, whole.slice(from..)).unwrap();
    recording
        .finish(
            Closing {
                reason: "later".into(),
                counted: None,
            },
            SOON,
        )
        .await
        .unwrap();
    assert_eq!(rig.stored(session), whole);
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
    let length = whole.len() as u64;
    assert!(matches!(
        rig.store.resume(session, "uid-0").await,
        Err(ResumeError::Complete { length: stored }) if stored == length
    ));
}

#[tokio::test]
async fn the_rest_may_come_after_a_closing() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let whole: Bytes = author.whole().into();
    recording.append(0, whole.slice(..whole.len() / 2)).unwrap();
    let index = recording.finish(ended("the agent is gone"), SOON).await.unwrap();
    assert_eq!(index.outcome, Some(Outcome::Abnormal));
    rig.restart_store().await;
    let recording = rig.store.resume(session, "uid-0").await.unwrap();
    let from = usize::try_from(recording.received()).unwrap();
    recording.append(from as u64, whole.slice(from..)).unwrap();
    let index = recording
        .finish(
            Closing {
                reason: "later".into(),
                counted: None,
            },
            SOON,
        )
        .await
        .unwrap();
    assert_eq!(index.outcome, Some(Outcome::Complete));
    let receipts = std::fs::read_to_string(rig.folder(session).join("receipts.jsonl")).unwrap();
    let last = doorward_audit::receipt::parse(receipts.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last.statement().client_bytes, last.statement().agent_bytes),
        (Some(11), Some(22))
    );
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
}

#[tokio::test]
async fn torn_ends_are_set_aside_and_closed_when_the_agent_has_nothing() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let good = [author.open(), author.head(false), author.output(40)].concat();
    recording.append(0, good.clone().into()).unwrap();
    durable(&recording, good.len() as u64).await;
    crash(&mut rig, recording).await;
    let folder = rig.folder(session);
    let append = |name: &str, bytes: &[u8]| {
        use std::io::Write as _;
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.join(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    };
    append("segment-000001.dwr", &author.output(50)[..20]);
    append("receipts.jsonl", b"{\"statement\":\"");
    // An agent whose list names the session keeps it open; another workspace has no say.
    rig.store.close_unclosed("uid-0", &[session].into()).await;
    rig.store.close_unclosed("uid-1", &[].into()).await;
    assert_eq!(rig.store.session(session).await.unwrap().ended, None);
    rig.store.close_unclosed("uid-0", &[].into()).await;
    let index = rig.store.session(session).await.unwrap();
    assert_eq!(
        (index.outcome, index.reason.as_deref()),
        (Some(Outcome::Abnormal), Some("the gateway stopped"))
    );
    assert_eq!(rig.stored(session), good);
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Abnormal, &vec![]),
        "{report:?}"
    );
    let files = rig.store.files(session).await.unwrap();
    let torn: Vec<_> = files
        .iter()
        .filter(|file| file.name.starts_with("torn-"))
        .map(|file| file.size)
        .collect();
    assert_eq!(torn, [20, 14]);
}

#[tokio::test]
async fn receipts_that_a_crash_prevented_are_made_up_for() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let whole: Bytes = author.whole().into();
    recording.append(0, whole.clone()).unwrap();
    durable(&recording, whole.len() as u64).await;
    crash(&mut rig, recording).await;
    std::fs::remove_file(rig.folder(session).join("receipts.jsonl")).unwrap();
    assert!(matches!(
        rig.store.resume(session, "uid-0").await,
        Err(ResumeError::Complete { .. })
    ));
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Complete, &vec![]),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_crash_between_the_closing_and_the_index_says_nothing_twice() {
    let mut rig = Rig::new().await;
    for complete in [true, false] {
        let session = Uuid::now_v7();
        let recording = rig.store.begin(start(session)).await.unwrap();
        let mut author = Author::new(session);
        let mut bytes = author.open().to_vec();
        if complete {
            bytes.extend_from_slice(&author.end());
        }
        recording.append(0, bytes.into()).unwrap();
        let path = rig.folder(session).join("session.json");
        let before = std::fs::read(&path).unwrap();
        let closing = Closing {
            reason: "the gateway stopped".into(),
            counted: None,
        };
        let index = recording.finish(closing, SOON).await.unwrap();
        std::fs::write(&path, before).unwrap();
        rig.restart_store().await;
        rig.store.close_unclosed("uid-0", &[].into()).await;
        assert_eq!(rig.store.session(session).await.unwrap(), index);
        let receipts = std::fs::read_to_string(rig.folder(session).join("receipts.jsonl")).unwrap();
        assert_eq!(receipts.matches("closing").count(), 1, "{receipts}");
        assert!(rig.verify(session, &author.key).findings.is_empty());
    }
}

#[tokio::test]
async fn an_agent_that_brings_nothing_adds_nothing() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    recording.append(0, Author::new(session).open()).unwrap();
    recording.finish(ended("the agent is gone"), SOON).await.unwrap();
    let closing = Closing {
        reason: "the rest did not come".into(),
        counted: None,
    };
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let recording = rig.store.resume(session, "uid-0").await.unwrap();
        recording.finish(closing.clone(), SOON).await.unwrap();
        sizes.push(
            std::fs::metadata(rig.folder(session).join("receipts.jsonl"))
                .unwrap()
                .len(),
        );
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stored_bytes_are_sent_bytes_whatever_the_pieces(
        cuts in proptest::collection::vec(1_usize..9000, 1..40),
        crash_at in proptest::option::of(0_usize..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut rig = Rig::new().await;
            let session = Uuid::now_v7();
            let mut author = Author::new(session);
            let whole: Bytes = author.whole().into();
            let mut recording = rig.store.begin(start(session)).await.unwrap();
            let mut at = 0;
            for (turn, cut) in cuts.iter().cycle().enumerate() {
                if at == whole.len() {
                    break;
                }
                let end = whole.len().min(at + cut);
                recording.append(at as u64, whole.slice(at..end)).unwrap();
                at = end;
                if crash_at == Some(turn) {
                    crash(&mut rig, recording).await;
                    recording = match rig.store.resume(session, "uid-0").await {
                        Ok(recording) => recording,
                        Err(ResumeError::Complete { length }) => {
                            assert_eq!(length, whole.len() as u64);
                            return;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    at = usize::try_from(recording.received()).unwrap();
                }
            }
            let index = recording.finish(ended("done"), SOON).await.unwrap();
            assert_eq!(index.outcome, Some(Outcome::Complete));
            assert!(rig.stored(session) == whole);
            let report = rig.verify(session, &author.key);
            assert_eq!((report.verdict(), &report.findings), (Verdict::Complete, &vec![]), "{report:?}");
        });
    }
}
