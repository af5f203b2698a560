//! Disks that refuse, and that lie.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn a_disk_that_refuses_stops_new_sessions_and_recovers_without_a_restart() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    recording.append(0, author.open()).unwrap();
    until("a block is durable", || recording.progress().borrow().durable > 0).await;
    // A folder where the receipts belong: nothing can be appended there.
    let in_the_way = rig.folder(session).join("receipts.jsonl");
    std::fs::create_dir(&in_the_way).unwrap();
    recording.append(recording.received(), author.head(false)).unwrap();
    assert!(matches!(failure(&recording).await, Failure::Storage(_)));
    assert!(rig.store.ready().is_err());
    assert!(rig.store.begin(start(Uuid::now_v7())).await.is_err());
    assert!(recording.finish(ended("no disk"), SOON).await.is_err());
    std::fs::remove_dir(in_the_way).unwrap();
    until("the store works again", || rig.store.ready().is_ok()).await;
    let report = rig.verify(session, &author.key);
    assert_eq!(
        (report.verdict(), &report.findings),
        (Verdict::Abnormal, &vec![]),
        "{report:?}"
    );
    rig.store.begin(start(Uuid::now_v7())).await.unwrap();
}

/// A probe that began before a failure says nothing about it: the recording that broke is closed all the same.
#[tokio::test]
async fn a_failure_that_comes_while_the_disk_is_probed_stands() {
    let rig = Rig::new().await;
    let session = Uuid::now_v7();
    let recording = rig.store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    recording.append(0, author.open()).unwrap();
    until("a block is durable", || recording.progress().borrow().durable > 0).await;
    let inner = &rig.store.0;
    let before = inner.health.failures();
    // The probe has found all well, and now:
    let in_the_way = rig.folder(session).join("receipts.jsonl");
    std::fs::create_dir(&in_the_way).unwrap();
    recording.append(recording.received(), author.head(false)).unwrap();
    assert!(recording.finish(ended("no disk"), SOON).await.is_err());
    inner.health.recover(before);
    assert!(
        rig.store.ready().is_err(),
        "nobody would look after the broken recording"
    );
    std::fs::remove_dir(in_the_way).unwrap();
    until("the store works again", || rig.store.ready().is_ok()).await;
    assert!(rig.store.session(session).await.unwrap().ended.is_some());
}

static LIES: AtomicBool = AtomicBool::new(false);

#[tokio::test]
async fn bytes_whose_fsync_failed_are_neither_acknowledged_nor_kept() {
    fn sync(file: &std::fs::File) -> std::io::Result<()> {
        // As Linux does: the error is told once, and the next call says that all is well.
        if LIES.swap(false, Ordering::SeqCst) {
            Err(std::io::Error::other("EIO"))
        } else {
            file.sync_data()
        }
    }
    let rig = Rig::new().await;
    let options = Options {
        s3: None,
        unbegun: None,
        state: None,
        clock_leap: Duration::from_secs(3 * 24 * 3600),
        directory: rig.dir.path().join("other"),
        commit_interval: Duration::from_millis(1),
    };
    let store = Store::open_on(Disk { sync }, options, rig.credential.clone(), rig.journal.clone())
        .await
        .unwrap();
    let session = Uuid::now_v7();
    let recording = store.begin(start(session)).await.unwrap();
    let mut author = Author::new(session);
    let (good, lost) = (author.open(), author.output(300));
    recording.append(0, good.clone()).unwrap();
    durable(&recording, good.len() as u64).await;
    LIES.store(true, Ordering::SeqCst);
    recording.append(good.len() as u64, lost.clone()).unwrap();
    assert!(matches!(failure(&recording).await, Failure::Storage(_)));
    recording.append(recording.received(), author.output(5)).unwrap();
    assert_eq!(recording.progress().borrow().durable, good.len() as u64);
    assert!(recording.finish(ended("EIO"), SOON).await.is_err());
    until("the store works again", || store.ready().is_ok()).await;
    let index = store.session(session).await.unwrap();
    assert_eq!(
        (index.outcome, index.record_bytes),
        (Some(Outcome::Abnormal), good.len() as u64)
    );
    // The agent still has what was never acknowledged.
    let recording = store.resume(session, "uid-0").await.unwrap();
    assert_eq!(recording.received(), good.len() as u64);
    recording.append(recording.received(), lost).unwrap();
    recording.finish(ended("later"), SOON).await.unwrap();
}
