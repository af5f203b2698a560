//! Compression of blocks, tried only where it pays: each alone, as one bounded zstd frame, or as a piece of a frame that
//! goes on through a segment ([`Frame`]).
//!
//! The context for the former and the scratch buffers belong to the thread, not to the recorder: a thousand idle
//! recorders hold no memory for them.

mod frame;

use std::cell::RefCell;

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

use crate::block::Codec;
pub(crate) use frame::{Frame, Unpacker};

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

/// Has `fill` write a block into scratch space, compresses it as the next piece of the frame or, without one, alone, and
/// hands `take` what is smaller, with how that is to be read.
pub(crate) fn pack<T>(
    payoff: &mut Payoff,
    frame: Option<&mut Frame>,
    raw_len: usize,
    fill: impl FnOnce(&mut Vec<u8>),
    take: impl FnOnce(&[u8], Codec) -> T,
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
        // What saves less than an eighth is not worth reading it back.
        let most = raw.len() - raw.len() / 8;
        let codec = match frame {
            Some(frame) => frame.pack(raw, most, packed),
            None => alone(compressor, raw, packed).filter(|_| packed.len() <= most),
        };
        payoff.note(codec.is_some());
        match codec {
            Some(codec) => take(packed, codec),
            None => take(raw, Codec::Raw),
        }
    })
}

fn alone(compressor: &mut Option<Compressor<'static>>, raw: &[u8], packed: &mut Vec<u8>) -> Option<Codec> {
    packed.clear();
    packed.reserve(zstd_safe::compress_bound(raw.len()));
    if compressor.is_none() {
        *compressor = Compressor::new(LEVEL).ok();
    }
    let done = compressor.as_mut()?.compress_to_buffer(raw, packed);
    done.is_ok().then_some(Codec::Zstd)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a hundred blocks are tried.
    fn tries(block: impl Fn(u32) -> Vec<u8>) -> u32 {
        let mut payoff = Payoff::default();
        (0..100)
            .filter(|&n| {
                let block = block(n);
                let tried = payoff.worth_a_try(block.len());
                if tried {
                    let fill = |raw: &mut Vec<u8>| raw.extend_from_slice(&block);
                    pack(&mut payoff, None, block.len(), fill, |_, _| ());
                }
                tried
            })
            .count() as u32
    }

    fn noise(seed: u32) -> Vec<u8> {
        let mut state = u64::from(seed) + 1;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..32 * 1024).map(step).collect()
    }

    #[test]
    fn noise_costs_few_tries_and_text_all() {
        assert_eq!(tries(|_| b"text ".repeat(1000)), 100);
        assert!(tries(noise) < 8);
        assert_eq!(tries(|_| vec![0; MIN_RAW - 1]), 0);
        // Text among noise is found again.
        let mixed = tries(|n| if n < 10 { noise(n) } else { b"text ".repeat(1000) });
        assert!(mixed > 70, "{mixed}");
    }

    #[test]
    fn only_one_frame_of_the_right_length_is_read() {
        let raw = b"frame ".repeat(100);
        let frame = zstd::bulk::compress(&raw, 1).unwrap();
        let mut out = Vec::new();
        unpack(&frame, raw.len(), &mut out).unwrap();
        assert_eq!(out, raw);
        assert!(unpack(&frame, raw.len() - 1, &mut out).is_err());
        assert!(unpack(&frame, raw.len() + 1, &mut out).is_err());
        assert!(unpack(&frame[..frame.len() - 1], raw.len(), &mut out).is_err());
        assert!(unpack(&[&frame[..], &frame].concat(), raw.len() * 2, &mut out).is_err());
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9], &frame[..]].concat();
        assert!(unpack(&skippable, raw.len(), &mut out).is_err());
        assert!(unpack(&[], 1, &mut out).is_err());
        // A frame that promises much gets no more room than the header's length.
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 1).unwrap();
        assert!(bomb.len() < 20_000);
        assert!(unpack(&bomb, 256 * 1024, &mut out).is_err());
        assert!(out.capacity() < 1 << 20);
    }
}
