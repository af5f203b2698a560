//! One session's passage: bytes between client and agent, records from the agent to the store.
//!
//! A record reaches the recording before any byte that follows it in the agent's stream reaches the
//! client. It is acknowledged once it is durable, and only then. Whatever ends the passage, what
//! the agent sent is stored, and the agent is given a bounded time to send the rest. Where the recording cannot be kept, the
//! agent is given a moment to say so in the session itself, so that `ssh` ends with the exit status that says so.

mod ending;
mod herald;
mod nobody;
#[cfg(test)]
mod tests;
mod unrecorded;
mod warning;

use std::time::Duration;

use doorward_wire::Carrier;
use doorward_wire::relay::{Counters, Event, Relay, RelayLimits, Side};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use ending::Ending;
pub use herald::Herald;
pub(crate) use nobody::Nobody;
use unrecorded::Unrecorded;
use warning::{Due, Warnings};

use crate::session::{Dismissal, Keeping};
use crate::workspace::Stop;

/// How a passage went.
#[derive(Debug)]
pub struct Passage {
    /// What ended it, the first that did.
    pub ending: Ending,
    /// What passed.
    pub counters: Counters,
}

/// What ends a passage from the gateway's side.
#[derive(Debug)]
pub struct Bounds {
    /// The longest time from now.
    pub longest: Duration,
    /// The gateway is stopping.
    pub ending: CancellationToken,
    /// Somebody ended the session, with the sentence for its user.
    pub killed: watch::Receiver<Option<Dismissal>>,
    /// How long a client may be silent; it pings more often than [`SILENCE`].
    pub silence: Duration,
    /// A sentence that the user is told first.
    pub notice: Option<String>,
    /// When the workspace is stopped, which may be moved.
    pub stops: watch::Receiver<Option<Stop>>,
    /// Who puts on record that the user was told of an end.
    pub herald: Herald,
}

/// Passes a session until both sides are done with it.
pub async fn pass<C: Carrier, A: Carrier>(client: C, agent: A, recording: &mut Keeping, bounds: Bounds) -> Passage {
    let mut passing = Passing {
        relay: Relay::new(client, agent, RelayLimits::default()),
        recording,
        acked: 0,
        unrecorded: Unrecorded::default(),
        record_end: None,
        agent_gone: false,
        asked: false,
        ending: None,
        linger: Instant::now(),
    };
    if let Some(notice) = &bounds.notice {
        passing.relay.notice(notice.as_str());
    }
    let ending = passing.run(bounds).await;
    let counters = passing.relay.counters();
    passing.relay.close(CLOSE_WITHIN).await;
    Passage { ending, counters }
}

struct Passing<'a, C, A> {
    relay: Relay<C, A>,
    recording: &'a mut Keeping,
    acked: u64,
    unrecorded: Unrecorded,
    record_end: Option<u64>,
    agent_gone: bool,
    /// The agent was asked to end the session, and has its last words.
    asked: bool,
    ending: Option<Ending>,
    /// How long the last records are waited for, once there is an ending.
    linger: Instant,
}

