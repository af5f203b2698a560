//! What other programs are given: events as JSON lines, in OCSF and in ECS, and lists as CSV.
//!
//! Everything here is a pure function from an event to text. Whatever came from outside is data: it cannot end a line, move a
//! cursor, reorder text or become a formula. An export is no evidence; the recording is.

mod act;
mod csv;
mod ecs;
mod json;
mod lines;
mod ocsf;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{event::Event, journal::SessionOpened, printable::printable};

pub use act::{Act, act};
pub use csv::csv;
pub(crate) use json::harmless;
pub use json::{json, pretty};
pub use lines::lines;

/// A language that log collectors speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Our own names, as in `doorward export --format jsonl`.
    Lines,
    /// The Open Cybersecurity Schema Framework, version 1.3.
    Ocsf,
    /// The Elastic Common Schema, version 8.11.
    Ecs,
}

/// One event and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The session of the recording, or the stream of the journal.
    pub stream: Uuid,
    /// Which event of it, from 0: with `stream` a name that stays, for those who get it twice.
    pub index: u64,
    /// When, Unix milliseconds.
    pub unix_ms: u64,
    /// The session that it belongs to, where that is known.
    pub about: Option<&'a About>,
    /// Whether it stands in that session's recording, and not in a gateway's journal.
    pub recorded: bool,
    /// What happened.
    pub event: &'a Event,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    /// The session.
    pub session: Uuid,
    /// Who.
    pub user: String,
    /// Where.
    pub workspace: String,
    /// Which life of that name.
    pub workspace_uid: String,
    /// The account there.
    pub login: String,
    /// Where the client came from.
    pub client_address: String,
}

impl From<&SessionOpened> for About {
    fn from(opened: &SessionOpened) -> Self {
        Self {
            session: opened.session,
            user: opened.user.clone(),
            workspace: opened.workspace.clone(),
            workspace_uid: opened.workspace_uid.clone(),
            login: opened.login.clone(),
            client_address: opened.client_address.clone(),
        }
    }
}

impl Entry<'_> {
    /// The name of this event for whoever must recognise it: its stream and its place there.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.stream, self.index)
    }

    /// The event as one line of JSON without its end; nothing for what is not for collectors: the bytes of the terminal.
    #[must_use]
    pub fn line(&self, language: Language) -> Option<String> {
        if is_bulk(self.event) {
            return None;
        }
        Some(json(&match language {
            Language::Lines => lines::entry(self),
            Language::Ocsf => ocsf::map(self),
            Language::Ecs => ecs::map(self),
        }))
    }
}

/// Something that cannot be exported any more, said in its place.
#[derive(Debug, Clone, Copy)]
pub struct Missing<'a> {
    /// The session or stream.
    pub stream: Uuid,
    /// The first event that is missing.
    pub from: u64,
    /// When that was noticed, Unix milliseconds.
    pub unix_ms: u64,
    /// A sentence.
    pub why: &'a str,
}

impl Missing<'_> {
    /// The statement as one line of JSON without its end.
    #[must_use]
    pub fn line(&self, language: Language) -> String {
        json(&match language {
            Language::Lines => lines::missing(self),
            Language::Ocsf => ocsf::missing(self),
            Language::Ecs => ecs::missing(self),
        })
    }
}

/// What passes in bulk: shown by a replay, of no use to a collector.
fn is_bulk(event: &Event) -> bool {
    matches!(
        event,
        Event::Output(_) | Event::Input(_) | Event::Resized(_) | Event::Withheld(_)
    )
}

/// A text as a viewer may show it. One with control or hidden characters is escaped whole, any other stays exactly as it is,
/// so that names can be compared.
fn shown(text: &str) -> String {
    let plain = |c: char| !c.is_control() && !crate::printable::hidden(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        printable(text.as_bytes())
    }
}

/// The same for bytes.
fn shown_bytes(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| printable(bytes), shown)
}

