//! The outermost layer of the format: block headers, segment starts and the links of the chain.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Most bytes that a block may hold before compression.
pub const MAX_RAW: usize = 256 * 1024;
/// A segment that has grown to this many stored bytes is due for its head.
pub const SEGMENT_TARGET: u64 = 4 * 1024 * 1024;

pub(crate) const HEADER_LEN: usize = 28;
/// The part of the header that is hashed: all but the tag.
pub(crate) const HASHED_LEN: usize = 20;
pub(crate) const START_LEN: usize = 58;
pub(crate) const MAX_HEAD: usize = 8 * 1024;

const MAGIC: &[u8; 5] = b"DWREC";
const VERSION: u8 = 1;
const LINK_DOMAIN: &[u8] = b"doorward recording v1\0";

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// The first block of a segment.
    Start,
    /// Events.
    Events,
    /// The signed last block of a segment.
    Head,
}

/// How a block's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Raw,
    /// One zstd frame, which is the block's alone.
    Zstd,
    /// The beginning of a zstd frame.
    Begins,
    /// What comes next in the frame that a block before it in the segment began.
    Continues,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: BlockKind,
    pub(crate) codec: Codec,
    pub(crate) seq: u64,
    pub(crate) raw_len: u32,
    pub(crate) stored_len: u32,
    pub(crate) tag: [u8; 8],
}

impl Header {
    /// The hashed part, as it stands in the stream.
    pub(crate) fn hashed(&self) -> [u8; HASHED_LEN] {
        let mut out = [0; HASHED_LEN];
        out[0] = match self.kind {
            BlockKind::Start => 1,
            BlockKind::Events => 2,
            BlockKind::Head => 3,
        };
        out[1] = match self.codec {
            Codec::Raw => 0,
            Codec::Zstd => 1,
            Codec::Begins => 2,
            Codec::Continues => 3,
        };
        out[4..12].copy_from_slice(&self.seq.to_be_bytes());
        out[12..16].copy_from_slice(&self.raw_len.to_be_bytes());
        out[16..20].copy_from_slice(&self.stored_len.to_be_bytes());
        out
    }

    /// Reads a header and checks everything that can be checked without its surroundings, above
    /// all the lengths, so that a caller may allocate by them.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, &'static str> {
        let kind = match bytes[0] {
            1 => BlockKind::Start,
            2 => BlockKind::Events,
            3 => BlockKind::Head,
            _ => return Err("unknown kind of block"),
        };
        let codec = match bytes[1] {
            0 => Codec::Raw,
            1 => Codec::Zstd,
            2 => Codec::Begins,
            3 => Codec::Continues,
            _ => return Err("unknown codec; a newer version of this program may know it"),
        };
        if bytes[2..4] != [0, 0] {
            return Err("reserved bytes are not zero");
        }
        let (mut seq, mut tag) = ([0; 8], [0; 8]);
        seq.copy_from_slice(&bytes[4..12]);
        tag.copy_from_slice(&bytes[20..28]);
        let header = Self {
            kind,
            codec,
            seq: u64::from_be_bytes(seq),
            raw_len: u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            stored_len: u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
            tag,
        };
        header.check_lengths()?;
        Ok(header)
    }

    fn check_lengths(&self) -> Result<(), &'static str> {
        let (raw, stored) = (self.raw_len as usize, self.stored_len as usize);
        match self.codec {
            Codec::Raw if stored != raw => return Err("lengths of an uncompressed block differ"),
            Codec::Zstd | Codec::Begins | Codec::Continues if stored >= raw => {
                return Err("compressed block is not smaller");
            }
            _ => {}
        }
        if raw == 0 || stored == 0 {
            return Err("block is empty");
        }
        match self.kind {
            BlockKind::Events if raw > MAX_RAW => Err("block is larger than the format allows"),
            BlockKind::Start if raw != START_LEN => Err("segment start has a wrong length"),
            BlockKind::Head if raw > MAX_HEAD => Err("head is larger than the format allows"),
            BlockKind::Start | BlockKind::Head if self.codec != Codec::Raw => {
                Err("only blocks of events may be compressed")
            }
            _ => Ok(()),
        }
    }
}

/// Payload of a segment's first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) stream: Uuid,
    pub(crate) segment: u32,
    pub(crate) link: [u8; 32],
}

impl Start {
    pub(crate) fn encode(&self) -> [u8; START_LEN] {
        let mut out = [0; START_LEN];
        out[..5].copy_from_slice(MAGIC);
        out[5] = VERSION;
        out[6..22].copy_from_slice(self.stream.as_bytes());
        out[22..26].copy_from_slice(&self.segment.to_be_bytes());
        out[26..].copy_from_slice(&self.link);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes: &[u8; START_LEN] = bytes.try_into().map_err(|_| "segment start has a wrong length")?;
        if bytes[..5] != *MAGIC {
            return Err("not a recording");
        }
        if bytes[5] != VERSION {
            return Err("unknown version of the format");
        }
        let (mut stream, mut link) = ([0; 16], [0; 32]);
        stream.copy_from_slice(&bytes[6..22]);
        link.copy_from_slice(&bytes[26..]);
        Ok(Self {
            stream: Uuid::from_bytes(stream),
            segment: u32::from_be_bytes([bytes[22], bytes[23], bytes[24], bytes[25]]),
            link,
        })
    }
}

/// The link before the first block of a stream.
pub fn first_link(stream: Uuid) -> [u8; 32] {
    Sha256::new()
        .chain_update(LINK_DOMAIN)
        .chain_update(stream.as_bytes())
        .finalize()
        .into()
}

/// The link after a block.
pub(crate) fn next_link(link: &[u8; 32], hashed: &[u8; HASHED_LEN], stored: &[u8]) -> [u8; 32] {
    begin_link(link, hashed).chain_update(stored).finalize().into()
}

/// A hash to which only the stored bytes are missing.
pub(crate) fn begin_link(link: &[u8; 32], hashed: &[u8; HASHED_LEN]) -> Sha256 {
    Sha256::new().chain_update(link).chain_update(hashed)
}

pub(crate) fn tag(link: &[u8; 32]) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&link[..8]);
    tag
}

/// The name of a segment's file.
pub fn segment_name(segment: u32) -> String {
    format!("segment-{segment:06}.dwr")
}

/// A link in lower-case hexadecimal, as receipts show it.
pub fn hex(link: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    link.iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char])
        .collect()
}

/// 32 bytes from their 64 lower-case hexadecimal digits; nothing else is taken.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
