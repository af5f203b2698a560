//! Lines of a program's log, which others have a say in: names, versions, paths and errors stand in them.
//!
//! One event is one line, and no line moves a cursor, reorders what is shown or passes for another event. It refuses to judge what
//! is said: whatever the formatter wrote is kept, escaped.

use std::fmt::Write as _;
use std::io;

use crate::export::harmless;
use crate::printable::hidden;

/// Writes events to a log. Each call of [`write_all`](io::Write::write_all) has to be a whole event with its line end, as formatters of
/// `tracing-subscriber` do it.
#[derive(Debug)]
pub struct LogLines<W> {
    to: W,
    form: LogForm,
}

/// How events are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// As text: what does harm is written as in [`Escaped`](crate::Escaped), but for backslashes, which stay as they are.
    Text,
    /// The same for a terminal: the formatter's own colours stay. It has to escape ESC in values by itself.
    Coloured,
    /// An object a line: what does harm is written as `\uXXXX`.
    Json,
}

impl<W: io::Write> LogLines<W> {
    /// Lines of this form.
    pub fn new(to: W, form: LogForm) -> Self {
        Self { to, form }
    }
}

impl<W: io::Write> io::Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.to.write_all(line(event, self.form).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An event as one harmless line.
fn line(event: &[u8], form: LogForm) -> String {
    // Formatters write UTF-8; of anything else is shown that it was none.
    let text = String::from_utf8_lossy(event);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut out = match form {
        LogForm::Json => harmless(text.replace(['\n', '\r'], " ")),
        LogForm::Text | LogForm::Coloured => shown(text, form == LogForm::Coloured),
    };
    out.push('\n');
    out
}

fn shown(text: &str, coloured: bool) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let colour = if coloured && c == '\x1b' {
            colour(rest.as_str())
        } else {
            None
        };
        // Writing to a string cannot fail.
        let _ = match (c, colour) {
            (_, Some(length)) => {
                out.push(c);
                out.push_str(&rest.as_str()[..length]);
                rest = rest.as_str()[length..].chars();
                Ok(())
            }
            ('\n', _) => out.write_str("\\n"),
            ('\r', _) => out.write_str("\\r"),
            ('\t', _) => out.write_str("\\t"),
            (c, _) if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            (c, _) if hidden(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
            (c, _) => out.write_char(c),
        };
    }
    out
}

/// The length of what follows ESC, where that only chooses a colour (ECMA-48, SGR).
fn colour(after: &str) -> Option<usize> {
    let numbers = after.strip_prefix('[')?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    numbers[end..].starts_with('m').then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn written(event: &str, form: LogForm) -> String {
        let mut out = Vec::new();
        LogLines::new(&mut out, form).write_all(event.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_said_in_it() {
        let hostile = "a\n2026 forged\r\u{1b}[31m\u{202e}\u{9b}x\0\\n\u{feff}é\n";
        let text = "a\\n2026 forged\\r\\x1b[31m\\u{202e}\\u{9b}x\\x00\\n\\u{feff}é\n";
        assert_eq!(written(hostile, LogForm::Text), text);
        assert_eq!(
            written(
                "\u{1b}[2mtime\u{1b}[0m\u{1b}]0;x\u{7}\u{1b}[2J\u{1b}[\n",
                LogForm::Coloured
            ),
            "\u{1b}[2mtime\u{1b}[0m\\x1b]0;x\\x07\\x1b[2J\\x1b[\n"
        );
        assert_eq!(written("\u{1b}[2mtime\n", LogForm::Text), "\\x1b[2mtime\n");
        assert_eq!(
            written("{\"a\":\"\\n\u{202e}\u{7f}\"}\n", LogForm::Json),
            "{\"a\":\"\\n\\u202e\\u007f\"}\n"
        );
    }

    proptest! {
        #[test]
        fn nothing_else_gets_through(text in any::<String>()) {
            for form in [LogForm::Text, LogForm::Json] {
                let event = if form == LogForm::Json { serde_json::to_string(&text).unwrap() } else { text.clone() };
                let line = written(&(event + "\n"), form);
                let line = line.strip_suffix('\n').unwrap();
                prop_assert!(line.chars().all(|c| !c.is_control() && !hidden(c)));
                if form == LogForm::Json {
                    prop_assert_eq!(&serde_json::from_str::<String>(line).unwrap(), &text);
                }
            }
        }
    }
}
