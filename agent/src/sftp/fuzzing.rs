//! What fuzzing reaches of this protocol: the decoders, and nothing that touches a file. Only there with `--cfg fuzzing`.

use super::attributes::Attributes;
use super::report::{Piece, Splitter};
use super::request::{Init, Request};
use super::wire::{Reader, Writer, packet_length};

/// A client's packets, the first of which is its INIT, up to one that is none.
pub fn sftp_requests(mut stream: &[u8]) {
    let mut first = true;
    while let Some((field, rest)) = stream.split_first_chunk()
        && let Ok(length) = packet_length(*field)
        && let Some((packet, rest)) = rest.split_at_checked(length)
    {
        if first {
            let _ = Init::read(packet);
        } else if let (id, Ok(request)) = Request::read(packet) {
            assert!(id.is_some(), "a request without an id");
            if let Request::Open { attributes, .. } | Request::Setstat { attributes, .. } = request {
                let mut written = Writer::default();
                attributes.write(&mut written);
                assert_eq!(Attributes::read(&mut Reader(&written.0)), Ok(attributes));
            }
        }
        (first, stream) = (false, rest);
    }
}

/// What the serving process wrote, in chunks of `step` bytes: every byte of an answer is passed on once.
pub fn sftp_reports(stream: &[u8], step: usize) {
    let mut splitter = Splitter::default();
    let mut passed = 0;
    for chunk in stream.chunks(step.max(1)) {
        splitter.buffer.extend_from_slice(chunk);
        loop {
            match splitter.next() {
                Ok(Some(Piece::Answers(answers))) => {
                    assert!(!answers.is_empty(), "an answer of nothing");
                    passed += answers.len();
                }
                Ok(Some(Piece::Report(_))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(passed + splitter.buffer.len() <= stream.len());
}
