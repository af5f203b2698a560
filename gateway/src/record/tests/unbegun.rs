//! Sessions that began while the store was away, and a gateway that was started again meanwhile.

use std::collections::HashSet;

use super::*;

/// More than a slow machine takes.
const LIMIT: Duration = Duration::from_secs(60);

async fn is_unknown(rig: &Rig, session: Uuid) -> bool {
    matches!(rig.store.resume(session, "uid-0").await, Err(ResumeError::Unknown))
}

fn notes(rig: &Rig) -> usize {
    std::fs::read_dir(rig.dir.path().join("unbegun")).unwrap().count()
}

#[tokio::test]
async fn a_session_that_was_only_noted_is_recorded_after_a_restart() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    assert!(is_unknown(&rig, session).await);
    let keep = Some(Duration::from_secs(3600));
    rig.store.note_unbegun(Start { keep, ..start(session) }).await;
    rig.store.note_end(session, "the client left".into()).await;
    rig.restart_store().await;
    // The folder is made beside, and the session's for nobody else until it is.
    let refused = async {
        loop {
            match rig.store.resume(session, "uid-1").await {
                Err(ResumeError::Open) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => break other,
            }
        }
    };
    let wrong = tokio::time::timeout(LIMIT, refused).await.unwrap();
    assert!(matches!(wrong, Err(ResumeError::OtherWorkspace)));
    let mut author = Author::new(session);
    let whole: Bytes = author.whole().into();
    let recording = rig.store.resume(session, "uid-0").await.unwrap();
    assert_eq!(recording.received(), 0);
    recording.append(0, whole.clone()).unwrap();
    recording.finish(ended("later"), SOON).await.unwrap();
    assert_eq!((rig.stored(session), notes(&rig)), (whole.to_vec(), 0));
    let index = rig.store.session(session).await.unwrap();
    assert_eq!((index.user.as_str(), index.outcome), ("bob", Some(Outcome::Complete)));
    let kept = index.keep_until.unwrap() - index.ended.unwrap();
    assert_eq!(kept, 3_600_000);
    let report = rig.verify(session, &author.key);
    assert_eq!(report.verdict(), Verdict::Complete, "{report:?}");
}

/// Somebody looks for its recording: it says that there is nothing, rather than being gone.
#[tokio::test]
async fn one_of_which_the_agent_has_nothing_is_closed_with_the_end_that_was_noted() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    rig.store.note_unbegun(start(session)).await;
    rig.store.note_end(session, "the client left".into()).await;
    rig.restart_store().await;
    until("the note is a folder", || notes(&rig) == 0).await;
    // The note is gone a moment before whoever made the folder lets go of it.
    let closed = async {
        loop {
            rig.store.close_unclosed("uid-0", &HashSet::new()).await;
            let index = rig.store.session(session).await.unwrap();
            if index.outcome.is_some() {
                break index;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let index = tokio::time::timeout(LIMIT, closed).await.unwrap();
    assert_eq!(
        (index.outcome, index.reason.as_deref(), index.record_bytes),
        (Some(Outcome::Abnormal), Some("the client left"), 0)
    );
}

#[tokio::test]
async fn a_recording_that_begins_needs_no_note_and_a_stray_file_harms_nothing() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    rig.store.note_unbegun(start(session)).await;
    assert_eq!(notes(&rig), 1);
    drop(rig.store.begin(start(session)).await.unwrap());
    assert_eq!(notes(&rig), 0);
    let stray = rig.dir.path().join("unbegun").join(format!("{}.json", Uuid::now_v7()));
    std::fs::write(&stray, "{").unwrap();
    rig.restart_store().await;
    let other = Uuid::now_v7();
    assert!(is_unknown(&rig, other).await && stray.exists());
}