impl<C: Carrier, A: Carrier> Passing<'_, C, A> {
    async fn run(&mut self, mut bounds: Bounds) -> Ending {
        let mut warnings = Warnings::new(Instant::now(), bounds.longest, bounds.stops.clone());
        let longest = tokio::time::sleep(bounds.longest);
        tokio::pin!(longest);
        loop {
            if let Some(ending) = self.settled() {
                return ending;
            }
            let open = self.ending.is_none();
            let silent_at = self.relay.heard(Side::Client) + bounds.silence;
            tokio::select! {
                event = self.relay.next() => self.hear(event),
                changed = self.recording.changed(), if !self.asked => match changed {
                    Ok(durable) => self.acknowledge(durable),
                    Err(failure) => {
                        self.acknowledge(self.recording.durable());
                        self.end(Ending::RecordFailed(failure));
                    }
                },
                () = self.unrecorded.look() => {
                    if self.unrecorded.is_too_long(self.relay.counters()) {
                        self.end(Ending::Unrecorded);
                    }
                }
                () = tokio::time::sleep_until(silent_at), if open => {
                    // The relay answers pings without an event here, so the client may have been heard since.
                    if self.relay.heard(Side::Client) + bounds.silence <= Instant::now() {
                        self.end(Ending::ClientSilent(bounds.silence));
                    }
                }
                due = warnings.next(), if open => match due {
                    Due::Warning { text, ends, why } => {
                        bounds.herald.announced(ends, why);
                        self.relay.notice(text);
                    }
                    Due::News(text) => self.relay.notice(text),
                    Due::Stopped => self.end(Ending::UpTimeOver),
                },
                () = &mut longest, if open => self.end(Ending::TooLong(bounds.longest)),
                () = bounds.ending.cancelled(), if open => self.end(Ending::GatewayStops),
                why = killed(&mut bounds.killed), if open => self.end(Ending::Dismissed(why)),
                () = tokio::time::sleep_until(self.linger), if !open => {
                    self.answered();
                    return self.ending.take().unwrap_or(Ending::RecordStopped);
                }
            }
        }
    }

    /// The ending, if nothing more is to be waited for.
    fn settled(&mut self) -> Option<Ending> {
        let ending = self.ending.as_ref()?;
        let stored = self.record_end == Some(self.acked);
        // The last acknowledgement, and what is queued for the client, leave when the relay is closed.
        if self.agent_gone || (ending.is_record_failure() && !self.asked) || stored {
            self.ending.take()
        } else {
            None
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Record { offset, bytes } => {
                if let Err(failure) = self.recording.append(offset, bytes) {
                    self.end(Ending::RecordFailed(failure));
                }
            }
            Event::RecordEnd { offset } => {
                self.record_end = Some(offset);
            }
            Event::Ended { by: Side::Agent, end } => {
                self.answered();
                self.note(Ending::Finished(end));
            }
            Event::Ended { by: Side::Client, end } => self.note(Ending::Left(end)),
            Event::Gone {
                side: Side::Client,
                fault,
            } => {
                self.answered();
                self.end(Ending::ClientGone(fault));
            }
            Event::Gone {
                side: Side::Agent,
                fault,
            } => {
                self.agent_gone = true;
                self.answered();
                self.end(Ending::AgentGone(fault));
            }
            Event::Over => {
                self.agent_gone = true;
                self.note(Ending::AgentGone(None));
            }
        }
    }

    fn acknowledge(&mut self, durable: u64) {
        if durable > self.acked {
            self.acked = durable;
            self.relay.ack_records(durable);
        }
    }

    /// Ends the passage and tells both sides, unless it has ended already.
    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.asked = ending.is_store_failure();
            if self.asked {
                self.relay.ask_to_end(&ending.said());
            } else {
                self.relay.end(&ending.said());
            }
        }
        self.note(ending);
    }

    /// Nothing more is to be waited for from an agent that was asked to end the session.
    fn answered(&mut self) {
        if std::mem::take(&mut self.asked)
            && let Some(ending) = &self.ending
        {
            self.relay.end(&ending.said());
        }
    }

    /// Remembers the first ending, and the first failure of the recording above all others.
    fn note(&mut self, ending: Ending) {
        match &self.ending {
            None => {
                self.linger = Instant::now() + if self.asked { WORDS_WITHIN } else { RECORDS_WITHIN };
                self.ending = Some(ending);
            }
            Some(known) if ending.is_record_failure() && !known.is_record_failure() => {
                self.ending = Some(ending);
            }
            Some(_) => {}
        }
    }
}

/// Why somebody ended the session; never, if nobody can any more.
async fn killed(asked: &mut watch::Receiver<Option<Dismissal>>) -> Dismissal {
    let why = asked.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        None => std::future::pending().await,
    }
}

/// How long the agent may take to send the last records of a session that is over.
const RECORDS_WITHIN: Duration = Duration::from_secs(10);
/// How long the agent may take to say why a session ends whose recording cannot be kept.
const WORDS_WITHIN: Duration = Duration::from_secs(5);
/// So long after a client's last frame it counts as gone. Clients ping every thirty seconds.
pub const SILENCE: Duration = Duration::from_secs(100);
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
