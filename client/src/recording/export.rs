//! `doorward export`.

use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write, stdout};

use doorward_audit::{Error as AuditError, asciicast, export::lines};

use super::{Recording, damaged, made_at};
use crate::cli::{ExportArgs, Format};
use crate::error::Error;
use crate::home::{Home, private};
use crate::{replay, say};

/// Writes a recording in another format.
pub(crate) async fn export(home: &Home, args: &ExportArgs) -> Result<(), Error> {
    if args.format == Format::Raw && args.output.is_none() && stdout().is_terminal() {
        return Err(Error::Recording(
            "recorded bytes can act on the terminal that shows them: use -o, a pipe, or replay --raw".to_owned(),
        ));
    }
    let recording = Recording::find(home, &args.recording).await?;
    let Some(path) = &args.output else {
        return write(
            &recording,
            args.format,
            args.channel,
            &mut BufWriter::new(stdout().lock()),
        );
    };
    // What was shown on a terminal is nobody else's business.
    let file = private::create_new(path)?;
    let written = write(&recording, args.format, args.channel, &mut BufWriter::new(file));
    if let Err(Error::Output(_)) = written {
        // Half a file would be taken for a whole one.
        let _ = std::fs::remove_file(path);
    }
    written?;
    say::note(&format!("wrote {}", path.display()));
    Ok(())
}

/// Writes a recording in a format; a reader that went away is no failure.
pub(crate) fn write(
    recording: &Recording,
    format: Format,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let events = recording.events()?;
    let written = match format {
        Format::AsciicastV2 => asciicast::v2(events, channel, out).map(drop),
        Format::AsciicastV3 => asciicast::v3(events, channel, out).map(drop),
        Format::Raw => asciicast::raw(events, channel, out).map(drop),
        Format::Jsonl => lines(events, channel, recording.session().and_then(made_at).unwrap_or(0), out),
        Format::Text => replay::text(events, replay::channel(recording, channel)?, out),
    };
    let flushed = out.flush();
    match (written, flushed) {
        (Err(AuditError::Write(error)), _) | (Ok(()), Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        (Err(AuditError::Write(error)), _) | (Ok(()), Err(error)) => Err(Error::Output(error)),
        (Err(AuditError::Fault(fault)), _) => Err(damaged(&fault)),
        (Err(error), _) => Err(Error::Recording(error.to_string())),
        (Ok(()), Ok(())) => Ok(()),
    }
}
