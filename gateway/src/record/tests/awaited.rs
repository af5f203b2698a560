//! Bytes that somebody waits for.

use super::*;

/// Rounds stand an hour apart, and each piece is durable at once all the same.
#[tokio::test]
async fn what_is_awaited_does_not_wait_for_the_interval() {
    let rig = Rig::new().await;
    let options = Options {
        s3: None,
        unbegun: None,
        state: None,
        clock_leap: Duration::from_secs(3 * 24 * 3600),
        directory: rig.dir.path().join("other"),
        commit_interval: Duration::from_secs(3600),
    };
    let store = Store::open_on(Disk::REAL, options, rig.credential.clone(), rig.journal.clone())
        .await
        .unwrap();
    let session = Uuid::now_v7();
    let recording = store.begin(start(session)).await.unwrap();
    recording.await_each();
    let mut author = Author::new(session);
    let mut end = 0;
    for bytes in [author.open(), author.output(1), author.output(1), author.end()] {
        recording.append(end, bytes.clone()).unwrap();
        end += bytes.len() as u64;
        durable(&recording, end).await;
    }
    recording.finish(ended("done"), SOON).await.unwrap();
}
