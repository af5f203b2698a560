//! The store itself: who has which recording, and what stands in the index.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_audit::log::LeafKind;
use doorward_audit::{MAX_TOMBSTONE, SessionIndex, Tombstone};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::commit::{self, Commits};
use super::index::{self, Index};
use super::keeper::{self, Health};
use super::repair::Broken;
use super::retention::{self, Doubt, Retention, RetentionClock};
use super::ship::{self, Shipping};
use super::slot::{Recording, Slot};
use super::unbegun::Unbegun;
use super::writer::Writer;
use super::{Backlog, Closing, Content, Disk, Failure, FileEntry, Filter, Options, Start, layout, remote};
use crate::guarded::Guarded;
use crate::journal::Journal;
use crate::link::Credential;

/// All recordings of this gateway. Clones are the same store.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) root: PathBuf,
    pub(super) disk: Disk,
    pub(super) commits: Commits,
    pub(super) health: Health,
    /// The way to the object store, where there is one.
    pub(super) shipping: Option<Arc<Shipping>>,
    pub(super) tasks: TaskTracker,
    pub(super) credential: Arc<Credential>,
    pub(super) journal: Journal,
    pub(super) index: Guarded<Index>,
    pub(super) retention: Retention,
    pub(super) clock: RetentionClock,
    /// Sessions that somebody writes: a session, a fetch of leftovers, a repair.
    claimed: Guarded<HashSet<Uuid>>,
    /// Sessions of an earlier life of the gateway that have no closing yet.
    pub(super) unclosed: Guarded<HashSet<Uuid>>,
    /// Sessions that began while the disk refused, and of which it has nothing yet.
    pub(super) unbegun: Unbegun,
    /// Sessions whose end the disk refused.
    pub(super) broken: Guarded<Vec<Broken>>,
    stop: CancellationToken,
}

/// Why what is left over of a session is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// No such session here.
    #[error("the session is not known here")]
    Unknown,
    /// It was a session of another workspace.
    #[error("the session belongs to another workspace")]
    OtherWorkspace,
    /// Its recording is still being written.
    #[error("the session's recording is still open")]
    Open,
    /// Nothing may follow the final head.
    #[error("the session's recording is complete")]
    Complete {
        /// Its length in bytes.
        length: u64,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] Failure),
}

impl Store {
    /// Opens the store and begins to serve it. Recordings that an earlier life left open are found
    /// here and closed later: when their agent has nothing left of them, or after two minutes.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or the settings of the object store cannot be used. The object store itself is
    /// not asked: a gateway starts without it.
    pub async fn open(options: Options, credential: Arc<Credential>, journal: Journal) -> io::Result<Self> {
        Self::open_on(Disk::REAL, options, credential, journal).await
    }

    pub(super) async fn open_on(
        disk: Disk,
        options: Options,
        credential: Arc<Credential>,
        journal: Journal,
    ) -> io::Result<Self> {
        let shipping = options
            .s3
            .as_ref()
            .map(Shipping::new)
            .transpose()
            .map_err(io::Error::other)?;
        Self::open_with(disk, options, shipping, credential, journal).await
    }

