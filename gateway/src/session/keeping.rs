//! The recording of one session, as its terms want it: strict, it fails with the store; best-effort, it waits for it.
//!
//! A best-effort recording holds what is not durable yet, so that it can begin, or go on, when the store is back. Nothing is
//! acknowledged before it is durable, either way: the agent bounds what it keeps itself, and counts what it leaves out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use doorward_audit::SessionIndex;
use ssh_key::PublicKey;
use tokio::sync::watch;

use crate::record::{Closing, Failure, Progress, Recording, ResumeError, Start, Store};

/// The recording of one session.
pub struct Keeping {
    recording: Option<Recording>,
    progress: Option<watch::Receiver<Progress>>,
    durable: u64,
    waits: Option<Waits>,
}

/// What a best-effort recording needs to go on with.
struct Waits {
    store: Store,
    start: Start,
    key: Option<PublicKey>,
    held: Held,
    /// The store, coming back.
    coming: Option<Coming>,
}

type Coming = Pin<Box<dyn Future<Output = Recording> + Send>>;

impl Keeping {
    /// A recording that fails with its store.
    pub fn strict(recording: Recording) -> Self {
        Self {
            progress: Some(recording.progress()),
            recording: Some(recording),
            durable: 0,
            waits: None,
        }
    }

    /// One that goes on without it; it may not have begun yet.
    pub fn best_effort(store: Store, start: Start, recording: Option<Recording>) -> Self {
        let coming = recording.is_none().then(|| come(&store, &start));
        Self {
            progress: recording.as_ref().map(Recording::progress),
            recording,
            durable: 0,
            waits: Some(Waits {
                store,
                start,
                key: None,
                held: Held::default(),
                coming,
            }),
        }
    }

    /// From the next bytes on, heads must be signed by this key.
    pub fn expect_key(&mut self, key: PublicKey) {
        if let Some(recording) = &self.recording {
            recording.expect_key(key.clone());
        }
        if let Some(waits) = &mut self.waits {
            waits.key = Some(key);
        }
    }

    /// Hands in the bytes that stand at `offset` of the stream. Never waits.
    ///
    /// # Errors
    /// When bytes are missing, or the agent is further ahead of the acknowledgements than any agent may be.
    pub fn append(&mut self, offset: u64, bytes: Bytes) -> Result<(), Failure> {
        if let Some(waits) = &mut self.waits {
            waits.held.push(offset, bytes.clone())?;
        }
        match &self.recording {
            Some(recording) => recording.append(offset, bytes),
            None => Ok(()),
        }
    }

    /// Bytes of the stream that are durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether the store has nothing to do with it at the moment.
    pub fn is_waiting(&self) -> bool {
        self.recording.is_none()
    }

    /// Waits for news, and says how far the recording is durable. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The recording cannot go on.
    pub async fn changed(&mut self) -> Result<u64, Failure> {
        if let Some(waits) = &mut self.waits
            && let Some(coming) = &mut waits.coming
        {
            let recording = coming.as_mut().await;
            waits.coming = None;
            self.go_on(recording)?;
            return Ok(self.durable);
        }
        let Some(progress) = &mut self.progress else {
            return std::future::pending().await;
        };
        let stopped = progress.changed().await.is_err();
        let (durable, failure) = {
            let now = progress.borrow_and_update();
            (now.durable, now.failure.clone())
        };
        self.durable = self.durable.max(durable);
        if let Some(waits) = &mut self.waits {
            waits.held.release(self.durable);
        }
        match (failure, &mut self.waits) {
            (Some(Failure::Storage(why)), Some(waits)) => {
                tracing::warn!(session = %waits.start.session, why, "a best-effort session goes on without the store");
                // Its end is kept by the store until it works; then it is taken up again.
                self.recording = None;
                self.progress = None;
                waits.coming = Some(come(&waits.store, &waits.start));
                Ok(self.durable)
            }
            (Some(failure), _) => Err(failure),
            (None, _) if stopped => Err(Failure::Storage("store any more: it has stopped".into())),
            (None, _) => Ok(self.durable),
        }
    }

