//! The gateway's own record of its decisions, in the format of recordings.
//!
//! One stream per start, in `journal/<stream id>/`; its first event names the last link of the
//! stream before it, so that a stream that is taken away shows. Heads are signed with the gateway's
//! key after so many events, so many minutes, and at the end.
//!
//! Appending never waits: an event is durable within [`COMMIT_INTERVAL`] of a working disk, in the
//! order in which events came, and nothing waits for it. While the disk refuses, events are kept
//! (as many as [`MOST_WAITING`]), new sessions are refused, and once it works they go to a new stream.
//!
//! Beside it stands the transparency log ([`log`]): what may be known of recordings to everybody, provably only ever added to.

pub mod anchor;
pub mod log;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward_audit::log::{Leaf, LeafKind};
use doorward_audit::{Event, Gap, GatewayStarted, GatewayStopped, Stamped};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::log::{Log, PublicLog};
use self::stream::{Last, Stream};
use crate::guarded::Guarded;
use crate::link::Credential;

/// The journal. Clones write into the same one.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    /// Where streams lie.
    dir: PathBuf,
    /// Where logs lie.
    logs: PathBuf,
    public: Arc<PublicLog>,
    credential: Arc<Credential>,
    opened: Instant,
    queue: Guarded<Queue>,
    wake: Notify,
    failing: Guarded<Option<String>>,
    durable: watch::Sender<Durable>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// How far the events of this life of the gateway are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durable {
    /// The stream that is written.
    pub stream: Uuid,
    /// How many blocks of it are durable.
    pub blocks: u64,
    /// How many events are durable, those of this life's earlier streams included.
    pub events: u64,
}

#[derive(Default)]
struct Queue {
    events: Vec<Stamped>,
    leaves: Vec<Leaf>,
    /// Events for which there was no room.
    lost: u64,
}

impl Journal {
    /// Begins a new stream in `journal/` below the folder of the gateway's state, and opens the log in `log/`. What is missing
    /// is made.
    ///
    /// # Errors
    /// When the disk refuses the first events: a gateway does not start without its journal.
    pub async fn open(state: &Path, credential: Arc<Credential>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            dir: state.join("journal"),
            logs: state.join("log"),
            public: Arc::default(),
            credential,
            opened: Instant::now(),
            queue: Guarded::default(),
            wake: Notify::new(),
            failing: Guarded::default(),
            durable: watch::Sender::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let owner = Arc::clone(&inner);
        let begun = inner.tasks.spawn_blocking(move || {
            let previous = stream::last_below(&owner.dir)?;
            let stream = Box::new(owner.begin(previous.as_ref())?);
            let log = Box::new(Log::open(&owner.logs, &owner.credential, &owner.public)?);
            io::Result::Ok(Book {
                stream: Place::Writing(stream),
                log: Some(log),
            })
        });
        let book = begun.await.map_err(io::Error::other)??;
        inner.tasks.spawn(serve(Arc::clone(&inner), book));
        inner.tasks.close();
        Ok(Self(inner))
    }

    /// Puts an event on record. Never waits, never fails; see [`Journal::ready`].
    pub fn append(&self, event: impl Into<Event>) {
        let event = event.into();
        if let Event::SessionOpened(opened) = &event {
            self.log(LeafKind::Opened {
                session: opened.session,
            });
        }
        let event = self.0.stamp(event);
        self.0.queue.with(|queue| {
            if queue.events.len() < MOST_WAITING {
                queue.events.push(event);
            } else {
                queue.lost += 1;
            }
        });
        self.0.wake.notify_one();
    }

    /// Puts a leaf into the log, as [`Journal::append`] does with events.
    pub fn log(&self, leaf: LeafKind) {
        let leaf = Leaf::new(self.0.credential.unix_ms(), leaf);
        self.0.queue.with(|queue| {
            if queue.leaves.len() < MOST_WAITING {
                queue.leaves.push(leaf);
            } else {
                queue.lost += 1;
            }
        });
        self.0.wake.notify_one();
    }

    /// How far the journal is durable, now and from now on.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.0.durable.subscribe()
    }

    /// What the log shows.
    pub fn public(&self) -> &Arc<PublicLog> {
        &self.0.public
    }

    /// Whether decisions reach the disk; otherwise why not. New sessions are refused meanwhile.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn ready(&self) -> Result<(), String> {
        self.0.failing.with(|state| state.clone().map_or(Ok(()), Err))
    }

    /// Writes what waits, the last event and the final head.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({})", self.0.dir.display())
    }
}

