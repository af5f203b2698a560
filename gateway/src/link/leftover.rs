//! Fetches what an agent still holds of recordings that broke off, one after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// What the agent said it still holds, and nobody has fetched yet.
#[derive(Default)]
pub(super) struct News {
    waiting: Guarded<BTreeMap<Uuid, u64>>,
    came: Notify,
}

impl News {
    pub(super) fn put(&self, list: Leftovers) {
        self.waiting.with(|waiting| {
            for one in list.sessions {
                if waiting.len() < MOST_WAITING || waiting.contains_key(&one.session) {
                    waiting.insert(one.session, one.first_unacked);
                }
            }
        });
        self.came.notify_one();
    }

    fn take(&self) -> Option<(Uuid, u64)> {
        self.waiting.with(BTreeMap::pop_first)
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
    let mut failed = HashMap::new();
    loop {
        while let Some((session, first_unacked)) = news.take() {
            let tries: &mut u32 = failed.entry(session).or_default();
            if *tries >= MOST_TRIES {
                continue;
            }
            // The agent keeps it for as long as it takes.
            while standing.shared.store.ready().is_err() {
                tokio::time::sleep(CLAIM_EVERY).await;
            }
            match fetch(standing, live, session, first_unacked).await {
                Ok(()) => *tries = 0,
                Err(reason) => {
                    *tries += 1;
                    let workspace = standing.target.name.as_str();
                    tracing::warn!(workspace, %session, reason, "leftover not fetched");
                }
            }
            if failed.len() > MOST_WAITING {
                failed.clear();
            }
        }
        news.came.notified().await;
    }
}

async fn fetch(standing: &Standing, live: &Live, session: Uuid, first_unacked: u64) -> Result<(), String> {
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
            Err(ResumeError::Complete { length }) => return release(live, session, length).await,
            Err(error) => return Err(error.to_string()),
        }
    };
    let before = standing
        .shared
        .store
        .session(session)
        .await
        .and_then(|index| index.reason);
    let from = recording.received();
    let fetched = if first_unacked > from {
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
    fetched
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
/// So often a leftover is tried on one link; a session's store may be closing it just now.
const MOST_TRIES: u32 = 3;
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const STALLED: Duration = Duration::from_secs(30);
const CLAIM_WITHIN: Duration = Duration::from_secs(30);
const CLAIM_EVERY: Duration = Duration::from_millis(500);
