//! Events to those who collect them: the journal as it becomes durable, and what each session did once its recording is closed.
//!
//! One task for each sink, with a cursor of its own in `export/` below the gateway's state: at least once, in the order of the
//! journal, and within a session in that of its recording. A sink that is down is asked again and again; what waits for it is
//! the journal and the recordings themselves, so that nothing is kept in memory, and no session waits for a sink. What cannot be
//! exported any more is said in its place.

mod cursor;
mod journal;
mod recording;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use doorward_audit::Event;
use doorward_audit::export::{About, Entry, Language, Missing};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::cursor::{Current, Cursor};
use self::journal::JournalReader;
use self::recording::RecordingReader;
use self::sink::Sink;
use crate::{
    config,
    guarded::Guarded,
    journal::{Durable, Journal, unix_ms},
    metrics,
    record::Store,
    tasks::Tasks,
};

/// All sinks of a gateway, for those who watch them.
#[derive(Debug, Default)]
pub struct Exports(Vec<Arc<State>>);

/// How one sink is doing.
#[derive(Debug)]
struct State {
    name: String,
    durable: watch::Receiver<Durable>,
    failing: Guarded<Option<String>>,
    /// Events of earlier lives of the gateway that it lacked at the start.
    earlier: AtomicU64,
    /// Events of the journal that it took since.
    done: AtomicU64,
    /// When the oldest event happened that it lacks, Unix milliseconds; 0 if it lacks none.
    oldest: AtomicU64,
    /// Sessions that are not exported yet, open ones included.
    sessions: AtomicU64,
}

/// An event, or what stands in the place of events that are gone.
#[derive(Debug)]
pub(in crate::export) enum Item {
    Event {
        index: u64,
        unix_ms: u64,
        event: Box<Event>,
    },
    Missing {
        from: u64,
        why: String,
    },
}

/// Something to hand over, and where the cursor stands after it.
struct Batch {
    lines: Vec<String>,
    /// How many events of the journal these are.
    events: u64,
    oldest: u64,
    after: Cursor,
}

impl Exports {
    /// Begins to export to each sink, until the gateway closes.
    ///
    /// # Errors
    /// A sink's settings cannot be used. No sink is asked: a gateway starts without them.
    pub(crate) fn start(
        settings: &[config::Export],
        state_directory: &Path,
        journal: &Journal,
        store: &Store,
        tasks: &Tasks,
    ) -> Result<Self, String> {
        let mut states = Vec::new();
        for one in settings {
            let stop = tasks.closing().clone();
            let state = Arc::new(State {
                name: one.name.clone(),
                durable: journal.durable(),
                failing: Guarded::default(),
                earlier: AtomicU64::new(0),
                done: AtomicU64::new(0),
                oldest: AtomicU64::new(0),
                sessions: AtomicU64::new(0),
            });
            let exporter = Exporter {
                sink: Sink::new(&one.sink, stop.clone()).map_err(|why| format!("the export `{}`: {why}", one.name))?,
                language: one.language,
                batch: one.batch,
                folder: state_directory.join("export"),
                journal: state_directory.join("journal"),
                store: store.clone(),
                state: Arc::clone(&state),
                stop,
                passed_over: 0,
            };
            tasks.spawn(exporter.run());
            states.push(state);
        }
        Ok(Self(states))
    }

    /// Each sink with what is wrong with it. Refuses nothing.
    pub fn states(&self) -> Vec<(&str, Result<(), String>)> {
        self.0
            .iter()
            .map(|state| {
                (
                    state.name.as_str(),
                    state.failing.with(|why| why.clone().map_or(Ok(()), Err)),
                )
            })
            .collect()
    }

    /// Puts the numbers where they are asked for.
    pub(crate) fn count(&self) {
        for state in &self.0 {
            let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
            let all = load(&state.earlier).saturating_add(state.durable.borrow().events);
            let age = match load(&state.oldest) {
                0 => Duration::ZERO,
                oldest => Duration::from_millis(unix_ms().saturating_sub(oldest)),
            };
            metrics::export_lag(
                &state.name,
                all.saturating_sub(load(&state.done)),
                age,
                load(&state.sessions),
            );
        }
    }
}

struct Exporter {
    sink: Sink,
    language: Language,
    batch: usize,
    folder: PathBuf,
    journal: PathBuf,
    store: Store,
    state: Arc<State>,
    stop: CancellationToken,
    /// Recordings that could not be read just now: the others need not wait for them.
    passed_over: usize,
}

