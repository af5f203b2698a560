//! Exports of one channel: asciicast version 2 and 3, and the raw bytes.
//!
//! asciicast is text: bytes that are not UTF-8 become U+FFFD, and a character that was split over
//! two events appears with the second. Whoever needs the bytes takes [`raw`]. Places where the
//! recording has a gap, is masked, or goes over to a digest, become markers. Hidden and control characters stand in the file as
//! escapes, so that showing it does nothing.

mod text;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Write,
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    event::{Event, Stamped},
    export::json,
    fault::{Error, Fault},
    session::Exit,
};
use text::Streams;

/// Channels and variables beyond these are not looked at: only a forged recording has them.
const MOST_CHANNELS: usize = 1024;
const MOST_VARIABLES: usize = 256;
const DEFAULT_SIZE: (u32, u32) = (80, 24);

/// Writes asciicast version 2 of one channel (of the first that runs something, if none is named)
/// and returns which channel that was.
///
/// # Errors
/// If the recording is damaged (what comes before is written), has no such channel, or `out`
/// fails.
pub fn v2(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<u32, Error> {
    Cast::new(Version::V2, channel, out).write(events)
}

/// Writes asciicast version 3, otherwise as [`v2`].
///
/// # Errors
/// As [`v2`].
pub fn v3(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<u32, Error> {
    Cast::new(Version::V3, channel, out).write(events)
}

/// Writes the output bytes of one channel exactly as they were sent, standard output and standard
/// error in the order of the recording.
///
/// # Errors
/// As [`v2`].
pub fn raw(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<u32, Error> {
    let mut chosen = channel;
    let mut found = false;
    for event in events {
        match event?.event {
            Event::Output(output) if *chosen.get_or_insert(output.channel) == output.channel => {
                found = true;
                out.write_all(&output.bytes).map_err(Error::Write)?;
            }
            Event::ChannelOpened(opened) if chosen == Some(opened.channel) => found = true,
            _ => {}
        }
    }
    match chosen {
        Some(channel) if found => Ok(channel),
        _ => Err(Error::NoChannel(chosen)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    V2,
    V3,
}

/// What a header needs and what comes before any output.
#[derive(Default)]
struct Before {
    opened_at: u64,
    size: Option<(u32, u32)>,
    env: BTreeMap<String, String>,
    command: Option<String>,
}

struct Cast<'a, W> {
    version: Version,
    wanted: Option<u32>,
    out: &'a mut W,
    started_unix_ms: u64,
    before: BTreeMap<u32, Before>,
    /// The channel that is being written, once its header is.
    current: Option<Current>,
}

struct Current {
    channel: u32,
    opened_at: u64,
    /// Microseconds after the begin of the last event that was written.
    last: u64,
    streams: Streams,
}

impl<'a, W: Write> Cast<'a, W> {
    fn new(version: Version, wanted: Option<u32>, out: &'a mut W) -> Self {
        Self {
            version,
            wanted,
            out,
            started_unix_ms: 0,
            before: BTreeMap::new(),
            current: None,
        }
    }

    fn write(mut self, events: impl Iterator<Item = Result<Stamped, Fault>>) -> Result<u32, Error> {
        let mut end = 0;
        for event in events {
            let Stamped { at, event } = event?;
            end = end.max(at);
            self.event(at, &event)?;
        }
        if self.current.is_none()
            && let Some(channel) = self.wanted
            && self.before.contains_key(&channel)
        {
            self.header(channel)?;
        }
        self.flush(end)?;
        self.current
            .map(|current| current.channel)
            .ok_or(Error::NoChannel(self.wanted))
    }

    fn event(&mut self, at: u64, event: &Event) -> Result<(), Error> {
        match event {
            Event::Opened(opened) => self.started_unix_ms = opened.started_unix_ms,
            Event::ChannelOpened(opened) => {
                self.before(opened.channel, |before| before.opened_at = at);
            }
            Event::Pty(pty) => self.before(pty.channel, |before| {
                before.size = Some((pty.cols, pty.rows));
                before.env.insert("TERM".to_owned(), lossy(&pty.term));
            }),
            Event::Env(env) if env.accepted => self.before(env.channel, |before| {
                if before.env.len() < MOST_VARIABLES {
                    before.env.insert(env.name.clone(), lossy(&env.value));
                }
            }),
            Event::Shell(shell) => self.begin(shell.channel)?,
            Event::Exec(exec) => {
                self.before(exec.channel, |before| before.command = Some(lossy(&exec.command)));
                self.begin(exec.channel)?;
            }
            Event::Resized(size) if self.is_current(size.channel) => {
                self.line(at, "r", &format!("{}x{}", size.cols, size.rows))?;
            }
            Event::Resized(size) => {
                self.before(size.channel, |before| before.size = Some((size.cols, size.rows)));
            }
            Event::Output(output) => {
                self.begin(output.channel)?;
                self.bytes(at, output.channel, output.stream, &output.bytes)?;
            }
            Event::Input(input) => self.bytes(at, input.channel, 0, &input.bytes)?,
            Event::Gap(gap) if gap.channel.is_none_or(|channel| self.is_current(channel)) => {
                self.line(at, "m", &format!("{} bytes are missing: {}", gap.bytes, gap.why))?;
            }
            // In front of what it is about: the next bytes of the stream.
            Event::Masked(masked) if masked.channel.is_some_and(|channel| self.is_current(channel)) => {
                let text = format!("{} bytes of {} are masked ({})", masked.bytes, masked.name, masked.form);
                self.line(at, "m", &text)?;
            }
            Event::IdeServerSeen(seen) => {
                self.line(
                    at,
                    "m",
                    &format!("{} was seen: its terminals are not captured", seen.product),
                )?;
            }
            Event::DigestStarted(digest) if self.is_current(digest.channel) => {
                let text = format!("stream {} goes on as a digest", digest.stream);
                self.line(at, "m", &text)?;
            }
            Event::Exit(exit) if self.is_current(exit.channel) && self.version == Version::V3 => {
                if let Some(status) = status(exit) {
                    self.flush(at)?;
                    self.line(at, "x", &status.to_string())?;
                }
            }
            Event::ChannelClosed(closed) if self.is_current(closed.channel) => self.flush(at)?,
            _ => {}
        }
        Ok(())
    }

    fn is_current(&self, channel: u32) -> bool {
        self.current.as_ref().is_some_and(|current| current.channel == channel)
    }

    /// Notes something about a channel of which nothing is written yet.
    fn before(&mut self, channel: u32, note: impl FnOnce(&mut Before)) {
        if self.current.is_some() || self.wanted.is_some_and(|wanted| wanted != channel) {
            return;
        }
        let full = self.before.len() >= MOST_CHANNELS;
        match self.before.entry(channel) {
            Entry::Occupied(entry) => note(entry.into_mut()),
            Entry::Vacant(entry) if !full => note(entry.insert(Before::default())),
            Entry::Vacant(_) => {}
        }
    }

    /// Something runs in the channel: if it is the one, its header is written.
    fn begin(&mut self, channel: u32) -> Result<(), Error> {
        if self.current.is_none() && self.wanted.is_none_or(|wanted| wanted == channel) {
            self.header(channel)?;
        }
        Ok(())
    }

    fn header(&mut self, channel: u32) -> Result<(), Error> {
        let before = self.before.remove(&channel).unwrap_or_default();
        self.before.clear();
        let (cols, rows) = before.size.filter(|size| *size != (0, 0)).unwrap_or(DEFAULT_SIZE);
        let timestamp = self.started_unix_ms.saturating_add(before.opened_at / 1_000_000) / 1000;
        let term = before.env.get("TERM").cloned();
        let (env, command) = (before.env, before.command);
        let header = match self.version {
            Version::V2 => json(&HeaderV2 {
                version: 2,
                width: cols,
                height: rows,
                timestamp,
                command,
                env,
            }),
            Version::V3 => json(&HeaderV3 {
                version: 3,
                term: Term { cols, rows, kind: term },
                timestamp,
                command,
                env,
            }),
        };
        writeln!(self.out, "{header}").map_err(Error::Write)?;
        self.current = Some(Current {
            channel,
            opened_at: before.opened_at,
            last: 0,
            streams: Streams::default(),
        });
        Ok(())
    }

    fn bytes(&mut self, at: u64, channel: u32, stream: u8, bytes: &Bytes) -> Result<(), Error> {
        if let Some(current) = &mut self.current
            && current.channel == channel
        {
            let text = current.streams.push(stream, bytes);
            if !text.is_empty() {
                self.line(at, code(stream), &text)?;
            }
        }
        Ok(())
    }

    /// Writes what is left of characters that never came whole.
    fn flush(&mut self, at: u64) -> Result<(), Error> {
        let left = match &mut self.current {
            Some(current) => current.streams.finish(),
            None => return Ok(()),
        };
        for stream in left {
            self.line(at, code(stream), "\u{fffd}")?;
        }
        Ok(())
    }

    fn line(&mut self, at: u64, code: &str, text: &str) -> Result<(), Error> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        // Time never runs back in a cast, whatever a recording says.
        let now = (at.saturating_sub(current.opened_at) / 1000).max(current.last);
        let shown = match self.version {
            Version::V2 => now,
            Version::V3 => now - current.last,
        };
        current.last = now;
        let (seconds, micros) = (shown / 1_000_000, shown % 1_000_000);
        let text = json(&text);
        writeln!(self.out, "[{seconds}.{micros:06}, \"{code}\", {text}]").map_err(Error::Write)
    }
}

fn code(stream: u8) -> &'static str {
    if stream == 0 { "i" } else { "o" }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A shell's view of how a process ended.
fn status(exit: &Exit) -> Option<u32> {
    let signal = |name: &str| match name {
        "HUP" => Some(1),
        "INT" => Some(2),
        "QUIT" => Some(3),
        "ILL" => Some(4),
        "ABRT" => Some(6),
        "FPE" => Some(8),
        "KILL" => Some(9),
        "USR1" => Some(10),
        "SEGV" => Some(11),
        "USR2" => Some(12),
        "PIPE" => Some(13),
        "ALRM" => Some(14),
        "TERM" => Some(15),
        _ => None,
    };
    exit.status.or_else(|| Some(128 + signal(exit.signal.as_deref()?)?))
}

#[derive(Serialize)]
struct HeaderV2 {
    version: u8,
    width: u32,
    height: u32,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct HeaderV3 {
    version: u8,
    term: Term,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Term {
    cols: u32,
    rows: u32,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}
