//! Reading a stream that still grows: whole blocks out of bytes that come in any pieces.

use crate::{
    block::{HEADER_LEN, Header},
    chain::Chain,
    fault::Fault,
    pack::Unpacker,
    read::{Block, next_block},
};

/// A reader that takes the bytes of a stream from its first segment on and keeps what is not a whole block yet: at most the
/// largest block and what was pushed.
#[derive(Debug, Default)]
pub struct Tail {
    chain: Option<Chain>,
    unpacker: Unpacker,
    waiting: Vec<u8>,
    /// How much of it has been read.
    read: usize,
}

impl Tail {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.drain(..self.read);
        self.read = 0;
        self.waiting.extend_from_slice(bytes);
    }

    /// The next block, once it is whole. The chain is checked, signatures are not.
    ///
    /// # Errors
    /// The first fault; there is nothing to read behind it.
    pub fn next_block(&mut self) -> Result<Option<Block>, Fault> {
        let rest = self.waiting.get(self.read..).unwrap_or_default();
        let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        // A header that is none is refused below, in its place.
        let stored = Header::parse(header).map_or(0, |header| header.stored_len as usize);
        let Some(mut whole) = rest.get(..HEADER_LEN + stored) else {
            return Ok(None);
        };
        let block = next_block(&mut self.chain, &mut self.unpacker, &mut whole)?;
        self.read += HEADER_LEN + stored;
        Ok(block)
    }

    /// How many bytes stand behind the last whole block.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.waiting.len() - self.read
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{ChannelClosed, Recorder, Stamped};

    fn stream() -> Vec<u8> {
        let mut recorder = Recorder::new(Uuid::from_u128(7));
        let mut bytes = Vec::new();
        for channel in 0..4 {
            bytes.extend(recorder.append(&[Stamped::new(1, ChannelClosed { channel })]));
        }
        bytes
    }

    #[test]
    fn however_it_is_cut_the_same_events_come_out() {
        let stream = stream();
        let whole: Vec<_> = crate::events(stream.as_slice()).map(Result::unwrap).collect();
        for piece in [1, 7, 28, 29, stream.len()] {
            let (mut tail, mut out) = (Tail::default(), Vec::new());
            for part in stream.chunks(piece) {
                tail.push(part);
                while let Some(block) = tail.next_block().unwrap() {
                    out.extend(block.events().unwrap());
                }
            }
            assert_eq!(out, whole, "in pieces of {piece}");
            assert_eq!(tail.unfinished(), 0);
        }
        assert_eq!(whole.len(), 4);
    }

    #[test]
    fn a_fault_is_found_where_it_stands() {
        let mut bytes = stream();
        let at = bytes.len() - 3;
        bytes[at] ^= 1;
        let mut tail = Tail::default();
        tail.push(&bytes);
        let mut good = 0;
        let fault = loop {
            match tail.next_block() {
                Ok(Some(_)) => good += 1,
                Ok(None) => panic!("no fault"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(
            (good, fault.class),
            (4, crate::Class::Altered),
            "a start and three of four"
        );
        let mut tail = Tail::default();
        tail.push(&[0xff; HEADER_LEN]);
        assert!(tail.next_block().is_err());
    }
}
