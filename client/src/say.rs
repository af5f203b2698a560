//! What the program says: results on standard output, sentences on standard error.
//!
//! Nothing here trusts a text: sentences are one line each and escaped, whoever wrote them. `connect` uses only
//! the functions that write to standard error.

use std::error::Error as _;
use std::io::{self, ErrorKind, Write};
use std::pin::pin;
use std::time::Duration;

use doorward_audit::export::pretty;
use doorward_audit::printable;
use serde::Serialize;
use tokio::time::timeout;

use crate::error::Error;

/// How long a person waits without a word.
const MOMENT: Duration = Duration::from_secs(3);

/// Prints a failure: one line `doorward: …`, then one line `hint: …` for each hint.
pub(crate) fn failure(error: &Error) {
    if matches!(error, Error::Interrupted) {
        return;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    note(&text);
    for hint in error.hints() {
        line(&format!("hint: {}", shown(hint)));
    }
}

/// A sentence on standard error: `doorward: …`, escaped, one line.
pub(crate) fn note(text: &str) {
    line(&format!("doorward: {}", shown(text)));
}

/// The same in the middle of a session: while `ssh` has the terminal for itself, a line ends only where that is said.
pub(crate) fn aside(text: &str) {
    use std::io::IsTerminal as _;
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr().lock(), "\r\ndoorward: {}\r\n", shown(text));
    } else {
        note(text);
    }
}

/// A text as it is shown: one line, escaped. Windows separates folders with the character that begins an escape, so
/// there one stands for itself.
pub(crate) fn shown(text: impl AsRef<str>) -> String {
    let escaped = printable(text.as_ref().as_bytes());
    if cfg!(windows) {
        escaped.replace(r"\\", r"\")
    } else {
        escaped
    }
}

/// Does the work; where that takes longer than a moment, says once whom everybody is waiting for.
pub(crate) async fn impatiently<T>(whom: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match timeout(MOMENT, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            note(&format!("still waiting for {whom} to answer"));
            work.await
        }
    }
}

/// A line on standard error that is already safe to show. A standard error that is gone is no reason to fail.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Replaces the current line of a terminal with progress.
pub(crate) fn progress(text: &str) {
    let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
}

/// The same where standard error is a terminal, and nothing elsewhere. Nothing to say takes it away.
pub(crate) fn step(text: &str) {
    use std::io::IsTerminal as _;
    if io::stderr().is_terminal() {
        progress(text);
    }
}

/// Results on standard output.
///
/// # Errors
/// [`Error::Output`]; a reader that went away (`| head`) is none.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes())
}

/// The same for bytes that need not be text.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// A value as indented JSON. The reader is a program, but the text may pass a terminal: hidden characters are escaped.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&format!("{}\n", pretty(value)))
}

/// A table with a head, columns aligned by the number of characters; the cells are escaped here.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| {
                    if cell.is_empty() {
                        "-".to_owned()
                    } else {
                        printable(cell.as_bytes())
                    }
                })
                .collect()
        })
        .collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let mut out = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut unit = None;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = Some(next);
    }
    unit.map_or_else(|| format!("{bytes} B"), |unit| format!("{value:.1} {unit}"))
}

/// A moment in the person's time zone, from Unix milliseconds.
pub(crate) fn moment(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let zoned = timestamp.map(|timestamp| timestamp.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map_or_else(
        || "?".to_owned(),
        |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A moment in UTC as programs read it (RFC 3339), from Unix milliseconds.
pub(crate) fn utc(unix_ms: u64) -> String {
    let timestamp = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(String::new, |timestamp| {
        timestamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    })
}

/// A length of time to the second.
pub(crate) fn length(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{:02}", seconds % 60)
    } else {
        format!("{minutes}:{:02}", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cannot_escape_their_table() {
        let text = table(
            &["USER", "STATE"],
            &[
                vec!["e\x1b[2Jvil\n".into(), String::new()],
                vec!["bob".into(), "open".into()],
            ],
        );
        assert_eq!(text, "USER           STATE\ne\\x1b[2Jvil\\n  -\nbob            open\n");
    }

    #[test]
    fn sizes_and_lengths() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_500_000, "1.5 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            (length(61_999), length(3_600_000)),
            ("1:01".to_owned(), "1:00:00".to_owned())
        );
        assert_eq!(moment(u64::MAX), "?");
    }
}
