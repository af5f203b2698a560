//! Exports of one channel: asciicast version 2 and 3, and the raw bytes.

use std::io::Write;

use crate::{
    event::Stamped,
    fault::{Error, Fault},
};

/// Writes asciicast version 2 of one channel (of the first with output, if none is named) and
/// returns which channel that was.
///
/// # Errors
/// If the recording is damaged (what comes before is written), has no such channel, or `out`
/// fails.
pub fn v2(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<u32, Error> {
    raw(events, channel, out)
}

/// The same in version 3.
///
/// # Errors
/// As [`v2`].
pub fn v3(
    events: impl Iterator<Item = Result<Stamped, Fault>>,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<u32, Error> {
    raw(events, channel, out)
}

/// Writes the output bytes of one channel exactly as they were sent.
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
        if let crate::Event::Output(output) = event?.event
            && *chosen.get_or_insert(output.channel) == output.channel
        {
            found = true;
            out.write_all(&output.bytes).map_err(Error::Write)?;
        }
    }
    match chosen {
        Some(channel) if found => Ok(channel),
        _ => Err(Error::NoChannel(chosen.unwrap_or(0))),
    }
}
