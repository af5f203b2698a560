//! Bytes that were sent and may have to be sent again.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// What was sent of a stream of bytes and is not released yet: everything from `start` to `end`.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    chunks: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Retained {
    /// The offset of the first byte kept.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The offset after the last byte sent.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Keeps what was just sent.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.end += chunk.len() as u64;
        self.chunks.push_back(chunk);
    }

    /// Forgets everything before `offset`, which lies between `start` and `end`.
    pub(crate) fn release(&mut self, offset: u64) {
        while self.start < offset {
            let Some(first) = self.chunks.front_mut() else {
                return;
            };
            let over = offset - self.start;
            match usize::try_from(over) {
                Ok(over) if over < first.len() => {
                    first.advance(over);
                    self.start = offset;
                }
                _ => {
                    self.start += first.len() as u64;
                    self.chunks.pop_front();
                }
            }
        }
        if self.chunks.is_empty() && self.chunks.capacity() > 64 {
            self.chunks = VecDeque::new();
        }
    }

    /// Takes back everything that is kept: it counts as not sent.
    pub(crate) fn take_back(&mut self) -> VecDeque<Bytes> {
        self.end = self.start;
        std::mem::take(&mut self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_within_and_across_chunks() {
        let mut kept = Retained::default();
        for chunk in ["abc", "de", "fghi"] {
            kept.push(Bytes::from_static(chunk.as_bytes()));
        }
        assert_eq!((kept.start(), kept.end()), (0, 9));
        kept.release(4);
        assert_eq!(kept.start(), 4);
        kept.release(2);
        assert_eq!(kept.start(), 4, "a stale release forgets nothing");
        let rest: Vec<u8> = kept.take_back().into_iter().flatten().collect();
        assert_eq!(rest, b"efghi");
        assert_eq!((kept.start(), kept.end()), (4, 4));
    }
}
