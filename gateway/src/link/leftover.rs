//! Fetches what an agent still holds of recordings that broke off, one after the other, and again after pauses where that fails.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use doorward_audit::SessionEnded;
use doorward_wire::link::{MuxStream, read_message, write_message};
use doorward_wire::message::{Leftovers, Message, OpenRecords, StreamAnswer, StreamOpen};
use doorward_wire::{Frame, FrameStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::handshake::printable;
use super::standing::{Live, Standing};
use crate::guarded::Guarded;
use crate::record::{Closing, Recording, ResumeError};
use crate::refusal::chain;

/// What the agent says it still holds, and nobody has fetched yet.
#[derive(Default)]
pub(super) struct News {
    waiting: Guarded<BTreeMap<Uuid, Waiting>>,
    came: Notify,
}

/// A leftover to be fetched.
#[derive(Clone, Copy)]
struct Waiting {
    first_unacked: u64,
    /// When to try; never again on this link if `None`.
    at: Option<Instant>,
    /// How long to wait after another failure.
    pause: Duration,
}

/// Why a leftover was not fetched.
enum Failed {
    /// It may be possible later.
    Now(String),
    /// It never will.
    ForGood(String),
}

impl News {
    /// Takes the agent's list, which is complete: what it does not name any more need not be tried again.
    pub(super) fn put(&self, list: Leftovers) {
        let now = Instant::now();
        self.waiting.with(|waiting| {
            let named: HashSet<Uuid> = list.sessions.iter().map(|one| one.session).collect();
            waiting.retain(|session, _| named.contains(session));
            for one in list.sessions {
                if let Some(known) = waiting.get_mut(&one.session) {
                    known.first_unacked = one.first_unacked;
                } else if waiting.len() < MOST_WAITING {
                    let fresh = Waiting {
                        first_unacked: one.first_unacked,
                        at: Some(now),
                        pause: FIRST_PAUSE,
                    };
                    waiting.insert(one.session, fresh);
                }
            }
        });
        self.came.notify_one();
    }

    /// The one whose turn is next.
    fn next(&self) -> Option<(Instant, Uuid)> {
        self.waiting.with(|waiting| {
            let due = waiting.iter().filter_map(|(session, one)| Some((one.at?, *session)));
            due.min()
        })
    }

    fn take(&self, session: Uuid) -> Option<Waiting> {
        self.waiting.with(|waiting| waiting.remove(&session))
    }

    /// Has it tried again after a pause, or not on this link. Pauses double, and are spread so that many gateways and links do
    /// not try as one.
    fn put_back(&self, session: Uuid, tried: Waiting, for_good: bool) {
        let pause = tried.pause.mul_f64(rand::random_range(0.5..1.0));
        let again = Waiting {
            at: (!for_good).then(|| Instant::now() + pause),
            pause: (tried.pause * 2).min(LONGEST_PAUSE),
            ..tried
        };
        self.waiting.with(|waiting| {
            // A list that came meanwhile knows better where it begins.
            let known = waiting.get(&session).map(|known| known.first_unacked);
            if known.is_some() || waiting.len() < MOST_WAITING {
                let first_unacked = known.unwrap_or(again.first_unacked);
                waiting.insert(session, Waiting { first_unacked, ..again });
            }
        });
    }

    fn sessions(&self) -> HashSet<Uuid> {
        self.waiting.with(|waiting| waiting.keys().copied().collect())
    }
}

/// Fetches until the link is gone.
pub(super) async fn fetch_all(standing: &Arc<Standing>, live: &Arc<Live>, news: &News) {
    news.came.notified().await;
    // The first list is complete: what it does not name will never come.
    let uid = standing.target.life.uid.as_str();
    standing.shared.store.close_unclosed(uid, &news.sessions()).await;
    loop {
        let Some((at, session)) = news.next() else {
            news.came.notified().await;
            continue;
        };
        if at > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = news.came.notified() => {}
            }
            continue;
        }
        let Some(tried) = news.take(session) else { continue };
        // The agent keeps it for as long as it takes.
        while standing.shared.store.ready().is_err() {
            tokio::time::sleep(CLAIM_EVERY).await;
        }
        let (reason, for_good) = match fetch(standing, live, session, tried.first_unacked).await {
            Ok(()) => continue,
            Err(Failed::Now(reason)) => (reason, false),
            Err(Failed::ForGood(reason)) => (reason, true),
        };
        let workspace = standing.target.name.as_str();
        tracing::warn!(workspace, %session, reason, for_good, "leftover not fetched");
        news.put_back(session, tried, for_good);
    }
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::Now(reason)
    }
}