/// The same for every string in a value.
fn all_shown(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shown(&text)),
        Value::Array(items) => items.into_iter().map(all_shown).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, member)| (name, all_shown(member)))
            .collect(),
        other => other,
    }
}

/// The last part of a path.
fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// `ip:port` taken apart.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// The session that a journal's event names.
fn session_of(event: &Event) -> Option<Uuid> {
    Some(match event {
        Event::Signed(body) => body.session,
        Event::SessionOpened(body) => body.session,
        Event::SessionEnded(body) => body.session,
        Event::AccessLent(body) => body.session,
        Event::HeadCountersigned(body) => body.session,
        Event::RecordingViewed(body) => body.session,
        Event::SessionKilled(body) => body.session,
        Event::BreakGlass(body) => body.session,
        Event::Reconciled(body) => body.session,
        Event::RecordingDeleted(body) => body.session,
        Event::HoldPlaced(body) => body.session,
        Event::HoldReleased(body) => body.session,
        Event::EndAnnounced(body) => body.session,
        _ => return None,
    })
}

/// The person who did it, by the event's own word or by that of its session.
fn user_of(entry: &Entry<'_>) -> Option<String> {
    let named = match entry.event {
        Event::Denied(body) => body.user.as_deref(),
        Event::Signed(body) => Some(body.user.as_str()),
        Event::SessionOpened(body) => Some(body.user.as_str()),
        Event::RecordingViewed(body) => Some(body.user.as_str()),
        Event::SessionKilled(body) => Some(body.by.as_str()),
        Event::Locked(body) => Some(body.by.as_str()),
        Event::Unlocked(body) => Some(body.by.as_str()),
        Event::HoldPlaced(body) => Some(body.by.as_str()),
        Event::HoldReleased(body) => Some(body.by.as_str()),
        Event::LoggedOut(body) => body.subject.as_deref(),
        Event::BreakGlass(body) => Some(body.user.as_str()),
        Event::WorkspaceWoken(body) => Some(body.user.as_str()),
        Event::WorkspaceKept(body) => Some(body.user.as_str()),
        Event::KeepReleased(body) => Some(body.user.as_str()),
        _ => entry.about.map(|about| about.user.as_str()),
    };
    named.map(shown)
}

/// The workspace that it is about.
fn workspace_of(entry: &Entry<'_>) -> Option<String> {
    let named = match entry.event {
        Event::Denied(body) => Some(body.workspace.as_str()).filter(|name| !name.is_empty()),
        Event::Signed(body) => Some(body.workspace.as_str()),
        Event::SessionOpened(body) => Some(body.workspace.as_str()),
        Event::LinkUp(body) => Some(body.workspace.as_str()),
        Event::LinkDown(body) => Some(body.workspace.as_str()),
        Event::Enrolled(body) => Some(body.workspace.as_str()),
        Event::EnrolRefused(body) => Some(body.workspace.as_str()),
        Event::HostCertificateSeen(body) => Some(body.workspace.as_str()),
        Event::BreakGlass(body) => Some(body.workspace.as_str()),
        Event::WorkspaceWoken(body) => Some(body.workspace.as_str()),
        Event::WorkspaceKept(body) => Some(body.workspace.as_str()),
        Event::KeepReleased(body) => Some(body.workspace.as_str()),
        _ => entry.about.map(|about| about.workspace.as_str()),
    };
    named.map(shown)
}

/// Where the client came from.
fn client_of<'a>(entry: &'a Entry<'_>) -> Option<&'a str> {
    let named = match entry.event {
        Event::Denied(body) => Some(body.client_address.as_str()),
        Event::SessionOpened(body) => Some(body.client_address.as_str()),
        Event::WorkspaceWoken(body) => Some(body.client_address.as_str()),
        Event::WorkspaceKept(body) => Some(body.client_address.as_str()),
        Event::KeepReleased(body) => Some(body.client_address.as_str()),
        _ => entry.about.map(|about| about.client_address.as_str()),
    };
    named.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
