//! Why a session ended: a closed set, each with what its user reads and what the record says.

use std::time::Duration;

use doorward_wire::relay::RelayFault;
use doorward_wire::{End, FrameError, RECORDING_UNAVAILABLE, StreamError};

use crate::record::Failure;
use crate::refusal::chain;
use crate::session::Dismissal;

/// What ended a session.
#[derive(Debug)]
pub enum Ending {
    /// The agent said so: the ordinary end.
    Finished(End),
    /// The client said so.
    Left(End),
    /// The client's tunnel closed or broke.
    ClientGone(Option<RelayFault>),
    /// Nothing came from the client for so long.
    ClientSilent(Duration),
    /// The agent's stream closed or broke before the agent ended the session.
    AgentGone(Option<RelayFault>),
    /// The recording failed.
    RecordFailed(Failure),
    /// The record store stopped.
    RecordStopped,
    /// The agent shows something and records nothing.
    Unrecorded,
    /// The session reached the longest time that its grant allows.
    TooLong(Duration),
    /// The time is over for which the platform leaves the workspace up.
    UpTimeOver,
    /// The gateway is stopping.
    GatewayStops,
    /// The gateway ended it: on somebody's word, or because it is not granted any more.
    Dismissed(Dismissal),
}

impl Ending {
    /// A word from a closed set, for metrics and the journal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Finished(_) => "finished",
            Self::Left(_) => "left",
            Self::ClientGone(Some(fault)) if is_lie(fault) => "client-protocol",
            Self::ClientGone(_) => "client-gone",
            Self::ClientSilent(_) => "client-silent",
            Self::AgentGone(Some(fault)) if is_lie(fault) => "agent-protocol",
            Self::AgentGone(_) => "agent-gone",
            Self::RecordFailed(failure) => failure.code(),
            Self::RecordStopped => "record-store",
            Self::Unrecorded => "unrecorded",
            Self::TooLong(_) => "too-long",
            Self::UpTimeOver => "up-time-over",
            Self::GatewayStops => "gateway-stops",
            Self::Dismissed(Dismissal::Killed(_)) => "killed",
            Self::Dismissed(Dismissal::Locked(_)) => "locked",
            Self::Dismissed(Dismissal::Revoked(_)) => "revoked",
            Self::Dismissed(Dismissal::Over(_)) => "workspace-over",
        }
    }

    /// A sentence for the record and the journal.
    pub fn reason(&self) -> String {
        match self {
            Self::Finished(end) => said_by("the session ended", end),
            Self::Left(end) => said_by("the client left", end),
            Self::ClientGone(None) => "the client is gone".to_owned(),
            Self::ClientGone(Some(fault)) => format!("the client is gone: {}", chain(fault)),
            Self::ClientSilent(time) => format!("the client was silent for {}", human(*time)),
            Self::AgentGone(None) => "the agent is gone".to_owned(),
            Self::AgentGone(Some(fault)) => format!("the agent is gone: {}", chain(fault)),
            Self::RecordFailed(failure) => failure.to_string(),
            Self::RecordStopped => "the record store stopped".to_owned(),
            Self::Unrecorded => "the workspace's agent records nothing of what it shows".to_owned(),
            Self::TooLong(longest) => {
                format!("the session reached its longest time, {}", human(*longest))
            }
            Self::UpTimeOver => "the workspace's up-time was over".to_owned(),
            Self::GatewayStops => "the gateway stopped".to_owned(),
            Self::Dismissed(why) => dismissed(why),
        }
    }

    /// What both sides are told.
    pub(super) fn said(&self) -> End {
        let (exit, text) = match self {
            Self::Finished(end) | Self::Left(end) => return end.clone(),
            Self::RecordFailed(_) | Self::RecordStopped => (
                RECORDING_UNAVAILABLE,
                "the recording of this session cannot be kept, so the session was ended; \
                 tell your platform team"
                    .to_owned(),
            ),
            Self::Unrecorded => (
                RECORDING_UNAVAILABLE,
                "the workspace does not record this session, so it was ended; tell your platform team".to_owned(),
            ),
            Self::ClientGone(_) | Self::ClientSilent(_) => (TRANSPORT, "the client is gone".to_owned()),
            Self::AgentGone(_) => (TRANSPORT, "the connection to the workspace was lost".to_owned()),
            Self::TooLong(longest) => (
                TRANSPORT,
                format!(
                    "the session was ended: it reached the longest time that your role allows, {}",
                    human(*longest)
                ),
            ),
            Self::UpTimeOver => (
                TRANSPORT,
                "the session was ended: the workspace's up-time is over, and its platform stops it".to_owned(),
            ),
            Self::GatewayStops => (
                TRANSPORT,
                "the gateway is stopping; connect again in a moment".to_owned(),
            ),
            Self::Dismissed(why) => (TRANSPORT, dismissed(why)),
        };
        End::new(exit, self.code(), text)
    }

    /// Whether the recording cannot go on.
    pub(super) fn is_record_failure(&self) -> bool {
        matches!(self, Self::RecordFailed(_) | Self::RecordStopped | Self::Unrecorded)
    }

    /// Whether the recording cannot go on, and not for the agent's fault: then the agent may say so in the session.
    pub(super) fn is_store_failure(&self) -> bool {
        match self {
            Self::RecordFailed(failure) => matches!(failure, Failure::Storage(_) | Failure::Conflict(_)),
            ending => matches!(ending, Self::RecordStopped),
        }
    }
}