    pub(super) async fn open_with(
        disk: Disk,
        options: Options,
        shipping: Option<Shipping>,
        credential: Arc<Credential>,
        journal: Journal,
    ) -> io::Result<Self> {
        let root = options.directory;
        let (found, notes) = (root.clone(), options.unbegun);
        let (clock, now) = (
            RetentionClock::new(options.state, options.clock_leap),
            credential.unix_ms(),
        );
        let index = tokio::task::spawn_blocking(move || {
            layout::make_dir(&found)?;
            let index = Index::load(&found)?;
            let newest = index
                .all()
                .map(|session| session.ended.unwrap_or(session.started))
                .max();
            clock.begin(newest, now);
            io::Result::Ok((index, Unbegun::open(notes)?, clock))
        });
        let (index, unbegun, clock) = index.await.map_err(io::Error::other)??;
        let unclosed = index.all().filter(|s| s.ended.is_none()).map(|s| s.session).collect();
        let inner = Arc::new(Inner {
            root,
            disk,
            commits: Commits::new(options.commit_interval),
            health: Health::default(),
            shipping: shipping.map(Arc::new),
            tasks: TaskTracker::new(),
            credential,
            journal,
            index: Guarded::new(index),
            retention: Retention::default(),
            clock,
            claimed: Guarded::default(),
            unclosed: Guarded::new(unclosed),
            unbegun,
            broken: Guarded::default(),
            stop: CancellationToken::new(),
        });
        inner.tasks.spawn(commit::serve(Arc::clone(&inner), inner.stop.clone()));
        inner.tasks.spawn(keeper::keep(Arc::clone(&inner), inner.stop.clone()));
        inner.retention.read(&inner.root)?;
        inner
            .tasks
            .spawn(retention::expire(Arc::clone(&inner), inner.stop.clone()));
        inner.tasks.spawn(ship::serve(Arc::clone(&inner), inner.stop.clone()));
        inner.tasks.spawn(ship::sweep(Arc::clone(&inner), inner.stop.clone()));
        inner
            .tasks
            .spawn(remote::follow(Arc::clone(&inner), inner.stop.clone()));
        Ok(Self(inner))
    }

