//! `doorward export`.

use std::io::{BufWriter, ErrorKind, Write, stdout};

use doorward_audit::{Error as AuditError, Fault, Stamped, asciicast};

use super::{Recording, damaged};
use crate::cli::{ExportArgs, Format};
use crate::error::Error;
use crate::home::{Home, private};
use crate::say;

/// Writes a recording in another format.
pub(crate) async fn export(home: &Home, args: &ExportArgs) -> Result<(), Error> {
    let recording = Recording::find(home, &args.recording).await?;
    let events = recording.events()?;
    let Some(path) = &args.output else {
        return write(events, args.format, args.channel, &mut BufWriter::new(stdout().lock()));
    };
    // What was shown on a terminal is nobody else's business.
    let file = private::create_new(path)?;
    write(events, args.format, args.channel, &mut BufWriter::new(file))?;
    say::note(&format!("wrote {}", path.display()));
    Ok(())
}

/// Writes events in a format; a reader that went away is no failure.
pub(crate) fn write(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    format: Format,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let written = match format {
        Format::AsciicastV2 => asciicast::v2(events, channel, out),
        Format::AsciicastV3 => asciicast::v3(events, channel, out),
        Format::Raw => asciicast::raw(events, channel, out),
    };
    let flushed = out.flush();
    match (written, flushed) {
        (Err(AuditError::Write(error)), _) | (Ok(_), Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        (Err(AuditError::Write(error)), _) | (Ok(_), Err(error)) => Err(Error::Output(error)),
        (Err(AuditError::Fault(fault)), _) => Err(damaged(&fault)),
        (Err(error), _) => Err(Error::Recording(error.to_string())),
        (Ok(_), Ok(())) => Ok(()),
    }
}