/// Whether a side broke the rules; otherwise its stream merely broke.
fn is_lie(fault: &RelayFault) -> bool {
    match fault {
        RelayFault::Stream(StreamError::Io(_) | StreamError::Frame(FrameError::Truncated { .. })) => false,
        RelayFault::Stream(StreamError::Frame(_)) | RelayFault::Forbidden(_) => true,
    }
}

fn said_by(what: &str, end: &End) -> String {
    // The text is the peer's: bounded, and without what could disturb a terminal or a log.
    let text: String = end.text.chars().filter(|c| !c.is_control()).take(500).collect();
    if text.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {text}")
    }
}

fn dismissed(why: &Dismissal) -> String {
    let (Dismissal::Killed(text) | Dismissal::Locked(text) | Dismissal::Revoked(text) | Dismissal::Over(text)) = why;
    format!("the session was ended: {text}")
}

fn human(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// Exit code for everything that cut the connection.
const TRANSPORT: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    /// The page for people has every end, with the exit code that is said.
    #[test]
    fn every_end_is_on_the_page_with_its_exit_code() {
        let page = include_str!("../../../docs/sessions.md");
        let table = page.split("## How a session ends").nth(1).unwrap();
        let text = String::new;
        let lie = || RelayFault::Stream(StreamError::Frame(FrameError::UnknownKind(0)));
        for ending in [
            Ending::ClientGone(None),
            Ending::ClientGone(Some(lie())),
            Ending::ClientSilent(Duration::ZERO),
            Ending::AgentGone(None),
            Ending::AgentGone(Some(lie())),
            Ending::RecordFailed(Failure::Storage(text())),
            Ending::RecordFailed(Failure::Conflict(text())),
            Ending::RecordFailed(Failure::Chain(text())),
            Ending::RecordFailed(Failure::Protocol("")),
            Ending::RecordStopped,
            Ending::Unrecorded,
            Ending::TooLong(Duration::ZERO),
            Ending::UpTimeOver,
            Ending::GatewayStops,
            Ending::Dismissed(Dismissal::Killed(text())),
            Ending::Dismissed(Dismissal::Locked(text())),
            Ending::Dismissed(Dismissal::Revoked(text())),
            Ending::Dismissed(Dismissal::Over(text())),
        ] {
            let code = format!("`{}`", ending.code());
            let row = table.lines().find(|line| line.starts_with('|') && line.contains(&code));
            let row = row.unwrap_or_else(|| panic!("{code} is not on the page"));
            // Only an agent that is asked to can say it in the session; otherwise `ssh` loses its connection.
            let ssh = if ending.is_store_failure() {
                RECORDING_UNAVAILABLE
            } else {
                TRANSPORT
            };
            assert!(row.ends_with(&format!("| {ssh} | {} |", ending.said().exit)), "{row}");
        }
        for code in ["finished", "left"] {
            assert!(table.contains(&format!("`{code}`")));
        }
    }
}
