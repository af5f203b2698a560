//! JSON lines: every event of a session, or of a journal, one object a line, with names that stay.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::{Entry, Missing, act, json};
use crate::{
    event::{Event, Stamped},
    fault::{Error, Fault},
    time,
};

/// Writes the events of a recording, of one channel alone if it is named. `made_unix_ms` is when the stream was made, from which
/// times count in a journal; a session's recording says itself when it began.
///
/// # Errors
/// If the recording is damaged (what comes before is written), has no such channel, or `out` fails.
pub fn lines(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    made_unix_ms: u64,
    out: &mut impl Write,
) -> Result<(), Error> {
    let (mut started, mut found) = (made_unix_ms, channel.is_none());
    for event in events {
        let Stamped { at, event } = event?;
        if let Event::Opened(opened) = &event {
            started = opened.started_unix_ms;
        }
        let act = act(&event);
        if channel.is_some() && act.channel() != channel {
            continue;
        }
        found = true;
        let mut all = Map::new();
        all.insert("at-ms".into(), (at / 1_000_000).into());
        let unix_ms = started.saturating_add(at / 1_000_000);
        all.insert("time".into(), time::format(unix_ms).into());
        all.insert("act".into(), act.name.into());
        all.extend(act.members);
        writeln!(out, "{}", json(&all)).map_err(Error::Write)?;
    }
    if found { Ok(()) } else { Err(Error::NoChannel(channel)) }
}

pub(super) fn entry(entry: &Entry<'_>) -> Value {
    let mut all = Map::new();
    all.insert("id".into(), entry.id().into());
    all.insert("time".into(), time::format(entry.unix_ms).into());
    all.insert("log".into(), log(entry.recorded).into());
    if let Some(about) = entry.about {
        all.insert("session".into(), about.session.to_string().into());
        all.insert("user".into(), about.user.as_str().into());
        all.insert("workspace".into(), about.workspace.as_str().into());
        all.insert("login".into(), about.login.as_str().into());
        all.insert("client-address".into(), about.client_address.as_str().into());
    }
    let act = act(entry.event);
    all.insert("act".into(), act.name.into());
    all.extend(act.members);
    all.into()
}

pub(super) fn missing(missing: &Missing<'_>) -> Value {
    json!({
        "id": format!("{}:{}", missing.stream, missing.from), "time": time::format(missing.unix_ms),
        "act": "not-exported", "stream": missing.stream, "from": missing.from, "why": missing.why,
    })
}

/// Which of the two kinds of streams.
pub(super) fn log(recorded: bool) -> &'static str {
    if recorded { "recording" } else { "journal" }
}