impl Inner {
    fn stamp(&self, event: Event) -> Stamped {
        Stamped {
            at: u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX),
            event,
        }
    }

    /// A new stream that names the one before it. Blocks.
    fn begin(&self, previous: Option<&Last>) -> io::Result<Stream> {
        let dated = self.credential.dated();
        let certificate = dated.as_ref().map(|dated| dated.text().to_owned());
        let mut stream = Stream::create(&self.dir, dated)?;
        let started = GatewayStarted {
            previous: previous.map(Last::to_string),
            ..started(certificate)
        };
        stream.append(&[self.stamp(started.into())])?;
        self.is_durable(&stream, 1);
        Ok(stream)
    }

    fn is_durable(&self, stream: &Stream, events: usize) {
        self.durable.send_modify(|durable| {
            (durable.stream, durable.blocks) = stream.last().position();
            durable.events += events as u64;
        });
    }

    /// Says anew who signs the heads, where there is another certificate than the stream has named: a gateway may start without
    /// one, and one that runs for days has several.
    fn introduce(&self, stream: &mut Stream) -> Option<Stamped> {
        let now = self.credential.dated()?;
        let said = stream.dated.replace(Arc::clone(&now));
        let news = said.is_none_or(|said| said.text() != now.text());
        news.then(|| self.stamp(started(Some(now.text().to_owned())).into()))
    }

    fn take(&self) -> Vec<Stamped> {
        let (mut events, lost) = self
            .queue
            .with(|queue| (std::mem::take(&mut queue.events), std::mem::take(&mut queue.lost)));
        if lost > 0 {
            let why = format!("{lost} events found no room while the journal's disk refused");
            events.push(
                self.stamp(
                    Gap {
                        channel: None,
                        bytes: 0,
                        why,
                        ..Gap::default()
                    }
                    .into(),
                ),
            );
        }
        events
    }

    /// Puts events that did not become durable back, in front.
    fn put_back(&self, mut events: Vec<Stamped>) {
        self.queue.with(|queue| {
            events.append(&mut queue.events);
            queue.events = events;
        });
    }

    fn set_failing(&self, failure: Option<String>) {
        let changed = self.failing.with(|state| {
            let changed = state.is_some() != failure.is_some();
            state.clone_from(&failure);
            changed
        });
        match failure {
            Some(fault) if changed => {
                tracing::error!(fault, "the journal fails; new sessions are refused");
            }
            None if changed => tracing::info!("the journal works again"),
            _ => {}
        }
    }
}

/// What is written, between two rounds.
struct Book {
    stream: Place,
    /// None after its disk refused: it is opened again.
    log: Option<Box<Log>>,
}

/// Where the stream stands between two rounds.
enum Place {
    Writing(Box<Stream>),
    /// Its disk refused; the next stream names this link.
    Broken(Option<Last>),
}

async fn serve(journal: Arc<Inner>, mut book: Book) {
    let mut next = Instant::now();
    loop {
        let broken = matches!(book.stream, Place::Broken(_)) || book.log.is_none();
        let stopping = tokio::select! {
            () = journal.wake.notified(), if !broken => false,
            () = tokio::time::sleep(LOOK_EVERY), if !broken => false,
            () = tokio::time::sleep(RETRY_EVERY), if broken => false,
            () = journal.stop.cancelled() => true,
        };
        if !stopping {
            tokio::time::sleep_until(next).await;
        }
        next = Instant::now() + COMMIT_INTERVAL;
        let owner = Arc::clone(&journal);
        let round = tokio::task::spawn_blocking(move || round(&owner, book, stopping));
        book = round.await.unwrap_or(Book {
            stream: Place::Broken(None),
            log: None,
        });
        if stopping {
            return;
        }
    }
}

/// Writes what waits. Blocks.
fn round(journal: &Inner, book: Book, stopping: bool) -> Book {
    let (stream, written) = write_events(journal, book.stream, stopping);
    let (log, logged) = write_leaves(journal, book.log, stopping);
    let failure = written.and(logged.map_err(|error| io::Error::other(format!("the log: {error}"))));
    journal.set_failing(failure.err().map(|error| error.to_string()));
    Book { stream, log }
}

fn write_events(journal: &Inner, place: Place, stopping: bool) -> (Place, io::Result<()>) {
    let mut stream = match place {
        Place::Writing(stream) => stream,
        Place::Broken(last) => match journal.begin(last.as_ref()) {
            Ok(stream) => Box::new(stream),
            Err(error) => return (Place::Broken(last), Err(error)),
        },
    };
    let mut events = Vec::from_iter(journal.introduce(&mut stream));
    events.append(&mut journal.take());
    if stopping {
        events.push(journal.stamp(GatewayStopped {}.into()));
    }
    let written = stream.append(&events).and_then(|()| {
        if stopping || stream.head_due() {
            stream.head(&journal.credential, stopping)?;
        }
        Ok(())
    });
    match written {
        Ok(()) => {
            journal.is_durable(&stream, events.len());
            (Place::Writing(stream), Ok(()))
        }
        Err(error) => {
            journal.put_back(events);
            (Place::Broken(Some(stream.last())), Err(error))
        }
    }
}

fn write_leaves(journal: &Inner, log: Option<Box<Log>>, stopping: bool) -> (Option<Box<Log>>, io::Result<()>) {
    let opened = log.map_or_else(
        || Log::open(&journal.logs, &journal.credential, &journal.public).map(Box::new),
        Ok,
    );
    let mut log = match opened {
        Ok(log) => log,
        Err(error) => return (None, Err(error)),
    };
    let leaves = journal.queue.with(|queue| std::mem::take(&mut queue.leaves));
    let size = log.size();
    let written = log
        .append(&leaves)
        .and_then(|()| log.publish(&journal.credential, stopping));
    match written {
        Ok(()) => (Some(log), Ok(())),
        Err(error) => {
            // Those that are in stay in; the others wait in front of what came meanwhile.
            if log.size() == size {
                journal.queue.with(|queue| {
                    queue.leaves.splice(..0, leaves);
                });
            }
            log.abandon();
            (None, Err(error))
        }
    }
}

fn started(certificate: Option<String>) -> GatewayStarted {
    GatewayStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: instance(),
        certificate,
        previous: None,
    }
}

/// A name for this replica: that of its pod or host, as the system says it.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const COMMIT_INTERVAL: Duration = Duration::from_millis(20);
/// So often somebody looks whether a head or a checkpoint is due although nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Events that are kept while the disk refuses: some ten megabytes.
const MOST_WAITING: usize = 32 * 1024;
