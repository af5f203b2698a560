//! Bytes to text where a character may be split over any number of events.

/// Streams that are followed: standard input, standard output, standard error.
const STREAMS: usize = 3;

/// The unfinished characters of a channel's streams.
#[derive(Default)]
pub(super) struct Streams {
    left: [Left; STREAMS],
}

/// The beginning of a character: at most three bytes, a fourth would end it.
#[derive(Default)]
struct Left {
    bytes: [u8; 4],
    len: usize,
}

impl Streams {
    /// The text that these bytes complete.
    pub(super) fn push(&mut self, stream: u8, bytes: &[u8]) -> String {
        let left = &mut self.left[usize::from(stream).min(STREAMS - 1)];
        let mut text = String::with_capacity(bytes.len() + 3);
        let mut rest = bytes;
        while left.len > 0 && !rest.is_empty() {
            left.bytes[left.len] = rest[0];
            match std::str::from_utf8(&left.bytes[..=left.len]) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &rest[1..];
                    left.len = 0;
                }
                Err(error) if error.error_len().is_none() => {
                    rest = &rest[1..];
                    left.len += 1;
                }
                // The new byte does not belong to the character: it is looked at again.
                Err(_) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    left.len = 0;
                }
            }
        }
        let mut chunks = rest.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let unfinished =
                chunks.peek().is_none() && matches!(std::str::from_utf8(invalid), Err(e) if e.error_len().is_none());
            if unfinished {
                left.bytes[..invalid.len()].copy_from_slice(invalid);
                left.len = invalid.len();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// Forgets unfinished characters and says in which streams there were any.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (stream, left) in (0..).zip(&mut self.left) {
            if std::mem::take(&mut left.len) > 0 {
                out.push(stream);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_pieces(bytes: &[u8], cuts: &[usize]) -> String {
        let mut streams = Streams::default();
        let mut text = String::new();
        let mut from = 0;
        for cut in cuts {
            let to = (from + cut).min(bytes.len());
            text += &streams.push(1, &bytes[from..to]);
            from = to;
        }
        text += &streams.push(1, &bytes[from..]);
        text.extend(streams.finish().iter().map(|_| char::REPLACEMENT_CHARACTER));
        text
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_text(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                any::<String>().prop_map(String::into_bytes),
                proptest::collection::vec(
                    proptest::sample::select(&b"a\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xff"[..]), 0..40),
            ],
            cuts in proptest::collection::vec(0usize..5, 0..40),
        ) {
            prop_assert_eq!(by_pieces(&bytes, &cuts), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn streams_do_not_mix() {
        let mut streams = Streams::default();
        assert_eq!(streams.push(1, b"\xe2\x82"), "");
        assert_eq!(streams.push(2, b"x"), "x");
        assert_eq!(streams.push(1, b"\xac"), "€");
        assert!(streams.finish().is_empty());
    }
}