async fn fetch(standing: &Standing, live: &Live, session: Uuid, first_unacked: u64) -> Result<(), Failed> {
    let give_up = Instant::now() + CLAIM_WITHIN;
    let recording = loop {
        match standing
            .shared
            .store
            .resume(session, standing.target.life.uid.as_str())
            .await
        {
            Ok(recording) => break recording,
            // Its session is just ending.
            Err(ResumeError::Open) if Instant::now() < give_up => {
                tokio::time::sleep(CLAIM_EVERY).await;
            }
            Err(ResumeError::Complete { length }) => return Ok(release(live, session, length).await?),
            Err(error @ ResumeError::OtherWorkspace) => return Err(Failed::ForGood(error.to_string())),
            Err(error) => return Err(error.to_string().into()),
        }
    };
    let before = standing
        .shared
        .store
        .session(session)
        .await
        .and_then(|index| index.reason);
    let from = recording.received();
    let hole = first_unacked > from;
    let fetched = if hole {
        Err(format!(
            "bytes {from} to {first_unacked} are missing, the agent has let go of them"
        ))
    } else {
        recording.expect_key(live.key.clone());
        match open(live, session, from).await {
            Ok(stream) => receive(&recording, stream).await,
            Err(reason) => Err(reason),
        }
    };
    finish(standing, recording, before, &fetched).await?;
    fetched.map_err(|reason| {
        if hole {
            Failed::ForGood(reason)
        } else {
            Failed::Now(reason)
        }
    })
}

/// Closes the recording, again or for the first time, with what is known of its end.
async fn finish(
    standing: &Standing,
    recording: Recording,
    before: Option<String>,
    fetched: &Result<(), String>,
) -> Result<(), String> {
    let session = recording.session();
    let first = before.is_none();
    let ended = before.as_deref().unwrap_or("the gateway stopped");
    let ended = ended.split(REST).next().unwrap_or(ended);
    let reason = match fetched {
        Ok(()) => format!("{ended}{REST} came later"),
        Err(reason) => format!("{ended}{REST} did not come: {reason}"),
    };
    let closing = Closing { reason, counted: None };
    let closed = recording
        .finish(closing, STALLED)
        .await
        .map_err(|failure| failure.to_string())?;
    if first {
        standing.shared.journal.append(SessionEnded {
            session,
            reason: closed.reason.unwrap_or_default(),
            code: "gateway-stopped".to_owned(),
            record_bytes: closed.record_bytes,
            ..SessionEnded::default()
        });
    }
    Ok(())
}

/// Tells an agent that holds on to a recording of which everything is stored.
async fn release(live: &Live, session: Uuid, length: u64) -> Result<(), String> {
    let mut frames = FrameStream::new(open(live, session, length).await?);
    let told = async {
        frames.send(&Frame::RecordAck { offset: length }).await?;
        while frames.next().await?.is_some() {}
        frames.close().await
    };
    tokio::time::timeout(STALLED, told)
        .await
        .map_err(|_| "the agent does not let go of it".to_owned())?
        .map_err(|error| chain(&error))
}

async fn open(live: &Live, session: Uuid, from: u64) -> Result<MuxStream, String> {
    let mut stream = live.mux.open().await.map_err(|error| chain(&error))?;
    let message = Message::StreamOpen(StreamOpen::Records(OpenRecords { session, from }));
    write_message(&mut stream, &message, OPEN_WITHIN)
        .await
        .map_err(|error| chain(&error))?;
    match read_message(&mut stream, OPEN_WITHIN)
        .await
        .map_err(|error| chain(&error))?
    {
        Message::StreamAnswer(StreamAnswer::Opened(_)) => Ok(stream),
        Message::StreamAnswer(StreamAnswer::Refused(refused)) => {
            Err(format!("the agent refused: {}", printable(&refused.text)))
        }
        _ => Err("the agent sent a message that is not due".to_owned()),
    }
}

/// Takes records until their end is durable and acknowledged.
async fn receive(recording: &Recording, stream: MuxStream) -> Result<(), String> {
    let mut frames = FrameStream::new(stream);
    let mut progress = recording.progress();
    let (mut end, mut acked) = (None, recording.received());
    loop {
        let due = {
            let now = progress.borrow_and_update();
            if let Some(failure) = &now.failure {
                return Err(failure.to_string());
            }
            now.durable
        };
        if due > acked || end == Some(due) {
            acked = due;
            frames.queue(&Frame::RecordAck { offset: due });
            let flushed = tokio::time::timeout(STALLED, frames.flush()).await;
            flushed
                .map_err(|_| "the agent takes nothing".to_owned())?
                .map_err(|e| chain(&e))?;
        }
        if end == Some(acked) {
            // Whether the agent hears the last word or asks again, all of it is stored.
            let _ = tokio::time::timeout(STALLED, frames.close()).await;
            return Ok(());
        }
        tokio::select! {
            frame = frames.next(), if end.is_none() => match frame.map_err(|error| chain(&error))? {
                Some(Frame::Record { offset, bytes }) => {
                    recording.append(offset, bytes).map_err(|failure| failure.to_string())?;
                }
                Some(Frame::RecordEnd { offset }) if offset == recording.received() => {
                    end = Some(offset);
                }
                Some(_) => return Err("the agent sent a frame that is not due".to_owned()),
                None => return Err("the agent closed the stream".to_owned()),
            },
            changed = progress.changed() => {
                changed.map_err(|_| "the record store stopped".to_owned())?;
            }
            () = tokio::time::sleep(STALLED) => return Err("nothing came for too long".to_owned()),
        }
    }
}

/// Joins how a session ended with what became of the rest of its record.
const REST: &str = "; the rest of the record";
const MOST_WAITING: usize = 4096;
/// After a leftover could not be fetched for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const STALLED: Duration = Duration::from_secs(30);
const CLAIM_WITHIN: Duration = Duration::from_secs(30);
const CLAIM_EVERY: Duration = Duration::from_millis(500);