    /// Whether the disk takes bytes, and the spool has room for them; otherwise why not.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn ready(&self) -> Result<(), String> {
        self.0.ready()
    }

    /// Whether deletion waits for a clock that nothing else confirms.
    pub fn doubt(&self) -> Option<Doubt> {
        self.0.retention.doubt()
    }

    /// What the object store lacks; `None` where there is none.
    pub fn backlog(&self) -> Option<Backlog> {
        self.0.shipping.as_ref().map(|shipping| shipping.backlog())
    }

    /// Makes the folder of a new session. It becomes durable at once, but nobody waits for it: no
    /// byte is acknowledged before, and if it fails the recording has failed.
    ///
    /// # Errors
    /// When the disk refuses, or did lately.
    pub async fn begin(&self, start: Start) -> Result<Recording, Failure> {
        self.ready().map_err(Failure::Storage)?;
        let inner = Arc::clone(&self.0);
        let made = self.0.tasks.spawn_blocking(move || inner.make(start));
        let slot = made.await.map_err(|_| Failure::Storage("make a folder".into()))??;
        let recording = Recording::new(Arc::new(slot), Arc::downgrade(&self.0));
        recording.commit();
        Ok(recording)
    }

    /// Notes a session that goes on while its recording cannot begin, so that the gateway knows it also after a restart. Durable
    /// when this returns, if the disk of the gateway's state takes it; where it does not, the log says so.
    pub async fn note_unbegun(&self, start: Start) {
        let inner = Arc::clone(&self.0);
        // It ends by itself, whoever waits for it.
        let _ = self
            .0
            .tasks
            .spawn_blocking(move || inner.note_unbegun(entry(start, inner.credential.unix_ms())))
            .await;
    }

    /// Notes how a session ended whose recording has not begun yet.
    pub async fn note_end(&self, session: Uuid, reason: String) {
        let inner = Arc::clone(&self.0);
        let _ = self
            .0
            .tasks
            .spawn_blocking(move || inner.note_end(session, reason))
            .await;
    }

    /// Removes a recording into which nothing was written: its session never opened.
    pub async fn forget(&self, recording: Recording) {
        let session = recording.session();
        let closing = Closing {
            reason: "never opened".into(),
            counted: None,
        };
        let closed = recording.finish(closing, FORGET_WITHIN).await;
        if !closed.is_ok_and(|index| index.record_bytes == 0) {
            return;
        }
        if let Some(shipping) = &self.0.shipping {
            shipping.forget(session);
        }
        let inner = Arc::clone(&self.0);
        let removed = self.0.tasks.spawn_blocking(move || {
            if let Some(dir) = layout::session_dir(&inner.root, session) {
                std::fs::remove_dir_all(dir)?;
                inner.index.with(|index| index.remove(session));
            }
            io::Result::Ok(())
        });
        if matches!(removed.await, Ok(Ok(()))) {
            self.0.journal.log(LeafKind::Forgotten { session });
        } else {
            tracing::warn!(%session, "the folder of a session that never opened stays");
        }
    }

    /// Goes on with a recording that broke off, for the agent of the workspace that it belongs to.
    /// The next byte that is wanted is [`Recording::received`].
    ///
    /// # Errors
    /// [`ResumeError`] says why not; nothing was changed then.
    pub async fn resume(&self, session: Uuid, workspace_uid: &str) -> Result<Recording, ResumeError> {
        if let Some(shipping) = &self.0.shipping {
            let restored = remote::restore(&self.0, &shipping.bucket, session).await;
            restored.map_err(|error| Failure::storage("bring a recording back from the object store", &error))?;
        }
        let inner = Arc::clone(&self.0);
        let uid = workspace_uid.to_owned();
        let opened = self.0.tasks.spawn_blocking(move || inner.reopen(session, &uid));
        let slot = opened
            .await
            .map_err(|_| ResumeError::Storage(Failure::Storage("read a recording".into())))??;
        Ok(Recording::new(Arc::new(slot), Arc::downgrade(&self.0)))
    }

    /// Closes the recordings of one workspace that an earlier life of the gateway left open,
    /// except those in `left_over`: its agent has nothing of them.
    pub async fn close_unclosed(&self, workspace_uid: &str, left_over: &HashSet<Uuid>) {
        let inner = Arc::clone(&self.0);
        let mut sessions = inner.take_unclosed(Some(workspace_uid));
        sessions.retain(|session| !left_over.contains(session));
        if sessions.is_empty() {
            return;
        }
        let closed = self.0.tasks.spawn_blocking(move || {
            for session in sessions {
                inner.close_stopped(session);
            }
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "closing of old recordings");
        }
    }

    /// The newest sessions that match, newest first.
    pub fn list(&self, filter: &Filter) -> Vec<SessionIndex> {
        self.0.index.with(|index| index.list(filter))
    }

    /// What is known of a session.
    pub async fn session(&self, session: Uuid) -> Option<SessionIndex> {
        if let Some(found) = self.0.index.with(|index| index.find(session)) {
            return Some(found);
        }
        let root = self.0.root.clone();
        let read = tokio::task::spawn_blocking(move || index::read(&root, session));
        if let Some(found) = read.await.ok()?.ok()? {
            return Some(found);
        }
        let found = remote::index(&self.0.shipping.as_ref()?.bucket, session).await;
        found
            .inspect_err(|error| tracing::warn!(%session, %error, "recording cannot be looked up"))
            .ok()?
    }

    /// The files of a session, by name.
    ///
    /// # Errors
    /// Those of the file system or the object store; a session without a folder has no files.
    pub async fn files(&self, session: Uuid) -> io::Result<Vec<FileEntry>> {
        let files = self.local_files(session).await?;
        match &self.0.shipping {
            Some(shipping) if files.is_empty() => remote::files(&shipping.bucket, session).await,
            _ => Ok(files),
        }
    }

    async fn local_files(&self, session: Uuid) -> io::Result<Vec<FileEntry>> {
        let Some(dir) = layout::session_dir(&self.0.root, session) else {
            return Ok(Vec::new());
        };
        let mut files = Vec::new();
        let mut entries = match tokio::fs::read_dir(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let about = entry.metadata().await?;
            if layout::is_ours(&name) && about.is_file() {
                files.push(FileEntry {
                    name,
                    size: about.len(),
                });
            }
        }
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// Opens one file of a session; `None` for a name that is not ours or a file that is not there.
    ///
    /// # Errors
    /// Those of the file system or the object store.
    pub async fn file(&self, session: Uuid, name: &str) -> io::Result<Option<Content>> {
        let Some(dir) = layout::session_dir(&self.0.root, session) else {
            return Ok(None);
        };
        if !layout::is_ours(name) {
            return Ok(None);
        }
        match tokio::fs::File::open(dir.join(name)).await {
            // Of a recording that is still written, only what stands there now.
            Ok(file) => {
                let size = file.metadata().await?.len();
                let bytes = Box::pin(tokio::io::AsyncReadExt::take(file, size));
                Ok(Some(Content { size, bytes }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match &self.0.shipping {
                Some(shipping) => remote::file(&shipping.bucket, session, name).await,
                None => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    /// What stands in the place of a recording that was deleted; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system or the object store; it is no tombstone.
    pub async fn tombstone(&self, session: Uuid) -> io::Result<Option<(Tombstone, Content)>> {
        let Some(content) = self.file(session, layout::TOMBSTONE).await? else {
            return Ok(None);
        };
        let mut text = String::new();
        let most = u64::try_from(MAX_TOMBSTONE).unwrap_or(u64::MAX);
        tokio::io::AsyncReadExt::take(content.bytes, most)
            .read_to_string(&mut text)
            .await?;
        let tombstone = Tombstone::parse(&text).map_err(io::Error::other)?;
        let content = Content {
            size: text.len() as u64,
            bytes: Box::pin(io::Cursor::new(text.into_bytes())),
        };
        Ok(Some((tombstone, content)))
    }

    /// Stores what was handed in and stops. Recordings that are still open stay so on disk, and
    /// the next start deals with them.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.root.display())
    }
}

impl Inner {
    /// Whether the store takes bytes.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.health.ready()?;
        self.shipping.as_ref().map_or(Ok(()), |shipping| shipping.ready())
    }

    /// Claims a session and makes its folder. Blocks.
    fn make(self: &Arc<Self>, start: Start) -> Result<Slot, Failure> {
        let session = start.session;
        let dir = layout::session_dir(&self.root, session)
            .ok_or_else(|| Failure::Storage("keep a session without a time in its id".into()))?;
        let claim = Claim::take(self, session).ok_or_else(|| Failure::Storage("keep a session twice".into()))?;
        let entry = entry(start, self.credential.unix_ms());
        self.make_folder(&dir, entry, |dir, entry| {
            layout::make_new_dir(dir)?;
            index::write_new(dir, entry)
        })?;
        self.has_begun(session);
        Ok(Slot::new(session, Writer::new(dir, session, self.disk), claim))
    }

    /// Makes a session's folder in that of its day, and lists it; `make` makes the folder itself and its index. Blocks.
    pub(super) fn make_folder(
        &self,
        dir: &Path,
        entry: SessionIndex,
        make: impl FnOnce(&Path, &SessionIndex) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let day = dir.parent().map_or(Ok(()), layout::make_dir);
        day.and_then(|()| make(dir, &entry)).map_err(|error| {
            let failure = Failure::storage("make a session's folder", &error);
            self.health.fail(&failure.to_string());
            failure
        })?;
        self.index.with(|index| index.put(entry));
        Ok(())
    }
}

/// What the index says of a session that begins now.
fn entry(start: Start, now: u64) -> SessionIndex {
    SessionIndex {
        session: start.session,
        user: start.user,
        workspace: start.workspace,
        workspace_uid: start.workspace_uid,
        login: start.login,
        started: now,
        ended: None,
        outcome: None,
        reason: None,
        record_bytes: 0,
        keep_until: start.keep.map(|keep| now.saturating_add(millis(keep))),
        client_address: Some(start.client_address),
    }
}

/// The sole right to write a session's folder.
pub(super) struct Claim {
    session: Uuid,
    owner: Arc<Inner>,
}

impl Claim {
    pub(super) fn take(owner: &Arc<Inner>, session: Uuid) -> Option<Self> {
        owner.claimed.with(|claimed| claimed.insert(session)).then(|| Self {
            session,
            owner: Arc::clone(owner),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.owner.claimed.with(|claimed| claimed.remove(&self.session));
    }
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const FORGET_WITHIN: Duration = Duration::from_secs(5);
