//! UTF-8 in pieces: characters that are split over writes are put together, everything else is U+FFFD.

/// A decoder in the middle of a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character that is not whole yet.
    partial: Vec<u8>,
}

impl Decoder {
    /// Hands on the characters of these bytes.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(char)) {
        let joined;
        let bytes = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(&mut each);
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && is_beginning(invalid) {
                self.partial = invalid.to_vec();
            } else {
                each(char::REPLACEMENT_CHARACTER);
            }
        }
    }
}

/// Whether more bytes could make this a character.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_put_together() {
        let decode = |parts: &[&[u8]]| {
            let (mut decoder, mut out) = (Decoder::default(), String::new());
            for part in parts {
                decoder.push(part, |c| out.push(c));
            }
            out
        };
        assert_eq!(decode(&["a🦀é".as_bytes()]), "a🦀é");
        assert_eq!(decode(&[b"\xf0", b"\x9f", b"\xa6", b"\x80!"]), "🦀!");
        assert_eq!(decode(&[b"\xf0\x9f", b"x"]), "\u{fffd}x");
        assert_eq!(decode(&[b"\xff\xc3", b"\xa9"]), "\u{fffd}é");
        assert_eq!(
            decode(&[b"\xed\xa0\x80"]),
            "\u{fffd}\u{fffd}\u{fffd}",
            "a surrogate is none"
        );
    }
}