    /// The store is back: what it does not have yet is handed in.
    fn go_on(&mut self, recording: Recording) -> Result<(), Failure> {
        let Some(waits) = &mut self.waits else { return Ok(()) };
        let from = recording.received();
        if from < waits.held.first {
            return Err(Failure::Storage(format!(
                "find bytes {from} to {} of a recording again",
                waits.held.first
            )));
        }
        tracing::info!(session = %waits.start.session, from, "a best-effort recording goes on");
        if let Some(key) = &waits.key {
            recording.expect_key(key.clone());
        }
        self.durable = from;
        waits.held.release(from);
        let mut offset = from;
        for bytes in &waits.held.chunks {
            recording.append(offset, bytes.clone())?;
            offset += bytes.len() as u64;
        }
        self.progress = Some(recording.progress());
        self.recording = Some(recording);
        Ok(())
    }

    /// Waits until the store is back, for a recording that waits for it.
    async fn back(&mut self) -> Result<(), Failure> {
        while self.recording.is_none() {
            self.changed().await?;
        }
        Ok(())
    }

    /// Stores all that has arrived, and closes; a recording that waits for its store does so until then.
    ///
    /// # Errors
    /// When the store refuses, or does not answer within `patience`.
    pub async fn finish(mut self, closing: Closing, patience: Duration) -> Result<SessionIndex, Failure> {
        let late = || Failure::Storage(format!("take a recording within {patience:?}"));
        tokio::time::timeout(patience, self.back())
            .await
            .map_err(|_| late())??;
        match self.recording.take() {
            Some(recording) => recording.finish(closing, patience).await,
            None => Err(late()),
        }
    }

    /// The recording of a session that never opened: nothing stays of it.
    pub async fn forget(self, store: &Store) {
        if let Some(recording) = self.recording {
            store.forget(recording).await;
        }
    }
}

/// The recording, once the store works: the one that broke off, or a new one.
fn come(store: &Store, start: &Start) -> Coming {
    let (store, start) = (store.clone(), start.clone());
    Box::pin(async move {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if store.ready().is_err() {
                continue;
            }
            match store.resume(start.session, &start.workspace_uid).await {
                Ok(recording) => return recording,
                Err(ResumeError::Unknown) => {}
                Err(error) => {
                    tracing::debug!(session = %start.session, %error, "a recording cannot go on yet");
                    continue;
                }
            }
            if let Ok(recording) = store.begin(start.clone()).await {
                return recording;
            }
        }
    })
}

/// Bytes that are not durable.
#[derive(Debug, Default)]
struct Held {
    /// Offset of the first.
    first: u64,
    bytes: usize,
    chunks: VecDeque<Bytes>,
}

impl Held {
    fn push(&mut self, offset: u64, mut bytes: Bytes) -> Result<(), Failure> {
        let end = self.first + self.bytes as u64;
        let Some(known) = end.checked_sub(offset) else {
            return Err(Failure::Protocol("bytes of the record are missing"));
        };
        if known >= bytes.len() as u64 {
            return Ok(());
        }
        let _ = bytes.split_to(usize::try_from(known).unwrap_or(0));
        if self.bytes + bytes.len() > MOST_HELD {
            return Err(Failure::Protocol("the record is too far ahead of its acknowledgements"));
        }
        self.bytes += bytes.len();
        self.chunks.push_back(bytes);
        Ok(())
    }

    fn release(&mut self, durable: u64) {
        while self.first < durable
            && let Some(chunk) = self.chunks.front_mut()
        {
            let over = usize::try_from(durable - self.first)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            let _ = chunk.split_to(over);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            self.bytes -= over;
            self.first += over as u64;
        }
    }
}

