//! `doorward replay`: a recording in the terminal, or as plain text, or exactly as it was.

mod decode;
mod filter;
mod plain;
mod player;
mod terminal;
mod track;

use std::io::{BufWriter, Write, stdout};

use doorward_audit::{Error as AuditError, Event, Fault, Stamped};

use crate::cli::{Format, ReplayArgs};
use crate::error::Error;
use crate::home::Home;
use crate::recording::{Recording, export};
use crate::say;
use plain::Plain;
use player::Player;
use terminal::Terminal;
use track::Track;

/// Plays a recording.
pub(crate) async fn replay(home: &Home, args: &ReplayArgs) -> Result<(), Error> {
    let recording = Recording::find(home, &args.recording).await?;
    let track = Track::choose(recording.events()?, args.channel)?;
    if args.channel.is_none() && !track.others.is_empty() {
        let others: Vec<String> = track.others.iter().take(20).map(ToString::to_string).collect();
        say::note(&format!(
            "this is channel {}; --channel shows another: {}",
            track.channel,
            others.join(", ")
        ));
    }
    if args.raw {
        say::note("these are the recorded bytes: they do to a terminal whatever they did to the one that was recorded");
    }
    if terminal::is_shown() {
        return play(&recording, &track, args).await;
    }
    let format = if args.raw { Format::Raw } else { Format::Text };
    let out = &mut BufWriter::with_capacity(256 * 1024, stdout().lock());
    export::write(&recording, format, Some(track.channel), out)
}

/// The channel that is played where none is named.
pub(crate) fn channel(recording: &Recording, wanted: Option<u32>) -> Result<u32, Error> {
    Track::choose(recording.events()?, wanted).map(|track| track.channel)
}

async fn play(recording: &Recording, track: &Track, args: &ReplayArgs) -> Result<(), Error> {
    if let (Some((columns, rows)), Some((have_columns, have_rows))) = (track.size, Terminal::size())
        && (columns > have_columns || rows > have_rows)
    {
        say::note(&format!(
            "recorded in a window of {columns}x{rows}; this one has {have_columns}x{have_rows}, so lines may look broken"
        ));
    }
    let player = Player::new(track.channel, args);
    player.play(recording.events()?).await
}

/// Writes what a channel showed as plain text, without waiting.
///
/// # Errors
/// If the recording is damaged (what comes before is written), or `out` fails.
pub(crate) fn text(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: u32,
    out: &mut impl Write,
) -> Result<(), AuditError> {
    let mut plain = Plain::default();
    let mut lines = String::new();
    let mut result = Ok(());
    for event in events {
        match event {
            Ok(stamped) => match stamped.event {
                Event::Output(output) if output.channel == channel => plain.push(&output.bytes, &mut lines),
                event => {
                    if let Some(note) = player::note(&event, channel) {
                        say::note(&note);
                    }
                }
            },
            Err(fault) => result = Err(fault.into()),
        }
        if lines.len() > FLUSH {
            out.write_all(lines.as_bytes()).map_err(AuditError::Write)?;
            lines.clear();
        }
    }
    plain.finish(&mut lines);
    out.write_all(lines.as_bytes()).map_err(AuditError::Write)?;
    result
}

/// How much text is gathered before it is written, in bytes.
const FLUSH: usize = 64 * 1024;
