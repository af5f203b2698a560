//! `doorward replay`: a recording in the terminal, or as plain text, or exactly as it was.

mod decode;
mod filter;
mod plain;
mod player;
mod terminal;
mod track;

use std::io::{BufWriter, stdout};

use doorward_audit::Event;

use crate::cli::{Format, ReplayArgs};
use crate::error::Error;
use crate::home::Home;
use crate::recording::{Recording, damaged, export};
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
    if terminal::is_shown() {
        return play(&recording, &track, args).await;
    }
    if args.raw {
        let out = &mut BufWriter::with_capacity(256 * 1024, stdout().lock());
        return export::write(recording.events()?, Format::Raw, Some(track.channel), out);
    }
    text(&recording, &track)
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

/// Plain text, without waiting.
fn text(recording: &Recording, track: &Track) -> Result<(), Error> {
    let mut plain = Plain::default();
    let mut out = String::new();
    for event in recording.events()? {
        match event.map_err(|fault| damaged(&fault)) {
            Ok(stamped) => match stamped.event {
                Event::Output(output) if output.channel == track.channel => plain.push(&output.bytes, &mut out),
                event => {
                    if let Some(note) = player::note(&event, track.channel) {
                        say::note(&note);
                    }
                }
            },
            Err(error) => {
                plain.finish(&mut out);
                say::print(&out)?;
                return Err(error);
            }
        }
        if out.len() > FLUSH {
            say::print(&out)?;
            out.clear();
        }
    }
    plain.finish(&mut out);
    say::print(&out)
}

/// How much text is gathered before it is written, in bytes.
const FLUSH: usize = 64 * 1024;