/// How often the store is asked whether it works again.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Most bytes that are held for one session. Agents stay far below it.
const MOST_HELD: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use doorward_audit::{Outcome, Verdict};
    use uuid::Uuid;

    use super::*;
    use crate::record::fixture::{Author, Rig, start};

    const SOON: Duration = Duration::from_secs(30);

    fn closing() -> Closing {
        Closing {
            reason: "over".into(),
            counted: None,
        }
    }

    /// Hands in what the author wrote, at its place.
    fn hand_in(keeping: &mut Keeping, end: &mut u64, bytes: Bytes) {
        keeping.append(*end, bytes.clone()).unwrap();
        *end += bytes.len() as u64;
    }

    async fn until_durable(keeping: &mut Keeping, end: u64) {
        let waiting = async { while keeping.changed().await.unwrap() < end {} };
        tokio::time::timeout(SOON, waiting).await.unwrap();
    }

    /// The store's disk refuses in the middle: the recording waits, goes on where the store stands, and is whole.
    #[tokio::test]
    async fn a_recording_goes_on_with_the_store() {
        let rig = Rig::new().await;
        let session = Uuid::now_v7();
        let mut author = Author::new(session);
        let recording = rig.store.begin(start(session)).await.unwrap();
        let mut keeping = Keeping::best_effort(rig.store.clone(), start(session), Some(recording));
        keeping.expect_key(author.key.public_key().clone());
        let mut end = 0;
        hand_in(&mut keeping, &mut end, author.open());
        hand_in(&mut keeping, &mut end, author.output(3000));
        hand_in(&mut keeping, &mut end, author.head(false));
        until_durable(&mut keeping, end).await;
        // The next segment finds no folder.
        let (folder, away) = (rig.folder(session), rig.dir.path().join("away"));
        std::fs::rename(&folder, &away).unwrap();
        hand_in(&mut keeping, &mut end, author.output(5000));
        let broken = async {
            while !keeping.is_waiting() {
                keeping.changed().await.unwrap();
            }
        };
        tokio::time::timeout(SOON, broken).await.unwrap();
        hand_in(&mut keeping, &mut end, author.output(100));
        assert!(keeping.durable() < end && rig.store.ready().is_err());
        std::fs::rename(&away, &folder).unwrap();
        hand_in(&mut keeping, &mut end, author.end());
        until_durable(&mut keeping, end).await;
        let index = keeping.finish(closing(), SOON).await.unwrap();
        assert_eq!((index.outcome, index.record_bytes), (Some(Outcome::Complete), end));
        let report = rig.verify(session, &author.key);
        assert_eq!(
            (report.verdict(), &report.findings),
            (Verdict::Complete, &vec![]),
            "{report:?}"
        );
    }

    /// A store that is down at the beginning is waited for, also after the session is over.
    #[tokio::test]
    async fn a_recording_begins_when_the_store_is_back() {
        let rig = Rig::new().await;
        let session = Uuid::now_v7();
        let mut author = Author::new(session);
        let (records, away) = (rig.dir.path().join("records"), rig.dir.path().join("away"));
        std::fs::rename(&records, &away).unwrap();
        std::fs::write(&records, "in the way").unwrap();
        assert!(rig.store.begin(start(session)).await.is_err());
        let mut keeping = Keeping::best_effort(rig.store.clone(), start(session), None);
        keeping.expect_key(author.key.public_key().clone());
        let mut end = 0;
        for bytes in [author.open(), author.output(3000), author.end()] {
            hand_in(&mut keeping, &mut end, bytes);
        }
        assert!(keeping.is_waiting() && keeping.durable() == 0);
        let restored = async {
            std::fs::remove_file(&records).unwrap();
            std::fs::rename(&away, &records).unwrap();
        };
        let (finished, ()) = tokio::join!(keeping.finish(closing(), SOON), restored);
        assert_eq!(finished.unwrap().outcome, Some(Outcome::Complete));
        let report = rig.verify(session, &author.key);
        assert_eq!(
            (report.verdict(), &report.findings),
            (Verdict::Complete, &vec![]),
            "{report:?}"
        );
    }

    #[test]
    fn what_is_durable_is_let_go_of_and_what_comes_twice_is_held_once() {
        let mut held = Held::default();
        held.push(0, Bytes::from_static(b"abcd")).unwrap();
        held.push(2, Bytes::from_static(b"cdef")).unwrap();
        held.push(1, Bytes::from_static(b"bc")).unwrap();
        assert!(held.push(7, Bytes::from_static(b"h")).is_err());
        assert_eq!((held.first, held.bytes), (0, 6));
        held.release(5);
        assert_eq!((held.first, held.bytes, held.chunks.len()), (5, 1, 1));
        held.release(3);
        assert_eq!(held.first, 5);
        let large = Bytes::from(vec![0; MOST_HELD]);
        assert!(held.push(6, large).is_err(), "nothing is unbounded");
    }
}
