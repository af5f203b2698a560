//! Reading a stream back: whole blocks and their events, with the chain checked on the way.

use std::{collections::VecDeque, io::Read};

use crate::{
    block::{BlockKind, Codec, HEADER_LEN, Start, begin_link},
    chain::{BlockSeen, Chain},
    event::Stamped,
    fault::{Class, Fault, Place},
    pack::{self, Unpacker},
};
use sha2::Digest as _;

/// One block with its payload.
#[derive(Debug)]
pub struct Block {
    /// What and where it is.
    pub seen: BlockSeen,
    /// Its payload, decompressed.
    pub raw: Vec<u8>,
}

impl Block {
    /// Decodes the events; empty for a start or a head.
    ///
    /// # Errors
    /// [`Class::Malformed`], if the payload is not a sequence of events.
    pub fn events(&self) -> Result<Vec<Stamped>, Fault> {
        let mut out = Vec::new();
        if self.seen.kind == BlockKind::Events {
            let mut decoder = minicbor::Decoder::new(&self.raw);
            while decoder.position() < self.raw.len() {
                let place = Place {
                    segment: self.seen.segment,
                    seq: self.seen.seq,
                    offset: self.seen.offset,
                };
                out.push(
                    decoder
                        .decode()
                        .map_err(|_| Fault::new(Class::Malformed, place, "event is not in the format"))?,
                );
            }
        }
        Ok(out)
    }
}

/// Reads the next block of a chain; nothing at the end of `from`. Without a chain the first block
/// names the stream. `unpacker` is the same for all blocks of a stream.
pub(crate) fn next_block(
    chain: &mut Option<Chain>,
    unpacker: &mut Unpacker,
    from: &mut impl Read,
) -> Result<Option<Block>, Fault> {
    let unknown;
    let before = match chain.as_ref() {
        Some(chain) => chain,
        None => {
            unknown = Chain::new(uuid::Uuid::nil());
            &unknown
        }
    };
    let mut bytes = [0; HEADER_LEN];
    match fill(from, &mut bytes) {
        Ok(0) => return Ok(None),
        Ok(HEADER_LEN) => {}
        Ok(_) => return Err(before.fault(Class::Truncated, "stream ends inside a block's header")),
        Err(error) => return Err(before.fault(Class::Unreadable, error.kind().to_string())),
    }
    let header = before.header(&bytes)?;
    let mut stored = vec![0; header.stored_len as usize];
    match fill(from, &mut stored) {
        Ok(len) if len == stored.len() => {}
        Ok(_) => return Err(before.fault(Class::Truncated, "stream ends inside a block")),
        Err(error) => return Err(before.fault(Class::Unreadable, error.kind().to_string())),
    }
    let chain = match chain {
        Some(chain) => chain,
        None => {
            let start = Start::parse(&stored).map_err(|text| Fault::new(Class::Malformed, Place::default(), text))?;
            chain.insert(Chain::new(start.stream))
        }
    };
    let link = begin_link(&chain.link, &header.hashed())
        .chain_update(&stored)
        .finalize()
        .into();
    let small = if header.kind == BlockKind::Events {
        &[][..]
    } else {
        &stored
    };
    let place = chain.place();
    let seen = chain.advance(&header, link, small)?;
    if seen.kind == BlockKind::Start {
        unpacker.segment();
    }
    let (mut raw, len) = (Vec::new(), header.raw_len as usize);
    let unpacked = match header.codec {
        Codec::Raw => {
            raw = stored;
            Ok(())
        }
        Codec::Zstd => pack::unpack(&stored, len, &mut raw),
        Codec::Begins => unpacker.unpack(true, &stored, len, &mut raw),
        Codec::Continues => unpacker.unpack(false, &stored, len, &mut raw),
    };
    unpacked.map_err(|text| Fault::new(Class::Malformed, place, text))?;
    Ok(Some(Block { seen, raw }))
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match from.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// The blocks of a stream, from its concatenated segments. Ends after the first fault.
pub fn blocks<R: Read>(from: R) -> Blocks<R> {
    Blocks {
        from,
        chain: None,
        unpacker: Unpacker::default(),
        done: false,
    }
}

/// See [`blocks`].
#[derive(Debug)]
pub struct Blocks<R> {
    from: R,
    chain: Option<Chain>,
    unpacker: Unpacker,
    done: bool,
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = Result<Block, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = next_block(&mut self.chain, &mut self.unpacker, &mut self.from).transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The events of a stream, from its concatenated segments. The chain is checked, signatures are
/// not. After the first fault it ends.
pub fn events<R: Read>(from: R) -> Events<R> {
    Events {
        blocks: blocks(from),
        ready: VecDeque::new(),
    }
}

/// See [`events`].
#[derive(Debug)]
pub struct Events<R> {
    blocks: Blocks<R>,
    ready: VecDeque<Stamped>,
}

impl<R: Read> Iterator for Events<R> {
    type Item = Result<Stamped, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match self.blocks.next()?.and_then(|block| block.events()) {
                Ok(events) => self.ready = events.into(),
                Err(fault) => {
                    self.blocks.done = true;
                    return Some(Err(fault));
                }
            }
        }
    }
}
