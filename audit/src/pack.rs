//! Compression of a block: one bounded zstd frame, tried only where it pays.
//!
//! The context and the scratch buffers belong to the thread, not to the recorder: a thousand idle
//! recorders hold no memory for them.

use std::cell::RefCell;

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

/// Blocks below this many bytes stay as they are.
pub(crate) const MIN_RAW: usize = 256;

const LEVEL: i32 = 1;
const MOST_SKIPPED: u32 = 64;

#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    packed: Vec<u8>,
    compressor: Option<Compressor<'static>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static UNPACK: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Remembers whether compression has paid lately, so that encrypted or compressed bulk costs one
/// try in many.
#[derive(Debug, Default)]
pub(crate) struct Payoff {
    failures: u32,
    skip: u32,
}

impl Payoff {
    /// Whether a block of this size is worth a try.
    pub(crate) fn worth_a_try(&mut self, raw_len: usize) -> bool {
        if raw_len < MIN_RAW {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        true
    }

    fn note(&mut self, paid: bool) {
        if paid {
            self.failures = 0;
        } else {
            self.failures = (self.failures + 1).min(7);
            // The first failures may be chance: small blocks of noise among text.
            self.skip = (1 << self.failures >> 1).min(MOST_SKIPPED);
        }
    }
}

/// Has `fill` write a block into scratch space, compresses it, and hands `take` what is smaller,
/// with whether that is compressed.
pub(crate) fn pack<T>(
    payoff: &mut Payoff,
    raw_len: usize,
    fill: impl FnOnce(&mut Vec<u8>),
    take: impl FnOnce(&[u8], bool) -> T,
) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch {
            raw,
            packed,
            compressor,
        } = scratch;
        raw.clear();
        raw.reserve(raw_len);
        fill(raw);
        packed.clear();
        packed.reserve(zstd_safe::compress_bound(raw.len()));
        if compressor.is_none() {
            *compressor = Compressor::new(LEVEL).ok();
        }
        let len = compressor
            .as_mut()
            .and_then(|compressor| compressor.compress_to_buffer(raw, packed).ok());
        // A frame that saves less than an eighth is not worth reading it back.
        match len {
            Some(len) if len < raw.len() - raw.len() / 8 => {
                payoff.note(true);
                take(packed, true)
            }
            _ => {
                payoff.note(false);
                take(raw, false)
            }
        }
    })
}

/// Reads one frame that must give exactly `raw_len` bytes. The caller has bounded `raw_len`.
pub(crate) fn unpack(stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err("compressed block is not one zstd frame");
    }
    out.clear();
    out.reserve_exact(raw_len);
    UNPACK.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        let Some(decompressor) = slot else {
            return Err("no memory to decompress");
        };
        match decompressor.decompress_to_buffer(stored, out) {
            Ok(len) if len == raw_len => Ok(()),
            Ok(_) => Err("compressed block has another length than its header says"),
            Err(_) => Err("compressed block cannot be read"),
        }
    })
}
