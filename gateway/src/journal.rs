//! The gateway's own record of its decisions, in the format of recordings.
//!
//! One stream per start, in `journal/<stream id>/`; its first event names the last link of the
//! stream before it, so that a stream that is taken away shows. Heads are signed with the gateway's
//! key after so many events, so many minutes, and at the end.
//!
//! Appending never waits: an event is durable within [`COMMIT_INTERVAL`] of a working disk, in the
//! order in which events came, and nothing waits for it. While the disk refuses, events are kept
//! (as many as [`MOST_WAITING`]), new sessions are refused, and once it works they go to a new stream.

mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::{Event, Gap, GatewayStarted, GatewayStopped, Stamped};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::stream::{Last, Stream};
use crate::guarded::Guarded;
use crate::link::Credential;

/// The journal. Clones write into the same one.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    credential: Arc<Credential>,
    opened: Instant,
    queue: Guarded<Queue>,
    wake: Notify,
    failing: Guarded<Option<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Queue {
    events: Vec<Stamped>,
    /// Events for which there was no room.
    lost: u64,
}

impl Journal {
    /// Begins a new stream below `dir`, which is made when it is missing.
    ///
    /// # Errors
    /// When the disk refuses the first events: a gateway does not start without its journal.
    pub async fn open(dir: &Path, credential: Arc<Credential>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            credential,
            opened: Instant::now(),
            queue: Guarded::default(),
            wake: Notify::new(),
            failing: Guarded::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let owner = Arc::clone(&inner);
        let begun = inner.tasks.spawn_blocking(move || {
            let previous = stream::last_below(&owner.dir)?;
            owner.begin(previous.as_ref())
        });
        let stream = begun.await.map_err(io::Error::other)??;
        inner.tasks.spawn(serve(Arc::clone(&inner), stream));
        inner.tasks.close();
        Ok(Self(inner))
    }

    /// Puts an event on record. Never waits, never fails; see [`Journal::ready`].
    pub fn append(&self, event: impl Into<Event>) {
        let event = self.0.stamp(event.into());
        self.0.queue.with(|queue| {
            if queue.events.len() < MOST_WAITING {
                queue.events.push(event);
            } else {
                queue.lost += 1;
            }
        });
        self.0.wake.notify_one();
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
        let certificate = self.credential.certificate_text();
        let mut stream = Stream::create(&self.dir, certificate.clone())?;
        let started = GatewayStarted {
            previous: previous.map(Last::to_string),
            ..started(certificate)
        };
        stream.append(&[self.stamp(started.into())])?;
        Ok(stream)
    }

    /// Says anew who signs the heads, where there is another certificate than the stream has named: a gateway may start without
    /// one, and one that runs for days has several.
    fn introduce(&self, stream: &mut Stream) -> Option<Stamped> {
        let now = self.credential.certificate_text()?;
        let said = stream.certificate.replace(now.clone());
        (said.as_ref() != Some(&now)).then(|| self.stamp(started(Some(now)).into()))
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

/// Where the stream stands between two rounds.
enum Place {
    Writing(Box<Stream>),
    /// Its disk refused; the next stream names this link.
    Broken(Option<Last>),
}

async fn serve(journal: Arc<Inner>, stream: Stream) {
    let mut place = Place::Writing(Box::new(stream));
    let mut next = Instant::now();
    loop {
        let broken = matches!(place, Place::Broken(_));
        let stopping = tokio::select! {
            () = journal.wake.notified(), if !broken => false,
            () = tokio::time::sleep(HEAD_EVERY), if !broken => false,
            () = tokio::time::sleep(RETRY_EVERY), if broken => false,
            () = journal.stop.cancelled() => true,
        };
        if !stopping {
            tokio::time::sleep_until(next).await;
        }
        next = Instant::now() + COMMIT_INTERVAL;
        let owner = Arc::clone(&journal);
        let round = tokio::task::spawn_blocking(move || round(&owner, place, stopping));
        place = round.await.unwrap_or(Place::Broken(None));
        if stopping {
            return;
        }
    }
}

/// Writes what waits. Blocks.
fn round(journal: &Inner, place: Place, stopping: bool) -> Place {
    let mut stream = match place {
        Place::Writing(stream) => stream,
        Place::Broken(last) => match journal.begin(last.as_ref()) {
            Ok(stream) => Box::new(stream),
            Err(error) => {
                journal.set_failing(Some(error.to_string()));
                return Place::Broken(last);
            }
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
            journal.set_failing(None);
            Place::Writing(stream)
        }
        Err(error) => {
            journal.set_failing(Some(error.to_string()));
            journal.put_back(events);
            Place::Broken(Some(stream.last()))
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

const COMMIT_INTERVAL: Duration = Duration::from_millis(20);
const HEAD_EVERY: Duration = Duration::from_secs(300);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Events that are kept while the disk refuses: some ten megabytes.
const MOST_WAITING: usize = 32 * 1024;
