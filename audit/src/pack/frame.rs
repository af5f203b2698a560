//! One zstd frame over many blocks: what a block repeats of the blocks before it in its segment costs next to nothing.
//!
//! Both sides keep a context for it: the writer [`Frame`], the reader [`Unpacker`]. Both are bounded: a window of 128 KiB,
//! pieces of 16 KiB, and so many writing contexts in one process.

use std::sync::atomic::{AtomicUsize, Ordering};

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, Strategy, compress_bound,
    zstd_sys::ZSTD_EndDirective::ZSTD_e_flush,
};

use crate::block::Codec;

/// How far back a frame may reach, as a power of two.
pub(crate) const WINDOW_LOG: u32 = 17;
/// Frames that are written at once in one process. More recorders than that pack each block alone.
pub(crate) const MOST_FRAMES: usize = 64;

/// Where every frame begins (RFC 8878, 3.1.1); nothing else may stand there, as a skippable frame.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Pieces into which zstd divides what it is given. Its buffers are as large as these, and 128 KiB without this bound.
const PIECE: usize = 16 * 1024;

static FRAMES: Places = Places(AtomicUsize::new(0));

/// So many are taken.
struct Places(AtomicUsize);

impl Places {
    fn take(&self) -> bool {
        let another = |taken| (taken < MOST_FRAMES).then_some(taken + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, another)
            .is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The frame that a recorder is writing.
pub(crate) struct Frame {
    context: CCtx<'static>,
    begun: bool,
}

impl Frame {
    /// A context that has begun no frame yet; nothing, where there are too many or there is no memory.
    pub(crate) fn new() -> Option<Self> {
        if !FRAMES.take() {
            return None;
        }
        let Some(context) = CCtx::try_create() else {
            FRAMES.give_back();
            return None;
        };
        let mut frame = Self { context, begun: false };
        frame.set_up().ok()?;
        Some(frame)
    }

    /// Two small hash tables: of what was tried on a day's terminal, a quarter less than the fastest strategy for as much
    /// memory, and not slower.
    fn set_up(&mut self) -> Result<(), ErrorCode> {
        for parameter in [
            CParameter::Strategy(Strategy::ZSTD_dfast),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::HashLog(14),
            CParameter::ChainLog(13),
            CParameter::MaxBlockSize(PIECE as u32),
        ] {
            self.context.set_parameter(parameter)?;
        }
        Ok(())
    }

    /// Puts the next piece of the frame into `packed`, and says whether the frame begins or continues with it. Nothing, if
    /// it came to more than `most` bytes: then the frame is given up, and what is packed next begins another.
    pub(crate) fn pack(&mut self, raw: &[u8], most: usize, packed: &mut Vec<u8>) -> Option<Codec> {
        packed.clear();
        packed.reserve(compress_bound(raw.len()) + 4 * raw.len().div_ceil(PIECE) + 32);
        let codec = if self.begun { Codec::Continues } else { Codec::Begins };
        if self.flush(raw, packed).is_ok() && packed.len() <= most {
            self.begun = true;
            return Some(codec);
        }
        self.end();
        None
    }

    fn flush(&mut self, raw: &[u8], packed: &mut Vec<u8>) -> Result<(), ()> {
        let mut input = InBuffer::around(raw);
        let mut output = OutBuffer::around(packed);
        let left = self.context.compress_stream2(&mut output, &mut input, ZSTD_e_flush);
        // There is room for all of it.
        if left == Ok(0) { Ok(()) } else { Err(()) }
    }

    /// Ends the frame; the context is kept for the next.
    pub(crate) fn end(&mut self) {
        // It fails where parameters are to be reset, which are not.
        let _ = self.context.reset(ResetDirective::SessionOnly);
        self.begun = false;
    }

    /// Memory of the context, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.context.sizeof()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        FRAMES.give_back();
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

/// Reads the frames of a stream's blocks, in their order.
#[derive(Default)]
pub(crate) struct Unpacker {
    context: Option<DCtx<'static>>,
    /// Whether a frame has begun that may go on.
    begun: bool,
}

impl Unpacker {
    /// A segment begins: no frame of before goes on in it.
    pub(crate) fn segment(&mut self) {
        self.begun = false;
    }

    /// Reads what one block holds of a frame; it must give exactly `raw_len` bytes, which the caller has bounded.
    pub(crate) fn unpack(
        &mut self,
        begins: bool,
        stored: &[u8],
        raw_len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if begins {
            if !stored.starts_with(&MAGIC) {
                return Err("compressed block does not begin a zstd frame");
            }
            self.begin().map_err(|_| "no memory to decompress")?;
        }
        let (true, Some(context)) = (self.begun, &mut self.context) else {
            return Err("compressed block continues a frame that has not begun");
        };
        // Whatever fails from here on, the frame cannot go on.
        self.begun = false;
        out.clear();
        // One more, so that a block which gives too much is seen to.
        out.reserve_exact(raw_len + 1);
        self.begun = !read(context, stored, raw_len, out)?;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), ErrorCode> {
        if self.context.is_none() {
            self.context = DCtx::try_create();
        }
        if let Some(context) = &mut self.context {
            context.reset(ResetDirective::SessionOnly)?;
            context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
            self.begun = true;
        }
        Ok(())
    }
}

/// Whether the frame ended with it.
fn read(context: &mut DCtx<'_>, stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<bool, &'static str> {
    let mut input = InBuffer::around(stored);
    let told = context.decompress_stream(&mut OutBuffer::around(out), &mut input);
    let told = told.map_err(|_| "compressed block cannot be read, or reaches back further than 128 KiB")?;
    // There was room for a byte more: had there been one, it would stand there.
    if out.len() != raw_len {
        return Err("compressed block has another length than its header says");
    }
    if input.pos() != stored.len() {
        return Err("compressed block goes on behind its frame");
    }
    Ok(told == 0)
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker")
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
