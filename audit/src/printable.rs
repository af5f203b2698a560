//! Text from outside, made safe to show in a terminal or a list.

use std::fmt;

/// Shows bytes so that they cannot move a cursor, change a colour, reorder text or hide: control
/// characters, C1, bidirectional and invisible characters, and bytes that are not UTF-8 are
/// written as escapes. A backslash is doubled, so that no text can pass for an escape.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if hidden(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The same as a string.
pub fn printable(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// Whether a character changes the order or the place in which others are shown: controls of bidirectional text, ends of
/// lines that are none in a terminal, tags. A text that keeps its accents and joined emoji must do without these.
pub fn reorders(c: char) -> bool {
    matches!(c,
        '\u{61c}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{206f}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}'
    )
}

/// Characters that are not seen, or that change how others are seen.
pub(crate) fn hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{e0000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_is_shown_and_does_nothing() {
        for (bytes, shown) in [
            (&b"make all"[..], "make all"),
            (b"gr\xc3\xbcn \xe2\x82\xac", "grün €"),
            (b"\x1b]52;c;AAAA\x07", r"\x1b]52;c;AAAA\x07"),
            (b"a\nb\r\tc", r"a\nb\r\tc"),
            (b"C:\\x", r"C:\\x"),
            (b"\x9b31m", r"\x9b31m"),
            (b"\xc2\x9b31m", r"\u{9b}31m"),
            ("a\u{202e}b\u{2066}".as_bytes(), r"a\u{202e}b\u{2066}"),
            ("\u{feff}\u{200d}\u{e0041}".as_bytes(), r"\u{feff}\u{200d}\u{e0041}"),
            (b"\x7f\0", r"\x7f\x00"),
            (b"\xe2\x82", r"\xe2\x82"),
        ] {
            assert_eq!(printable(bytes), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_comes_through(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let shown = printable(bytes);
                prop_assert!(shown.chars().all(|c| !c.is_control() && !hidden(c)));
            }
        }

        #[test]
        fn different_bytes_look_different(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            prop_assert_eq!(a == b, printable(&a) == printable(&b));
        }
    }
}
