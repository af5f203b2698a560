use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end;

use super::*;

fn lines(from: usize) -> Vec<u8> {
    let line = |n: usize| format!("   Compiling unit-{} v0.{}.1 (/home/node/src)\r\n", n * n % 97, n % 31);
    (from..from + 60).flat_map(|n| line(n).into_bytes()).collect()
}

fn pack(frame: &mut Frame, raw: &[u8]) -> (Codec, Vec<u8>) {
    let mut packed = Vec::new();
    let codec = frame.pack(raw, raw.len(), &mut packed).unwrap();
    (codec, packed)
}

/// A frame of zstd's own making, in pieces that are flushed, with its end if that is wanted.
fn foreign(window_log: u32, pieces: &[&[u8]], ended: bool) -> Vec<Vec<u8>> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::WindowLog(window_log)).unwrap();
    let last = pieces.len() - 1;
    let made = pieces.iter().enumerate().map(|(at, piece)| {
        let mut packed = Vec::with_capacity(compress_bound(piece.len()) + 64);
        let how = if ended && at == last { ZSTD_e_end } else { ZSTD_e_flush };
        let (mut input, mut output) = (InBuffer::around(piece), OutBuffer::around(&mut packed));
        assert_eq!(context.compress_stream2(&mut output, &mut input, how), Ok(0));
        packed
    });
    made.collect()
}

#[test]
fn what_was_packed_is_read_and_repetition_costs_little() {
    let (mut frame, mut unpacker) = (Frame::new().unwrap(), Unpacker::default());
    let mut lens = Vec::new();
    for n in 0..50 {
        let raw = lines(n);
        let (codec, packed) = pack(&mut frame, &raw);
        assert_eq!(codec, if n == 0 { Codec::Begins } else { Codec::Continues });
        let mut out = Vec::new();
        unpacker.unpack(n == 0, &packed, raw.len(), &mut out).unwrap();
        assert_eq!(out, raw);
        lens.push(packed.len());
    }
    assert!(lens[1..].iter().all(|len| *len * 3 < lens[0]), "{lens:?}");
    let held = frame.memory();
    assert!(held < 384 * 1024, "{held} bytes");
}

#[test]
fn a_frame_that_was_given_up_begins_anew() {
    let (mut frame, mut unpacker) = (Frame::new().unwrap(), Unpacker::default());
    let mut packed = Vec::new();
    pack(&mut frame, &lines(0));
    assert_eq!(frame.pack(&lines(1), 3, &mut packed), None);
    // What the reader has never seen is not built upon.
    let (codec, packed) = pack(&mut frame, &lines(2));
    assert_eq!(codec, Codec::Begins);
    let mut out = Vec::new();
    unpacker.unpack(true, &packed, lines(2).len(), &mut out).unwrap();
    frame.end();
    assert_eq!(pack(&mut frame, &lines(3)).0, Codec::Begins);
}

#[test]
fn only_what_fits_the_header_is_read() {
    let mut frame = Frame::new().unwrap();
    let (first, second) = (lines(0), lines(1));
    let [one, two] = [&first, &second].map(|raw| pack(&mut frame, raw).1);
    let read = |pieces: &[(bool, &[u8], usize)]| {
        let (mut unpacker, mut out) = (Unpacker::default(), Vec::new());
        let mut read = pieces
            .iter()
            .map(|(begins, stored, len)| unpacker.unpack(*begins, stored, *len, &mut out));
        read.find(Result::is_err).unwrap_or(Ok(()))
    };
    let len = first.len();
    assert_eq!(read(&[(true, &one, len), (false, &two, second.len())]), Ok(()));
    let more = [&one[..], &two].concat();
    for (what, pieces) in [
        ("too long", vec![(true, &one[..], len - 1)]),
        ("too short", vec![(true, &one, len + 1)]),
        ("cut", vec![(true, &one[..one.len() - 1], len)]),
        ("nothing before it", vec![(false, &two, second.len())]),
        ("no frame", vec![(true, &two, second.len())]),
        ("two blocks in one", vec![(true, &more, len)]),
        (
            "after a fault",
            vec![(true, &one, len - 1), (false, &two, second.len())],
        ),
        ("empty", vec![(true, &[], 1)]),
    ] {
        assert!(read(&pieces).is_err(), "{what}");
    }
    // A skippable frame may stand before a frame elsewhere; here it is refused.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9], &one[..]].concat();
    assert!(read(&[(true, &skippable, len)]).is_err());
    // A frame may end with a block; nothing continues it.
    let ended = foreign(17, &[&first], true);
    assert_eq!(read(&[(true, &ended[0], len)]), Ok(()));
    assert!(read(&[(true, &ended[0], len), (false, &two, second.len())]).is_err());
    let twice = [&ended[0][..], &ended[0]].concat();
    assert!(read(&[(true, &twice, 2 * len)]).is_err());
}

#[test]
fn a_segment_ends_what_may_be_continued() {
    let (mut frame, mut unpacker, mut out) = (Frame::new().unwrap(), Unpacker::default(), Vec::new());
    let [(_, one), (_, two)] = [lines(0), lines(1)].map(|raw| pack(&mut frame, &raw));
    unpacker.unpack(true, &one, lines(0).len(), &mut out).unwrap();
    unpacker.segment();
    assert!(unpacker.unpack(false, &two, lines(1).len(), &mut out).is_err());
}

#[test]
fn a_window_beyond_the_bound_is_refused_and_a_bomb_gets_no_room() {
    let raw = vec![7; 256 * 1024];
    for (window, good) in [(17, true), (18, false), (27, false)] {
        let piece = foreign(window, &[&raw], false);
        let mut out = Vec::new();
        let read = Unpacker::default().unpack(true, &piece[0], raw.len(), &mut out);
        assert_eq!(read.is_ok(), good, "window {window}: {read:?}");
    }
    let bomb = foreign(17, &[&vec![0; 64 << 20]], false);
    assert!(bomb[0].len() < 20_000);
    let mut out = Vec::new();
    assert!(
        Unpacker::default()
            .unpack(true, &bomb[0], 256 * 1024, &mut out)
            .is_err()
    );
    assert!(out.capacity() < 1 << 20);
}

#[test]
fn there_are_only_so_many_places() {
    let places = Places(AtomicUsize::new(0));
    assert_eq!((0..MOST_FRAMES + 1).filter(|_| places.take()).count(), MOST_FRAMES);
    places.give_back();
    assert!(places.take());
    assert!(!places.take());
}
