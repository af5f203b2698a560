//! The chain of blocks as a reader sees it: every rule about what may follow what, in one place.
//!
//! [`Chain`] judges whole blocks; [`ChainCheck`] feeds it from bytes that arrive in any pieces,
//! as the gateway does, and never holds more than a head.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    block::{BlockKind, Codec, HEADER_LEN, Header, MAX_HEAD, Start, begin_link, first_link, hex, tag},
    fault::{Class, Fault, Place},
    head::Head,
};

/// A block whose tag, place and kind are right.
#[derive(Debug, Clone)]
pub struct BlockSeen {
    /// What it is.
    pub kind: BlockKind,
    /// Its sequence number.
    pub seq: u64,
    /// Index of its segment.
    pub segment: u32,
    /// Offset of its first byte in the stream.
    pub offset: u64,
    /// Its length with the header, in bytes.
    pub len: u64,
    /// The link after it.
    pub link: [u8; 32],
    /// The statement, if it is a head. Its signature is not yet judged.
    pub head: Option<Head>,
}

/// Where a chain stands: after a whole block, before the next one.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) stream: Uuid,
    pub(crate) link: [u8; 32],
    pub(crate) seq: u64,
    pub(crate) segment: u32,
    pub(crate) segment_offset: u64,
    pub(crate) offset: u64,
    /// Whether the segment has begun.
    pub(crate) open: bool,
    /// Whether a frame has begun in it, which blocks may continue.
    framed: bool,
    /// Whether the last head was seen.
    pub(crate) ended: bool,
}

impl Chain {
    pub(crate) fn new(stream: Uuid) -> Self {
        Self {
            stream,
            link: first_link(stream),
            seq: 0,
            segment: 0,
            segment_offset: 0,
            offset: 0,
            open: false,
            framed: false,
            ended: false,
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            seq: self.seq,
            offset: self.offset,
        }
    }

    pub(crate) fn fault(&self, class: Class, text: impl Into<String>) -> Fault {
        Fault::new(class, self.place(), text)
    }

    /// Reads a header and checks that a block of this kind may stand here.
    pub(crate) fn header(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, Fault> {
        if self.ended {
            return Err(self.fault(Class::Spliced, "bytes after the last head"));
        }
        let header = Header::parse(bytes).map_err(|text| self.fault(Class::Malformed, text))?;
        if header.seq != self.seq {
            let text = format!("block {} stands where block {} belongs", header.seq, self.seq);
            return Err(self.fault(Class::Spliced, text));
        }
        match (self.open, header.kind) {
            (true, BlockKind::Start) => Err(self.fault(Class::Spliced, "segment starts inside another")),
            (false, BlockKind::Events | BlockKind::Head) => {
                Err(self.fault(Class::Spliced, "segment does not begin with its start"))
            }
            (true, _) if header.codec == Codec::Continues && !self.framed => {
                Err(self.fault(Class::Malformed, "block continues a frame that has not begun"))
            }
            _ => Ok(header),
        }
    }

    /// Moves on past a block. `small` is the payload of a start or a head, empty for events.
    pub(crate) fn advance(&mut self, header: &Header, link: [u8; 32], small: &[u8]) -> Result<BlockSeen, Fault> {
        if tag(&link) != header.tag {
            if header.kind == BlockKind::Start
                && let Ok(start) = Start::parse(small)
                && start.stream != self.stream
            {
                return Err(self.foreign(&start));
            }
            return Err(self.fault(Class::Altered, "block does not fit its tag and the chain"));
        }
        let head = match header.kind {
            BlockKind::Start => {
                self.check_start(small)?;
                None
            }
            BlockKind::Events => None,
            BlockKind::Head => Some(self.check_head(small)?),
        };
        let seen = BlockSeen {
            kind: header.kind,
            seq: self.seq,
            segment: self.segment,
            offset: self.offset,
            len: HEADER_LEN as u64 + u64::from(header.stored_len),
            link,
            head,
        };
        self.link = link;
        self.seq += 1;
        self.framed |= header.codec == Codec::Begins;
        if seen.kind == BlockKind::Start {
            self.framed = false;
            self.segment_offset = self.offset;
            self.open = true;
        }
        self.offset += seen.len;
        if let Some(head) = &seen.head {
            self.open = false;
            self.ended = head.statement().last;
            self.segment_offset = self.offset;
            self.segment = self
                .segment
                .checked_add(1)
                .ok_or_else(|| self.fault(Class::Malformed, "too many segments"))?;
        }
        Ok(seen)
    }

    fn check_start(&self, payload: &[u8]) -> Result<(), Fault> {
        let start = Start::parse(payload).map_err(|text| self.fault(Class::Malformed, text))?;
        if start.stream != self.stream {
            return Err(self.foreign(&start));
        }
        if start.segment != self.segment {
            let text = format!("segment {} stands where {} belongs", start.segment, self.segment);
            return Err(self.fault(Class::Spliced, text));
        }
        if start.link != self.link {
            return Err(self.fault(Class::Spliced, "segment does not follow the one before it"));
        }
        Ok(())
    }

    fn foreign(&self, start: &Start) -> Fault {
        let text = format!("segment belongs to stream {}, not to {}", start.stream, self.stream);
        self.fault(Class::Spliced, text)
    }

    fn check_head(&self, payload: &[u8]) -> Result<Head, Fault> {
        let head = Head::parse(payload).map_err(|text| self.fault(Class::Malformed, text))?;
        let said = head.statement();
        if said.stream != self.stream || said.segment != self.segment {
            return Err(self.fault(Class::Spliced, "head belongs to another segment or stream"));
        }
        if said.link != self.link || said.seq != self.seq || said.offset != self.offset {
            let text = format!(
                "signed link of block {} is {}, the chain has {} at block {}",
                said.seq,
                hex(&said.link),
                hex(&self.link),
                self.seq
            );
            return Err(self.fault(Class::Altered, text));
        }
        Ok(head)
    }
}

#[derive(Debug)]
enum Partial {
    Header {
        bytes: [u8; HEADER_LEN],
        have: usize,
    },
    Body {
        header: Header,
        hash: Sha256,
        have: usize,
        small: Vec<u8>,
    },
}

/// Checks a stream while it arrives, in any pieces. Checks the chain, not the signatures.
#[derive(Debug)]
pub struct ChainCheck {
    chain: Chain,
    partial: Partial,
    fault: Option<Fault>,
}

const AT_REST: Partial = Partial::Header {
    bytes: [0; HEADER_LEN],
    have: 0,
};

impl ChainCheck {
    /// A check of the whole stream with this id.
    pub fn new(stream: Uuid) -> Self {
        Self {
            chain: Chain::new(stream),
            partial: AT_REST,
            fault: None,
        }
    }