impl Exporter {
    /// Until stop: a batch under way is still handed over and its cursor moved, so that an orderly stop repeats nothing, unless its sink hangs.
    async fn run(mut self) {
        let stop = self.stop.clone();
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = overdue => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        let stop = self.stop.clone();
        let mut cursor = self.begin().await;
        let mut reader = JournalReader::new(self.journal.clone(), cursor.stream, cursor.events);
        let mut recording = None;
        let mut durable = self.state.durable.clone();
        while !stop.is_cancelled() {
            let upto = *durable.borrow_and_update();
            let events = self.journal_batch(&mut reader, &cursor, upto).await;
            let mut idle = events.is_none();
            if let Some(batch) = events {
                let Some(moved) = self.deliver(batch).await else { return };
                cursor = moved;
            }
            // In turn, so that neither waits for the end of the other.
            if let Some(batch) = self.recording_batch(&mut recording, &cursor).await {
                let Some(moved) = self.deliver(batch).await else { return };
                cursor = moved;
                idle = false;
            }
            if idle {
                self.state.oldest.store(0, Ordering::Relaxed);
                tokio::select! {
                    _ = durable.changed() => {}
                    () = stop.cancelled() => {}
                    // Recordings are closed without a word.
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    /// Where it stood, and how much it lacks.
    async fn begin(&mut self) -> Cursor {
        let cursor = Cursor::load(&self.folder, &self.state.name).await;
        let upto = *self.state.durable.borrow();
        let mut reader = JournalReader::new(self.journal.clone(), cursor.stream, cursor.events);
        let mut lacks = 0_u64;
        loop {
            match reader.next(COUNT_AT_ONCE, upto).await {
                Ok(items) if items.is_empty() && !reader.has_more() => break,
                Ok(items) => lacks += items.len() as u64,
                // It is read again, and then it is told.
                Err(_) => break,
            }
        }
        self.state
            .earlier
            .store(lacks.saturating_sub(upto.events), Ordering::Relaxed);
        self.state
            .sessions
            .store(cursor.sessions.len() as u64, Ordering::Relaxed);
        cursor
    }

    async fn journal_batch(&self, reader: &mut JournalReader, cursor: &Cursor, upto: Durable) -> Option<Batch> {
        if cursor.sessions.len() >= MOST_SESSIONS {
            return None;
        }
        let items = match reader.next(self.batch, upto).await {
            Ok(items) => items,
            Err(error) => {
                self.state.fails(Some(format!("the journal cannot be read: {error}")));
                return None;
            }
        };
        // Behind all of them, on this or already on the next stream.
        let (stream, events) = reader.position();
        if items.is_empty() && (cursor.stream, cursor.events) == (stream, events) {
            return None;
        }
        let mut batch = Batch {
            lines: Vec::new(),
            events: 0,
            oldest: 0,
            after: cursor.clone(),
        };
        for (of, item) in items {
            match item {
                Item::Event { index, unix_ms, event } => {
                    batch.events += 1;
                    if batch.oldest == 0 {
                        batch.oldest = unix_ms;
                    }
                    if let Event::SessionOpened(opened) = &*event {
                        batch.after.opened(About::from(opened));
                    }
                    let entry = Entry {
                        stream: of,
                        index,
                        unix_ms,
                        about: batch.after.about(&event),
                        recorded: false,
                        event: &event,
                    };
                    batch.lines.extend(entry.line(self.language));
                    if let Event::SessionEnded(ended) = &*event {
                        batch.after.ended(ended.session);
                    }
                }
                Item::Missing { from, why } => batch.lines.push(self.missing(of, from, &why)),
            }
        }
        if cursor.stream.is_some() && cursor.stream != stream {
            // Whoever wrote the stream before is gone, or could not go on with it: there may be no other word of its sessions.
            batch.after.all_ended();
        }
        (batch.after.stream, batch.after.events) = (stream, events);
        Some(batch)
    }

    async fn recording_batch(&mut self, recording: &mut Option<RecordingReader>, cursor: &Cursor) -> Option<Batch> {
        if recording.is_none() {
            *recording = self.next_recording(cursor).await;
        }
        let reader = recording.as_mut()?;
        let items = match reader.next(&self.store, self.batch).await {
            Ok(items) => items,
            Err(error) => {
                self.state.fails(Some(format!(
                    "the recording of {} cannot be read: {error}",
                    reader.about.session
                )));
                *recording = None;
                self.passed_over += 1;
                return None;
            }
        };
        self.passed_over = 0;
        let mut batch = Batch {
            lines: Vec::new(),
            events: 0,
            oldest: 0,
            after: cursor.clone(),
        };
        for item in items {
            match item {
                Item::Event { index, unix_ms, event } => {
                    let entry = Entry {
                        stream: reader.about.session,
                        index,
                        unix_ms,
                        about: Some(&reader.about),
                        recorded: true,
                        event: &event,
                    };
                    batch.lines.extend(entry.line(self.language));
                }
                Item::Missing { from, why } => batch.lines.push(self.missing(reader.about.session, from, &why)),
            }
        }
        let session = reader.about.session;
        if reader.is_over() {
            batch.after.exported(session);
            *recording = None;
        } else {
            batch.after.current = Some(Current {
                session,
                events: reader.position(),
            });
        }
        Some(batch)
    }

    /// The recording to go on with, or the first one that is closed.
    async fn next_recording(&self, cursor: &Cursor) -> Option<RecordingReader> {
        if self.passed_over == 0
            && let Some(current) = &cursor.current
            && let Some(pending) = cursor.sessions.iter().find(|one| one.about.session == current.session)
        {
            return Some(RecordingReader::new(pending.about.clone(), current.events));
        }
        let mut ended: Vec<_> = cursor.sessions.iter().filter(|pending| pending.ended).collect();
        let turn = self.passed_over % ended.len().max(1);
        ended.rotate_left(turn);
        for pending in ended.into_iter().take(MOST_ASKED) {
            // One that nobody knows has nothing to wait for; it is said when it is read.
            let closed = self.store.session(pending.about.session).await;
            if closed.is_none_or(|index| index.ended.is_some()) {
                return Some(RecordingReader::new(pending.about.clone(), 0));
            }
        }
        None
    }

    fn missing(&self, stream: uuid::Uuid, from: u64, why: &str) -> String {
        tracing::warn!(export = self.state.name, %stream, from, why, "not exported");
        let missing = Missing {
            stream,
            from,
            unix_ms: unix_ms(),
            why,
        };
        missing.line(self.language)
    }

    /// Hands a batch over, however long that takes, and moves the cursor; none where it could not before stop.
    async fn deliver(&mut self, batch: Batch) -> Option<Cursor> {
        self.state.oldest.store(batch.oldest, Ordering::Relaxed);
        let mut rest = batch.lines;
        let mut at_once = rest.len().max(1);
        let mut failures = 0;
        while !rest.is_empty() {
            let now = at_once.min(rest.len());
            let sent = self.sink.send(rest.get(..now).unwrap_or_default()).await;
            match sent {
                Ok(()) => {
                    rest.drain(..now);
                    failures = 0;
                    metrics::exported(&self.state.name, now as u64);
                    self.state.fails(None);
                }
                Err(failure) if failure.too_large && now > 1 => at_once = now / 2,
                Err(failure) if failure.too_large => {
                    if let Some(line) = rest.first_mut() {
                        let why = format!("the sink takes no event of {} bytes", line.len());
                        *line = self.missing(uuid::Uuid::nil(), 0, &why);
                    }
                    self.pause(&mut failures, failure.why).await?;
                }
                Err(failure) => self.pause(&mut failures, failure.why).await?,
            }
        }
        while let Err(error) = batch.after.save(&self.folder, &self.state.name).await {
            self.pause(&mut failures, format!("its cursor cannot be written: {error}"))
                .await?;
        }
        self.state.fails(None);
        self.state.done.fetch_add(batch.events, Ordering::Relaxed);
        self.state
            .sessions
            .store(batch.after.sessions.len() as u64, Ordering::Relaxed);
        Some(batch.after)
    }

    /// Waits longer after each failure, and not as long as others do; none at stop.
    async fn pause(&self, failures: &mut u32, why: String) -> Option<()> {
        metrics::export_failed(&self.state.name);
        self.state.fails(Some(why));
        let most = FIRST_PAUSE.saturating_mul(1 << (*failures).min(16)).min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1);
        let pause = tokio::time::sleep(most.mul_f64(rand::random_range(0.5..1.0)));
        self.stop.run_until_cancelled(pause).await
    }
}

impl State {
    fn fails(&self, now: Option<String>) {
        let changed = self.failing.with(|state| {
            let changed = state.is_some() != now.is_some();
            state.clone_from(&now);
            changed
        });
        match now {
            Some(why) if changed => tracing::warn!(export = self.name, why, "events cannot be exported; they wait"),
            None if changed => tracing::info!(export = self.name, "events are exported again"),
            _ => {}
        }
    }
}

/// How often it is seen whether a recording was closed.
const LOOK: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a batch under way may still take at stop.
const GRACE: Duration = Duration::from_secs(2);
/// Sessions whose recordings may wait; past that the journal waits as well.
const MOST_SESSIONS: usize = 16 * 1024;
/// Recordings that are asked about in one round.
const MOST_ASKED: usize = 64;
const COUNT_AT_ONCE: usize = 1024;
