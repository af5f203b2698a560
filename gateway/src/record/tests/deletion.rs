//! The end of a recording whose time is over.

use super::*;

/// A gateway that dies after the tombstone, in the middle of removing files, finishes that in its next life and says nothing else.
#[tokio::test]
async fn a_deletion_that_a_crash_interrupted_is_finished() {
    let mut rig = Rig::new().await;
    let session = Uuid::now_v7();
    let about = Start {
        keep: Some(Duration::from_millis(1)),
        ..start(session)
    };
    let recording = rig.store.begin(about).await.unwrap();
    let whole: Bytes = Author::new(session).whole().into();
    recording.append(0, whole.clone()).unwrap();
    durable(&recording, whole.len() as u64).await;
    let folder = rig.folder(session);
    // It must not go before somebody has looked at it.
    let hold = Hold {
        session,
        by: "carol".into(),
        at: "2026-01-01T00:00:00Z".into(),
        reason: "to look".into(),
    };
    rig.store.hold(hold).await.unwrap();
    recording.finish(ended("done"), SOON).await.unwrap();
    let kept = ["session.json", "segment-000001.dwr"].map(|name| {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    });
    assert!(rig.store.release(session).await.unwrap());
    let gone = || kept.iter().all(|(path, _)| !path.exists());
    until("it is deleted", gone).await;
    let tombstone = std::fs::read(folder.join("tombstone.json")).unwrap();

    for (path, bytes) in &kept {
        std::fs::write(path, bytes).unwrap();
    }
    rig.restart_store().await;
    until("the rest of it is deleted", gone).await;
    assert_eq!(std::fs::read(folder.join("tombstone.json")).unwrap(), tombstone);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    until("nobody finds it", || {
        rig.store.0.index.with(|index| index.all().next().is_none())
    })
    .await;
}