    /// Takes the next bytes and tells `on` of each block that they complete.
    ///
    /// # Errors
    /// The first fault; it stays, every later call returns it again.
    pub fn push(&mut self, mut bytes: &[u8], on: &mut dyn FnMut(BlockSeen)) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        while !bytes.is_empty() {
            if let Err(fault) = self.step(&mut bytes, on) {
                self.fault = Some(fault.clone());
                return Err(fault);
            }
        }
        Ok(())
    }

    fn step(&mut self, bytes: &mut &[u8], on: &mut dyn FnMut(BlockSeen)) -> Result<(), Fault> {
        match &mut self.partial {
            Partial::Header { bytes: buffer, have } => {
                let taken = take(bytes, HEADER_LEN - *have);
                buffer[*have..*have + taken.len()].copy_from_slice(taken);
                *have += taken.len();
                if *have == HEADER_LEN {
                    let header = self.chain.header(buffer)?;
                    let hash = begin_link(&self.chain.link, &header.hashed());
                    self.partial = Partial::Body {
                        header,
                        hash,
                        have: 0,
                        small: Vec::new(),
                    };
                }
            }
            Partial::Body {
                header,
                hash,
                have,
                small,
            } => {
                let taken = take(bytes, header.stored_len as usize - *have);
                hash.update(taken);
                *have += taken.len();
                if header.kind != BlockKind::Events {
                    // The header's check has bounded this.
                    debug_assert!(header.stored_len as usize <= MAX_HEAD);
                    small.extend_from_slice(taken);
                }
                if *have == header.stored_len as usize {
                    let link = hash.finalize_reset().into();
                    let seen = self.chain.advance(header, link, small)?;
                    self.partial = AT_REST;
                    on(seen);
                }
            }
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.chain.offset
            + match &self.partial {
                Partial::Header { have, .. } => *have as u64,
                Partial::Body { have, .. } => (HEADER_LEN + have) as u64,
            }
    }

    /// Offset after the last whole block.
    pub fn block_offset(&self) -> u64 {
        self.chain.offset
    }

    /// The link after the last whole block.
    pub fn link(&self) -> [u8; 32] {
        self.chain.link
    }

    /// Sequence number of the next block, which is the number of whole blocks so far.
    pub fn next_seq(&self) -> u64 {
        self.chain.seq
    }

    /// Index of the segment that the next byte belongs to.
    pub fn segment(&self) -> u32 {
        self.chain.segment
    }

    /// Whether the last head was seen.
    pub fn ended(&self) -> bool {
        self.chain.ended
    }

    /// The state, if it stands between two blocks and the stream may go on.
    pub(crate) fn at_rest(&self) -> Option<&Chain> {
        let whole = matches!(self.partial, Partial::Header { have: 0, .. });
        (whole && self.fault.is_none() && !self.chain.ended).then_some(&self.chain)
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}
