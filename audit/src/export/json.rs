//! JSON that nobody's terminal or viewer acts on: what JSON itself leaves alone and is not seen, or changes how other text is
//! seen, is written as `\uXXXX`. A reader gets the same strings.

use serde::Serialize;

use crate::printable::hidden;

/// A value in one line.
pub fn json(value: &impl Serialize) -> String {
    // Plain data, to which nothing can happen.
    harmless(serde_json::to_string(value).unwrap_or_default())
}

/// A value over several lines.
pub fn pretty(value: &impl Serialize) -> String {
    harmless(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// Such characters stand in strings alone, where the escape means the same.
pub(crate) fn harmless(text: String) -> String {
    let escaped = |c: char| c == '\x7f' || hidden(c);
    if !text.chars().any(escaped) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_come_back() {
        let text = "a\u{9b}31m\u{202e}\u{7f}\u{e0041}\u{1b}\n\"é";
        let written = json(&text);
        assert_eq!(written, r#""a\u009b31m\u202e\u007f\udb40\udc41\u001b\n\"é""#);
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    proptest! {
        #[test]
        fn one_line_that_reads_back(text in any::<String>(), more in any::<Vec<String>>()) {
            let value = serde_json::json!({ "a": text, "b": more });
            for written in [json(&value), pretty(&value)] {
                prop_assert!(written.chars().all(|c| c == '\n' || (!c.is_control() && !hidden(c))));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&written).unwrap(), &value);
            }
            prop_assert!(!json(&value).contains('\n'));
        }
    }
}
