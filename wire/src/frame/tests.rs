//! Frames there and back, cut anywhere, and everything that is refused.

use proptest::prelude::*;

use super::*;

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..most).prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = Frame> {
    let offset = 0..u64::MAX / 2;
    prop_oneof![
        (offset.clone(), bytes(600)).prop_map(|(offset, bytes)| Frame::Data { offset, bytes }),
        (offset.clone(), bytes(600)).prop_map(|(offset, bytes)| Frame::Record { offset, bytes }),
        any::<u64>().prop_map(|offset| Frame::Ack { offset }),
        any::<u64>().prop_map(|offset| Frame::Fin { offset }),
        any::<u64>().prop_map(|offset| Frame::RecordAck { offset }),
        any::<u64>().prop_map(|offset| Frame::RecordEnd { offset }),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
        ".{0,80}".prop_map(|text| Frame::Notice { text }),
        (any::<u8>(), "[a-z-]{0,20}", ".{0,80}").prop_map(|(exit, code, text)| Frame::End(End { exit, code, text })),
    ]
}

/// Decodes a stream that arrives in pieces of these lengths, again and again.
fn decode_all(stream: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let piece = pieces.next().map_or(1, |piece| (*piece).max(1)).min(rest.len());
        decoder.push(Bytes::copy_from_slice(&rest[..piece]));
        rest = &rest[piece..];
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    decoder.finish()?;
    assert_eq!(decoder.held(), 0);
    Ok(frames)
}

proptest! {
    #[test]
    fn come_back_however_they_are_cut(
        frames in prop::collection::vec(frame(), 0..20),
        pieces in prop::collection::vec(1_usize..400, 1..8),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        prop_assert_eq!(decode_all(&stream, &pieces).unwrap(), frames);
    }

    #[test]
    fn any_bytes_decode_or_fail_the_same_however_they_are_cut(
        kind in 0_u8..12,
        length in prop_oneof![0_u32..40, Just(0xff_ffff_u32)],
        body in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1_usize..50, 1..8),
    ) {
        let mut stream = vec![kind];
        stream.extend_from_slice(&length.to_be_bytes()[1..]);
        stream.extend_from_slice(&body);
        let whole = decode_all(&stream, &[usize::MAX]);
        prop_assert_eq!(decode_all(&stream, &pieces), whole);
    }

    #[test]
    fn a_stream_that_stops_inside_a_frame_says_so(frame in frame(), cut in any::<prop::sample::Index>()) {
        let whole = frame.to_bytes();
        let cut = cut.index(whole.len() - 1) + 1;
        let outcome = decode_all(&whole[..cut], &[usize::MAX]);
        if cut < whole.len() {
            prop_assert!(matches!(outcome, Err(FrameError::Truncated { missing }) if missing > 0), "{outcome:?}");
        }
    }
}

fn refused(kind: u8, length: u32, payload: &[u8]) -> FrameError {
    let mut stream = vec![kind];
    stream.extend_from_slice(&length.to_be_bytes()[1..]);
    stream.extend_from_slice(payload);
    decode_all(&stream, &[usize::MAX]).unwrap_err()
}

#[test]
fn each_fault_has_its_name() {
    use FrameError as E;
    assert_eq!(refused(0, 0, &[]), E::UnknownKind(0));
    assert_eq!(refused(11, 0, &[]), E::UnknownKind(11));
    let over = u32::try_from(MAX_PAYLOAD).unwrap() + 1;
    assert_eq!(
        refused(kind::DATA, over, &[]),
        E::Oversized {
            kind: kind::DATA,
            length: over
        }
    );
    assert_eq!(
        refused(kind::NOTICE, over, &[]),
        E::Oversized {
            kind: kind::NOTICE,
            length: over
        }
    );
    assert_eq!(
        refused(kind::DATA, 7, &[0; 7]),
        E::Short {
            kind: kind::DATA,
            length: 7
        }
    );
    assert_eq!(refused(kind::DATA, 8, &[0; 8]), E::Empty(kind::DATA));
    assert_eq!(refused(kind::RECORD, 8, &[0; 8]), E::Empty(kind::RECORD));
    assert_eq!(refused(kind::DATA, 9, &[0xff; 9]), E::Overflow(kind::DATA));
    assert_eq!(
        refused(kind::ACK, 7, &[0; 7]),
        E::Short {
            kind: kind::ACK,
            length: 7
        }
    );
    assert_eq!(
        refused(kind::PING, 9, &[0; 9]),
        E::Long {
            kind: kind::PING,
            length: 9
        }
    );
    assert_eq!(refused(kind::NOTICE, 2, &[0xc3, 0x28]), E::NotUtf8(kind::NOTICE));
    assert_eq!(
        refused(kind::END, 1, &[0]),
        E::Short {
            kind: kind::END,
            length: 1
        }
    );
    assert_eq!(
        refused(kind::END, 3, &[0, 2, b'x']),
        E::Short {
            kind: kind::END,
            length: 3
        }
    );
    assert_eq!(
        refused(kind::END, 2, &[0, 65]),
        E::Long {
            kind: kind::END,
            length: 65
        }
    );
    assert_eq!(refused(kind::END, 3, &[0, 1, 0xff]), E::NotUtf8(kind::END));
    assert_eq!(refused(kind::DATA, 30, &[0; 9]), E::Truncated { missing: 21 });
}

#[test]
fn a_bad_length_is_refused_before_its_payload_comes() {
    let mut decoder = FrameDecoder::new();
    decoder.push(Bytes::from_static(&[kind::DATA, 0xff, 0xff, 0xff]));
    assert!(matches!(decoder.next(), Err(FrameError::Oversized { .. })));
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let end = End::new(1, "c".repeat(100), "é".repeat(MAX_TEXT));
    assert_eq!((end.code.len(), end.text.len()), (MAX_CODE, MAX_TEXT));
    let odd = Frame::Notice {
        text: format!("x{}", "é".repeat(MAX_TEXT)),
    };
    let frames = decode_all(&odd.to_bytes(), &[1000]).unwrap();
    let [Frame::Notice { text }] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(text.len(), MAX_TEXT - 1);
}

#[test]
fn content_within_one_chunk_is_not_copied() {
    let stream = Frame::Data {
        offset: 5,
        bytes: Bytes::from(vec![7; 1000]),
    }
    .to_bytes();
    let inside = stream.as_ptr_range();
    let mut decoder = FrameDecoder::new();
    decoder.push(stream.clone());
    let Some(Frame::Data { bytes, .. }) = decoder.next().unwrap() else {
        panic!("no data")
    };
    assert!(inside.contains(&bytes.as_ptr()));
}
