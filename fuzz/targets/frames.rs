//! Frames of a session's stream: however it is cut, the same frames or the same fault, and what is read is written the same.
#![no_main]

use bytes::Bytes;
use doorward_wire::frame::{HEADER, MAX_PAYLOAD};
use doorward_wire::{Frame, FrameDecoder, FrameError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((step, stream)) = input.split_first() else {
        return;
    };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(whole, read(stream, usize::from(*step) + 1));
});

fn read(stream: &[u8], step: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (FrameDecoder::new(), Vec::new());
    for chunk in stream.chunks(step) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_whole() {
                Ok(Some((frame, bytes))) => {
                    assert_eq!(frame.to_bytes(), bytes);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault)),
            }
        }
        assert!(decoder.held() < HEADER + MAX_PAYLOAD);
    }
    (frames, decoder.finish().err())
}
